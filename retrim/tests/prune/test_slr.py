"""SLR and ADMM: each update against the equations, written out with plain arrays."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.prune import ADMM, SLR, Magnitude, Plan, Pruner, Rule
from retrim.structures import Elements


def project(weight: np.ndarray, kept: int) -> np.ndarray:
    """The `kept` largest entries of each layer; no ties here."""
    order = np.sort(np.abs(weight).ravel())[::-1]
    return np.where(np.abs(weight) >= order[kept - 1], weight, 0.0)


def distance(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(one, other, strict=True)))


def two_layers(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


PLAN = Plan([Rule(weights="*weight", structure=Elements(), density=0.25)])


class Oracle:
    """Both methods in plain NumPy: W, Z, Λ as lists of arrays."""

    def __init__(self, weights: list[np.ndarray], rho: float, steps: str = "contracting") -> None:
        self.steps = steps
        self.kept = [weight.size // 4 for weight in weights]
        self.rho = rho
        self.Z = [project(w, n) for w, n in zip(weights, self.kept, strict=True)]
        self.multipliers = [np.zeros_like(w) for w in weights]
        self.k, self.s = 1, 0.01
        self.W_before, self.f_before = [w.copy() for w in weights], math.inf
        self.last = distance(weights, self.Z)  # that the next step size is scaled by

    def lagrangian(self, f: float, W: list[np.ndarray], Z: list[np.ndarray]) -> float:
        return f + sum(
            float((m * (w - z)).sum() + self.rho / 2 * ((w - z) ** 2).sum())
            for w, z, m in zip(W, Z, self.multipliers, strict=True)
        )

    def accept(self, W: list[np.ndarray], Z: list[np.ndarray], M: float, r: float) -> None:
        p = 1 - 1 / self.k**r
        alpha = 1 - 1 / (M * self.k**p)
        self.s = alpha * self.s * self.last / distance(W, Z)
        if self.steps == "contracting":
            self.last = distance(W, Z)
        self.multipliers = [m + self.s * (w - z) for w, z, m in zip(W, Z, self.multipliers, strict=True)]
        self.k += 1

    def slr(self, W: list[np.ndarray], f: float, M: float, r: float) -> tuple[bool, bool]:
        first = self.lagrangian(f, W, self.Z) < self.lagrangian(self.f_before, self.W_before, self.Z)
        if first:
            self.accept(W, self.Z, M, r)
        Z = [project(w + m / self.rho, n) for w, m, n in zip(W, self.multipliers, self.kept, strict=True)]
        second = self.lagrangian(f, W, Z) < self.lagrangian(f, W, self.Z)
        if second:
            self.accept(W, Z, M, r)
        self.Z = Z
        self.W_before, self.f_before = [w.copy() for w in W], f
        if self.steps == "paper":
            self.last = distance(W, Z)
        return first, second

    def admm(self, W: list[np.ndarray]) -> None:
        self.Z = [
            project(w + m / self.rho, n) for w, m, n in zip(W, self.multipliers, self.kept, strict=True)
        ]
        self.multipliers = [
            m + self.rho * (w - z) for w, z, m in zip(W, self.Z, self.multipliers, strict=True)
        ]


def arrays(model: nn.Module) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for name, p in model.named_parameters() if name.endswith("weight")]


def state(pruner: Pruner, what: str) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in pruner.state_dict()[what].values()]


def wander(model: nn.Module, seed: int, size: float = 0.1) -> None:
    """Move all weights, as training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64), alpha=size)


