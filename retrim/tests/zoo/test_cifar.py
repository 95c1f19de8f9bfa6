"""CIFAR-10 in all its layouts, folders of images, and the tasks on them."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrim.errors import ConfigError, DataError
from retrim.zoo.cifar import BATCHES, CLASSES, read_cifar10
from retrim.zoo.classification import CifarTask, FolderTask, normalised, shifted_and_flipped

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)
LABELS = DRAW.integers(0, 10, 60)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(content, "png")
    return content.getvalue()


def as_folder(root: Path) -> Path:
    """50 images to train on, 10 to test, with names that sort as their numbers."""
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        folder = root / ("train" if number < 50 else "test") / CLASSES[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:04}.png").write_bytes(png(pixels))
    return root


def as_binary(root: Path) -> Path:
    root.mkdir()
    rows = np.concatenate([LABELS[:, None].astype(np.uint8), PIXELS.reshape(60, -1)], axis=1)
    for place, name in enumerate([*BATCHES, "test_batch"]):
        (root / f"{name}.bin").write_bytes(rows[10 * place : 10 * place + 10].tobytes())
    return root


def as_pickles(root: Path, protocol: int = 2) -> Path:
    """As the original Python batches: numpy array and list of int under byte keys."""
    root.mkdir()
    for place, name in enumerate([*BATCHES, "test_batch"]):
        part = slice(10 * place, 10 * place + 10)
        content = {
            b"batch_label": b"batch 1 of 5",
            b"labels": LABELS[part].tolist(),
            b"data": PIXELS[part].reshape(10, -1),
            b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * 10,
        }
        (root / name).write_bytes(pickle.dumps(content, protocol=protocol))
    return root


@pytest.mark.parametrize("layout", [as_binary, as_pickles])
def test_original_batches(layout, tmp_path: Path) -> None:
    found = read_cifar10(layout(tmp_path / "c"))
    np.testing.assert_array_equal(found.train_images, PIXELS[:50])
    np.testing.assert_array_equal(found.train_classes, LABELS[:50])
    np.testing.assert_array_equal(found.test_images, PIXELS[50:])
    np.testing.assert_array_equal(found.test_classes, LABELS[50:])


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("labels_last", [False, True])
def test_batches_longer_than_a_pickle_s_pieces(protocol: int, labels_last: bool, tmp_path: Path) -> None:
    """Lists are pickled 1,000 entries at a time."""
    classes = np.arange(2500) % 10
    content = {
        b"labels": classes.tolist(),
        b"data": np.zeros((2500, 3072), dtype=np.uint8),
        b"filenames": [b"a.png"] * 2500,
    }
    if labels_last:
        content[b"labels"] = content.pop(b"labels")
    for name in [*BATCHES, "test_batch"]:
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=protocol))
    np.testing.assert_array_equal(read_cifar10(tmp_path).test_classes, classes)


def test_folders_and_tars_alike(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "cifar")
    with tarfile.open(tmp_path / "c.tar.xz", "w:xz") as archive:
        archive.add(folder, "cifar")
    one, other = read_cifar10(folder), read_cifar10(tmp_path / "c.tar.xz")
    order = sorted(range(50), key=lambda number: (LABELS[number], number))
    np.testing.assert_array_equal(one.train_images, PIXELS[order])
    np.testing.assert_array_equal(one.train_classes, LABELS[order])
    for name in ("train_images", "train_classes", "test_images", "test_classes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    folder = as_pickles(tmp_path / "c")
    never = tmp_path / "never"
    (folder / "data_batch_3").write_bytes(pickle.dumps(Evil(never)))
    with pytest.raises(DataError):
        read_cifar10(folder)
    assert not never.exists()


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            read_cifar10(path)
        return str(caught.value)

    assert refused(tmp_path / "nothing") == (
        f"CIFAR-10 at {str(tmp_path / 'nothing')!r} must be a folder with train/ and test/, a tar of one, or the "
        "folder of the original batches: none of them is there"
    )
    batches = as_binary(tmp_path / "b")
    (batches / "data_batch_2.bin").write_bytes(b"12345")
    assert refused(batches) == (
        f"{str(batches / 'data_batch_2.bin')!r} must be rows of 3,073 bytes, not 5 bytes: fetch it anew"
    )
    (batches / "data_batch_2.bin").write_bytes(b"\x0b" + bytes(3072))
    assert refused(batches) == (
        f"a class of {str(batches / 'data_batch_2.bin')!r} must lie between 0 and 9, not 11: fetch it anew"
    )
    (batches / "data_batch_2.bin").unlink()
    assert refused(batches) == f"{str(batches)!r} must hold all batches, but data_batch_2.bin are missing"
    pickles = as_pickles(tmp_path / "p")
    file = pickles / "data_batch_1"
    file.write_bytes(file.read_bytes()[:5000])
    assert refused(pickles).startswith(f"{str(file)!r} must be a batch of CIFAR-10, but is damaged")
    folder = as_folder(tmp_path / "f")
    (folder / "train" / "cat" / "bad.png").write_bytes(b"no image")
    assert refused(folder) == (
        f"'train/cat/bad.png' of {str(folder)!r} must be an image, but cannot be read as one"
    )
    (folder / "train" / "cat" / "bad.png").write_bytes(png(PIXELS[0][:, :30]))
    assert refused(folder) == f"'train/cat/bad.png' of {str(folder)!r} must be of 32 x 32 pixels, not 32 x 30"
    (folder / "train" / "lion").mkdir()
    (folder / "train" / "lion" / "1.png").write_bytes(png(PIXELS[0]))
    (folder / "train" / "cat" / "bad.png").unlink()
    assert f"must be named after a class of CIFAR-10 ({', '.join(CLASSES)}), not 'lion'" in refused(folder)
    short = tmp_path / "short.tar.xz"
    short.write_bytes(b"\xfd7zXZ\x00 not whole")
    assert refused(short).startswith(f"{str(short)!r} must be a tar of images, and whole")


def test_augmentation_shifts_and_flips_each_image() -> None:
    images = PIXELS[:40]
    taken = shifted_and_flipped(images, np.random.default_rng(1))
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)))
    seen = set()
    for one, result in zip(padded, taken, strict=True):
        ways = [
            (down, right, flip)
            for down in range(9)
            for right in range(9)
            for flip in (False, True)
            if np.array_equal(
                one[:, down : down + 32, right : right + 32][:, :, :: -1 if flip else 1], result
            )
        ]
        assert len(ways) == 1
        seen.add(ways[0])
    assert len(seen) > 25
    assert 8 < sum(flip for *_, flip in seen) < 32


def test_batches_are_a_function_of_seed_epoch_and_number(tmp_path: Path) -> None:
    task = CifarTask(data=as_folder(tmp_path / "c"), batch=8, images=40)
    assert task.steps == 5
    whole = list(task.batches(3, 1))
    for (images, classes), (again, same) in zip(whole[2:], task.batches(3, 1, 2), strict=True):
        assert torch.equal(images, again)
        assert torch.equal(classes, same)
    other = next(iter(task.batches(3, 2)))
    assert not torch.equal(whole[0][0], other[0])
    assert whole[0][0].is_contiguous(memory_format=torch.channels_last)
    assert [len(classes) for _, classes in task.held_out()] == [10]
    assert len(task.probe()[0][1]) == 40


def test_normalisation_is_imagenets() -> None:
    image = np.full((1, 3, 2, 2), 255, np.uint8)
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(normalised(image)[0, :, 0, 0], expected)


def test_scores_are_percentages(tmp_path: Path) -> None:
    task = CifarTask(data=as_folder(tmp_path / "c"), batch=8)
    model = task.build(0)
    model.train()
    found = task.score(model)
    assert model.training
    model.eval()
    images, classes = next(task.held_out())
    logits = model(images)
    assert found["top1"] == pytest.approx(100 * float((logits.argmax(1) == classes).float().mean()))
    ranks = (logits > logits.gather(1, classes[:, None])).sum(1)
    assert found["top5"] == pytest.approx(100 * float((ranks < 5).float().mean()))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"images": 51}, "images must be at most the 50 of the training set, not 51"),
        ({"batch": 64}, "batch must be at most the 50 training images, not 64"),
    ],
)
def test_more_than_there_is(options: dict[str, int], sentence: str, tmp_path: Path) -> None:
    task = CifarTask(data=as_folder(tmp_path / "c"), **options)
    with pytest.raises(ConfigError) as caught:
        _ = task.steps
    assert str(caught.value) == sentence


def test_folders_of_images(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2)):
        for name in ("n01", "n02"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = DRAW.integers(0, 256, (50 + 3 * number, 60, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.JPEG")
    task = FolderTask(data=tmp_path, batch=4, size=32, workers=2)
    assert task.steps == 3
    whole = list(task.batches(0, 0))
    assert whole[0][0].shape == (4, 3, 32, 32)
    assert torch.equal(next(task.batches(0, 0, 2))[0], whole[2][0])
    assert sorted(int(c) for _, classes in whole for c in classes) == [0] * 6 + [1] * 6
    assert [len(c) for _, c in task.held_out()] == [4]
    assert set(task.score(task.build(0).to(memory_format=torch.channels_last))) == {"top1", "top5"}
    (tmp_path / "val" / "n02").rename(tmp_path / "val" / "n03")
    with pytest.raises(DataError) as caught:
        list(FolderTask(data=tmp_path, size=32).held_out())
    assert str(caught.value) == (
        f"train and val of {str(tmp_path)!r} must have the same classes, but differ in 'n02'"
    )
    (tmp_path / "train" / "n09").mkdir()
    with pytest.raises(DataError) as caught:
        _ = FolderTask(data=tmp_path, size=32).steps
    assert "must hold images (.jpeg, .jpg, .png, .bmp, .webp), but holds none" in str(caught.value)
