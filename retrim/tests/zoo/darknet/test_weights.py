import struct

import numpy as np
import pytest
import torch

from retrim.errors import ArtifactError, ConfigError
from retrim.zoo.darknet import DarknetNetwork, Header, count_values, load_weights, save_weights

HEADER = struct.pack("<iiiq", 0, 2, 5, 1234)


@pytest.fixture
def values(small):
    found = np.random.default_rng(0).uniform(0.1, 1, count_values(small)).astype("<f4")
    assert len(found) == 4 * 8 + 8 * 27 + 4 * 12 + 12 * 72 + 16 + 16 * 12 + 16 + 16 * 20
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.weights"


def test_values_lie_in_darknets_order(small, values, path):
    path.write_bytes(HEADER + values.tobytes())
    assert load_weights(small, path) is small
    first, third = small.layers[0], small.layers[3]
    for tensor, start, end in (
        (first.norm.bias, 0, 8),
        (first.norm.weight, 8, 16),
        (first.norm.running_mean, 16, 24),
        (first.norm.running_var, 24, 32),
        (first.conv.weight, 32, 248),
        (third.conv.bias, 1160, 1176),
        (third.conv.weight, 1176, 1368),
    ):
        np.testing.assert_array_equal(tensor.detach().numpy().ravel(), values[start:end])
    assert small.header == Header(0, 2, 5, 1234)


@pytest.mark.parametrize(
    "header", [HEADER, struct.pack("<iiii", 0, 1, 0, 77), struct.pack("<iiiq", 1, 0, 0, 2**40)]
)
def test_files_come_back_byte_by_byte(small, values, path, header):
    path.write_bytes(header + values.tobytes())
    load_weights(small, path)
    written = path.with_name("b.weights")
    save_weights(small, written)
    assert written.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_real_files_come_back_byte_by_byte(yolo, path, name):
    made = load_weights(DarknetNetwork.read(yolo / f"{name}.cfg"), yolo / f"{name}.weights")
    assert made.header.seen > 10**7
    save_weights(made, path)
    assert path.read_bytes() == (yolo / f"{name}.weights").read_bytes()


def test_a_trunk_alone(small, values, path):
    path.write_bytes(HEADER + values[:1160].tobytes())
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    load_weights(small, path, layers=3)
    changed = {name for name, tensor in small.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[1] for name in changed} == {"0", "2"}
    save_weights(small, path.with_name("trunk"), layers=3)
    assert path.with_name("trunk").read_bytes() == path.read_bytes()
    path.write_bytes(HEADER + values.tobytes())
    load_weights(small, path, layers=1)  # of a whole file
    np.testing.assert_array_equal(small.layers[0].norm.bias.detach().numpy(), values[:8])
    assert count_values(small, 3) == 1160


def test_layers_are_counted(small, path):
    path.write_bytes(HEADER)
    for layers in (0, 11):
        with pytest.raises(ConfigError) as raised:
            load_weights(small, path, layers=layers)
        assert str(raised.value) == f"layers must be a number from 1 to 10, not {layers}"


@pytest.mark.parametrize(
    ("layers", "change", "sentence"),
    [
        (
            None,
            lambda raw: b"",
            "must begin with darknet's version and the images seen, but the file is 0 bytes long: fetch it again",
        ),
        (
            None,
            lambda raw: raw[:14],
            "must begin with darknet's version and the images seen, but the file is 14 bytes long: fetch it again",
        ),
        (
            None,
            lambda raw: struct.pack("<iii", -1, 2, 5) + raw[12:],
            "must begin with darknet's version and the images seen, but the file begins with -1, 2, 5: fetch it again",
        ),
        (
            None,
            lambda raw: struct.pack("<iii", 0, 1000, 5) + raw[12:],
            "must begin with darknet's version and the images seen, but the file begins with 0, 1000, 5: fetch it again",
        ),
        (
            None,
            lambda raw: struct.pack("<iiiq", 0, 2, 5, -7) + raw[20:],
            "must begin with darknet's version and the images seen, but the file counts -7 images: fetch it again",
        ),
        (
            None,
            lambda raw: raw[:20],
            "must hold 1704 values for the network, but hold 0: name the file and the cfg of one network",
        ),
        (
            None,
            lambda raw: raw[:-4],
            "must hold 1704 values for the network, but hold 1703: name the file and the cfg of one network",
        ),
        (
            None,
            lambda raw: raw + raw[-4:],
            "must hold 1704 values for the network, but hold 1705: name the file and the cfg of one network",
        ),
        (
            3,
            lambda raw: raw[:420],
            "must hold 1160 values for the first 3 layers, but hold 100: name the file and the cfg of one network",
        ),
        (
            None,
            lambda raw: raw[:-1],
            "must hold whole values of 4 bytes, but hold 1703 and 3 bytes more: fetch the file again",
        ),
        (
            None,
            lambda raw: raw[:-8] + np.array([np.nan, np.inf], "<f4").tobytes(),
            "must be finite, but 2 of the 320 values of layers.8.conv.weight are not: fetch the file again",
        ),
        (
            None,
            lambda raw: raw[:116] + np.array([-2], "<f4").tobytes() + raw[120:],
            "must have variances >= 0, but layers.0.norm.running_var has -2: name the file and the cfg of one network",
        ),
    ],
)
def test_damaged_files_change_nothing(small, values, path, layers, change, sentence):
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    path.write_bytes(change(HEADER + values.tobytes()))
    with pytest.raises(ArtifactError) as raised:
        load_weights(small, path, layers=layers)
    assert str(raised.value) == f"weights '{path}' {sentence}"
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.state_dict().items())
    assert small.header == Header()


def test_a_file_that_is_not_there(small, path):
    with pytest.raises(ArtifactError) as raised:
        load_weights(small, path)
    assert str(raised.value) == (
        f"weights '{path}' must be a file that can be read, but cannot: No such file or directory"
    )


def test_a_folder_that_is_not_there(small, path):
    with pytest.raises(ArtifactError, match="cannot be written: No such file or directory"):
        save_weights(small, path / "b.weights")
