import numpy as np
import pytest

from retrim.errors import ConfigError
from retrim.zoo.ultrafast.augmentation import Augmentation, moved_image
from retrim.zoo.ultrafast.lanes import moved

SIZE = (320, 180)


def spot(x, y, size=SIZE):
    """An image with one bright spot."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    light = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 18)
    return np.repeat(light[..., None], 3, 2).astype(np.uint8)


def brightest(image):
    """Centre of mass."""
    weight = image[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("seed", range(6))
def test_points_move_with_the_image(seed):
    matrix, _ = Augmentation().drawn(np.random.default_rng(seed), SIZE)
    image = moved_image(spot(150, 80), matrix, SIZE)
    np.testing.assert_allclose(brightest(image), moved(np.array([[150.0, 80.0]]), matrix)[0], atol=0.3)


@pytest.mark.parametrize("seed", range(3))
def test_a_smaller_image_moves_alike(seed):
    """The map is that of the image on file, the pixels are those of a smaller one of another aspect."""
    matrix, _ = Augmentation().drawn(np.random.default_rng(seed), (1280, 720))
    scale = np.array([320 / 1280, 128 / 720])
    image = moved_image(spot(150, 60, (320, 128)), matrix, (1280, 720))
    there = (np.array([[150.0, 60.0]]) + 0.5) / scale - 0.5
    expected = (moved(there, matrix)[0] + 0.5) * scale - 0.5
    np.testing.assert_allclose(brightest(image), expected, atol=0.5)


def test_half_of_the_images_are_mirrored_about_the_middle():
    still = Augmentation(rotation=0, across=0, down=0)
    drawn = [still.drawn(np.random.default_rng(seed), SIZE) for seed in range(200)]
    share = sum(mirrored for _, mirrored in drawn) / 200
    assert 0.4 < share < 0.6
    for matrix, mirrored in drawn[:20]:
        np.testing.assert_allclose(
            matrix, [[-1 if mirrored else 1, 0, 320 if mirrored else 0], [0, 1, 0]], atol=1e-9
        )


def test_shifts_keep_to_their_limits():
    shifts = np.array(
        [
            Augmentation(rotation=0, reflect=0).drawn(np.random.default_rng(seed), (1280, 720))[0][:, 2]
            for seed in range(300)
        ]
    )
    assert np.abs(shifts).max(0) == pytest.approx([200, 100], rel=0.05)


def test_limits_are_checked():
    with pytest.raises(ConfigError) as raised:
        Augmentation(rotation=90)
    assert str(raised.value) == "rotation must be a number from 0 to 45.0, not 90"
