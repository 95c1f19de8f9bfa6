"""Jobs: interruption, resumption, targets, and independence of thread order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toy

from conebeam.batches import BatchPlan
from conebeam.errors import ConfigError, ResultError
from conebeam.job import Job, Target, held_interrupts, uncertainty
from conebeam.result_file import load


def test_thread_order_does_not_matter() -> None:
    assert toy.result(runner=toy.ToyRunner(order=6)).digest() == toy.result().digest()


@pytest.mark.parametrize("order", [0, 3])
def test_an_interrupted_job_goes_on_to_the_same_bits(tmp_path: Path, order: int) -> None:
    path = tmp_path / "toy.h5"
    interrupted = toy.ToyRunner(order=order, stop_after=17)
    with pytest.raises(KeyboardInterrupt):
        toy.job(runner=interrupted, path=path).run()
    assert interrupted.closed
    assert len(load(path).done) == 17
    resumed = toy.job(runner=toy.ToyRunner(order=order), path=path).run()
    assert resumed.digest() == toy.result().digest()
    assert load(path).digest() == resumed.digest()


def test_a_finished_job_does_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    toy.job(path=path).run()
    seen: list[int] = []
    toy.job(path=path).run(lambda result: seen.append(result.histories))
    assert seen == []


def test_checkpoints_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "toy.h5"
    clock = iter(range(10_000))
    monkeypatch.setattr("conebeam.job.time.monotonic", lambda: float(next(clock)))
    kept: list[int] = []
    job = toy.job(path=path, checkpoint_seconds=3.0, batches=(0, 30))
    job.run(lambda _: kept.append(len(load(path).done) if path.exists() else 0))
    # Every batch takes one tick and every save one: the next checkpoint is due after
    # nine ticks, not after three.
    assert kept[:4] == [0, 0, 0, 0]
    assert sorted(set(kept)) == [0, 4, 14, 24]
    assert len(load(path).done) == 30


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_a_file_to_go_on_from(tmp_path: Path, how: signal.Signals) -> None:
    path = tmp_path / "toy.h5"
    script = (
        f"import sys; sys.path[:0] = {[str(Path(toy.__file__).parent)]!r}\n"
        "import toy, time, pathlib\n"
        f"job = toy.job(path=pathlib.Path({str(path)!r}), checkpoint_seconds=0.0)\n"
        "job.run(lambda result: time.sleep(0.02))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
        if path.exists() and len(load(path).done):
            break
    os.kill(process.pid, how)
    assert process.wait() != 0
    assert 0 < len(load(path).done) < 40
    assert toy.job(path=path).run().digest() == toy.result().digest()


def test_a_target_stops_early_at_the_same_batch_whatever_the_order() -> None:
    plan = BatchPlan(histories=20_000, batches=200)
    target = Target(uncertainty=0.009, region="parts.front")
    results = [
        toy.result(runner=toy.ToyRunner(order=order), plan=plan, target=target) for order in (0, 1, 4, 6)
    ]
    assert len({r.digest() for r in results}) == 1
    done = len(results[0].done)
    assert 40 < done < 190
    reached = uncertainty(results[0], "parts.front")
    assert reached is not None
    assert reached <= 0.009


def test_a_target_closes_the_runner() -> None:
    runner = toy.ToyRunner()
    plan = BatchPlan(histories=20_000, batches=200)
    toy.result(runner=runner, plan=plan, target=Target(uncertainty=0.2, region="parts"))
    assert runner.closed


def test_a_reached_target_needs_nothing_more(tmp_path: Path) -> None:
    path, target = tmp_path / "t.h5", Target(uncertainty=0.1, region="parts.back")
    first = toy.result(path=path, target=target)
    assert toy.result(path=path, target=target).done == first.done


def test_ctrl_c_waits_for_the_block() -> None:
    order: list[str] = []

    def interrupt_and_go_on() -> None:
        with held_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            order.append("finished")

    with pytest.raises(KeyboardInterrupt):
        interrupt_and_go_on()
    assert order == ["finished"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_run_is_not_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "toy.h5"
    toy.job(path=path, batches=(0, 2)).run()
    with pytest.raises(ResultError) as caught:
        toy.job(path=path, plan=BatchPlan(histories=4001, batches=40)).run()
    assert str(caught.value) == (
        f"'{path}' must be a part of this run to be resumed: parts of one run must have the "
        "same batch plan, not 4,001 histories in 40 batches and "
        "4,000 histories in 40 batches; run them again alike; or choose another --out"
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: toy.job(batches=(30, 41)),
            "batches A:B must lie in 0:40, not 30:41",
        ),
        (
            lambda: toy.job(batches=(0, 4), target=Target(uncertainty=0.1, region="depth")),
            "a target uncertainty must stand alone, not beside batches A:B; leave one out",
        ),
        (
            lambda: toy.job(target=Target(uncertainty=0.1, region="axis")),
            "the region of the target must be one of dose, depth, parts, parts.front, parts.back, not 'axis'",
        ),
        (
            lambda: Target(uncertainty=2.0, region="depth"),
            "the target uncertainty must lie between 0 and 1 (0.005 is 0.5 %), not 2.0",
        ),
        (
            lambda: toy.job(
                plan=BatchPlan(histories=100, batches=10),
                target=Target(uncertainty=0.1, region="depth"),
            ),
            "a target uncertainty must have at least 30 batches to be judged by, not 10; "
            "ask for more batches",
        ),
    ],
)
def test_bad_jobs_are_refused(build: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()  # type: ignore[operator]
    assert str(caught.value) == message


def test_a_job_needs_no_file() -> None:
    assert isinstance(toy.job(), Job)
    assert toy.result().is_complete


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(ResultError, match=r"must be writable, and is not: No such file"):
        toy.job(path=tmp_path / "none" / "toy.h5").run(lambda result: seen.append(1))
    assert seen == []
