"""Imports both packages first: pytest names test modules after their folders, `retrim.tests...`, and would
otherwise take the folder for the package.  Tests do not depend on what was measured on this machine."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from collections.abc import Iterator

import pytest

os.environ["RETRIM_PROFILE"] = "none"

for name in ("retrim", "conebeam"):
    with contextlib.suppress(ModuleNotFoundError):  # one may be tested without the other
        importlib.import_module(name)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_interrupts() -> Iterator[None]:
    """Shells ignore SIGINT in what they start in the background, and children inherit that: tests send it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
