"""Imports both packages first: pytest names test modules after their folders, `retrim.tests...`, and would
otherwise take the folder for the package.  Tests do not depend on what was measured on this machine."""

from __future__ import annotations

import contextlib
import importlib
import os

os.environ["RETRIM_PROFILE"] = "none"

for name in ("retrim", "conebeam"):
    with contextlib.suppress(ModuleNotFoundError):  # one may be tested without the other
        importlib.import_module(name)
