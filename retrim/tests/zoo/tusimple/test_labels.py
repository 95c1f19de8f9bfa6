import numpy as np
import pytest

from retrim.errors import DataError
from retrim.zoo.tusimple.labels import read_labels


def test_lines_become_frames(tmp_path, write, label):
    path = write(tmp_path / "label_data_0531.json", [label("clips/a/20.jpg"), label("clips/b/20.jpg")])
    frames = read_labels(path)
    assert [frame.name for frame in frames] == ["clips/a/20.jpg", "clips/b/20.jpg"]
    assert frames[0].lanes.shape == (2, 6)
    np.testing.assert_array_equal(frames[0].rows, [20, 30, 40, 50, 60, 70])
    np.testing.assert_array_equal(frames[0].lanes[0], [-2, 45, 40, 35, 30, 25])
    assert frames[1].read().size == (128, 72)


def test_blank_lines_and_lanes_without_a_point_are_left_out(tmp_path, write, label):
    given = label()
    given["lanes"].append([-2] * 6)
    path = write(tmp_path / "label_data.json", [given])
    path.write_text(path.read_text() + "\n  \n")
    (frame,) = read_labels(path)
    assert frame.lanes.shape == (2, 6)


def test_an_image_without_lanes_is_one(tmp_path, write, label):
    (frame,) = read_labels(write(tmp_path / "label_data.json", [label() | {"lanes": []}]))
    assert frame.lanes.shape == (0, 6)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"lanes": [[1, 2, 3]]},
            "must have as many columns in each lane as h_samples, 6, not 3 in lane 1: mend or drop the line",
        ),
        ({"lanes": [[1, 2, 3, 4, 5, "x"]]}, "must have finite numbers in lane 1: mend or drop the line"),
        (
            {"lanes": [[1, 2, 3, 4, 5, float("nan")]]},
            "must have finite numbers in lane 1: mend or drop the line",
        ),
        ({"lanes": 5}, "must have a list of lanes, not int"),
        ({"h_samples": [5]}, "must have at least two h_samples, increasing: mend or drop the line"),
        (
            {"h_samples": [20, 30, 40, 60, 50, 70]},
            "must have at least two h_samples, increasing: mend or drop the line",
        ),
        ({"h_samples": None}, "must have finite numbers in h_samples: mend or drop the line"),
        ({"raw_file": 7}, "must name their image in raw_file, not 7"),
    ],
)
def test_what_a_line_must_not_say(tmp_path, write, label, change, sentence):
    path = write(tmp_path / "label_data.json", [label(), label()])
    import json

    first = path.read_text().splitlines()[0]
    path.write_text(first + "\n" + json.dumps(label() | change) + "\n")
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == f"labels {str(path)!r}, line 2, {sentence}"


def test_damaged_lines_are_named(tmp_path, write, label):
    path = write(tmp_path / "label_data.json", [label()])
    whole = path.read_text()
    path.write_text(whole + whole[:40])
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == (
        f"labels {str(path)!r}, line 2, must be a JSON object, but are no JSON: copy the file again"
    )
    path.write_text('{"lanes": []}')
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == (
        f"labels {str(path)!r}, line 1, must be an object with lanes, h_samples, raw_file, but lack h_samples, raw_file"
    )
    path.write_text("[1, 2]")
    with pytest.raises(DataError, match="but lack lanes, h_samples, raw_file"):
        read_labels(path)


def test_a_missing_image_is_named(tmp_path, write, label):
    path = write(tmp_path / "label_data.json", [label()])
    (tmp_path / "clips/a/20.jpg").unlink()
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == (
        f"labels {str(path)!r}, line 1, must name an image that exists, not {str(tmp_path / 'clips/a/20.jpg')!r}: "
        "unpack the clips beside them"
    )


def test_an_image_elsewhere_is_refused(tmp_path, write, label):
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in" / "label_data.json", [label("../20.jpg")])
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == (
        f"labels {str(path)!r}, line 1, must name an image below {str(tmp_path / 'in')!r} in raw_file, not '../20.jpg'"
    )


def test_files_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "label_data.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == (
        f"labels {str(path)!r} must be a UTF-8 text file that can be read (UnicodeDecodeError): copy it again"
    )
    path.write_text("\n")
    with pytest.raises(DataError) as raised:
        read_labels(path)
    assert str(raised.value) == f"labels {str(path)!r} must hold one JSON object a line, but hold none"


def test_a_damaged_image_is_named(tmp_path, write, label):
    (frame,) = read_labels(write(tmp_path / "label_data.json", [label()]))
    frame.image.write_bytes(frame.image.read_bytes()[:300])
    with pytest.raises(DataError) as raised:
        frame.read()
    assert str(raised.value).startswith(
        f"image {str(frame.image)!r} must be a whole JPEG or PNG file, but cannot be read ("
    )
