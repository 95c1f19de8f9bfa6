"""Boxes follow the pixels, whatever is drawn; the same is drawn again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retrim.errors import ConfigError
from retrim.zoo.coco import TRAINING, Augmentation, Instances, Letterbox, open_coco
from retrim.zoo.coco.augmentation import LEAST_SIDE_PX, cut
from retrim.zoo.coco.colours import coloured, drawn_factor
from retrim.zoo.coco.letterbox import GREY

SHAPE = (160, 192)
STILL = Augmentation(jitter=0, flip=0, hue=0, saturation=1, exposure=1)
MOVED = Augmentation(jitter=0.3, hue=0, saturation=1, exposure=1)


def extent(image, channel):
    """Columns and rows from first to last of the pixels that are more of a colour than of any other."""
    wide = image.astype(int)
    rest = np.delete(wide, channel, axis=2).max(axis=2)
    rows, columns = np.nonzero(wide[..., channel] - rest > 100)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) if len(rows) else None


def test_without_ranges_it_is_the_letterbox(drawn):
    image, instances = drawn(0)
    found, moved = STILL.sample([(image, instances)], 0, SHAPE, seed=0, epoch=0)
    fitted = Letterbox.fit((320, 240), SHAPE)
    np.testing.assert_array_equal(found, fitted.image(image))
    np.testing.assert_allclose(moved.boxes, fitted.to_network(instances.boxes), rtol=1e-6)
    np.testing.assert_allclose(moved.area, (moved.boxes[:, 2:] - moved.boxes[:, :2]).prod(axis=1), rtol=1e-5)


def test_boxes_bound_their_colours(drawn):
    """Edges are blurred over a pixel, so that they agree to one and a half."""
    data, checked = [drawn(seed) for seed in range(6)], 0
    for epoch in range(8):
        for index in range(len(data)):
            image, instances = MOVED.sample(data, index, SHAPE, seed=1, epoch=epoch)
            for box, label in zip(instances.boxes, instances.labels, strict=True):
                np.testing.assert_allclose(extent(image, label), box, atol=1.5)
                checked += 1
            for label in set(range(3)) - set(instances.labels.tolist()):
                seen = extent(image, label)
                whole = np.prod(np.diff(data[index][1].boxes[label].reshape(2, 2), axis=0))
                assert seen is None or np.prod(seen[2:] - seen[:2]) < 0.2 * whole
    assert checked > 100


def test_boxes_bound_their_colours_in_a_mosaic():
    """Four images, each with a rectangle of its own colour."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=np.uint8)
    samples = []
    for label, colour in enumerate(colours):
        image = np.zeros((120, 160, 3), dtype=np.uint8)
        image[30:100, 20:140] = colour
        samples.append((image, Instances.of(np.array([[20, 30, 140, 100]]), np.array([label]))))
    count = 0
    for seed in range(20):
        image, instances = MOVED.four(samples, SHAPE, np.random.default_rng(seed))
        for box, label in zip(instances.boxes, instances.labels, strict=True):
            distance = np.abs(image.astype(int) - colours[label]).max(axis=2)
            rows, columns = np.nonzero(distance < 100)
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(seen, box, atol=1.5)
        count += len(instances)
    assert count > 70


@pytest.mark.parametrize("flip", [0, 1])
def test_images_of_a_mosaic_meet_in_a_point(flip):
    """They are flat and leave grey, but none of it where they meet, mirrored or not."""
    samples = [(np.full((40, 160, 3), 40 * n, dtype=np.uint8), Instances.none()) for n in range(4)]
    for size in (samples, [(image.transpose(1, 0, 2).copy(), none) for image, none in samples]):
        still = Augmentation(jitter=0, flip=flip, hue=0, saturation=1, exposure=1)
        image, _ = still.four(size, (96, 96), np.random.default_rng(0))
        assert (image == GREY).any()
        places = [np.argwhere(image[..., 0] == 40 * n) for n in range(4)]
        (y, x), last = places[0].max(axis=0) + 1, 40 * np.arange(4).reshape(2, 2)
        np.testing.assert_array_equal(image[y - 1 : y + 1, x - 1 : x + 1, 0], last)


def test_a_mosaic_takes_others_from_the_data():
    data = [(np.full((40, 40, 3), 10 * n, dtype=np.uint8), Instances.none()) for n in range(12)]
    four = Augmentation(jitter=0, flip=0, hue=0, saturation=1, exposure=1, mosaic=1)
    image, instances = four.sample(data, 5, SHAPE, seed=0, epoch=0)
    assert image[0, 0].tolist() in ([50] * 3, [GREY] * 3)
    assert 50 in image
    assert len(np.unique(image)) >= 3
    assert len(instances) == 0


