"""Damaged manifests and plans through the C++ runtime, in child processes: always an error or a run, never a signal."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpp_engine import BUSY, INTERNAL, MODEL_FILE, OK, TENSORRT, shared_build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the C++ runtime is built for Linux")

CASES = 150

# Flips up to 3 bytes (or bits, or cuts the end off) in the manifest, or in the plan, whose digest then is made to fit.
CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from cpp_engine import PLANS, Engine, EngineError, write_plan
from serpent.runtime.border import BORDERS
library, folder, seed, cases = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
random = np.random.default_rng(seed)

def damaged(content):
    content = bytearray(content)
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(len(content)))
        way = random.integers(4)
        if way == 0:
            content[at] ^= 1 << int(random.integers(8))
        elif way == 1:
            content[at] = int(random.integers(256))
        elif way == 2:
            content[at] = int(random.choice(list(b'0123456789-[]{}",:')))
        else:
            content = content[: max(at, 1)]
    return bytes(content)

for case in range(cases):
    of_plan = bool(random.integers(2))
    io = list(PLANS)[random.integers(3)]
    path = write_plan(folder, damaged(PLANS[io]) if of_plan else None, io)
    if not of_plan:
        manifest = path.with_suffix(".json")
        # Real ones are longer, too, by what this library does not read.
        fields = json.loads(manifest.read_text()) | {"history": "made and made again, " * 40}
        manifest.write_bytes(damaged(json.dumps(fields).encode()))
    try:
        engine = Engine(library, path)
        image = np.ones(BORDERS[io].shape(1, 17, 16), BORDERS[io].dtype)
        assert np.isfinite(engine.run(image)).all()
        engine.close()
        print(json.dumps([0, ""]), flush=True)
    except EngineError as error:
        print(json.dumps([error.status, error.message]), flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_refused_or_run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, seed: int) -> None:
    build = shared_build(tmp_path_factory)
    search = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = os.environ | {"SERPENT_ENGINE_ADAPTER": str(build.stand_in), "PYTHONPATH": search}
    command = [sys.executable, "-c", CHILD, build.library, tmp_path, str(seed), str(CASES)]
    child = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, timeout=300)
    assert child.returncode == 0, child.stderr
    answers = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(answers) == CASES
    statuses = collections.Counter(status for status, _ in answers)
    assert statuses.keys() <= set(range(BUSY)) - {INTERNAL}
    assert all(message for status, message in answers if status != OK)
    # The damage reaches the manifest's reader, the plan's, and what lies behind them.
    assert statuses[MODEL_FILE] > CASES / 5
    assert statuses[TENSORRT] > 0
    assert statuses[OK] > 0
