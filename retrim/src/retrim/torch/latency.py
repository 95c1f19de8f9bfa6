"""How long a model takes, dense and packed, and what of it the pruned layers are.

Dense and packed runs take turns in one process, and medians are compared, so
that what else the machine does hits both alike.  Times of single layers come
from runs of their own, with hooks, for the hooks cost a little.  Where a packed
layer took in the activation after it, that activation counts as part of the
dense layer too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.runtime import threads as threads_
from retrim.torch.levels import LevelLinear
from retrim.torch.linear import PackedLinear
from retrim.torch.packing import fusions_of

_LEAST_ROUNDS = 9


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one forward pass, medians.

    Attributes
    ----------
    ms_dense, ms_packed : float
        Whole model, without hooks.
    ms_linears_dense, ms_linears_packed : float
        The pruned layers together.
    share : float
        Their share of the dense model's time, in the runs with hooks.
    rounds : int
    """

    ms_dense: float
    ms_packed: float
    ms_linears_dense: float
    ms_linears_packed: float
    share: float
    rounds: int

    @property
    def speedup(self) -> float:
        """Whole model."""
        return self.ms_dense / self.ms_packed

    @property
    def speedup_linears(self) -> float:
        """Pruned layers alone."""
        return self.ms_linears_dense / self.ms_linears_packed

    @property
    def bound(self) -> float:
        """Speed-up of the whole model that Amdahl's law allows."""
        return 1.0 / (1.0 - self.share + self.share / self.speedup_linears)

    def row(self) -> dict[str, float]:
        """As tables and JSON files have it."""
        return {
            "ms_dense": self.ms_dense,
            "ms_packed": self.ms_packed,
            "speedup": self.speedup,
            "speedup_linears": self.speedup_linears,
            "share_linears": self.share,
            "amdahl_bound": self.bound,
            "amdahl": self.speedup / self.bound,
        }


def measure(
    dense: nn.Module,
    packed: nn.Module,
    inputs: torch.Tensor,
    *,
    threads: int = 1,
    seconds: float = 3.0,
) -> Latency:
    """Compare a packed model with its dense twin.

    Parameters
    ----------
    dense, packed : torch.nn.Module
        `packed` as `retrim.torch.pack_` made it from a model like `dense`.
    inputs : Tensor
    threads : int, default 1
        For torch and for the kernels alike.
    seconds : float
        About how long to measure.

    Raises
    ------
    ConfigError
        If `packed` has no packed layer.
    """
    names = [
        name for name, module in packed.named_modules() if isinstance(module, PackedLinear | LevelLinear)
    ]
    if not names:
        raise ConfigError("the packed model must have packed layers, but has none: was it pruned?")
    fused = _fused(dense, packed)
    dense.eval()
    packed.eval()
    with on_threads(threads), torch.inference_mode():
        once = max(_time(dense, inputs), _time(packed, inputs), _time(dense, inputs), _time(packed, inputs))
        rounds = max(_LEAST_ROUNDS, int(seconds / (4 * once)))
        whole: tuple[list[float], list[float]] = ([], [])
        linears: tuple[list[float], list[float]] = ([], [])
        shares = []
        for _ in range(rounds):
            whole[0].append(_time(dense, inputs))
            whole[1].append(_time(packed, inputs))
            total, part = _profile(dense, [*names, *fused], inputs)
            linears[0].append(part)
            shares.append(part / total)
            linears[1].append(_profile(packed, names, inputs)[1])
    return Latency(
        ms_dense=1e3 * statistics.median(whole[0]),
        ms_packed=1e3 * statistics.median(whole[1]),
        ms_linears_dense=1e3 * statistics.median(linears[0]),
        ms_linears_packed=1e3 * statistics.median(linears[1]),
        share=statistics.median(shares),
        rounds=rounds,
    )


def time_dense(model: nn.Module, inputs: torch.Tensor, *, threads: int = 1, seconds: float = 1.0) -> float:
    """Median milliseconds of one forward pass."""
    model.eval()
    with on_threads(threads), torch.inference_mode():
        once = max(_time(model, inputs), _time(model, inputs))
        rounds = max(_LEAST_ROUNDS, int(seconds / once))
        return 1e3 * statistics.median(_time(model, inputs) for _ in range(rounds))


def _fused(dense: nn.Module, packed: nn.Module) -> list[str]:
    """Activations that the packed model's layers took in."""
    fusions = fusions_of(packed) or fusions_of(dense)
    found = []
    for layer, activation in fusions.items():
        module = packed.get_submodule(layer)
        if isinstance(module, PackedLinear | LevelLinear) and module.matrix.activation is not None:
            found.append(activation)
    return found


def _time(model: nn.Module, inputs: torch.Tensor) -> float:
    began = time.perf_counter()
    model(inputs)
    return time.perf_counter() - began


def _profile(model: nn.Module, names: list[str], inputs: torch.Tensor) -> tuple[float, float]:
    """Seconds of the model and of the modules `names` in it."""
    spent, began = 0.0, 0.0

    def before(*_: Any) -> None:
        nonlocal began
        began = time.perf_counter()

    def after(*_: Any) -> None:
        nonlocal spent
        spent += time.perf_counter() - began

    with ExitStack() as hooks:
        for name in names:
            module = model.get_submodule(name)
            hooks.callback(module.register_forward_pre_hook(before).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        total = _time(model, inputs)
    return total, spent


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Torch and the kernels on `count` threads while it is open."""
    before, ours = torch.get_num_threads(), threads_.get()
    torch.set_num_threads(threads_.check(count))
    threads_.set(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        threads_.set(ours)
