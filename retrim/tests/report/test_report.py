"""The page is well formed, complete, closed in itself, escaped and reproducible; the file is whole or the old one."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from retrim.errors import ConfigError
from retrim.report import page, write
from retrim.report.series import Palette

VOID = {"meta", "wbr"}
EVIL = '<script>alert("1&2")</script>\x00\ud800\'"'
SECTIONS = [
    "In short",
    "Results",
    "Accuracy against density",
    "Latency",
    "Density, layer by layer",
    "Training",
    "How to read this page",
    "Machine",
    "Text",
    "Settings",
]


class Page(HTMLParser):
    """The elements of a page; fails where a tag is left open or closed twice."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._table: list[list[str]] = []
        self.words = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, found))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "h2":
            self.headings.append("")
        elif found.get("role") == "region":
            self._table = self.tables.setdefault(found["aria-label"] or "", [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words += data
        if "h2" in self.open:
            self.headings[-1] += data
        if "td" in self.open or "th" in self.open:
            self._table[-1][-1] += data

    def count(self, tag: str, **attributes: str) -> int:
        return sum(name == tag and attributes.items() <= found.items() for name, found in self.elements)


def test_page_holds_every_section(result: dict[str, Any]) -> None:
    assert Page(page(result, title="demo")).headings == SECTIONS


def test_one_table_row_for_each_result(result: dict[str, Any]) -> None:
    head, *rows = Page(page(result, title="demo")).tables["Results"]
    assert head[:3] == ["Method", "Density", "Parameters"]
    assert [row[:2] for row in rows] == [[r["method"], f"{r['density']:.3f}"] for r in result["rows"]]
    assert rows[0][head.index("Packed, ms")] == "–"
    assert rows[2][head.index("Speed-up")] == f"{result['rows'][2]['speedup']:.2f}×"
    assert {len(row) for row in rows} == {len(head)}


def test_headline_is_the_most_accurate_row_at_the_lowest_density(result: dict[str, Any]) -> None:
    faster = result["rows"][4]
    faster["speedup"] = 9.0
    words = Page(page(result, title="demo")).words
    assert "All of one row, the most accurate at the lowest density: reweighted group lasso 1/3." in words
    assert f"{100 * (0.396 / 0.4042 - 1):.1f}".replace("-", "−") in words
    assert f"{result['rows'][2]['speedup_linears']:.2f}×" in words


def test_density_map_has_one_cell_a_layer(result: dict[str, Any]) -> None:
    found = Page(page(result, title="demo"))
    for row in result["rows"][1:]:
        name = f"{row['method']} 1/{round(1 / row['density'])}"
        head, *body = found.tables[f"Density of each layer: {name}"]
        assert head == ["Layer", "attention.qkv", "attention.out", "feed_forward.up", "feed_forward.down"]
        cells = [cell for line in body for cell in line[1:]]
        assert cells == [f"{layer['density']:.2f}" for layer in result["layers"] if layer["row"] == name]
    assert len(found.tables["All layers"]) == 1 + len(result["layers"])


def test_a_layer_without_a_number_and_a_hole_in_the_map(result: dict[str, Any]) -> None:
    layers = [
        {"row": "r", "name": n, "shape": [2, 2], "density": 0.5, "bytes": 8}
        for n in ("head.weight", "b.0.up")
    ]
    head, *body = Page(page({"layers": layers}, title="t")).tables["Density of each layer: r"]
    assert (head, body) == (["Layer", "head", "up"], [["–", "0.50", "–"], ["b.0", "–", "0.50"]])


def test_charts_are_drawn_for_both_widths_and_described(result: dict[str, Any]) -> None:
    found = Page(page(result, title="demo"))
    drawings = [a for tag, a in found.elements if tag == "svg" and a.get("role") == "img"]
    assert len(drawings) == 2 * 3
    labels = [a["aria-label"] or "" for a in drawings]
    assert labels[0] == labels[1]
    assert "reweighted group lasso 1/3: 39.6\u202f%" in labels[0]
    assert all(
        a.get("role") == "img" or a.get("aria-hidden") == "true" for t, a in found.elements if t == "svg"
    )
    assert found.count("summary") == 4
    bars = [a for tag, a in found.elements if tag == "path" and a.get("class") == "bar"]
    assert len(bars) == 2 * (1 + 2 * 4)


def test_bar_lengths_are_proportional_to_time(result: dict[str, Any]) -> None:
    result["rows"] = [{"method": "m", "density": 0.5, "ms_dense": 20.0, "ms_packed": 5.0, "speedup": 4.0}]
    found = Page(page(result, title="demo"))
    ends = [
        re.match(r"M2\.0 [\d.]+H([\d.]+)q", a["d"] or "")
        for tag, a in found.elements
        if tag == "path" and a.get("class") == "bar"
    ]
    lengths = [float(end[1]) + 4 - 2 for end in ends if end]
    assert lengths[0] == pytest.approx(4 * lengths[1], abs=0.3)


def test_points_stand_where_their_numbers_say(result: dict[str, Any]) -> None:
    found = Page(page(result, title="demo"))
    dots = [a for _, a in found.elements if a.get("class") == "dot ring"][: len(result["rows"])]
    where = sorted((float(a["cx"] or 0), -float(a["cy"] or 0)) for a in dots)
    told = sorted((row["density"], row["accuracy"]) for row in result["rows"])
    (x0, y0), (x1, y1) = where[0], where[-1]
    (d0, a0), (d1, a1) = told[0], told[-1]
    for (x, y), (density, accuracy) in zip(where, told, strict=True):
        assert (x - x0) / (x1 - x0) == pytest.approx((density - d0) / (d1 - d0), abs=0.01)
        assert (y - y0) / (y1 - y0) == pytest.approx((accuracy - a0) / (a1 - a0), abs=0.01)


def test_a_method_keeps_its_colour_in_all_charts(result: dict[str, Any]) -> None:
    found = Page(page(result, title="demo"))
    curves = [
        a["class"] or ""
        for t, a in found.elements
        if t == "path" and (a.get("class") or "").startswith("curve ")
    ]
    loss = [name.removeprefix("curve ") for name in curves[:5]]
    assert loss == ["dense", "s0", "s0 dashed", "s1", "s1 dashed"]
    assert found.count("svg", **{"class": "s0", "viewbox": "0 0 24 12"}) == 2


def test_the_seventh_method_looks_like_no_other(result: dict[str, Any]) -> None:
    palette = Palette(f"method {number}" for number in range(12))
    assert len({palette.colour(f"method {number}") for number in range(12)}) == 12
    row = next(row for row in result["rows"] if row["method"] != "dense")
    more = [{**row, "method": f"method {number}"} for number in range(7)]
    found = Page(page({**result, "rows": [*result["rows"][:1], *more]}, title="demo"))
    assert found.count("svg", **{"class": "s0", "viewbox": "0 0 24 12"}) == 1
    assert found.count("svg", **{"class": "s0 hollow", "viewbox": "0 0 24 12"}) == 1


def test_nothing_leads_out_of_the_page(result: dict[str, Any]) -> None:
    source = page(result, title="demo")
    assert not re.search(
        r"https?:|//|@import|url\(|<script|<link|<img|<iframe|\son\w+=", source, re.IGNORECASE
    )
    assert not {"src", "href", "srcset", "xlink:href"} & {k for _, a in Page(source).elements for k in a}
    assert "default-src 'none'" in str(
        [a.get("content") for tag, a in Page(source).elements if tag == "meta"]
    )


def test_no_identity_twice(result: dict[str, Any]) -> None:
    found = Page(page(result, title="demo"))
    identities = [a["id"] for _, a in found.elements if "id" in a]
    assert len(identities) == len(set(identities)) == len(SECTIONS)
    assert [a["aria-labelledby"] for tag, a in found.elements if tag == "section"] == identities


def poisoned(value: Any) -> Any:
    """The same value with every string and every free key made dangerous."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    return value


def test_every_string_is_escaped(result: dict[str, Any]) -> None:
    evil = poisoned(result)
    for part in ("settings", "curves"):
        evil[part] = {key + EVIL: value for key, value in evil[part].items()}
    evil["host"]["versions"] = {key + EVIL: value for key, value in evil["host"]["versions"].items()}
    source = page(evil, title=EVIL)
    found = Page(source)
    assert "<script" not in source
    assert found.count("script") == 0
    assert found.headings == SECTIONS
    assert not re.search("[\x00\ud800]", source)
    assert '<script>alert("1&2")</script>\ufffd\ufffd\'"' in found.words
    source.encode()


def test_a_bench_has_no_accuracy_and_no_curves(bench: dict[str, Any]) -> None:
    found = Page(page(bench, title="bench"))
    left = {"Accuracy against density", "Training", "Text", "Settings"}
    assert found.headings == [name for name in SECTIONS if name not in left]
    assert "Perplexity" not in found.words
    assert "the fastest at the lowest density" in found.words


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        ("rows", {"In short", "Results", "Accuracy against density", "Latency"}),
        ("layers", {"Density, layer by layer"}),
        ("curves", {"Training"}),
        ("host", {"Machine"}),
        ("corpus", {"Text"}),
        ("settings", {"Settings"}),
        ("seconds", set()),
    ],
)
def test_a_missing_part_leaves_out_its_own_section(result: dict[str, Any], part: str, lost: set[str]) -> None:
    kept = [name for name in SECTIONS if name not in lost]
    assert Page(page(result | {part: None}, title="demo")).headings == kept
    del result[part]
    assert Page(page(result, title="demo")).headings == kept


def test_an_empty_result_is_a_page_with_a_title_alone() -> None:
    found = Page(page({}, title="nothing yet"))
    assert (found.headings, found.count("h1"), found.count("section")) == ([], 1, 0)


def test_numbers_that_are_none_or_not_finite_are_a_dash(result: dict[str, Any]) -> None:
    result["rows"][1] |= {"accuracy": math.nan, "ms_dense": math.inf, "speedup": None, "perplexity": "?"}
    result["layers"][0]["density"] = math.nan
    result["curves"]["dense"]["loss"][3] = math.nan
    source = page(result, title="demo")
    found = Page(source)
    head, *rows = found.tables["Results"]
    assert [rows[1][head.index(k)] for k in ("Accuracy", "Dense, ms", "Speed-up", "Perplexity")] == ["–"] * 4
    assert not re.search(r"\b(nan|inf)\b", source, re.IGNORECASE)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_and_constant_curves(result: dict[str, Any], count: int) -> None:
    flat = {"step": list(range(count)), "loss": [2.0] * count, "penalty": [0.0] * count}
    found = Page(page(result | {"curves": {"dense": flat, "empty": {"step": [], "loss": []}}}, title="demo"))
    assert found.tables["Training curves, numbers (smoothed)"][1:] == [
        ["dense", "0", str(count - 1), "2.000", "2.000", "2.000"]
    ]


def test_smoothing_is_the_mean_of_its_window(result: dict[str, Any]) -> None:
    loss = [float(k % 2) for k in range(80)]
    curves = {"dense": {"step": list(range(80)), "loss": loss, "penalty": []}}
    _, numbers = Page(page(result | {"curves": curves}, title="demo")).tables[
        "Training curves, numbers (smoothed)"
    ]
    assert numbers[3:] == ["0.333", "0.333", "0.667"]  # windows of 2k+1 = 5, 3 of them at the ends


def test_a_curve_of_another_length_is_refused(result: dict[str, Any]) -> None:
    result["curves"]["dense"]["loss"].pop()
    with pytest.raises(ConfigError) as refused:
        page(result, title="demo")
    assert str(refused.value) == (
        "curve 'dense' must have one loss for each of its 400 steps, not 399; log both at the same steps"
    )


def test_long_curves_do_not_make_a_large_page(result: dict[str, Any]) -> None:
    short = len(page(result, title="demo"))
    steps = list(range(20_000))
    long = {
        name: {"step": steps, "loss": [2.0 + s % 7 for s in steps], "penalty": []}
        for name in result["curves"]
    }
    assert len(page(result | {"curves": long}, title="demo")) < 1.5 * short


def test_the_same_result_makes_the_same_page(result: dict[str, Any]) -> None:
    assert page(result, title="demo") == page(json.loads(json.dumps(result)), title="demo")


def test_write_replaces_the_file_and_leaves_nothing_beside(result: dict[str, Any], tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    write(target, result)
    assert target.read_text(encoding="utf-8") == page(result, title="retrim demo")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_old_file(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as half:
            half.write(data[:100])
        raise OSError(28, "No space left on device")

    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError) as refused:
        write(target, result)
    assert str(refused.value) == (
        f"report {str(target)!r} cannot be written: No space left on device; free some space or choose another folder"
    )
    assert ([entry.name for entry in tmp_path.iterdir()], target.read_text()) == (["report.html"], "old")


def test_an_interruption_leaves_the_old_file(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(target, result)
    assert ([entry.name for entry in tmp_path.iterdir()], target.read_text()) == (["report.html"], "old")


@pytest.mark.parametrize(
    ("inside", "reason"), [("gone", "No such file or directory"), ("file", "Not a directory")]
)
def test_a_folder_that_cannot_be_written_is_named(
    result: dict[str, Any], tmp_path: Path, inside: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / inside / "report.html"
    with pytest.raises(ConfigError) as refused:
        write(target, result)
    assert str(refused.value) == (
        f"report {str(target)!r} cannot be written: {reason}; free some space or choose another folder"
    )


def test_the_report_needs_python_alone() -> None:
    imported = {name.partition(".")[0] for name in _imports()}
    assert imported <= set(sys.stdlib_module_names) | {"retrim"}


def _imports() -> list[str]:
    import retrim.report

    folder = Path(retrim.report.__file__).parent
    found = [
        re.findall(r"^(?:from|import) ([\w.]+)", f.read_text(), re.M) for f in sorted(folder.glob("*.py"))
    ]
    return [name for names in found for name in names]


def test_rows_of_fewer_bits_are_named_and_stay_out_of_the_headline(result: dict[str, Any]) -> None:
    plain = result["rows"][2]
    result["rows"].append(plain | {"precision": "int8", "accuracy": 0.41, "speedup": 9.0})
    found = Page(page(result, title="demo"))
    assert "at the lowest density: reweighted group lasso 1/3." in found.words
    assert [row[0] for row in found.tables["Results"]][-1] == "reweighted group lasso, int8"
    assert [row[0] for row in found.tables["Latency, numbers"]][-1] == "reweighted group lasso 1/3, int8"
    assert "against the same dense model in fp32" in found.words


def test_kernels_that_are_alike_are_one_line(result: dict[str, Any]) -> None:
    choice = {
        "isa": "avx2",
        "variant": "direct",
        "microseconds": 10.04,
        "dense_microseconds": 20.5,
        "speedup": 2.04,
    }
    layer = {"row": "r 1/2", "shape": [64, 48], "stored": 0.5, "precision": "bf16", "choice": choice}
    result["kernels"] = [layer, layer, layer | {"choice": None}]
    found = Page(page(result, title="demo"))
    assert found.tables["Kernels"][1:] == [
        ["r 1/2", "64 × 48", "0.50", "bf16", "avx2 direct", "10.0", "20.5", "2.04×", "2"],
        ["r 1/2", "64 × 48", "0.50", "bf16", "rule of thumb", "–", "–", "–", "1"],
    ]
    assert found.headings.index("Kernels") == found.headings.index("Latency") + 1
