"""Imports both packages first: pytest names test modules after their folders, `retrim.tests...`, and would
otherwise take the folder for the package."""

from __future__ import annotations

import contextlib
import importlib

for name in ("retrim", "conebeam"):
    with contextlib.suppress(ModuleNotFoundError):  # one may be tested without the other
        importlib.import_module(name)
