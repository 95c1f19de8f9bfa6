"""Differences, shares within tolerance, and reference files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from conebeam.compare import (
    Absolute,
    AtMaximum,
    AtPosition,
    Curve,
    Local,
    compare_curves,
    parse_base,
    parse_normalisation,
    read_curve,
)
from conebeam.errors import ConebeamError, ConfigError, DataError

AT = np.array([0.5, 1.0, 2.0, 3.0])


def curve(values: object, sigma: object = 0.0, at: np.ndarray = AT, name: str = "c") -> Curve:
    array = np.asarray(values, dtype=float)
    return Curve(position=at, value=array, sigma=np.broadcast_to(sigma, array.shape), name=name)


def test_local_differences_and_share() -> None:
    found = compare_curves(
        curve([1.01, 2.1, 3.0, 3.9], 0.01), curve([1.0, 2.0, 3.0, 4.0], 0.02), tolerance=0.02
    )
    assert found.difference == pytest.approx([0.01, 0.05, 0.0, -0.025])
    assert found.sigma_ours == pytest.approx([0.0101, 0.0105, 0.01, 0.00975])
    assert found.sigma_reference == pytest.approx([0.02] * 4)
    assert found.share_within == 0.5
    # |d| - 2 sqrt(s1^2 + s2^2): only 0.05 - 0.045 > 0, and still within 2 %.
    assert found.share_within_statistics == 1.0
    assert found.mean == pytest.approx(0.00875)
    assert found.worst == 1
    assert found.excess()[1] == pytest.approx(0.05 - 2 * math.hypot(0.0105, 0.02))


def test_differences_of_the_maximum_or_of_a_value() -> None:
    ours, theirs = curve([1.0, 2.0, 0.3, 0.1]), curve([1.1, 2.0, 0.2, 0.2])
    relative = compare_curves(ours, theirs, base=AtMaximum())
    assert relative.difference == pytest.approx([-0.05, 0.0, 0.05, -0.05])
    relative = compare_curves(ours, theirs, base=AtPosition(0.5))
    assert relative.difference == pytest.approx([-0.1 / 1.1, 0.0, 0.1 / 1.1, -0.1 / 1.1])


def test_normalisation_scales_ours_and_carries_its_sigma() -> None:
    ours, theirs = curve([2.0, 4.0, 6.0, 8.0], 0.03), curve([1.0, 2.0, 3.0, 4.0], 0.04)
    for normalisation in (AtMaximum(), AtPosition(1.0)):
        found = compare_curves(ours, theirs, normalisation=normalisation)
        assert found.difference == pytest.approx(np.zeros(4), abs=1e-15)
        assert found.sigma_ours == pytest.approx([math.sqrt(2 * 0.03**2 + 0.04**2)] * 4)
    assert compare_curves(ours, theirs).difference == pytest.approx([1.0] * 4)


def test_points_between_our_centres_are_interpolated_and_others_left_out() -> None:
    ours = curve([1.0, 2.0, 4.0, 6.0])
    theirs = curve([9.0, 3.0, 5.0, 9.0], at=np.array([0.2, 1.5, 2.5, 3.5]))
    found = compare_curves(ours, theirs)
    assert found.position.tolist() == [1.5, 2.5]
    assert found.difference == pytest.approx([0.0, 0.0])
    assert found.outside == 2
    assert found.as_dict()["points_outside"] == 2


def test_as_dict_is_plain() -> None:
    found = compare_curves(curve([1.0, 2.0, 3.0, 4.0]), curve([1.0, 2.0, 3.0, 5.0]))
    plain = found.as_dict()
    assert plain["largest_difference"] == pytest.approx(-0.2)
    assert plain["largest_at"] == 3.0
    assert plain["share_within"] == 0.75
    assert (plain["normalisation"], plain["relative_to"]) == ("absolute", "local")


def test_an_unknown_sigma_allows_nothing_and_is_null() -> None:
    ours = curve([1.0, 2.1, 3.0, 4.0], sigma=[math.nan, math.nan, 0.5, 0.0])
    found = compare_curves(ours, curve([1.0, 2.0, 3.1, 4.0]))
    assert found.share_within == 0.5
    assert found.share_within_statistics == 0.75
    assert found.as_dict()["sigma_ours"][:2] == [None, None]
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["points"] == 4


def test_a_curve_of_ours_with_an_unknown_sigma_is_a_reference(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("low,high,centre,value,sigma\n0,1,0.5,2,nan\n1,2,1.5,3,0.1\n")
    found = read_curve(tmp_path / "r.csv")
    assert found.value.tolist() == [2.0, 3.0]
    assert math.isnan(found.sigma[0]) and found.sigma[1] == 0.1


def test_two_rows_at_one_position_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("e,v\n1,5\n2,4\n2,8\n3,7\n")
    assert read_curve(tmp_path / "r.csv", steps=True).position.tolist() == [1.0, 2.0, 2.0, 3.0]
    with pytest.raises(DataError, match=r"must rise; choose one curve of several with where$"):
        read_curve(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: compare_curves(curve([1, 2, 3, 4]), curve([1, 2, 3, 4]), tolerance=0.0),
            "the tolerance must be positive (0.02 is 2 %), not 0.0",
        ),
        (
            lambda: compare_curves(curve([1, 2, 3, 4], name="a"), curve([1, 2, 3, 4], at=AT + 9, name="b")),
            "curves 'a' and 'b' must overlap, and do not: 0.5 to 3 and 9.5 to 12",
        ),
        (
            lambda: compare_curves(curve([1, 2, 3, 4]), curve([1, 0, 3, 4], name="b")),
            "reference 'b' must not be zero where it is the base; take the differences relative to max",
        ),
        (
            lambda: compare_curves(
                curve([1, 2, 3, 4], name="a"), curve([1, 2, 3, 4]), normalisation=AtPosition(7.0)
            ),
            "the position must lie on curve 'c', between 0.5 and 3, not at 7",
        ),
        (
            lambda: parse_normalisation("peak"),
            "the normalisation must be absolute, max or at:POSITION, not 'peak'",
        ),
        (
            lambda: parse_base("at:x"),
            "what differences are relative to must be local, max or at:POSITION, not 'at:x'",
        ),
    ],
)
def test_what_cannot_be_compared(build: object, message: str) -> None:
    with pytest.raises(ConebeamError) as caught:
        build()  # type: ignore[operator]
    assert isinstance(caught.value, ConfigError | DataError)
    assert str(caught.value) == message


def test_words_for_normalisations() -> None:
    assert parse_normalisation("absolute") == Absolute()
    assert parse_normalisation("max") == AtMaximum()
    assert parse_normalisation("at:1.5") == AtPosition(1.5)
    assert parse_base("local") == Local()


@pytest.fixture
def depth(tmp_path: Path) -> Path:
    path = tmp_path / "depth.csv"
    path.write_text(
        "z_lo_cm,z_hi_cm,z_mid_cm,D_1x1,u_1x1_pct,D_2x2,u_2x2_pct\n"
        "0,0.25,0.125,10,0.5,20,1.0\n# a remark\n0.25,0.75,0.5,11,0.6,21,1.5\n"
    )
    return path


def test_columns_are_guessed_or_named(depth: Path) -> None:
    first = read_curve(depth)
    assert first.position.tolist() == [0.125, 0.5]
    assert first.value.tolist() == [10.0, 11.0]
    assert first.sigma == pytest.approx([0.005, 0.006])
    second = read_curve(depth, value="D_2x2", position="z_hi_cm")
    assert second.position.tolist() == [0.25, 0.75]
    assert second.value.tolist() == [20.0, 21.0]
    assert second.sigma == pytest.approx([0.01, 0.015])
    assert read_curve(depth, sigma="u_2x2_pct").sigma == pytest.approx([0.01, 0.015])


def test_a_comma_in_parentheses_does_not_end_a_name(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("x_mid_cm,D(+-x,+-y;strip),u_pct\n1,7,2\n")
    found = read_curve(path)
    assert (found.name, found.value.tolist(), found.sigma.tolist()) == (
        "D(+-x,+-y;strip)",
        [7.0],
        [0.02],
    )


def test_rows_are_selected(tmp_path: Path) -> None:
    path = tmp_path / "profiles.csv"
    path.write_text("z_mid_cm,x_lo,x_hi,x_mid_cm,D,u_pct\n1,0,1,0.5,7,1\n1,1,2,1.5,6,1\n2,0,1,0.5,5,1\n")
    assert read_curve(path, where=("z_mid_cm", 1.0)).value.tolist() == [7.0, 6.0]
    with pytest.raises(DataError, match=r"must rise; choose one curve of several with where$"):
        read_curve(path)
    with pytest.raises(DataError, match=r"must have rows to compare with, and has none$"):
        read_curve(path, where=("z_mid_cm", 5.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n", "reference '{}' must have a header and at least one row"),
        ("a,b\n1,x\n", "row 1 of '{}' must hold numbers, not ['1', 'x']"),
        ("a,b\n1\n", "row 1 of '{}' must have 2 columns, not 1"),
        ("a,b\n1,nan\n", "row 1 of '{}' must hold finite numbers and no negative uncertainty"),
        ("a,b,u\n1,2,-1\n", "row 1 of '{}' must hold finite numbers and no negative uncertainty"),
        ("a\n1\n", "'{}' must have a column of values after 'a'"),
    ],
)
def test_bad_references_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.csv"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_curve(path)
    assert str(caught.value) == message.format(path)


def test_missing_files_and_columns(depth: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_curve(depth, value="D_9x9")
    assert str(caught.value) == (
        f"'{depth}' must have a column 'D_9x9'; it has z_lo_cm, z_hi_cm, z_mid_cm, D_1x1, "
        "u_1x1_pct, D_2x2, u_2x2_pct"
    )
    with pytest.raises(DataError, match=r"must be readable, and is not: No such file"):
        read_curve(tmp_path / "none.csv")
