"""The packed layer as a torch module."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from retrim.errors import ArtifactError, ConfigError, RetrimError, ShapeError
from retrim.prune import Magnitude, Plan, Rule
from retrim.structures import BlockColumns, Filters, Structure
from retrim.torch import PackedLinear, pack

# type of tensors and precision of weights, and what outputs may be off by, as a share of the largest
PAIRS = [
    (torch.float32, "fp32", 1e-5),
    (torch.float32, "bf16", 1e-2),
    (torch.bfloat16, "bf16", 1e-2),
    (torch.float32, "int8", 3e-2),
    (torch.bfloat16, "int8", 3e-2),
]


def dense(
    structure: Structure | None = None, precision: str = "fp32", **options: Any
) -> tuple[nn.Linear, PackedLinear]:
    """A hardened layer (24 inputs, 64 outputs) and the same one packed."""
    torch.manual_seed(0)
    layer, pruner = nn.Linear(24, 64), Magnitude()
    rule = Rule(weights="weight", structure=structure or BlockColumns(32), density=0.25)
    pruner.prepare(layer, Plan([rule]))
    pruner.harden()
    artifact = pack(layer, pruner, architecture="x", config={}, precisions=(precision,))
    return layer, PackedLinear(artifact.weights["weight"], layer.bias, **options)


def assert_close(got: torch.Tensor, wanted: torch.Tensor, share: float = 1e-5) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).detach().abs().max()) <= share * float(wanted.detach().abs().max())


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
@pytest.mark.parametrize("structure", [BlockColumns(32), Filters()], ids=repr)
@pytest.mark.parametrize("shape", [(24,), (1, 24), (7, 24), (2, 3, 24), (2, 1, 5, 24), (300, 24)])
def test_any_number_of_dimensions(
    shape: tuple[int, ...], structure: Structure, dtype: torch.dtype, precision: str, share: float
) -> None:
    layer, packed = dense(structure, precision)
    x = torch.randn(shape).to(dtype)
    with torch.inference_mode():
        y = packed(x)
        assert y.dtype == dtype
        assert_close(y, layer(x.float()), share)


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


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
def test_no_tokens_at_all(dtype: torch.dtype, precision: str, share: float) -> None:
    _, packed = dense(precision=precision)
    for shape in [(0, 24), (2, 0, 24)]:
        y = packed(torch.zeros(shape, dtype=dtype))
        assert (y.shape, y.dtype) == ((*shape[:-1], 64), dtype)


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
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
def test_memory_of_any_layout(
    view: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype, precision: str, share: float
) -> None:
    layer, packed = dense(precision=precision)
    x = view(torch.randn(48, 48).to(dtype))
    with torch.inference_mode():
        assert_close(packed(x), layer(x.float()), share)
        assert torch.equal(packed(x), packed(x.contiguous()))


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
def test_what_lies_between_the_rows_is_never_read(dtype: torch.dtype, precision: str, share: float) -> None:
    layer, packed = dense(precision=precision)
    x = torch.full((9, 48), torch.nan, dtype=dtype)
    x[:, 8:32] = torch.randn(9, 24)
    with torch.inference_mode():
        assert_close(packed(x[:, 8:32]), layer(x[:, 8:32].float()), share)


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_token(
    value: float, dtype: torch.dtype, precision: str, share: float
) -> None:
    layer, packed = dense(precision=precision)
    x = torch.randn(5, 24).to(dtype)
    x[2, int(layer.weight.detach().abs().sum(0).argmax())] = value
    with torch.inference_mode():
        y = packed(x)
        assert not bool(y[2].isfinite().all())
        rest = torch.tensor([0, 1, 3, 4])
        assert_close(y[rest], layer(x[rest].float()), share)


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


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
def test_memory_that_is_not_aligned(dtype: torch.dtype, precision: str, share: float) -> None:
    layer, packed = dense(precision=precision)
    x = torch.randn(3, 24).to(dtype)
    held = bytearray(b"*" + x.view(torch.uint8).numpy().tobytes())
    moved = torch.frombuffer(held, dtype=dtype, offset=1).view(3, 24)
    assert moved.data_ptr() % moved.element_size()
    with torch.inference_mode():
        assert_close(packed(moved), layer(x.float()), share)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_bfloat16_is_taken_and_others_are_refused(precision: str) -> None:
    _, packed = dense(precision=precision)
    for x in (torch.zeros(3, 24, dtype=torch.float16), torch.zeros(3, 25, dtype=torch.bfloat16)):
        with pytest.raises(ShapeError) as caught:
            packed(x)
        assert str(caught.value) == (
            "the input of a packed layer must be a float32 or bfloat16 CPU tensor of shape (..., 24), "
            f"not {x.dtype} cpu {tuple(x.shape)}"
        )


def test_a_precision_is_chosen() -> None:
    layer, pruner = nn.Linear(24, 64), Magnitude()
    pruner.prepare(layer, Plan([Rule(weights="weight", structure=BlockColumns(32), density=0.5)]))
    pruner.harden()
    weight = pack(layer, pruner, architecture="x", config={}, precisions=("int8", "bf16")).weights["weight"]
    assert PackedLinear(weight).precision == "int8"
    assert PackedLinear(weight, precision="bf16").matrix.precision == "bf16"
    with pytest.raises(ArtifactError) as caught:
        PackedLinear(weight, precision="fp32")
    assert str(caught.value) == "precision must be one that the weight was packed in (int8, bf16), not 'fp32'"


def test_a_static_scale_of_the_input() -> None:
    layer, packed = dense(precision="int8", input_scale=3 / 127)
    x = torch.randn(50, 24).clamp(-3, 3)
    with torch.inference_mode():
        assert_close(packed(x), layer(x), 3e-2)
        assert_close(packed(2 * x), layer((2 * x).clamp(-3, 3)), 3e-2)
        assert not torch.equal(packed(x), PackedLinear(packed.weight, layer.bias)(x))
    with pytest.raises(ConfigError) as caught:
        dense(precision="bf16", input_scale=0.1)
    assert str(caught.value) == "input_scale must be left out for a bf16 pack: only int8 is scaled"


# --- autocast and gradients -------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
def test_a_region_of_bfloat16(dtype: torch.dtype, precision: str, share: float) -> None:
    """Layers in bf16 and int8 follow the region as torch's own do; one in fp32 cannot, and keeps float32."""
    layer, packed = dense(precision=precision)
    x = torch.randn(5, 24).to(dtype)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            y, wanted = packed(x), layer(x)
            turned = packed(x.bfloat16())
        assert wanted.dtype == torch.bfloat16
        assert y.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
        assert torch.equal(y, packed(x if precision == "fp32" else x.bfloat16()))
        assert turned.dtype == y.dtype
        assert_close(y.float(), layer(x.float()), share)
        with torch.autocast("cpu", torch.bfloat16, enabled=False):
            assert packed(x).dtype == dtype


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_regions_of_other_types(precision: str) -> None:
    _, packed = dense(precision=precision)
    x = torch.randn(5, 24)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.float16):
            assert torch.equal(packed(x.half()), packed(x.half().float()))
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ShapeError):
            packed(x.double())  # no region converts it


def test_a_region_around_a_whole_model() -> None:
    layer, packed = dense(precision="bf16")
    model, twin = nn.Sequential(nn.Linear(24, 24), packed, nn.Linear(64, 4)), nn.Sequential()
    twin.extend([model[0], layer, model[2]])
    x = torch.randn(5, 24)
    with torch.inference_mode():
        wanted = twin(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x)
            assert y.dtype == twin(x).dtype == torch.bfloat16
        assert_close(y.float(), wanted, 2e-2)


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


@pytest.mark.parametrize(("dtype", "precision", "share"), PAIRS)
def test_a_gradient_that_reaches_it_says_so(dtype: torch.dtype, precision: str, share: float) -> None:
    layer, packed = dense(precision=precision)
    x = torch.randn(3, 24, requires_grad=True)
    y = packed(x.to(dtype))
    assert_close(y, layer(x), share)
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
