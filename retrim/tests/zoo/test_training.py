"""Training: batches, resuming bit for bit, what goes wrong, several processes."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from retrim.errors import CheckpointError, ConfigError, Interrupted, RetrimError
from retrim.prune import (
    CubicSchedule,
    Magnitude,
    OptimalBrainSurgeon,
    Plan,
    Pruner,
    ReweightedGroupLasso,
    Rule,
)
from retrim.structures import BlockColumns
from retrim.torch import Distillation
from retrim.zoo import training
from retrim.zoo.lm import TransformerLM, build
from retrim.zoo.training import Pruning, Schedule, Teacher, load_state, save_state, train

SIZES = {"vocabulary": 40, "width": 16, "layers": 1, "heads": 2, "context": 8, "expansion": 2}
SCHEDULE = Schedule(steps=14, batch=4, context=8, rate=3e-3, warmup=3)
IDS = (np.cumsum(np.random.default_rng(0).integers(0, 3, 400)) % 40).astype(np.uint16)
PLAN = Plan([Rule(weights="blocks.*.ffn.*.weight", structure=BlockColumns(16), density=0.5)])

PRUNERS = {
    "none": None,
    "lasso": lambda: ReweightedGroupLasso(refresh_every=4),
    "gradual": lambda: Magnitude(CubicSchedule(begin=2, end=8, every=3)),
}


def model(seed: int = 0) -> TransformerLM:
    return build(SIZES, seed)


def pruning_of(name: str, lm: TransformerLM) -> Pruning | None:
    make = PRUNERS[name]
    if make is None:
        return None
    pruner: Pruner = make()
    pruner.prepare(lm, PLAN)
    return Pruning(pruner=pruner, harden_at=9)


def assert_equal(one: TransformerLM, other: TransformerLM) -> None:
    for (name, value), there in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, there), name


def refused(kind: type[RetrimError], sentence: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(RetrimError) as caught:
        train(*args, **kwargs)
    assert str(caught.value) == sentence
    assert type(caught.value) is kind


# --- schedule and batches -------------------------------------------------------------------


def test_the_rate_warms_up_and_falls_as_a_cosine() -> None:
    schedule = Schedule(steps=110, rate=2.0, warmup=10, floor=0.1)
    assert [schedule.rate_at(step) for step in (0, 4, 9, 10)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert schedule.rate_at(60) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert schedule.rate_at(110) == pytest.approx(0.2)
    assert Schedule(steps=1, warmup=0).rate_at(0) == 1e-3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1, not 0"),
        ({"batch": -1}, "batch must be a whole number >= 1, not -1"),
        ({"context": 0}, "context must be a whole number >= 1, not 0"),
        ({"rate": 0.0}, "rate must be a number > 0, not 0.0"),
        ({"rate": math.nan}, "rate must be a number > 0, not nan"),
        ({"clip": math.inf}, "clip must be a number > 0, not inf"),
        ({"warmup": -1}, "warmup must be a number >= 0, not -1"),
        ({"decay": -0.1}, "decay must be a number >= 0, not -0.1"),
        ({"precision": "fp16"}, "precision must be 'fp32' or 'bf16', not 'fp16'"),
    ],
)
def test_schedules_that_make_no_sense(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Schedule(**{"steps": 10, **fields})
    assert str(caught.value) == sentence


# --- what training does ------------------------------------------------------------------------


def test_it_learns_and_keeps_its_curves() -> None:
    lm = model()
    seen: list[int] = []
    history = train(
        lm,
        IDS,
        Schedule(steps=60, batch=8, context=8, rate=1e-2, warmup=5),
        seed=0,
        on_step=lambda step, loss: seen.append(step),
    )
    assert seen == list(range(1, 61))
    assert history.step == [10, 20, 30, 40, 50, 60]
    assert history.loss[-1] < 0.6 * history.loss[0]
    assert history.penalty == [0.0] * 6
    assert history.seconds > 0
    assert lm.training


@pytest.mark.parametrize("teacher", [False, True])
def test_inputs_are_measured(teacher: bool) -> None:
    """Training calls the model, which is what measuring hangs on."""
    lm = model()
    taught = Teacher(model=model(1), distillation=Distillation(logits=0.5, hidden=1.0)) if teacher else None
    pruner = OptimalBrainSurgeon(batches=4)
    pruner.prepare(lm, PLAN)
    train(lm, IDS, SCHEDULE, seed=0, pruning=Pruning(pruner=pruner, harden_at=9), teacher=taught)
    assert pruner.hardened and pruner.unmeasured == ()


def test_pruned_weights_are_zero_in_the_end() -> None:
    lm = model()
    pruning = pruning_of("lasso", lm)
    history = train(lm, IDS, SCHEDULE, seed=0, pruning=pruning)
    assert [line["name"] for line in history.hardened] == [
        "blocks.0.ffn.up.weight",
        "blocks.0.ffn.down.weight",
    ]
    assert float((lm.blocks[0].ffn.up.weight == 0).float().mean()) == 0.5
    assert history.penalty == [0.0, 0.0]  # points lie behind the hardening at step 9


def test_hardening_before_the_first_step() -> None:
    lm = model()
    pruner = Magnitude()
    pruner.prepare(lm, PLAN)
    train(lm, IDS, SCHEDULE, seed=0, pruning=Pruning(pruner=pruner, harden_at=0), stop_at=1)
    assert pruner.hardened


def test_a_teacher_changes_what_is_learned_and_is_left_alone() -> None:
    teacher = model(7)
    before = [parameter.detach().clone() for parameter in teacher.parameters()]
    plain, taught = model(), model()
    train(plain, IDS, SCHEDULE, seed=0)
    lesson = Teacher(model=teacher, distillation=Distillation(logits=0.5, hidden=1.0))
    train(taught, IDS, SCHEDULE, seed=0, teacher=lesson)
    assert not torch.equal(plain.embed.weight, taught.embed.weight)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_mixed_precision_keeps_single_precision_weights() -> None:
    lm = model()
    history = train(lm, IDS, Schedule(steps=10, batch=4, context=8, precision="bf16"), seed=0)
    assert all(parameter.dtype == torch.float32 for parameter in lm.parameters())
    assert math.isfinite(history.loss[-1])


# --- going on --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRUNERS))
@pytest.mark.parametrize("pause", [1, 5, 9, 12])
def test_a_run_that_is_resumed_is_the_uninterrupted_one(name: str, pause: int, tmp_path: Path) -> None:
    whole = model()
    reference = train(whole, IDS, SCHEDULE, seed=3, pruning=pruning_of(name, whole))
    checkpoint = tmp_path / "folder" / "run.pt"
    first = model()
    train(first, IDS, SCHEDULE, seed=3, pruning=pruning_of(name, first), checkpoint=checkpoint, stop_at=pause)
    second = model()
    history = train(second, IDS, SCHEDULE, seed=3, pruning=pruning_of(name, second), checkpoint=checkpoint)
    assert_equal(whole, second)
    assert history.hardened == reference.hardened
    points = dict(zip(history.step, history.loss, strict=True))
    assert all(points[step] == loss for step, loss in zip(reference.step, reference.loss, strict=True))
    third = model(9)  # the run is done: nothing is left to do
    train(third, IDS, SCHEDULE, seed=3, pruning=pruning_of(name, third), checkpoint=checkpoint)
    assert_equal(whole, third)


PROGRAM = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import torch
torch.set_num_threads(1)
import numpy as np
from retrim.errors import RetrimError
from retrim.prune import Plan, ReweightedGroupLasso, Rule
from retrim.structures import BlockColumns
from retrim.zoo import training
from retrim.zoo.batches import Batches
from retrim.zoo.lm import build
training.SAVE_EVERY_SECONDS = {save_every}
ids = (np.cumsum(np.random.default_rng(0).integers(0, 3, 400)) % 40).astype(np.uint16)
lm = build({sizes!r})
pruner = ReweightedGroupLasso(refresh_every=4)
pruner.prepare(lm, Plan([Rule(weights="blocks.*.ffn.*.weight", structure=BlockColumns(16), density=0.5)]))
def on_step(step, loss):
    if step == {step}:
        os.kill(os.getpid(), signal.{signal})
try:
    training.train(lm, ids, training.Schedule(steps=14, batch=4, context=8, rate=3e-3, warmup=3), seed=3,
        pruning=training.Pruning(pruner=pruner, harden_at=9), checkpoint=Path({checkpoint!r}), on_step=on_step)
except RetrimError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("name", "step"), [("SIGINT", 4), ("SIGKILL", 11)])
def test_a_process_that_is_stopped_or_killed_goes_on(name: str, step: int, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.pt"
    program = PROGRAM.format(
        folder=str(tmp_path),
        sizes=SIZES,
        step=step,
        signal=name,
        checkpoint=str(checkpoint),
        save_every=0.0 if name == "SIGKILL" else 1e9,
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if name == "SIGKILL":
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert load_state(checkpoint)["step"] == step - 1
    else:
        assert done.returncode == 0, done.stderr
        assert done.stdout == (
            f"Interrupted training was interrupted after step {step} of 14; "
            "the same command goes on from there\n"
        )
        assert load_state(checkpoint)["step"] == step
    whole, resumed = model(), model()
    train(whole, IDS, SCHEDULE, seed=3, pruning=pruning_of("lasso", whole))
    train(resumed, IDS, SCHEDULE, seed=3, pruning=pruning_of("lasso", resumed), checkpoint=checkpoint)
    assert_equal(whole, resumed)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    train(model(), IDS, SCHEDULE, seed=0, stop_at=1)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interruption_without_a_checkpoint_says_less() -> None:
    def interrupt(step: int, loss: float) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    refused(
        Interrupted,
        "training was interrupted after step 2 of 14",
        model(),
        IDS,
        SCHEDULE,
        seed=0,
        on_step=interrupt,
    )


def test_training_in_a_thread_leaves_signals_alone() -> None:
    lm = model()
    worker = threading.Thread(target=train, args=(lm, IDS, SCHEDULE), kwargs={"seed": 0, "stop_at": 2})
    worker.start()
    worker.join()
    other = model()
    train(other, IDS, SCHEDULE, seed=0, stop_at=2)
    assert_equal(lm, other)


def test_another_number_of_threads_gives_nearly_the_same() -> None:
    """Sums in another order: not the same bits (see the notes of `train`)."""
    weights = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        lm = model()
        train(lm, IDS, SCHEDULE, seed=0, stop_at=4)
        weights.append(lm.embed.weight.detach())
    torch.set_num_threads(1)
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


# --- checkpoints that do not fit -----------------------------------------------------------------


def written(path: Path, **kwargs: Any) -> Path:
    train(model(), IDS, SCHEDULE, checkpoint=path, stop_at=2, **{"seed": 0, **kwargs})
    return path


def test_a_checkpoint_of_another_run(tmp_path: Path) -> None:
    path = written(tmp_path / "run.pt")
    sentence = (
        f"checkpoint {str(path)!r} must belong to this very run, but was written by one with other settings: "
        "remove it to start again"
    )
    other = model()
    pruned = model()
    teacher = Teacher(model=model(1), distillation=Distillation())
    for lm, ids, schedule, settings_ in (
        (other, IDS, SCHEDULE, {"seed": 1}),
        (other, IDS, Schedule(steps=15, batch=4, context=8, rate=3e-3, warmup=3), {"seed": 0}),
        (other, IDS[:-1], SCHEDULE, {"seed": 0}),
        (other, IDS, SCHEDULE, {"seed": 0, "teacher": teacher}),
        (pruned, IDS, SCHEDULE, {"seed": 0, "pruning": pruning_of("lasso", pruned)}),
        (build({**SIZES, "width": 32}), IDS, SCHEDULE, {"seed": 0}),
    ):
        refused(CheckpointError, sentence, lm, ids, schedule, checkpoint=path, **settings_)


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = written(tmp_path / "run.pt")
    whole = path.read_bytes()
    sentence = f"checkpoint {str(path)!r} is damaged or no checkpoint: remove it to start again"
    for content in (b"", b"nonsense", whole[:-1000], whole[: len(whole) // 2]):
        path.write_bytes(content)
        refused(CheckpointError, sentence, model(), IDS, SCHEDULE, seed=0, checkpoint=path)


def test_a_checkpoint_is_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/sprung",)

    path = tmp_path / "run.pt"
    torch.save({"format": 1, "trap": Trap()}, path)
    with pytest.raises(CheckpointError):
        load_state(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    for content in ({"format": 2}, {}, [1, 2], torch.zeros(3)):
        torch.save(content, path)
        with pytest.raises(CheckpointError) as caught:
            load_state(path)
        assert str(caught.value) == (
            f"checkpoint {str(path)!r} is of another format: remove it to start again"
        )


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "run.pt")
    before = path.read_bytes()

    def full(*args: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(
        CheckpointError,
        f"checkpoint {str(path)!r} cannot be written: No space left on device; free some space or choose "
        "another folder",
        model(),
        IDS,
        SCHEDULE,
        seed=0,
        checkpoint=path,
        stop_at=3,
    )
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError) as caught:
        save_state(tmp_path / "file" / "run.pt", {})
    assert str(caught.value) == (
        f"checkpoint '{tmp_path}/file/run.pt' cannot be written: File exists; free some space or choose "
        "another folder"
    )


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    program = f"""
import resource, torch
from pathlib import Path
from retrim.errors import CheckpointError
from retrim.zoo.training import save_state
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_state(Path({str(tmp_path / "run.pt")!r}), {{"x": torch.zeros(100_000)}})
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"checkpoint '{tmp_path}/run.pt' cannot be written: File too large; free some space or choose another "
        "folder\n"
    )
    assert list(tmp_path.iterdir()) == []