@pytest.mark.parametrize("steps", ["contracting", "paper"])
@pytest.mark.parametrize("seed", range(4))
def test_slr_follows_the_equations(seed: int, steps: Literal["contracting", "paper"]) -> None:
    model = two_layers(seed)
    pruner = SLR(rho=0.3, every=1, M=5.0, r=0.2, steps=steps)
    pruner.prepare(model, PLAN)
    oracle = Oracle(arrays(model), 0.3, steps)
    losses = [2.0, 1.5, 1.6, 1.0, 3.0, 0.5, 0.4, 0.4]
    seen = set()
    for number, f in enumerate(losses):
        wander(model, 100 * seed + number)
        pruner.step(lambda f=f: f)
        accepted = oracle.slr(arrays(model), f, 5.0, 0.2)
        update = pruner.updates[-1]
        assert (update.weights_accepted, update.projection_accepted) == accepted
        assert update.k == oracle.k
        assert update.step_size == pytest.approx(oracle.s, rel=1e-12)
        assert update.distance == pytest.approx(distance(arrays(model), oracle.Z), rel=1e-12)
        assert update.probe_loss == f
        for ours, theirs in zip(state(pruner, "multipliers"), oracle.multipliers, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
        for ours, theirs in zip(state(pruner, "copies"), oracle.Z, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
        seen.add(accepted[0])
    assert seen == {True, False}  # both ways were taken


def test_contracting_steps_never_grow() -> None:
    """s ‖W - Z‖ of each step taken is α times that of the step before (arXiv 2012.10079's theory)."""
    model = two_layers()
    pruner = SLR(rho=0.3, every=1, M=5.0)
    pruner.prepare(model, PLAN)
    taken = [0.01 * distance(arrays(model), state(pruner, "copies"))]
    for number in range(8):
        wander(model, number)
        before = state(pruner, "multipliers")
        pruner.step(lambda n=number: 1.0 / (n + 1))
        update = pruner.updates[-1]
        if update.projection_accepted:
            taken.append(update.step_size * update.distance)
        assert update.k > number + 1
        assert distance(before, state(pruner, "multipliers")) <= 2 * taken[0]
    assert len(taken) > 3
    assert all(later < earlier for earlier, later in itertools.pairwise(taken))


def test_admm_follows_the_equations() -> None:
    model = two_layers()
    pruner = ADMM(rho=0.3, every=1)
    pruner.prepare(model, PLAN)
    oracle = Oracle(arrays(model), 0.3)
    for number in range(6):
        wander(model, number)
        pruner.step()
        oracle.admm(arrays(model))
        for ours, theirs in zip(state(pruner, "multipliers"), oracle.multipliers, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
        for ours, theirs in zip(state(pruner, "copies"), oracle.Z, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def test_the_step_size_factor_of_the_paper() -> None:
    pruner = SLR()
    assert pruner.alpha(1) == 1 - 1 / 300
    assert pruner.alpha(100) == pytest.approx(1 - 1 / (300 * 100 ** (1 - 100**-0.1)), rel=1e-14)
    assert all(pruner.alpha(k) < pruner.alpha(k + 1) < 1 for k in range(1, 50))


def test_a_rejected_step_restores_the_weights_on_request() -> None:
    model = two_layers()
    pruner = SLR(rho=0.3, every=1, rejected="restore")
    pruner.prepare(model, PLAN)
    wander(model, 0)
    pruner.step(lambda: 1.0)
    before, then = arrays(model), pruner.updates[-1]
    multipliers = state(pruner, "multipliers")
    wander(model, 1, 10.0)
    biases = [p.detach().clone() for name, p in model.named_parameters() if name.endswith("bias")]
    pruner.step(lambda: 100.0)
    now = pruner.updates[-1]
    assert not now.weights_accepted
    for ours, kept in zip(arrays(model), before, strict=True):
        np.testing.assert_array_equal(ours, kept)
    assert now.probe_loss == pytest.approx(1.0, rel=1e-12)  # the loss belongs to the weights put back
    assert all(torch.equal(p, b) for p, b in zip([model[0].bias, model[2].bias], biases, strict=True))
    if not now.projection_accepted:
        assert (now.k, now.step_size) == (then.k, then.step_size)
        for ours, kept in zip(state(pruner, "multipliers"), multipliers, strict=True):
            np.testing.assert_array_equal(ours, kept)


def test_a_projection_that_is_no_better_moves_no_multiplier(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exact projection always is: here it is made worse."""
    model = two_layers()
    pruner = SLR(rho=0.3, every=1)
    pruner.prepare(model, PLAN)
    wander(model, 0)
    pruner.step(lambda: 1.0)
    before = state(pruner, "multipliers")
    monkeypatch.setattr(
        pruner, "_projections", lambda: [100 * torch.ones_like(t.parameter) for t in pruner.targets]
    )
    pruner.step(lambda: 100.0)
    assert not pruner.updates[-1].weights_accepted
    assert not pruner.updates[-1].projection_accepted
    assert pruner.updates[-1].k == pruner.updates[0].k
    for now, then in zip(state(pruner, "multipliers"), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_copies_are_no_views_of_live_weights() -> None:
    for pruner in (ADMM(every=1), SLR(every=1, rejected="restore")):
        model = two_layers()
        pruner.prepare(model, Plan([Rule(weights="*weight", structure=Elements(), density=1.0)]))
        kept = [value.clone() for value in pruner.state_dict()["copies"].values()]
        wander(model, 0)
        for value, then in zip(pruner.state_dict()["copies"].values(), kept, strict=True):
            assert torch.equal(value, then)
        assert pruner.penalty() > 0


def test_weights_that_have_arrived_are_left_alone() -> None:
    model = two_layers()
    pruner = SLR(every=1)
    pruner.prepare(model, Plan([Rule(weights="*weight", structure=Elements(), density=1.0)]))
    pruner.step(lambda: 1.0)
    assert pruner.updates[-1].step_size == 0.01
    assert pruner.updates[-1].distance == 0
    assert all((value == 0).all() for value in state(pruner, "multipliers"))


@pytest.mark.parametrize(
    "pruner", [ADMM(rho=5.0, every=20), SLR(rho=5.0, every=20, step_size=1.0, M=3.0)], ids=["admm", "slr"]
)
def test_pulls_a_quadratic_to_a_constrained_minimum(pruner: Pruner) -> None:
    """min ‖W - T‖² with 8 of 32 weights: on the support it settles for, the answer is T, no worse than that of the start."""
    torch.manual_seed(0)
    model = nn.Linear(8, 4, bias=False).double()
    goal = torch.randn(4, 8, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(goal + 0.3 * torch.randn(4, 8, dtype=torch.float64))
    pruner.prepare(model, PLAN)
    before = project(model.weight.detach().numpy(), 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss() -> torch.Tensor:
        return ((model.weight - goal) ** 2).sum()

    for _ in range(600):
        optimizer.zero_grad()
        loss().backward()
        pruner.add_gradient_()
        optimizer.step()
        pruner.step(lambda: float(loss()))
    residuals = [update.relative for update in pruner.updates]
    assert min(residuals) < residuals[0] / 5
    assert residuals[-1] < 1e-3
    pruner.harden()
    found = model.weight.detach().numpy()
    goal = goal.numpy()
    np.testing.assert_allclose(found, np.where(found != 0, goal, 0), atol=1e-3)
    at_once = np.where(before != 0, goal, 0)
    assert ((found - goal) ** 2).sum() <= ((at_once - goal) ** 2).sum() + 1e-3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rho": 0.0}, "rho must be a number > 0, not 0.0"),
        ({"rho": math.nan}, "rho must be a number > 0, not nan"),
        ({"every": 0}, "every must be a whole number >= 1, not 0"),
        ({"step_size": -1.0}, "step_size must be a number > 0, not -1.0"),
        ({"M": 1.0}, "M must be a number > 1, not 1.0"),
        ({"r": 1.0}, "r must lie between 0 and 1, not 1.0"),
        ({"steps": "long"}, "steps must be 'contracting' or 'paper', not 'long'"),
        ({"rejected": "stop"}, "rejected must be 'continue' or 'restore', not 'stop'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SLR(**options)
    assert str(caught.value) == sentence


def test_a_probe_is_asked_for_and_must_be_finite() -> None:
    model = two_layers()
    pruner = SLR(every=2)
    pruner.prepare(model, PLAN)
    pruner.step()  # none is due yet
    with pytest.raises(ConfigError) as caught:
        pruner.step()
    assert str(caught.value) == (
        "SLR.step(probe) must be given a probe, a function of the mean loss over fixed batches: "
        "its condition compares them"
    )
    pruner = SLR(every=1)
    pruner.prepare(model, PLAN)
    with pytest.raises(ConfigError) as caught:
        pruner.step(lambda: math.nan)
    assert str(caught.value) == (
        "the probe's loss must be finite, not nan, after step 1: lower the learning rate or rho; "
        "the last checkpoint is kept"
    )


PROGRAM = """
import os, sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
from retrim.prune import SLR, Plan, Rule
from retrim.structures import Elements

rank = int(os.environ["RANK"])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 4))
inner = model
distributed.init_process_group("gloo")
model = DistributedDataParallel(model)
pruner = SLR(every=3)
pruner.prepare(model, Plan([Rule(weights="*0.weight", structure=Elements(), density=0.5)]))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
data = torch.randn(12, 8, 12), torch.randint(4, (12, 8))
for step in range(12):
    x, y = (part[step, rank::2] for part in data)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    pruner.add_gradient_()
    optimizer.step()
    pruner.step(lambda: 1.0 / (step + 1 + rank))  # ranks disagree: the first one's word counts
torch.save(pruner.state_dict(), f"{sys.argv[1]}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_every_rank_has_the_same_multipliers(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, str(script), str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert len(one["updates"]) == 4
    assert repr(one) == repr(other)


def test_weights_that_begin_in_their_form_are_pressed_once_they_leave_it() -> None:
    model = two_layers()
    start = Magnitude()
    start.prepare(model, PLAN)
    start.harden()
    pruner = SLR(every=1, rho=0.5)
    pruner.prepare(model, PLAN)
    wander(model, 1)
    pruner.step(lambda: 0.5)
    assert 0 < pruner.updates[-1].step_size < 0.1
    assert pruner.updates[-1].distance > 0
