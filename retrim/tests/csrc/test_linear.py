"""The kernels without Python: csrc/tests, compiled for each instruction set."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
FLAGS = ["-std=c++17", "-ffp-contract=fast", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-maybe-uninitialized"]
SHARED = ["isa.cpp", "linear.cpp", "pool.cpp", "repack.cpp", "tests/layer.cpp", "tests/lists.cpp"]
SHARED += ["tests/repacked.cpp", "tests/test_linear.cpp"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mprefer-vector-width=512"]
AVX512_BF16 = [*AVX512, "-mavx512vnni", "-mavx512bf16", "-mavx512vbmi", "-mavx512vbmi2"]
PORTABLE: dict[str, list[str]] = {"linear_portable.cpp": [], "lists_portable.cpp": []}
X86 = {
    **PORTABLE,
    "linear_avx2.cpp": AVX2,
    "lists_avx2.cpp": AVX2,
    "linear_avx2_vnni.cpp": [*AVX2, "-mavxvnni"],
    "linear_avx512.cpp": AVX512,
    "lists_avx512.cpp": AVX512,
    "linear_avx512_vnni.cpp": [*AVX512, "-mavx512vnni"],
    "linear_avx512_bf16.cpp": AVX512_BF16,
    "lists_avx512_bf16.cpp": AVX512_BF16,
    "linear_amx.cpp": [*AVX512_BF16, "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}
ARM = {**PORTABLE, "linear_neon_dot.cpp": ["-march=armv8.2-a+dotprod"]}
ARM_COMPILER = "aarch64-linux-gnu-g++"
ARM_EMULATOR = "qemu-aarch64-static"

x86_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="this code compiles for x86-64 alone"
)


def kernels_of_this_machine() -> dict[str, list[str]]:
    if platform.machine() in ("x86_64", "AMD64"):
        return X86
    return ARM if platform.machine() in ("aarch64", "arm64") else PORTABLE


def compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("no C++ compiler: install g++ to test the kernels without Python")
    return found


def build(
    folder: Path,
    cxx: str,
    kernels: dict[str, list[str]],
    *more: str,
    also: dict[Path, list[str]] | None = None,
) -> Path:
    """Compile the test with the kernels given, and others that they are tested with, each with its own flags."""
    jobs = [(CSRC / source, kernels.get(source, [])) for source in [*SHARED, *kernels]]
    if also:
        names = "".join(f"KERNELS({source.stem})" for source in also)
        jobs = [(source, [*flags, f"-DALSO={names}"]) for source, flags in jobs]
        jobs += also.items()

    def compiled(job: tuple[Path, list[str]]) -> str:
        source, flags = job
        target = folder / f"{source.stem}.o"
        command = [cxx, *FLAGS, *flags, *more, f"-I{CSRC}", "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, jobs))
    program = folder / "test_linear"
    links = [flag for flag in more if flag.startswith(("-static", "-fsanitize"))]
    subprocess.run([cxx, *objects, "-pthread", *links, "-o", str(program)], check=True)
    return program


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def agrees(said: str, name: str) -> bool:
    found = re.findall(rf"^{name}: \d+ (cases|lists), 0 wrong$", said, re.MULTILINE)
    return found == ["cases", "lists"]


def made_for_tests(folder: Path) -> dict[Path, list[str]]:
    """Kernels that run where their instructions are missing.

    amx_emulated: those for AMX on tiles in software.  wide: those for AVX-512, their
    vectors split into what every x86-64 has.
    """
    if kernels_of_this_machine() is not X86:
        return {}
    emulated, wide = folder / "amx_emulated.cpp", folder / "wide.cpp"
    emulated.write_text('#define EMULATED_TILES\n#include "linear_amx.cpp"\n')
    wide.write_text((CSRC / "linear_avx512.cpp").read_text().replace("_avx512\n", "_wide\n"))
    return {emulated: AVX512_BF16, wide: []}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("csrc")
    # optimised as they are shipped, they take ten times as long to compile
    return build(folder, compiler(), kernels_of_this_machine(), "-O1", also=made_for_tests(folder))


def test_every_kernel_agrees_with_a_double_loop(program: Path) -> None:
    said = run(program, "300")
    assert agrees(said, "portable")
    assert "pool: what shares throw reaches the caller\n" in said


@x86_only
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("amx", "this processor has no AMX"),
        ("amx_emulated", "emulated tiles need AVX512_BF16, which this processor does not have"),
        ("wide", "wide vectors run everywhere"),
    ],
)
def test_kernels_that_some_processors_lack(program: Path, name: str, reason: str) -> None:
    said = run(program, "100", "2", name)
    if f"{name}: skipped" in said:
        pytest.skip(reason)
    assert agrees(said, name)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_sanitizers_find_nothing(tmp_path: Path, sanitizer: str) -> None:
    kernels = kernels_of_this_machine()
    more = ["-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-D_GLIBCXX_SANITIZE_VECTOR", "-g"]
    program = build(tmp_path, compiler(), kernels, *more, also=made_for_tests(tmp_path))
    assert agrees(run(program, "100"), "portable")


@pytest.mark.slow
def test_optimised_kernels_agree(tmp_path: Path) -> None:
    """As they are shipped."""
    program = build(tmp_path, compiler(), kernels_of_this_machine(), "-O3", also=made_for_tests(tmp_path))
    assert agrees(run(program, "1000", "2"), "portable")


@pytest.mark.slow
def test_neon_agrees_under_qemu(tmp_path: Path) -> None:
    if shutil.which(ARM_COMPILER) is None or shutil.which(ARM_EMULATOR) is None:
        pytest.skip(
            "NEON needs a cross compiler and an emulator: install g++-aarch64-linux-gnu and qemu-user-static"
        )
    program = build(tmp_path, ARM_COMPILER, ARM, "-O2", "-static")
    said = run(ARM_EMULATOR, "-cpu", "max", program, "60")
    for name in ("neon_dot", "neon", "portable"):
        assert agrees(said, name)
