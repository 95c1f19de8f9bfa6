"""Spectra: reading, bins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conebeam.errors import ConfigError, DataError
from conebeam.sources.spectrum import (
    fluence_per_mas,
    from_bins,
    from_spekpy,
    monoenergetic,
    read_spectrum,
    tube,
)
from conebeam.water_beams import water_beam


def test_centres_reach_half_way() -> None:
    found = from_bins([10, 11, 13], [1, 2, 1], bins="centres")
    assert found.low.tolist() == [9.5, 10.5, 12.0]
    assert found.high.tolist() == [10.5, 12.0, 14.0]
    assert found.weight.tolist() == [0.25, 0.5, 0.25]


def test_a_tube_is_spekpy_s() -> None:
    spek = tube(100.0, 12.0, [("Al", 2.5)])
    assert float(spek.get_hvl1(matl="Al")) == pytest.approx(3.458, rel=2e-3)
    found = from_spekpy(spek)
    with water_beam("100kVp") as beam:
        assert beam.spectrum is not None
        stored = read_spectrum(beam.spectrum, bins="centres")
    assert found.mean_kev == pytest.approx(stored.mean_kev, rel=1e-3)
    assert found.largest_kev <= 100.0
    # 1/r² and nothing else.
    assert fluence_per_mas(spek, 50.0) == pytest.approx(4.0 * fluence_per_mas(spek, 100.0))


def test_comments_a_header_and_a_byte_order_mark_are_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b"\xef\xbb\xbf# made up\nenergy,weight\n20,1\n21,3\n")
    assert read_spectrum(path, bins="centres").weight.tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("energies", "weights", "kind", "message"),
    [
        ([20, 19, 21], [1, 1, 1], "centres", "the energies of the spectrum must rise from bin to bin, not go from "
         "20 to 19 keV; sort the rows"),
        ([20, 21], [1, -1], "centres", "the weights of the spectrum must be finite and not negative, not -1 at 21 keV"),
        ([20, 21], [1, np.nan], "centres", "the weights of the spectrum must be finite and not negative, not nan at "
         "21 keV"),
        ([20, 21], [0, 0], "centres", "the spectrum must hold photons, and all its weights are zero"),
        ([20], [1], "centres", "the spectrum must have at least two bins, each with an energy and a weight"),
        ([20, 21], [1, 1], "edges", "the last row of the spectrum with bins by their edges must have weight 0 (it "
         "closes the last bin), not 1"),
        ([149, 151], [1, 1], "centres", "the spectrum must lie in 1 to 150 keV, not in 148 to 152 keV"),
    ],
)  # fmt: skip
def test_bad_spectra_are_refused(
    energies: list[float], weights: list[float], kind: str, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        from_bins(energies, weights, bins=kind)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"e,w\n20,1\nx,2\n", "row 3 of spectrum '{path}' must hold an energy and a weight, not 'x,2'"),
        (
            b"energy_low_keV,energy_high_keV,energy_keV,fluence\n20,21,20.5,3\n",
            "spectrum '{path}' must have energies and weights in its first two columns, not 'energy_low_keV' and "
            "'energy_high_keV'; leave two columns, the bins' centres and weights",
        ),
        (b"e,w\n", "spectrum '{path}' must have rows of an energy and a weight"),
        (b"\xff\xfe\x00", "spectrum '{path}' must be a CSV file, not another kind of file"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_spectrum(path, bins="centres")
    assert str(caught.value) == message.format(path=path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"^spectrum 'none.csv' must be readable, and is not: No such file"):
        read_spectrum("none.csv", bins="centres")


def test_one_energy_must_lie_in_the_tables() -> None:
    with pytest.raises(DataError) as caught:
        monoenergetic(151.0)
    assert str(caught.value) == "the photon energy must lie in 1 to 150 keV, not 151"


def test_a_filter_that_spekpy_does_not_know() -> None:
    with pytest.raises(
        ConfigError, match=r"^the tube must be one that SpekPy accepts, not 100 kV, 12 degrees, "
    ):
        tube(100.0, 12.0, [("Unobtainium", 1.0)])
