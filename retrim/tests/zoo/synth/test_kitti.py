"""Scans in KITTI's layout: read back, deterministic, labelled where things are."""

from pathlib import Path

import numpy as np
import pytest

from retrim.errors import ConfigError, DataError
from retrim.zoo.kitti import HELD_OUT, TRAINING, read_frames
from retrim.zoo.kitti.boxes import inside, objects_of, scanner_boxes
from retrim.zoo.kitti.frame import IMAGE_SIZE
from retrim.zoo.synth import kitti
from retrim.zoo.synth.kitti import frame, synthesise

LABELLED = ("Car", "Van", "Truck", "Pedestrian", "Cyclist")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("data") / "kitti", training=6, validation=3, seed=4)


def test_what_is_written_is_what_kittis_reader_reads(folder):
    training, held_out = read_frames(folder, TRAINING), read_frames(folder, HELD_OUT)
    assert [each.name for each in training + held_out] == [f"{n:06d}" for n in range(9)]
    for each in training + held_out:
        assert each.image_size == IMAGE_SIZE
        points = each.points()
        assert points.dtype == np.float32
        assert 5000 < len(points) < 30000
        assert points[:, 0].min() > 0
        assert ((points[:, 3] >= 0) & (points[:, 3] < 1)).all()
        assert set(each.objects.names) <= {*LABELLED, "DontCare"}
        assert len(each.objects) > 0


def test_labelled_boxes_hold_points(folder):
    """Proves labels, calibration and scan against each other."""
    count = 0
    for each in read_frames(folder, TRAINING):
        boxes, kinds = each.boxes(LABELLED)
        boxes[:, 3:6] += 0.2  # labels are in hundredths, points have noise
        held = inside(each.points(), boxes).sum(axis=1)
        objects = each.objects.take(np.isin(each.objects.names, LABELLED))
        within = objects.truncation < 0.01
        assert (held[within] >= 5).all()
        count += len(kinds)
    assert count > 30


def test_labels_are_those_of_the_boxes_seen_by_the_camera(folder):
    for each in read_frames(folder, TRAINING):
        objects = each.objects.take(np.isin(each.objects.names, LABELLED))
        again = objects_of(
            scanner_boxes(objects, each.calibration),
            objects.names,
            objects.scores,
            each.calibration,
            IMAGE_SIZE,
        )
        np.testing.assert_allclose(again.locations, objects.locations, atol=1e-6)
        near = objects.locations[:, 2] > 5
        np.testing.assert_allclose(again.rectangles[near], objects.rectangles[near], atol=2.5)
        np.testing.assert_allclose(again.truncation[near], objects.truncation[near], atol=0.03)
        assert (np.abs(np.cos(again.alpha - objects.alpha) - 1) < 1e-3).all()


def test_occlusion_is_the_part_of_rays_that_arrives():
    levels = set()
    for index in range(6):
        made = frame(0, "train", index)
        returns = np.bincount(made.scan.owners[made.scan.owners >= 0], minlength=len(made.things))
        wanted = []
        for number, thing in enumerate(made.things):
            if thing.name and returns[number] >= 5:
                share = made.scan.seen[number] / made.scan.alone[number]
                wanted.append((thing.name, 0 if share > 0.8 else 1 if share > 0.4 else 2))
        found = [(w[0], int(w[2])) for w in map(str.split, made.labels.splitlines()) if w[0] != "DontCare"]
        left = list(wanted)
        for one in found:  # those out of the picture have no label
            left.remove(one)
        levels |= {level for _, level in found}
    assert levels == {0, 1, 2}


def test_too_few_points_make_a_dont_care():
    lines = [line for index in range(6) for line in frame(0, "train", index).labels.splitlines()]
    words = [line.split() for line in lines if line.startswith("DontCare")]
    assert words
    for each in words:
        assert each[1:4] == ["-1.00", "-1", "-10.00"]
        assert each[8:] == ["-1.00"] * 3 + ["-1000.00"] * 3 + ["-10.00"]
        assert float(each[4]) < float(each[6])


def test_the_seed_and_the_index_decide_a_scan():
    first, again = frame(1, "train", 5), frame(1, "train", 5)
    np.testing.assert_array_equal(first.scan.points, again.scan.points)
    assert first.labels == again.labels
    for other in (frame(2, "train", 5), frame(1, "val", 5), frame(1, "train", 6)):
        assert other.scan.points.tobytes() != first.scan.points.tobytes()


def test_fewer_scans_are_the_first_of_more(folder, tmp_path):
    synthesise(tmp_path / "few", training=1, validation=1, seed=4)
    for name in ("velodyne/000000.bin", "label_2/000000.txt", "calib/000000.txt"):
        assert (tmp_path / "few/training" / name).read_bytes() == (folder / "training" / name).read_bytes()


def test_progress_is_told(tmp_path):
    told = []
    synthesise(tmp_path / "x", training=1, validation=2, progress=lambda *numbers: told.append(numbers))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError) as raised:
        synthesise(tmp_path, training=1, validation=1)
    assert str(raised.value) == f"folder {str(tmp_path)!r} must be empty or new: remove it, or choose another"
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(read_frames(synthesise(empty, training=1, validation=1), TRAINING)) == 1


def test_what_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(kitti, "frame", stop)
    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path / "x", training=1, validation=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError) as raised:
        synthesise(tmp_path / "x", training=1, validation=1)
    assert str(raised.value) == (
        f"folder {str(tmp_path / 'x')!r} cannot be written: No space left on device; free some space or choose another"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"training": 0}, "training must be a whole number >= 1, not 0"),
        ({"validation": 0}, "validation must be a whole number >= 1, not 0"),
        ({"seed": -1}, "seed must be a whole number >= 0, not -1"),
    ],
)
def test_options_are_checked(tmp_path, options, sentence):
    with pytest.raises(ConfigError) as raised:
        synthesise(tmp_path / "x", **options)
    assert str(raised.value) == sentence
