import numpy as np
import pytest
import torch
from PIL import Image

from retrim.errors import DataError
from retrim.zoo.darknet import Detections, draw, read_names


@pytest.fixture
def found():
    boxes = torch.tensor([[10.0, 20, 40, 60], [-30, -5, 500, 30], [90, 90, 80, 80]])
    return Detections(boxes, torch.tensor([0.9, 0.8, 0.3]), torch.tensor([0, 1, 7]))


def test_boxes_are_outlined_on_a_copy(found):
    image = np.zeros((100, 120, 3), dtype=np.uint8)
    drawn = draw(image, found, ("person",))
    assert drawn.size == (120, 100)
    assert not image.any()
    pixels = np.asarray(drawn)
    assert pixels[60, 30].any() and pixels[45, 10].any()
    assert not pixels[80, 60].any()
    assert np.asarray(draw(Image.fromarray(image), found, ("person",))).tolist() == pixels.tolist()


def test_nothing_found_changes_nothing():
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    image = Image.new("RGB", (30, 20), (5, 6, 7))
    assert np.array_equal(np.asarray(draw(image, none)), np.asarray(image))


def test_names(tmp_path):
    path = tmp_path / "a.names"
    path.write_text("person\nstop sign \n\n")
    assert read_names(path) == ("person", "stop sign")
    for content, what in (("", "there is none"), ("a\n\nb\n", "line 2 is empty")):
        path.write_text(content)
        with pytest.raises(DataError) as raised:
            read_names(path)
        assert str(raised.value) == f"names '{path}' must be one a line, but {what}: correct the file"
    with pytest.raises(DataError, match="must be a text file, but cannot be read: No such file"):
        read_names(tmp_path / "none")


def test_real_names(yolo):
    names = read_names(yolo / "coco.names")
    assert (len(names), names[0], names[79]) == (80, "person", "toothbrush")
