import numpy as np
import pytest
from PIL import Image, ImageDraw

from retrim.errors import DataError
from retrim.zoo.tusimple.masks import lanes_of_mask, listed, read_masks


def folder(root, size=(1280, 720), mask_size=None):
    (root / "image").mkdir(parents=True)
    (root / "gt_instance_image").mkdir()
    Image.new("RGB", size).save(root / "image" / "0000.png")
    mask = Image.new("L", mask_size or size)
    pen = ImageDraw.Draw(mask)
    pen.line([(600, 300), (200, 700)], fill=20, width=5)
    pen.line([(700, 300), (700, 500)], fill=70, width=5)
    mask.save(root / "gt_instance_image" / "0000.png")
    return root


def slow(mask, rows):
    """Pixel by pixel."""
    lanes = []
    for grey in range(1, 256):
        lane = []
        for row in rows:
            columns = [x for x in range(mask.shape[1]) if mask[row, x] == grey]
            lane.append(sum(columns) / len(columns) if columns else -2)
        if any(x >= 0 for x in lane):
            lanes.append(lane)
    return np.array(lanes)


def test_lanes_are_the_means_of_their_pixels():
    random = np.random.default_rng(0)
    mask = random.choice(np.array([0, 0, 0, 3, 9, 200], dtype=np.uint8), (12, 20))
    rows = np.array([0, 3, 4, 11])
    np.testing.assert_allclose(lanes_of_mask(mask, rows), slow(mask, rows))
    assert lanes_of_mask(np.zeros((4, 4), dtype=np.uint8), np.array([0, 2])).shape == (0, 2)


def test_lanes_keep_apart_in_masks_of_16_bits(tmp_path):
    mask = np.zeros((720, 1280), dtype=np.uint16)
    mask[:, 300:304], mask[:, 900:904] = 20000, 40000
    root = folder(tmp_path)
    Image.fromarray(mask).save(root / "gt_instance_image" / "0000.png")
    (frame,) = read_masks(root)
    assert frame.lanes.mean(axis=1).tolist() == [301.5, 901.5]


def test_a_drawn_lane_is_found(tmp_path):
    (frame,) = read_masks(folder(tmp_path))
    assert frame.name == "0000.png" and frame.lanes.shape == (2, 56)
    of_first = frame.lanes[0]
    there = (frame.rows >= 300) & (frame.rows <= 700)
    np.testing.assert_allclose(of_first[there], 900 - frame.rows[there], atol=1.5)
    assert (of_first[frame.rows < 290] == -2).all()
    np.testing.assert_allclose(frame.lanes[1][(frame.rows >= 300) & (frame.rows <= 500)], 700, atol=0.5)


def test_masks_of_another_size_are_refused(tmp_path):
    folder(tmp_path, mask_size=(640, 360))
    with pytest.raises(DataError) as raised:
        read_masks(tmp_path)
    path = tmp_path / "gt_instance_image" / "0000.png"
    assert str(raised.value) == f"mask {str(path)!r} must be as large as its image, 1280 x 720, not 640 x 360"


def test_missing_and_damaged_masks_are_refused(tmp_path):
    folder(tmp_path)
    image, path = tmp_path / "image" / "0000.png", tmp_path / "gt_instance_image" / "0000.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError) as raised:
        read_masks(tmp_path)
    assert str(raised.value).startswith(
        f"image {str(image)!r} and mask {str(path)!r} must be whole JPEG or PNG files, but cannot be read ("
    )
    path.unlink()
    with pytest.raises(DataError) as raised:
        read_masks(tmp_path)
    assert str(raised.value) == f"image {str(image)!r} must have a mask, {str(path)!r}, which does not exist"
    image.unlink()
    with pytest.raises(DataError) as raised:
        read_masks(tmp_path)
    assert str(raised.value) == f"folder {str(tmp_path / 'image')!r} must hold images, but holds none"


def test_lists_name_images_in_their_first_column(tmp_path):
    path = tmp_path / "val.txt"
    path.write_text("ROOT/image/0004.png ROOT/mask/0004.png\n\n0005.png\n")
    assert listed(path) == {"0004", "0005"}
    with pytest.raises(DataError) as raised:
        listed(tmp_path / "none.txt")
    assert str(raised.value) == (
        f"list {str(tmp_path / 'none.txt')!r} must be a UTF-8 text file that can be read (FileNotFoundError)"
    )
