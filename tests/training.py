"""What the tests of training share: a network of a few thousand parameters, pictures, and runs of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

import serpent
from serpent.pictures import Picture, write_picture

TINY = "training:tiny"
"""Name of :func:`tiny` for recipes."""


def tiny() -> nn.Module:
    return serpent.create_model("B", patch_size=2, embed_dim=4, num_scales=1, depth=1)


def plain() -> nn.Module:
    """A network that is no Serpent."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Dropout(0.2), nn.Conv2d(4, 3, 3, padding=1))
    network.size_multiple = 1  # type: ignore[assignment]
    return network


def frozen() -> nn.Module:
    """A network whose first layer does not learn."""
    network = plain()
    for parameter in network[0].parameters():  # type: ignore[index]
        parameter.requires_grad_(False)
    return network


def shared() -> nn.Module:
    """A network that uses one layer twice."""
    layer = nn.Conv2d(3, 3, 3, padding=1)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    network.size_multiple = 1  # type: ignore[assignment]
    return network


def gray() -> nn.Module:
    """A network that gives one channel."""
    network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1))
    network.size_multiple = 1  # type: ignore[assignment]
    return network


def black() -> nn.Module:
    """A network whose results are below 0."""
    network = plain()
    nn.init.constant_(network[2].bias, -9)  # type: ignore[index]
    return network


def wanting(channels: int) -> nn.Module:
    """A factory that cannot be called without an argument."""
    return nn.Conv2d(3, channels, 3)


def make_pictures(folder: Path, count: int, side: int = 40) -> Path:
    """Smooth random pictures, some of them in a folder of their own."""
    random = np.random.default_rng(7)
    for index in range(count):
        small = random.random((5, 5, 3), dtype=np.float32)
        picture = small.repeat(side // 5, 0).repeat(side // 5, 1)
        path = folder / ("more" if index % 3 == 0 else "") / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, Picture(picture))
    return folder


def start_train(folder: Path, *arguments: str | Path, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start ``serpent-train`` in a process of its own, from a script, as its entry point does.

    ``launcher``: arguments of Python that come before the script, for example those of torchrun.
    """
    script = folder / "serpent-train"
    script.write_text("from serpent_cli.main import run_train\nrun_train()\n")
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)


def run_train(folder: Path, *arguments: str | Path, launcher: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run ``serpent-train`` to its end."""
    process = start_train(folder, *arguments, launcher=launcher)
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
