"""The packed layer inside graphs: torch.compile keeps them whole, torch.export writes them down."""

from __future__ import annotations

import copy
import gc
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from retrim.artifact import Pack, PackedWeight
from retrim.artifact.layout import pack_rows
from retrim.errors import RetrimError, ShapeError
from retrim.prune import Magnitude, Plan, Rule
from retrim.structures import BlockColumns
from retrim.torch import PackedLinear, operator, pack, pack_
from retrim.zoo.lm import LMConfig, TransformerLM

OPERATOR = torch.ops.retrim.packed_linear.default
GRADIENT = (
    "a packed layer must not be trained, but a gradient reached it: train the hardened model before it is "
    "packed, or run the packed one under torch.inference_mode()"
)

# torch's exporter and code generator warn of what they do themselves
warned = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def layer(outputs: int = 32, inputs: int = 24, seed: int = 0, **options: Any) -> PackedLinear:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((outputs, inputs), dtype=np.float32) / np.float32(inputs**0.5)
    mask = np.repeat(generator.random((outputs // 32, inputs)) < 0.5, 32, axis=0)
    precision = options.get("precision", "fp32")
    packs = (Pack(precision, 32, pack_rows(weight, mask, precision=precision)),)
    structure = {"type": "BlockColumns", "rows": 32, "budget": "global"}
    packed = PackedWeight(weight.shape, "linear", structure, float(mask.mean()), packs)
    return PackedLinear(packed, torch.linspace(-1, 1, outputs), **options)


def model() -> nn.Sequential:
    return nn.Sequential(layer(64, activation="gelu"), nn.LayerNorm(64), layer(32, 64, seed=1)).eval()


class Recorder:
    """A compiler's backend that keeps the graphs and runs them as they are."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        self.graphs.append(graph)
        return graph.forward

    def calls(self) -> list[int]:
        """Packed layers in each graph."""
        packed = torch.ops.retrim.packed_linear
        return [sum(node.target is packed for node in graph.graph.nodes) for graph in self.graphs]


def test_torchs_own_check_of_operators() -> None:
    packed = layer(activation="gelu")
    for x in (torch.randn(5, 24), torch.randn(2, 3, 24), torch.randn(24), torch.randn(5, 48)[:, ::2]):
        arguments = (x, packed._pack, packed._bias, 32, "gelu", None)
        assert set(torch.library.opcheck(OPERATOR, arguments).values()) == {"SUCCESS"}


# --- torch.compile ----------------------------------------------------------------------


def test_the_graph_of_a_whole_language_model_is_one() -> None:
    config = LMConfig(vocabulary=96, width=64, layers=2, heads=2, context=16, expansion=2)
    dense, pruner = TransformerLM(config), Magnitude()
    rule = Rule(weights="blocks.*.*.*.weight", structure=BlockColumns(32), density=0.5)
    pruner.prepare(dense, Plan([rule]))
    pruner.harden()
    packed = pack_(TransformerLM(config), pack(dense, pruner, architecture="x", config={}))
    recorder, ids = Recorder(), torch.randint(96, (2, 16))
    compiled = torch.compile(packed, fullgraph=True, backend=recorder)
    with torch.inference_mode():
        assert torch.equal(compiled(ids), packed(ids))
    assert recorder.calls() == [8]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [None, True])
def test_compiled_is_as_eager(backend: str, dynamic: bool | None) -> None:
    plain = model()
    compiled = torch.compile(plain, fullgraph=True, backend=backend, dynamic=dynamic)
    with torch.no_grad():
        for shape in [(5, 24), (7, 24), (1, 24), (0, 24), (24,), (2, 3, 24)]:
            x = torch.randn(shape)
            assert torch.equal(compiled(x), plain(x))
    with torch.inference_mode():
        x = torch.randn(24, 5)
        assert torch.equal(compiled(x.T), plain(x.T))


@warned
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch generates C++, and there is no compiler for it")
def test_compiled_to_machine_code() -> None:
    plain = model()
    compiled = torch.compile(plain, fullgraph=True)
    with torch.inference_mode():
        for tokens in (5, 7):
            x = torch.randn(tokens, 24)
            torch.testing.assert_close(compiled(x), plain(x))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_only_a_backward_pass_that_is_run_is_refused(backend: str) -> None:
    plain = model()
    compiled = torch.compile(plain, fullgraph=True, backend=backend)
    x = torch.randn(5, 24, requires_grad=True)
    y = compiled(x)
    assert torch.equal(y, plain(x))
    with pytest.raises(RetrimError) as caught:
        y.sum().backward()
    assert str(caught.value) == GRADIENT


def test_layers_compiled_one_by_one_share_their_code() -> None:
    recorder = Recorder()
    layers = [layer(32, 32, seed) for seed in range(12)]  # more than torch would compile anew
    assert len({len(part._pack) for part in layers}) > 1
    for part in layers:
        part.compile(fullgraph=True, backend=recorder)
    x = torch.randn(5, 32)
    with torch.inference_mode():
        for part in layers:
            assert torch.equal(part(x), part.forward(x))
    assert recorder.calls() == [1, 1]  # for the first pack's length, then for any


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_regions_of_autocast(precision: str) -> None:
    plain = layer(precision=precision)
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 24)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        y = compiled(x)
        assert torch.equal(y, plain(x))
        assert y.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("precision", "input_scale"), [("bf16", None), ("int8", None), ("int8", 0.02)])
def test_precisions(dtype: torch.dtype, precision: str, input_scale: float | None) -> None:
    plain = layer(precision=precision, input_scale=input_scale)
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 24).to(dtype)
    with torch.inference_mode():
        y = compiled(x)
        assert y.dtype == dtype
        assert torch.equal(y, plain(x))


def test_inputs_of_another_kind_are_refused_as_ever() -> None:
    packed = layer()
    with pytest.raises(ShapeError) as caught:
        torch.compile(packed, backend="eager")(torch.zeros(3, 25))
    assert str(caught.value) == (
        "the input of a packed layer must be a float32 CPU tensor of shape (..., 24), "
        "not torch.float32 cpu (3, 25)"
    )


def test_threads_share_what_was_compiled() -> None:
    plain = model()
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 24)
    with torch.inference_mode():
        wanted = plain(x)
    wrong = []

    def run() -> None:
        with torch.inference_mode():
            wrong.extend(1 for _ in range(50) if not torch.equal(compiled(x), wanted))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- what graphs hold -------------------------------------------------------------------


def test_copies() -> None:
    compiled = torch.compile(model(), fullgraph=True, backend="aot_eager")
    twin = copy.deepcopy(compiled)
    x = torch.randn(5, 24)
    with torch.inference_mode():
        assert torch.equal(twin(x), compiled(x))


def test_cores_die_with_their_layers() -> None:
    packed = layer()
    compiled = torch.compile(packed, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        compiled(torch.randn(5, 24))
    core = weakref.ref(packed._core)
    del packed, compiled
    torch._dynamo.reset()
    gc.collect()
    assert core() is None


def test_layers_of_one_weight_have_cores_of_their_own() -> None:
    first = layer()
    second = PackedLinear(first.weight, -first._bias)
    third = PackedLinear(first.weight, activation="relu")
    fourth = PackedLinear(first.weight)
    x = torch.randn(5, 24)
    with torch.inference_mode():
        for part in (first, second, third, fourth):
            arguments = (part._pack, part._bias, 32, part.activation, None)
            assert torch.equal(OPERATOR(x, *arguments), part(x))
        assert torch.equal(first(x) - second(x) > 0, first._bias.expand(5, 32) > 0)
        assert torch.equal(third(x), fourth(x).relu())
    assert len({part._core for part in (first, second, third, fourth)}) == 4


def test_tensors_without_a_layer_keep_the_core_made_for_them() -> None:
    part = layer()
    tensors, bias = part._pack.clone(), part._bias.clone()
    x = torch.randn(5, 24)
    known = set(operator._CORES.values())
    with torch.inference_mode():
        assert torch.equal(OPERATOR(x, tensors, bias, 32, None, None), part(x))
        (made,) = set(operator._CORES.values()) - known
        OPERATOR(x, tensors, bias, 32, None, None)
        assert set(operator._CORES.values()) - known == {made}
    core = weakref.ref(made)
    del made, tensors
    gc.collect()
    assert core() is None


# --- torch.export -----------------------------------------------------------------------


@warned
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_model_runs_from_its_file(strict: bool, tmp_path: Path) -> None:
    plain = model()
    tokens = {0: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(plain, (torch.randn(5, 24),), dynamic_shapes=(tokens,), strict=strict)
    torch.export.save(exported, tmp_path / "model.pt2")
    loaded = torch.export.load(tmp_path / "model.pt2")
    known = set(operator._CORES.values())
    again = loaded.module()  # on tensors of its own, as in another process
    with torch.inference_mode():
        for count in (5, 7, 7):
            x = torch.randn(count, 24)
            assert torch.equal(exported.module()(x), plain(x))
            assert torch.equal(again(x), plain(x))
        assert len(set(operator._CORES.values()) - known) == 2
        twin = copy.deepcopy(again)
        assert torch.equal(twin(x), plain(x))
    del loaded, again, twin
    gc.collect()
    assert set(operator._CORES.values()) == known


def test_a_damaged_pack_in_an_exported_file_is_refused() -> None:
    part = layer()
    tensors = part._pack.clone()
    tensors[64] = 77  # the first column list starts
    with pytest.raises(RetrimError) as caught:
        OPERATOR(torch.randn(5, 24), tensors, part._bias, 32, None, None)
    assert str(caught.value) == "a pack's column lists must follow each other: the file is damaged"
