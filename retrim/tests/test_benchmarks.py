"""The benchmarks run and write what they promise; how fast is no test's business."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
RUNTIMES = {"torch", "onnxruntime", "openvino"}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the benchmarks, which are scripts and no package."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (BENCHMARKS / f"{name}.py").exists():
            del sys.modules[name]


def linear(*options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCHMARKS / "linear.py", *options]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("precision", "group", "activations"),
    [("fp32", 1, [None]), ("bf16", 2, [None]), ("int8", 4, ["static", "dynamic"])],
)
def test_linear_writes_its_rows(tmp_path: Path, precision: str, group: int, activations: list[Any]) -> None:
    out = tmp_path / "linear.json"
    small = ["--tokens", 2, "--seconds", 0.1, "--chain-mib", 4, "--densities", 1, "1/3", "--verify"]
    done = linear("--precision", precision, "--group", group, *small, "--json", out)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert {"host", "commit", "clock", "load", "date"} <= set(report)
    assert report["host"]["cpu"]
    assert report["host"]["isa"][-1] == "portable"
    assert (report["precision"], report["threads"]) == (precision, 1)
    assert report["verified"]
    assert not report["profile"]
    assert not report["cold"]
    found = [(row["shape"], row["activations"], row["density"]) for row in report["rows"]]
    assert found == [
        (shape, kind, density)
        for shape in ("768x768", "3072x768 pair")
        for kind in activations
        for density in (1.0, 0.3333)
    ]
    for row in report["rows"]:
        assert (row["tokens"], row["rows"], row["group"], row["threads"]) == (2, 32, group, 1)
        assert (row["precision"], row["structure"]) == (precision, "block")
        assert row["ours_us"] > 0
        assert row["rounds"] >= 5
        assert set(row["rivals_us"]) == RUNTIMES
        assert row["rivals_us"]["torch"] > 0
        absent = {name for name, us in (row["rivals_us"] | row["variants_us"]).items() if us is None}
        assert absent == set(row["rivals_missing"])
        assert all(row["rivals_missing"].values())
    assert "density 1/3" in done.stdout


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_patterns_take_turns_with_blocks(tmp_path: Path, precision: str) -> None:
    out = tmp_path / "linear.json"
    small = ["--tokens", 2, "--seconds", 0.1, "--chain-mib", 4, "--densities", "1/3", "--shapes", "768x768"]
    forms = ["--structure", "pattern", "--row-group", 1, 4, "--tile", "16x8", "--ours", "--verify"]
    done = linear("--precision", precision, *small, *forms, "--json", out)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [(row["structure"], row["rows"], row["tile"]) for row in rows] == [
        ("block", 32, None),
        ("pattern", 1, [16, 8]),
        ("pattern", 4, [16, 8]),
    ]
    assert "| 4         | 16x8 | 2      | 1/3     |" in done.stdout


def test_patterns_in_int8_and_tiles_that_are_none_are_refused() -> None:
    for options, sentence in (
        (
            ("--structure", "pattern", "--precision", "int8"),
            "--structure pattern must go with --precision fp32 or bf16: there are no kernels in int8",
        ),
        (("--tile", "32"), "argument --tile: a tile must be written as 32x64, not '32'"),
    ):
        done = linear(*options)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == f"linear.py: error: {sentence}"


def test_processor_time_of_several_threads_is_no_speed() -> None:
    done = linear("--clock", "cpu", "--threads", 2)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "linear.py: error: --clock must be wall for several threads, not cpu: it adds up what all of them take"
    )


def test_a_damaged_profile_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text("{}")
    done = linear("--profile", tmp_path / "profile.json")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("linear.py: error: profile ")


def test_a_chain_fits_in_no_cache(module: Callable[[str], ModuleType]) -> None:
    chains = module("chains")
    least = chains.cold_bytes()
    assert least >= max(256 << 20, 4 * chains.last_level_cache())
    for shape, pattern in chains.SHAPES.items():
        for precision, size in chains.BYTES.items():
            shapes = chains.layers_of(shape, precision, least)
            total = size * sum(outputs * inputs for outputs, inputs in shapes)
            assert least <= total < least + size * sum(o * i for o, i in pattern)
            assert shapes == pattern * (len(shapes) // len(pattern))


def test_a_form_keeps_as_many_columns_in_every_block(module: Callable[[str], ModuleType]) -> None:
    mask = module("chains").Form(32, 4, 1 / 3).mask(np.random.default_rng(0), (80, 48))
    assert mask.shape == (80, 48)
    blocks = [mask[first : first + 32] for first in (0, 32, 64)]
    assert all((block == block[0]).all() and block[0].sum() == 16 for block in blocks)
    assert (mask.reshape(80, 12, 4).all(axis=2) == mask.reshape(80, 12, 4).any(axis=2)).all()


def test_tiles_of_patterns_keep_alike(module: Callable[[str], ModuleType]) -> None:
    mask = module("chains").Form(4, 1, 1 / 4, (16, 8)).mask(np.random.default_rng(0), (64, 48))
    tiles = mask.reshape(4, 16, 6, 8).transpose(0, 2, 1, 3).reshape(-1, 16, 8)
    assert (tiles.sum(axis=(1, 2)) == 32).all()
    assert len(np.unique(tiles, axis=0)) <= 4
    assert (mask[::4] == mask[3::4]).all()


def tiny(chains: ModuleType, precision: str) -> tuple[Any, dict[Any, list[np.ndarray]]]:
    """Two layers and their packs at density 1/2."""
    form = chains.Form(32, 1, 0.5)
    layers, packs = chains.build([(96, 64), (64, 96)], precision, [form], np.random.default_rng(1))
    return chains.chain(layers, precision, tokens=3, threads=1), packs


@pytest.mark.parametrize(
    ("precision", "activations"),
    [("fp32", None), ("bf16", None), ("int8", "static"), ("int8", "dynamic")],
)
def test_ours_is_held_to_the_oracle(
    module: Callable[[str], ModuleType], precision: str, activations: str | None
) -> None:
    chain, packs = tiny(module("chains"), precision)
    (pack,) = packs.values()
    layers = module("packed").PackedChain(pack, chain, activations)
    output = layers.run()()
    check = module("verification").check_ours
    check("96x64", chain, [("ours", layers, output)])
    with pytest.raises(SystemExit) as refused:
        check("96x64", chain, [("ours", layers, output ^ 1 if output.dtype != np.float32 else -output)])
    assert str(refused.value) == (
        f"ours on 96x64 with 3 tokens must agree with the {precision} oracle, but the timed output is not that "
        "of the same layers: nothing is reported"
    )
    layers.biases[0] = layers.biases[0] + 1
    with pytest.raises(SystemExit, match=r"but layer 0 is [0-9.]+ times as far from the oracle as rounding"):
        check("96x64", chain, [("ours", layers, output)])


def test_a_rival_that_computes_something_else_is_refused(module: Callable[[str], ModuleType]) -> None:
    chain, _ = tiny(module("chains"), "fp32")
    y = chain.x
    for layer in chain.layers:
        y = y @ layer.weight.T + layer.bias
    check = module("verification").check_rivals
    check("96x64", chain, {"torch/plain": y})
    with pytest.raises(SystemExit) as refused:
        check("96x64", chain, {"torch/plain": y * np.float32(1.01)})
    assert str(refused.value) == (
        "torch/plain on 96x64 with 3 tokens must agree with the fp32 oracle, but they differ by 1.0e-02 of "
        "its size: nothing is reported"
    )


def test_absent_rivals_have_reasons(
    module: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = module("dense")
    broken, nothing = ModuleType("broken"), ModuleType("nothing")

    def refusing(chain: object) -> Callable[[], None]:
        raise NotImplementedError("no such instruction\nat line 1")

    broken.VARIANTS, nothing.VARIANTS = {"fp32": {"fast": refusing}}, {}  # type: ignore[attr-defined]
    nothing.ABSENT = {"fp32": "it cannot"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken", broken)
    monkeypatch.setitem(sys.modules, "nothing", nothing)
    monkeypatch.setattr(dense, "RUNTIMES", {"a": "not_there_at_all", "b": "broken", "c": "nothing"})
    chain, _ = tiny(module("chains"), "fp32")
    rivals = dense.build(chain)
    assert rivals.runs == {}
    assert rivals.missing == {
        "a": "not installed (No module named 'not_there_at_all')",
        "b/fast": "NotImplementedError: no such instruction",
        "b": "none of its variants runs here",
        "c": "it cannot",
    }


def report(isa: list[str], threads: int = 1, ours: float = 10.0, precision: str = "fp32") -> dict[str, Any]:
    """What `linear.py` would have written, by hand."""
    rows = [
        {
            "shape": shape,
            "tokens": 128,
            "density": density,
            "precision": precision,
            "structure": "block",
            "rows": 32,
            "group": 1,
            "activations": None,
            "threads": threads,
            "ours_us": ours * density * scale,
            "variants_us": {"torch/plain": 20.0 * scale, "openvino/prepacked": best, "torch/mkl": None},
        }
        for shape, scale, best in (("768x768", 1.0, 9.6), ("3072x768 pair", 8.0, 90.0))
        for density in (1.0, 0.5)
    ]
    host = {"cpu": "A processor", "isa": isa, "isa_selected": isa[0]}
    told = {"clock": "wall", "load": 0.25, "commit": "0123456789abcdef-dirty", "host": host}
    return {**told, "precision": precision, "threads": threads, "rows": rows}


def test_the_table_puts_ratios_beside_their_targets(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    file = tmp_path / "linear.json"
    file.write_text(json.dumps(report(["avx512", "portable"])))
    command = [sys.executable, BENCHMARKS / "table.py", file, "--rivals"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    best = "openvino/prepacked 9.6 µs; openvino/prepacked 90.0 µs"
    assert done.stdout == (
        "`linear.json`: fp32, 1 thread, A processor, avx512, wall clock, load 0.2, commit 0123456789ab-dirty\n"
        "\n"
        "fp32, rows 32, groups of 1\n"
        "\n"
        f"| tokens | best dense{' ' * 43} | density 1       | density 1/2     |\n"
        f"| ------ | {'-' * 53} | --------------- | --------------- |\n"
        f"| 128    | {best} | 1.04 (0.91 met) | 2.08 (2.00 met) |\n"
        "\n"
        "| µs                                    | 768x768, 128 | 3072x768 pair, 128 |\n"
        "| ------------------------------------- | ------------ | ------------------ |\n"
        "| torch/plain                           | 20.0         | 160.0              |\n"
        "| openvino/prepacked                    | 9.6          | 90.0               |\n"
        "| torch/mkl                             | –            | –                  |\n"
        "| ours, density 1, rows 32, groups of 1 | 10.0         | 80.0               |\n"
        "\n"
    )


def test_patterns_are_set_beside_blocks(module: Callable[[str], ModuleType]) -> None:
    found = report(["avx512", "portable"])
    for row in found["rows"]:
        row["density"] = round(row["density"] * 2 / 3, 4)
    found["rows"] += [
        row | {"structure": "pattern", "tile": [32, 64], "rows": 4, "ours_us": row["ours_us"] / speed}
        for row, speed in zip(found["rows"], (0.5, 1.0, 0.5, 0.64), strict=True)
    ]
    text = module("table").patterns(found)
    assert "| 4         | 32x64 | 128    | 0.6667  | 0.50               |" in text
    assert "| 4         | 32x64 | 128    | 1/3     | 0.80 (0.9 missed)  |" in text
    assert "row groups" not in module("table").ratios(found)


def test_a_missed_target_is_said_to_be_missed(module: Callable[[str], ModuleType]) -> None:
    text = module("table").ratios(report(["avx512", "portable"], ours=11.0))
    assert "1.89 (2.00 missed)" in text
    assert "0.94 (0.91 met)" in text


def test_what_a_processor_cannot_is_not_missed(module: Callable[[str], ModuleType]) -> None:
    text = module("table").ratios(report(["avx512", "portable"], ours=11.0, precision="bf16"))
    assert "1.89 (not applicable)" in text
    assert "missed" not in text


def test_two_threads_are_held_to_one(module: Callable[[str], ModuleType]) -> None:
    one, two = report(["avx512"]), report(["avx512"], threads=2, ours=5.0)
    table = module("table")
    assert table.scaling([one]) == ""
    assert "| fp32                 | 32   | 1     | 128    | 1/2     | 2.00 (1.8 met) |" in table.scaling(
        [one, two]
    )


def test_targets_know_their_processor(module: Callable[[str], ModuleType]) -> None:
    targets = module("targets")
    assert targets.processor_kind(["amx", "avx512", "portable"]) == "amx"
    assert targets.processor_kind(["avx512_bf16", "portable"]) == "avx512"
    assert targets.processor_kind(["avx2", "portable"]) is None
    row = {"precision": "int8", "group": 4, "rows": 32, "tokens": 8, "density": 0.3333, "threads": 1}
    here = ["avx512_bf16", "avx512_vnni", "avx512"]
    assert targets.target(row | {"activations": "static"}, here) == 3.8
    assert targets.target(row | {"activations": "dynamic"}, here) is None
    assert targets.target(row | {"activations": "dynamic", "group": 1, "tokens": 384}, here) == 2.5
    assert targets.target(row | {"activations": "static", "rows": 64}, here) is None
    assert targets.target(row | {"activations": "static", "threads": 2}, here) is None
    assert targets.target(row | {"activations": "static", "tokens": 128, "rows": 64}, ["amx"]) == 1.9


def test_what_pruners_cost_is_written(tmp_path: Path) -> None:
    out = tmp_path / "pruners.json"
    command = [
        sys.executable,
        str(BENCHMARKS / "pruners.py"),
        "--steps",
        "1",
        "--every",
        "1",
        "--json",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["host"]["cpu"]
    copies = {row["pruner"]: row["copies"] for row in report["rows"]}
    assert copies == {"none": 0, "none, again": 0, "ADMM": 2, "SLR": 2, "SLR, restoring": 3}
    assert all(row["ms_per_step"] > 0 for row in report["rows"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_switches_take_is_written(tmp_path: Path, precision: str) -> None:
    out = tmp_path / "switch.json"
    small = ["--precision", precision, "--blocks", 1, "--rounds", 1, "--idle", "--densities", "1/4,1/2"]
    command = [sys.executable, BENCHMARKS / "switch.py", *small, "--json", out]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["weights"] == 4 * 768**2 + 2 * 768 * 3072
    modes = {"resident", "nested", "repack", "repack_lean", "repack_dense"}
    assert set(report["mode_ms"]) == set(report["bytes"]) == modes
    assert all(time > 0 for time in report["mode_ms"].values())
    value = 4 if precision == "fp32" else 2
    # nested: one pack of the densest level, the columns of four rows in 2 bytes
    least = report["weights"] * 0.5 * (value + 2 / 4)
    assert least < report["bytes"]["nested"] < 1.05 * least
    assert report["bytes"]["nested"] < report["bytes"]["repack_lean"] < report["bytes"]["repack"]


def test_a_level_that_computes_something_else_is_refused(module: Callable[[str], ModuleType]) -> None:
    switch = module("switch")
    weights = {"only": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}
    families = switch.draw_families(list(weights.values()), switch.TILING, 2, density=0.5, seed=0, sample=1.0)
    subject = switch.Subject("repack", weights, families, [0.25, 0.5], "fp32")
    subject.check("0.25")  # the level that is on
    with pytest.raises(SystemExit, match=r"only at 0\.5 is off by"):
        subject.check("0.5")
