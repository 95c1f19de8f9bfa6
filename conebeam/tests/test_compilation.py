"""The cache of machine code follows the sources: an edited sampler runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import conebeam
from conebeam.compilation import kernel_key

# One Compton scattering at 60 keV, through a caller in another file than the sampler.
SCRIPT = """
import numpy as np
from conebeam.compilation import kernel, kernel_key
from conebeam.transport.sampling import compton
from conebeam.transport.direction import turn
from conebeam.transport.collision import energy_place
import caller
print(kernel_key(), caller.mean(np.float32(60.0)))
"""
CALLER = """
import numpy as np
from conebeam.compilation import kernel
from conebeam.transport.rng import stream, uniform
from conebeam.transport.sampling.relaxation import sample_transition

FIRST = np.array([0, 1], dtype=np.int32)
ONE = np.ones(1, dtype=np.float32)


@kernel
def run(energy, first, cumulative, lines, following):
    counter, step = stream(1, 1)
    counter, line, vacancy = sample_transition(first, cumulative, lines, following, 0, counter, step)
    return line


def mean(energy):
    return run(energy, FIRST, ONE, energy * ONE, np.array([-1], dtype=np.int32))
"""


def test_an_edited_sampler_is_compiled_anew(tmp_path: Path) -> None:
    source = Path(conebeam.__file__).parent
    copy = tmp_path / "site" / "conebeam"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "site" / "caller.py").write_text(CALLER)
    sampler = copy / "transport" / "sampling" / "relaxation.py"
    environment = {
        **os.environ, "PYTHONPATH": str(tmp_path / "site"), "CONEBEAM_CACHE": str(tmp_path / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    environment.pop("NUMBA_CACHE_DIR", None)
    environment.pop("NUMBA_DISABLE_JIT", None)

    def run() -> tuple[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True
        )
        key, value = done.stdout.split()
        return key, float(value)

    before = run()
    assert before == run()
    assert before[1] == 60.0
    text = sampler.read_text()
    assert "line_energy[i]" in text
    sampler.write_text(text.replace("line_energy[i]", "np.float32(0.5) * line_energy[i]"))
    after = run()
    assert after[1] == 30.0
    assert after[0] != before[0]
    assert len(list((tmp_path / "cache").glob("kernels-*"))) == 2


def test_the_key_is_that_of_these_sources() -> None:
    assert len(kernel_key()) == 16
    assert kernel_key() == kernel_key()
