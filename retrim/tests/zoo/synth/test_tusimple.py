import json

import numpy as np
import pytest
from PIL import Image

from retrim.errors import ConfigError, DataError
from retrim.zoo.synth import tusimple
from retrim.zoo.synth.tusimple import scene, synthesise
from retrim.zoo.tusimple import HELD_OUT, TRAINING, read_frames

SIZE = (320, 180)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthesise(tmp_path_factory.mktemp("data") / "lanes", training=3, validation=2, seed=4, size=SIZE)


def test_what_is_written_is_what_tusimples_reader_reads(folder):
    training, held_out = read_frames(folder, TRAINING), read_frames(folder, HELD_OUT)
    assert (len(training), len(held_out)) == (3, 2)
    assert training[0].name == "clips/synth_train/00000/20.jpg"
    for frame in training + held_out:
        assert frame.read().size == SIZE
        assert 1 <= len(frame.lanes) <= 5
        assert frame.lanes.max() < SIZE[0]
        assert len(frame.rows) == 56
    assert (folder / "test_label.json").read_text() == (folder / "label_data_synth_val.json").read_text()
    line = json.loads((folder / "test_label.json").read_text().splitlines()[0])
    assert set(line) == {"lanes", "h_samples", "raw_file"}
    assert all(isinstance(x, int) for lane in line["lanes"] for x in lane)


def test_the_seed_and_the_index_decide_a_scene():
    first, again = scene(1, "train", 5, SIZE), scene(1, "train", 5, SIZE)
    assert first.image.tobytes() == again.image.tobytes()
    np.testing.assert_array_equal(first.lanes, again.lanes)
    for other in (scene(2, "train", 5, SIZE), scene(1, "val", 5, SIZE), scene(1, "train", 6, SIZE)):
        assert other.image.tobytes() != first.image.tobytes()


def test_fewer_images_are_the_first_of_more(folder, tmp_path):
    synthesise(tmp_path / "few", training=1, validation=1, seed=4, size=SIZE)
    name = "clips/synth_train/00000/20.jpg"
    assert (tmp_path / "few" / name).read_bytes() == (folder / name).read_bytes()


def test_progress_is_told(tmp_path):
    told = []
    synthesise(
        tmp_path / "x",
        training=1,
        validation=2,
        size=SIZE,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError) as raised:
        synthesise(tmp_path, training=1, validation=1, size=SIZE)
    assert str(raised.value) == f"folder {str(tmp_path)!r} must be empty or new: remove it, or choose another"
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(read_frames(synthesise(empty, training=1, validation=1, size=SIZE), TRAINING)) == 1


def test_what_is_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tusimple, "scene", stop)
    with pytest.raises(KeyboardInterrupt):
        synthesise(tmp_path / "x", training=1, validation=1, size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError) as raised:
        synthesise(tmp_path / "x", training=1, validation=1, size=SIZE)
    assert str(raised.value) == (
        f"folder {str(tmp_path / 'x')!r} cannot be written: No space left on device; free some space or choose another"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"training": 0}, "training must be a whole number >= 1, not 0"),
        ({"seed": -1}, "seed must be a whole number >= 0, not -1"),
        ({"size": (32, 18)}, "size must be at least 160 x 90, not 32 x 18"),
    ],
)
def test_options_are_checked(tmp_path, options, sentence):
    with pytest.raises(ConfigError) as raised:
        synthesise(tmp_path / "x", **options)
    assert str(raised.value) == sentence