@pytest.mark.parametrize("mosaic", [0.0, 0.5])
def test_the_same_is_drawn_whatever_the_order_and_the_threads(drawn, mosaic):
    data = [drawn(seed) for seed in range(8)]
    augmentation = Augmentation(mosaic=mosaic)

    def sample(index):
        return augmentation.sample(data, index, SHAPE, seed=3, epoch=2)

    forward = [sample(index) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        backward = list(pool.map(sample, reversed(range(8))))[::-1]
    for first, second in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1].boxes, second[1].boxes)
    for seed, epoch in ((4, 2), (3, 1)):
        other, _ = augmentation.sample(data, 0, SHAPE, seed=seed, epoch=epoch)
        assert (other != forward[0][0]).any()


def test_what_is_given_is_not_changed(drawn):
    image, instances = drawn(0)
    before = image.copy(), instances.boxes.copy()
    Augmentation(mosaic=1).sample([(image, instances)], 0, SHAPE, seed=0, epoch=0)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(instances.boxes, before[1])


def test_boxes_of_which_little_is_left_are_dropped():
    window = Letterbox(size=(100, 100), shape=(100, 100), window=(50, 0, 150, 100))
    boxes = np.array([[0, 0, 55, 50], [0, 0, 56, 50], [49, 0, 51.5, 50], [49, 0, 52.5, 50], [0, 0, 40, 40]])
    kept = cut(Instances.of(boxes, np.arange(5), np.array([0, 1, 0, 0, 0])), window)
    assert kept.labels.tolist() == [1, 3]
    assert kept.crowd.tolist() == [True, False]
    np.testing.assert_allclose(kept.boxes, [[0, 0, 6, 50], [0, 0, 2.5, 50]])
    np.testing.assert_allclose(kept.area, [300, 125], rtol=1e-5)
    assert LEAST_SIDE_PX == 2


def test_each_image_has_its_own_draws(drawn):
    data = [drawn(0)] * 2
    first, second = (Augmentation().sample(data, index, SHAPE, seed=0, epoch=0)[0] for index in (0, 1))
    assert (first != second).any()


def test_factors_are_as_often_above_1_as_below():
    generator = np.random.default_rng(0)
    factors = np.array([drawn_factor(1.5, generator) for _ in range(1000)])
    assert (factors.min(), factors.max()) == (pytest.approx(1 / 1.5, abs=0.01), pytest.approx(1.5, abs=0.01))
    assert abs((factors > 1).sum() - 500) < 4 * np.sqrt(250)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hue": 1 / 3}, (0, 200, 0)),
        ({"hue": -1 / 3}, (0, 0, 200)),
        ({"saturation": 0.5}, (200, 100, 100)),
        ({"exposure": 0.5}, (100, 0, 0)),
        ({"exposure": 9.0}, (255, 0, 0)),
    ],
)
def test_colours_change_by_their_amounts(change, expected):
    image = np.full((2, 2, 3), (200, 0, 0), dtype=np.uint8)
    found = coloured(image, **{"hue": 0, "saturation": 1, "exposure": 1, **change})
    np.testing.assert_allclose(found[0, 0], expected, atol=5)


def test_the_border_keeps_its_grey():
    image = np.full((40, 80, 3), (30, 60, 90), dtype=np.uint8)
    bright = Augmentation(jitter=0, exposure=3)
    found, _ = bright.sample([(image, Instances.none())], 0, (80, 80), seed=0, epoch=0)
    assert (found[:20] == GREY).all()
    assert (found[60:] == GREY).all()
    assert (found[20:60] != image[0, 0]).any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"jitter": 0.5}, "jitter must be a number from 0 to 0.45, not 0.5"),
        ({"flip": -0.1}, "flip must be a number from 0 to 1.0, not -0.1"),
        ({"hue": 0.6}, "hue must be a number from 0 to 0.5, not 0.6"),
        ({"mosaic": 2}, "mosaic must be a number from 0 to 1.0, not 2"),
        ({"saturation": 0.5}, "saturation must be a finite factor >= 1, not 0.5"),
        ({"exposure": float("inf")}, "exposure must be a finite factor >= 1, not inf"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ConfigError) as raised:
        Augmentation(**options)
    assert str(raised.value) == sentence


def test_real_images_keep_their_objects(data):
    dataset = open_coco(data, TRAINING)
    before = after = 0
    for index in range(12):
        image, instances = Augmentation().sample(dataset, index, (320, 320), seed=0, epoch=0)
        assert image.shape == (320, 320, 3)
        assert (instances.boxes >= 0).all()
        assert (instances.boxes <= 320).all()
        before, after = before + len(dataset.frames[index].instances), after + len(instances)
    assert 0.7 * before < after <= before
