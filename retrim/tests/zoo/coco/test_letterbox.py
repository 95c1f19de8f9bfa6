"""Images fitted into the network's input, and boxes there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrim.errors import ConfigError
from retrim.zoo.coco import Augmentation, Instances, Letterbox
from retrim.zoo.coco.letterbox import GREY

SIDES = st.integers(1, 700)


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(SIDES, SIDES), shape=st.tuples(SIDES, SIDES), seed=st.integers(0, 99))
def test_boxes_come_back(size, shape, seed):
    fitted = Letterbox.fit(size, shape)
    boxes = np.random.default_rng(seed).random((5, 4)) * np.tile(size, 2)
    found = fitted.to_network(boxes)
    np.testing.assert_allclose(fitted.to_image(found), boxes, atol=1e-9)
    limits = np.tile(shape[::-1], 2)
    assert (found >= -1e-9).all()
    assert (found <= limits + 1e-9).all()


@pytest.mark.parametrize(
    ("size", "shape"), [((640, 480), (320, 320)), ((64, 128), (256, 512)), ((480, 640), (80, 160))]
)
def test_boxes_come_back_to_the_bit_where_the_scale_is_a_power_of_two(size, shape):
    fitted = Letterbox.fit(size, shape)
    boxes = np.random.default_rng(0).random((50, 4)).astype(np.float32) * np.float32(np.tile(size, 2))
    np.testing.assert_array_equal(fitted.to_image(fitted.to_network(boxes)).astype(np.float32), boxes)


def test_boxes_are_cut_to_the_image():
    fitted = Letterbox.fit((640, 480), (320, 320))
    assert fitted.window == (0, -80, 640, 560)
    np.testing.assert_array_equal(fitted.to_image([[-5, 0, 330, 320]]), [[0, 0, 640, 480]])
    assert fitted.to_image(np.zeros((0, 4))).shape == (0, 4)


def test_the_image_lies_in_the_middle_on_grey():
    image = np.full((30, 60, 3), 7, dtype=np.uint8)
    found = Letterbox.fit((60, 30), (40, 40)).image(image)
    assert (found.shape, found.dtype) == ((40, 40, 3), np.uint8)
    assert (found[10:30] == 7).all()
    assert (found[:10] == GREY).all()
    assert (found[30:] == GREY).all()


def test_an_image_that_fits_is_not_changed():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Letterbox.fit((32, 24), (24, 32)).image(image), image)


def bilinear(image, shape):
    """Each pixel from the four about its centre, by loops."""
    height, width = image.shape[:2]
    found = np.zeros((*shape, 3))
    for row in range(shape[0]):
        for column in range(shape[1]):
            y, x = (row + 0.5) * height / shape[0] - 0.5, (column + 0.5) * width / shape[1] - 0.5
            low, left = int(np.floor(y)), int(np.floor(x))
            for dy, wy in ((0, 1 - (y - low)), (1, y - low)):
                for dx, wx in ((0, 1 - (x - left)), (1, x - left)):
                    pixel = image[min(max(low + dy, 0), height - 1), min(max(left + dx, 0), width - 1)]
                    found[row, column] += wy * wx * pixel
    return found


@pytest.mark.parametrize("shape", [(12, 16), (36, 48), (9, 12), (31, 40)])
def test_resampling_is_bilinear_between_four_pixels(shape):
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    whole = Letterbox(size=(32, 24), shape=shape, window=(0, 0, 32, 24))
    np.testing.assert_allclose(whole.image(image), bilinear(image, shape), atol=1.01)


def test_a_window_beside_the_image_is_grey():
    beside = Letterbox(size=(8, 8), shape=(4, 4), window=(20, 0, 28, 8))
    assert (beside.image(np.zeros((8, 8, 3), dtype=np.uint8)) == GREY).all()


def test_sides_are_checked():
    with pytest.raises(ConfigError) as raised:
        Letterbox.fit((0, 4), (5, 5))
    assert str(raised.value) == "images and inputs must be of at least one pixel, not 0 x 4 and 5 x 5"
    with pytest.raises(ConfigError) as raised:
        Letterbox(size=(4, 4), shape=(5, 5), window=(3, 0, 3, 4))
    assert str(raised.value) == "window must have right > left and bottom > top, not (3, 0, 3, 4)"


def test_an_image_can_fill_the_input() -> None:
    box = Letterbox.fit((200, 50), (64, 96), keep_aspect=False)
    assert box.to_network(np.array([[0, 0, 200, 50]])).tolist() == [[0, 0, 96, 64]]
    drawn = box.image(np.full((50, 200, 3), 7, dtype=np.uint8))
    assert (drawn == 7).all()
    moved = Augmentation(jitter=0, flip=0, hue=0, saturation=1, exposure=1, keep_aspect=False)
    image, found = moved.sample(
        [
            (
                np.full((50, 200, 3), 7, dtype=np.uint8),
                Instances.of(np.array([[20, 10, 120, 30]]), np.array([1])),
            )
        ],
        0,
        (64, 96),
        seed=0,
        epoch=0,
    )
    assert (image == 7).all()
    np.testing.assert_allclose(found.boxes, [[9.6, 12.8, 57.6, 38.4]], rtol=1e-6)
