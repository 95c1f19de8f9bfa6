"""The kernels without Python: csrc/tests/test_linear.cpp, compiled for each instruction set."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
SHARED = ["isa.cpp", "linear.cpp", "pool.cpp", "tests/test_linear.cpp"]
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-Wall", "-Wextra", "-Wno-psabi", "-pthread"]
VECTORS = {
    "linear_portable.cpp": [],
    "linear_avx2.cpp": ["-mavx2", "-mfma"],
    "linear_avx512.cpp": ["-mavx512f", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
ARM_COMPILER = "aarch64-linux-gnu-g++"
ARM_EMULATOR = "qemu-aarch64-static"


def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler: install g++ to test the kernels without Python")
    return found


def build(folder: Path, cxx: str, kernels: dict[str, list[str]], *more: str) -> Path:
    """Compile the test with the kernels given, each with its own flags."""
    objects = []
    for source in [*SHARED, *kernels]:
        target = folder / (Path(source).stem + ".o")
        command = [cxx, *FLAGS, *kernels.get(source, []), *more, f"-I{CSRC}", "-c", str(CSRC / source)]
        subprocess.run([*command, "-o", str(target)], check=True)
        objects.append(str(target))
    program = folder / "test_linear"
    links = [flag for flag in more if flag.startswith(("-static", "-fsanitize"))]
    subprocess.run([cxx, *objects, "-pthread", *links, "-o", str(program)], check=True)
    return program


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 wrong" in done.stdout
    return done.stdout


def kernels_of_this_machine() -> dict[str, list[str]]:
    if platform.machine() in ("x86_64", "AMD64"):
        return VECTORS
    return {"linear_portable.cpp": []}


def test_every_kernel_agrees_with_a_double_loop(tmp_path: Path) -> None:
    said = run(build(tmp_path, compiler(), kernels_of_this_machine()), "150")
    assert "portable: 150 cases, 0 wrong" in said


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="AVX-512 code compiles for x86-64 alone"
)
def test_wide_vectors_agree_on_any_processor(tmp_path: Path) -> None:
    """The kernel's logic for 16 lanes and 12 tokens, its vectors split into what every x86-64 has."""
    wide = tmp_path / "linear_wide.cpp"
    wide.write_text(
        '#define LANES 16\n#define TILE 12\n#define KERNEL linear_wide\n#include "linear_kernel.inc"\n'
    )
    said = run(build(tmp_path, compiler(), {**VECTORS, str(wide): []}, "-DALSO=linear_wide"), "60")
    assert "also: 60 cases, 0 wrong" in said


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str) -> None:
    more = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-g"]
    run(build(tmp_path, compiler(), kernels_of_this_machine(), *more), "60")


@pytest.mark.slow
def test_neon_agrees_under_qemu(tmp_path: Path) -> None:
    if shutil.which(ARM_COMPILER) is None or shutil.which(ARM_EMULATOR) is None:
        pytest.skip(
            "NEON needs a cross compiler and an emulator: install g++-aarch64-linux-gnu and qemu-user-static"
        )
    program = build(tmp_path, ARM_COMPILER, {"linear_portable.cpp": []}, "-static")
    said = run(ARM_EMULATOR, program, "60")
    assert "neon: 60 cases, 0 wrong" in said