# --- divergence -----------------------------------------------------------------------------------


def test_a_loss_that_is_no_number(tmp_path: Path) -> None:
    path = written(tmp_path / "run.pt")
    before = path.read_bytes()
    lm = model()

    def break_it(step: int, loss: float) -> None:
        if step == 5:
            with torch.no_grad():
                lm.norm.weight.fill_(math.nan)

    refused(
        ConfigError,
        "the training loss and its gradient must stay finite, but are nan and nan at step 6: lower the learning "
        "rate; the last checkpoint is kept",
        lm,
        IDS,
        SCHEDULE,
        seed=0,
        checkpoint=path,
        on_step=break_it,
    )
    assert path.read_bytes() == before


def test_a_gradient_that_overflows_never_reaches_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = model()
    lm.norm.weight.register_hook(lambda grad: torch.full_like(grad, math.inf))
    before = lm.embed.weight.detach().clone()
    with pytest.raises(ConfigError, match=r"must stay finite, but are 3\.\d+ and inf at step 1: "):
        train(lm, IDS, SCHEDULE, seed=0)
    assert torch.equal(lm.embed.weight, before)


# --- several processes ------------------------------------------------------------------------------

RANKS = """
import os, sys
from pathlib import Path
import numpy as np
import torch
from torch import distributed
torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank = distributed.get_rank()
from retrim.errors import RetrimError
from retrim.prune import Plan, ReweightedGroupLasso, Rule
from retrim.structures import BlockColumns
from retrim.zoo.lm import build
from retrim.zoo.training import Pruning, Schedule, train
folder = Path(sys.argv[1])
ids = (np.cumsum(np.random.default_rng(0).integers(0, 3, 400)) % 40).astype(np.uint16)
schedule = Schedule(steps=14, batch=4, context=8, rate=3e-3, warmup=3)
plan = Plan([Rule(weights="blocks.*.ffn.*.weight", structure=BlockColumns(16), density=0.5)])
def run(stop_on=None, checkpoint=None):
    lm = build({sizes!r}, seed=0 if rank == 0 else 99)
    pruner = ReweightedGroupLasso(refresh_every=4)
    pruner.prepare(lm, plan)
    def on_step(step, loss):
        if stop_on == step and rank == 1:
            os.kill(os.getpid(), 15)
    try:
        train(lm, ids, schedule, seed=3, pruning=Pruning(pruner=pruner, harden_at=9), checkpoint=checkpoint,
            on_step=on_step)
    except RetrimError as error:
        (folder / f"said{{rank}}").write_text(str(error))
    return lm
torch.save(run().state_dict(), folder / f"whole{{rank}}.pt")
run(stop_on=5, checkpoint=folder / "run.pt")
distributed.barrier()
torch.save(run(checkpoint=folder / "run.pt").state_dict(), folder / f"resumed{{rank}}.pt")
distributed.barrier()
own = folder / f"alone{{rank}}.pt"
if rank == 0:
    own.write_bytes((folder / "run.pt").read_bytes())
run(checkpoint=own)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_agree_with_each_other_and_with_one(tmp_path: Path) -> None:
    """Pruned, one of them interrupted, resumed, and with a checkpoint that only one of them sees."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.format(sizes=SIZES))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    one = model()
    train(one, IDS, SCHEDULE, seed=3, pruning=pruning_of("lasso", one))
    states = {file.stem: torch.load(file, weights_only=True) for file in tmp_path.glob("[wr]*[01].pt")}
    assert sorted(states) == ["resumed0", "resumed1", "whole0", "whole1"]
    for name, value in one.state_dict().items():
        for state in states.values():
            assert torch.equal(state[name], states["whole0"][name])
        torch.testing.assert_close(states["whole0"][name], value, rtol=1e-3, atol=1e-4)
    for rank in (0, 1):
        assert (tmp_path / f"said{rank}").read_text() == (
            "every rank must find the same checkpoint, but they would go on from steps [14, 0]: put it in a "
            "folder that all machines see"
        )


def test_a_batch_that_the_ranks_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("is_initialized", True), ("get_rank", 0), ("get_world_size", 3)):
        monkeypatch.setattr(training.distributed, name, lambda value=value: value)
    refused(ConfigError, "batch must be a multiple of the 3 ranks, not 4", model(), IDS, SCHEDULE, seed=0)
