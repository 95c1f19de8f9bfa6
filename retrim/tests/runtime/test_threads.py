"""The number of threads, and the pool that they live in."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from retrim.errors import ConfigError
from retrim.runtime import threads

pytestmark = pytest.mark.usefixtures("chosen_threads")


def test_one_unless_said_otherwise() -> None:
    assert threads.get() == 1


def test_the_variable_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIM_THREADS", "3")
    assert threads.get() == 3


def test_set_outranks_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIM_THREADS", "3")
    threads.set(2)
    assert threads.get() == 2


@pytest.mark.parametrize("text", ["", "two", "-1", "1.5", "0", "257"])
def test_a_variable_that_is_no_count(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("RETRIM_THREADS", text)
    sentence = f"RETRIM_THREADS must be a whole number from 1 to 256, not {text!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        threads.get()


@pytest.mark.parametrize("count", [0, 257, 2.0, False, None])
def test_set_refuses_what_is_no_count(count: Any) -> None:
    sentence = f"threads must be a whole number from 1 to 256, not {count!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        threads.set(count)


def test_callers_on_several_threads_share_the_pool(make: Any) -> None:
    case = make(512, 512)
    inputs = [case.x(40, seed) for seed in range(24)]
    alone = [case.matrix(x, threads=1).tobytes() for x in inputs]
    with ThreadPoolExecutor(4) as callers:
        together = list(callers.map(lambda x: case.matrix(x, threads=3).tobytes(), inputs))
    assert together == alone


MEMORY = """
    import resource

    import numpy as np

    from retrim.artifact.layout import pack_rows
    from retrim.runtime import PackedMatrix

    weight, mask = np.ones((256, 65536), np.float32), np.zeros((256, 65536), bool)
    mask[:, ::3] = True
    matrix = PackedMatrix(pack_rows(weight, mask, 32, "bf16"))
    del weight, mask
    x, y = np.ones((1024, 65536), np.uint16), np.empty((1024, 256), np.uint16)
    matrix(x[:2], y[:2], threads=2)
    with open("/proc/self/status") as lines:
        (used,) = (int(line.split()[1]) * 1024 for line in lines if line.startswith("VmSize"))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), limits[1]))
    try:
        matrix(x, y, threads=2)
    except MemoryError:
        print("MemoryError")
    resource.setrlimit(resource.RLIMIT_AS, limits)
    print((matrix(x, threads=2) == matrix(x, threads=1)).all())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_memory_that_runs_out_on_a_helper_reaches_the_caller() -> None:
    program = [sys.executable, "-c", textwrap.dedent(MEMORY)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "MemoryError\nTrue\n"), done.stderr


FORK = """
    import os
    import sys
    import threading

    import numpy as np

    from retrim.artifact.layout import pack_rows
    from retrim.runtime import PackedMatrix

    rng = np.random.default_rng(0)
    weight = rng.standard_normal((512, 512)).astype(np.float32)
    matrix = PackedMatrix(pack_rows(weight, weight > -9))
    x = rng.standard_normal((64, 512)).astype(np.float32)
    y = matrix(x, threads=1).tobytes()

    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            matrix(x, threads=2)

    other = threading.Thread(target=busy)
    other.start()
    good = True
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0 if matrix(x, threads=2).tobytes() == y else 3)
        good = os.waitpid(child, 0)[1] == 0 and good
        good = matrix(x, threads=2).tobytes() == y and good
    stop.set()
    other.join()
    sys.exit(0 if good else 1)
"""


def test_a_fork_starts_threads_of_its_own() -> None:
    """Forked while another thread is in the middle of a layer, child and parent go on."""
    program = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORK)]
    subprocess.run(program, check=True, timeout=50)
