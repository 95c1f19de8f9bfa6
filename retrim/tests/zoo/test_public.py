from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from retrim.errors import ArtifactError
from retrim.zoo.public import load_public, read_public


def net(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_wrapped_and_prefixed_files_load(tmp_path: Path, wrapper, prefix):
    there, here = net(), net()
    state = {prefix + name: tensor for name, tensor in there.state_dict().items()}
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "w.pth")
    assert load_public(here, tmp_path / "w.pth") is here
    assert same(here.state_dict(), there.state_dict())


def test_safetensors_load(tmp_path: Path):
    there = net()
    save_file(there.state_dict(), tmp_path / "w.safetensors")
    assert same(load_public(net(), tmp_path / "w.safetensors").state_dict(), there.state_dict())


def test_a_missing_batch_counter_is_no_loss(tmp_path: Path):
    state = net().state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "w.pt")
    load_public(net(), tmp_path / "w.pt")


def test_names_to_ignore_are_ignored(tmp_path: Path):
    state = net().state_dict() | {"aux.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    load_public(net(), tmp_path / "w.pt", ignore=("aux.",))


def test_names_and_shapes_that_differ_are_reported_and_nothing_changes(tmp_path: Path):
    path = tmp_path / "w.pt"
    state = net(4).state_dict() | {"2.weight": torch.zeros(1)}
    del state["0.bias"]
    torch.save(state, path)
    here = net()
    before = {name: tensor.clone() for name, tensor in here.state_dict().items()}
    with pytest.raises(ArtifactError) as raised:
        load_public(here, path)
    assert str(raised.value) == (
        f"weights {str(path)!r} must fit the network name by name, but there are 1 missing (0.bias), 1 unexpected "
        "(2.weight), 5 of another shape (0.weight (4, 2) for (3, 2), 1.weight (4,) for (3,), 1.bias (4,) for (3,) "
        "and 2 more): build the network that the weights were trained for"
    )
    assert same(here.state_dict(), before)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path):
    path = tmp_path / "w.pt"
    state = net().state_dict()
    state["0.bias"] = torch.tensor([0.0, float("nan"), 0.0])
    torch.save(state, path)
    with pytest.raises(ArtifactError) as raised:
        load_public(net(), path)
    assert str(raised.value) == (
        f"weights {str(path)!r} must be finite, but those of 0.bias are not: fetch the file again"
    )


class _Trap:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, name):
    path = tmp_path / name
    path.write_bytes(b"not weights")
    with pytest.raises(ArtifactError, match="must be a whole file of plain tensors, but cannot be read"):
        read_public(path)


def test_files_with_code_are_refused_and_not_run(tmp_path: Path, capsys):
    path = tmp_path / "w.pt"
    torch.save({"a": _Trap()}, path)
    with pytest.raises(ArtifactError) as raised:
        read_public(path)
    assert str(raised.value) == (
        f"weights {str(path)!r} must be a whole file of plain tensors, but cannot be read (UnpicklingError): fetch "
        "it again, or save its state_dict alone"
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([1], "a list"),
        ({}, "an empty dict"),
        ({"a": torch.zeros(1), "b": 1}, "a dict with 'b' that are none"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content, what):
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(ArtifactError) as raised:
        read_public(path)
    assert str(raised.value) == (
        f"weights {str(path)!r} must hold tensors by name (a state_dict), not {what}: save the model's state_dict()"
    )


def test_missing_files_and_other_suffixes_are_refused(tmp_path: Path):
    with pytest.raises(ArtifactError) as raised:
        read_public(tmp_path / "w.pt")
    assert str(raised.value) == f"weights {str(tmp_path / 'w.pt')!r} must be a file that exists"
    with pytest.raises(ArtifactError) as raised:
        read_public("w.onnx")
    assert str(raised.value) == "weights 'w.onnx' must end in .th, .pt, .pth, .safetensors, not '.onnx'"
