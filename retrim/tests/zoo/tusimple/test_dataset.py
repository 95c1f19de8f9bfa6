import shutil

import pytest

from retrim.errors import DataError
from retrim.zoo.tusimple import HELD_OUT, TRAINING, read_frames


def names(folder, part):
    return [frame.name for frame in read_frames(folder, part)]


def test_label_files_are_split_by_name(tmp_path, write, label):
    write(tmp_path / "label_data_0313.json", [label("clips/a/20.jpg")])
    write(tmp_path / "label_data_0531.json", [label("clips/b/20.jpg")])
    write(tmp_path / "test_label.json", [label("clips/c/20.jpg")])
    assert names(tmp_path, TRAINING) == ["clips/a/20.jpg", "clips/b/20.jpg"]
    assert names(tmp_path, HELD_OUT) == ["clips/c/20.jpg"]
    write(tmp_path / "label_data_0601_val.json", [label("clips/d/20.jpg")])
    assert names(tmp_path, TRAINING) == ["clips/a/20.jpg", "clips/b/20.jpg"]
    assert names(tmp_path, HELD_OUT) == ["clips/d/20.jpg"]


def test_what_is_missing_is_named(tmp_path, write, label):
    with pytest.raises(DataError) as raised:
        read_frames(tmp_path / "none", TRAINING)
    assert str(raised.value) == f"data folder {str(tmp_path / 'none')!r} must be a folder that exists"
    with pytest.raises(DataError) as raised:
        read_frames(tmp_path, TRAINING)
    assert str(raised.value) == (
        f"data folder {str(tmp_path)!r} must hold label_data*.json, or image/ and gt_instance_image/, but holds "
        "neither: unpack TuSimple's lanes there, or draw scenes by `retrim data synth-tusimple`"
    )
    write(tmp_path / "label_data_0313.json", [label()])
    with pytest.raises(DataError) as raised:
        read_frames(tmp_path, HELD_OUT)
    assert str(raised.value) == (
        f"data folder {str(tmp_path)!r} must hold label_data*_val.json or test_label.json for the frames held out, "
        "but holds none"
    )
    shutil.move(tmp_path / "label_data_0313.json", tmp_path / "label_data_0313_val.json")
    with pytest.raises(DataError) as raised:
        read_frames(tmp_path, TRAINING)
    assert str(raised.value) == (
        f"data folder {str(tmp_path)!r} must hold label_data*.json for the frames to train on, but holds none"
    )


def test_real_frames(data):
    training, held_out = read_frames(data, TRAINING), read_frames(data, HELD_OUT)
    assert [frame.name for frame in training] == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert [frame.name for frame in held_out] == ["0004.png", "0005.png"]
    assert [len(frame.lanes) for frame in training + held_out] == [4, 4, 4, 5, 4, 4]
    for frame in training + held_out:
        assert frame.lanes.max() < 1280
        for lane in frame.lanes:
            assert (lane >= 0).sum() >= 8


def test_real_frames_must_leave_some_to_train_on(data, tmp_path):
    shutil.copytree(data / "train", tmp_path / "train")
    (tmp_path / "train").chmod(0o755)
    (tmp_path / "train" / "val.txt").chmod(0o644)
    (tmp_path / "train" / "val.txt").write_text("".join(f"000{index}.png\n" for index in range(6)))
    with pytest.raises(DataError) as raised:
        read_frames(tmp_path, TRAINING)
    assert str(raised.value) == (
        f"list {str(tmp_path / 'train' / 'val.txt')!r} must leave frames to train on, but of 6 none is left: name the "
        "images held out, one a line"
    )
