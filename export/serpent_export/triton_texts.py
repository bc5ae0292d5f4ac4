"""The texts of a Triton repository: how to start the server, and what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serpent.manifest import Manifest

_START = """\
#!/bin/sh
# Starts Triton on this repository. Usage: ./start.sh IMAGE   (see README.md for the image)
set -eu
image=${{1:?usage: ./start.sh IMAGE, the tritonserver image that README.md describes}}
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
exec docker run --rm --gpus all -p 8000:8000 -p 8001:8001 -p 8002:8002 -v "$here:/serpent:ro" "$image" \\
    tritonserver --model-repository=/serpent/model_repository{plugin}
"""


def start_script(plugin: str) -> str:
    """The shell script; ``plugin`` is the library to load, "" for none."""
    flag = f' \\\n    --backend-config=tensorrt,plugins="/serpent/plugins/{plugin}"' if plugin else ""
    return _START.format(plugin=flag)


def readme(
    manifest: Manifest, engine: Mapping[str, Any], plugin: str, models: Sequence[str], sums: Mapping[str, str]
) -> str:
    """What lies here, which server fits, and the digests.

    Args:
        manifest: of the export.
        engine: its entry for the plan, empty where there is none.
        plugin: the library to load, "" for none.
        models: names of the models.
        sums: SHA-256 by relative path.
    """
    profile = manifest.profile
    lines = [
        f"# {manifest.path.stem} for Triton",
        "",
        f"Task {manifest.task}, precision {manifest.precision}, weights {manifest.weights}, border {manifest.io}.",
        f"Accepts batch {profile.batch}, height {profile.height}, width {profile.width} (min:opt:max), sides",
        f"multiples of {profile.multiple}; the client pads and tiles.",
        "",
        "    ./start.sh IMAGE",
        "",
    ]
    if engine:
        version = engine["version"]
        lines += [
            f"IMAGE: NVIDIA's `tritonserver` image whose TensorRT is exactly {version}: a plan runs with its own",
            "version alone. NVIDIA's support matrix lists the version of each image; in a container,",
            "`dpkg -l | grep libnvinfer` names it.",
            f"The plan runs on {', '.join(engine.get('targets', []))}.",
            "",
        ]
        lines += (
            [
                f"The server is told to load `plugins/{plugin}` first (`--backend-config=tensorrt,plugins=...`):",
                "without it, TensorRT cannot read the plan. A library that does not load is an error in Triton's log,",
                "which then goes on without it.",
            ]
            if plugin
            else ["The plugin library was not built where this was exported: add it, and its flag, to start.sh."]
        )
    else:
        lines += ["IMAGE: any `tritonserver` image with ONNX Runtime."]
    lines += [
        "",
        "Models: " + ", ".join(f"`{name}`" for name in models) + ".",
        "The ONNX model needs no plugin: it computes the scan with standard operators, many times slower.",
        "",
        "| file | sha256 |",
        "|---|---|",
        *(f"| {name} | {digest} |" for name, digest in sums.items()),
        "",
    ]
    return "\n".join(lines)
