"""The packed layer as a torch module."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from retrim.errors import RetrimError, ShapeError
from retrim.prune import Magnitude, Plan, Rule
from retrim.structures import BlockColumns, Filters, Structure
from retrim.torch import PackedLinear, pack


def dense(structure: Structure | None = None) -> tuple[nn.Linear, PackedLinear]:
    """A hardened layer (24 inputs, 64 outputs) and the same one packed."""
    torch.manual_seed(0)
    layer, pruner = nn.Linear(24, 64), Magnitude()
    rule = Rule(weights="weight", structure=structure or BlockColumns(32), density=0.25)
    pruner.prepare(layer, Plan([rule]))
    pruner.harden()
    artifact = pack(layer, pruner, architecture="x", config={})
    return layer, PackedLinear(artifact.weights["weight"], layer.bias)


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).detach().abs().max()) <= 1e-5 * float(wanted.detach().abs().max())


@pytest.mark.parametrize("structure", [BlockColumns(32), Filters()], ids=repr)
@pytest.mark.parametrize("shape", [(24,), (1, 24), (7, 24), (2, 3, 24), (2, 1, 5, 24)])
def test_any_number_of_dimensions(shape: tuple[int, ...], structure: Structure) -> None:
    layer, packed = dense(structure)
    x = torch.randn(shape)
    with torch.inference_mode():
        assert_close(packed(x), layer(x))


def test_torchs_defaults_do_not_matter() -> None:
    layer, packed = dense()
    x = torch.randn(3, 24)
    wanted = layer(x).detach()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        got = packed(x)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert_close(got, wanted)


def test_no_tokens_at_all() -> None:
    _, packed = dense()
    assert packed(torch.zeros(0, 24)).shape == (0, 64)
    assert packed(torch.zeros(2, 0, 24)).shape == (2, 0, 64)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, 8:32],
        lambda x: x[::2, :24],
        lambda x: x[:24, :24].T,
        lambda x: x[:, ::2],
        lambda x: x[:1, :24].expand(6, 24),
        lambda x: x[:48, :24].view(6, 8, 24).transpose(0, 1),
        lambda x: x[:, 1:25],
    ],
)
def test_memory_of_any_layout(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    layer, packed = dense()
    x = torch.randn(48, 48)
    with torch.inference_mode():
        assert_close(packed(view(x)), layer(view(x)))


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.zeros(3, 24, dtype=torch.float64), "torch.float64 cpu (3, 24)"),
        (torch.zeros(3, 24, dtype=torch.float16), "torch.float16 cpu (3, 24)"),
        (
            torch.zeros(3, 24, dtype=torch.bfloat16),
            "torch.bfloat16 cpu (3, 24): pack the model in bf16 or int8, or convert the input with x.float()",
        ),
        (torch.zeros(3, 24, dtype=torch.int64), "torch.int64 cpu (3, 24)"),
        (torch.zeros(3, 25), "torch.float32 cpu (3, 25)"),
        (torch.zeros(24, 3), "torch.float32 cpu (24, 3)"),
        (torch.zeros(()), "torch.float32 cpu ()"),
        (torch.zeros(3, 24, device="meta"), "torch.float32 meta (3, 24)"),
    ],
)
def test_inputs_of_another_kind(x: torch.Tensor, said: str) -> None:
    _, packed = dense()
    with pytest.raises(ShapeError) as caught:
        packed(x)
    assert str(caught.value) == (
        f"the input of a packed layer must be a float32 CPU tensor of shape (..., 24), not {said}"
    )


def test_memory_that_is_not_aligned() -> None:
    layer, packed = dense()
    x = torch.randn(3, 24)
    moved = torch.frombuffer(bytearray(b"*" + x.numpy().tobytes()), dtype=torch.float32, offset=1).view(3, 24)
    assert moved.data_ptr() % 4
    with torch.inference_mode():
        assert_close(packed(moved), layer(x))


def test_kinds_of_tensors_that_are_more_than_memory() -> None:
    layer, packed = dense()
    x = nn.Parameter(torch.randn(3, 24), requires_grad=False)
    assert_close(packed(x), layer(x))
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert packed(torch.randn(3, 24)).shape == (3, 64)


def test_a_bias_of_another_shape() -> None:
    _, packed = dense()
    with pytest.raises(ShapeError) as caught:
        PackedLinear(packed.weight, torch.zeros(24))
    assert str(caught.value) == "bias must have shape (64,), not (24,)"


def test_the_bias_is_copied_and_may_be_missing() -> None:
    layer, packed = dense()
    x = torch.randn(3, 24)
    before = layer(x).detach()
    with torch.no_grad():
        layer.bias.add_(1)
    assert_close(packed(x), before)
    assert_close(PackedLinear(packed.weight)(x), (x @ layer.weight.T).detach())


def test_a_gradient_that_reaches_it_says_so() -> None:
    layer, packed = dense()
    x = torch.randn(3, 24, requires_grad=True)
    y = packed(x)
    assert_close(y, layer(x))
    with pytest.raises(RetrimError) as caught:
        y.sum().backward()
    assert str(caught.value) == (
        "a packed layer must not be trained, but a gradient reached it: train the hardened model before it is "
        "packed, or run the packed one under torch.inference_mode()"
    )


def test_without_gradients_nothing_is_tracked() -> None:
    _, packed = dense()
    assert not packed(torch.randn(3, 24)).requires_grad
    with torch.no_grad():
        assert not packed(torch.randn(3, 24, requires_grad=True)).requires_grad


def test_a_layer_behind_it_can_still_be_trained() -> None:
    _, packed = dense()
    head = nn.Linear(64, 2)
    head(packed(torch.randn(3, 24))).sum().backward()
    assert head.weight.grad is not None


def test_a_copy_shares_what_never_changes() -> None:
    _, packed = dense()
    model = nn.Sequential(packed, nn.Linear(64, 2))
    twin = copy.deepcopy(model)
    assert twin[0] is packed
    assert twin[1].weight is not model[1].weight
    x = torch.randn(3, 24)
    assert torch.equal(twin(x), model(x))


def test_its_numbers_are_the_artifacts_not_the_state_dicts() -> None:
    _, packed = dense()
    model = nn.Sequential(packed, nn.Linear(64, 2))
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    assert list(packed.parameters()) == []
    model.load_state_dict(model.state_dict())


def test_it_prints_what_it_is() -> None:
    _, packed = dense()
    assert repr(packed) == (
        "PackedLinear(in_features=24, out_features=64, structure=BlockColumns, density=0.250, precision=fp32, "
        "activation=None)"
    )
