"""The result file: round trips, and every kind of damage in one sentence."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
import toy

from conebeam.errors import ResultError
from conebeam.result import Result, merge
from conebeam.result_file import load, save, write_curve


@pytest.fixture(scope="module")
def whole() -> Result:
    return toy.result()


@pytest.fixture
def file(whole: Result, tmp_path: Path) -> Path:
    path = tmp_path / "toy.h5"
    save(whole, path)
    return path


def test_what_is_saved_is_loaded(whole: Result, file: Path) -> None:
    loaded = load(file)
    assert loaded.digest() == whole.digest()
    assert loaded.provenance == whole.provenance
    assert (loaded.plan, loaded.done, loaded.histories) == (whole.plan, whole.done, 4000)
    assert loaded.cpu_seconds == whole.cpu_seconds
    for a, b in zip(loaded.quantities(), whole.quantities(), strict=True):
        assert np.array_equal(a.values, b.values)
        assert np.array_equal(a.sigma, b.sigma, equal_nan=True)
        assert (a.name, a.unit, a.per, a.quantity) == (b.name, b.unit, b.per, b.quantity)
        assert all(x.same_as(y) for x, y in zip(a.axes, b.axes, strict=True))


def test_any_hdf5_tool_can_read_the_numbers(whole: Result, file: Path) -> None:
    with h5py.File(file) as opened:
        group = opened["scored/depth"]
        assert np.array_equal(group["value"], whole["depth"].values)
        assert group.attrs["unit"] == "Gy cm2"
        assert group.attrs["per"] == "mean surface fluence"
        assert group["value"].dims[0].label == "z"
        assert group["axis0"].attrs["unit"] == "cm"


def test_loaded_parts_merge_to_the_bits_of_one_run(whole: Result, tmp_path: Path) -> None:
    for n, span in enumerate(((0, 13), (13, 40))):
        save(toy.result(batches=span), tmp_path / f"{n}.h5")
    merged = merge([load(tmp_path / "1.h5"), load(tmp_path / "0.h5")])
    assert merged.digest() == whole.digest()


def test_an_empty_result_is_a_file_too(tmp_path: Path) -> None:
    save(toy.job().start(), tmp_path / "empty.h5")
    assert load(tmp_path / "empty.h5").histories == 0


def test_files_cut_short_are_refused(file: Path) -> None:
    content = file.read_bytes()
    for share in (0.1, 0.3, 0.6, 0.9, 0.999):
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ResultError) as caught:
            load(file)
        assert str(caught.value) == (
            f"result file '{file}' must be whole, and is damaged or cut short; run it again"
        )


def test_every_flipped_bit_is_noticed(file: Path) -> None:
    content = file.read_bytes()
    rng = np.random.default_rng(11)
    for position in (*range(0, 520, 13), *rng.integers(512, len(content), 200)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(0, 8))
        file.write_bytes(bytes(flipped))
        with pytest.raises(ResultError, match=r"must (be|have) "):
            load(file)


@pytest.mark.parametrize("dataset", ["scored/depth/words", "scored/dose/factor", "scored/depth/axis0"])
def test_changed_numbers_are_noticed(file: Path, dataset: str) -> None:
    with h5py.File(file, "r+") as opened:
        opened[dataset][...] = np.asarray(opened[dataset]) + 1
    with pytest.raises(ResultError, match="must be whole, and is damaged"):
        load(file)


def test_changed_units_are_noticed(file: Path) -> None:
    with h5py.File(file, "r+") as opened:
        opened["scored/depth"].attrs["unit"] = "Gy"
    with pytest.raises(ResultError, match="must be whole, and is damaged"):
        load(file)


def test_newer_files_are_refused(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"version": 1', b'"version": 2', 1))
    with pytest.raises(ResultError) as caught:
        load(file)
    assert str(caught.value) == (f"'{file}' must have format version 1 or older, not 2; upgrade conebeam")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    text, other, empty = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5"
    text.write_text("no HDF5 at all")
    empty.write_bytes(b"")
    with h5py.File(other, "w") as opened:
        opened["x"] = 1
    for path in (text, other, empty):
        with pytest.raises(ResultError) as caught:
            load(path)
        assert str(caught.value) == f"'{path}' must be a conebeam result, not another kind of file"
    with pytest.raises(ResultError, match=r"must exist; run the scene first$"):
        load(tmp_path / "none.h5")


def test_a_file_that_cannot_be_written_leaves_the_old_one(whole: Result, file: Path) -> None:
    before = file.read_bytes()
    # A limit on file size stands in for a full disk: writing fails half-way.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(ResultError, match=r"must be writable, and is not: "):
            save(whole, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == [file.name]


def test_a_missing_folder_is_one_sentence(whole: Result, tmp_path: Path) -> None:
    path = tmp_path / "no" / "toy.h5"
    with pytest.raises(ResultError) as caught:
        save(whole, path)
    assert str(caught.value) == f"'{path}' must be writable, and is not: No such file or directory"


def test_curves_as_csv(whole: Result, tmp_path: Path) -> None:
    path = tmp_path / "depth.csv"
    write_curve(whole["depth"], path)
    lines = path.read_text().splitlines()
    assert lines[0] == ("z_low_cm,z_high_cm,z_cm,dose_gy_cm2_per_mean_surface_fluence,sigma_relative")
    table = np.array([[float(v) for v in line.split(",")] for line in lines[1:]])
    assert np.array_equal(table[:, 3], whole["depth"].values)
    assert np.array_equal(table[:, 4], whole["depth"].sigma)
    write_curve(whole["parts"], path)
    assert path.read_text().startswith("region,energy_kev_per_photon,sigma_relative\nfront,")
    with pytest.raises(ResultError) as caught:
        write_curve(whole["dose"], path)
    assert str(caught.value) == "'dose' must have one axis to be written as a curve, not 3"
