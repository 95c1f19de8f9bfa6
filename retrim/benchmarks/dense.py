"""Dense run-times that packed layers are measured against.

Each run-time is a module beside this one with its variants by precision.  A variant takes a chain
and gives a function without arguments that runs it.  Weights are prepacked where the run-time can:
what is timed is what a deployed model would do.  What does not run here is told with its reason.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chains import Chain

Run = Callable[[], Any]

RUNTIMES = {"torch": "dense_torch", "onnxruntime": "dense_onnxruntime", "openvino": "dense_openvino"}
"""Names in a report, and the modules that hold their variants: `VARIANTS` by precision and, where a
precision has none, `ABSENT` with the reason."""


@dataclass(frozen=True)
class Rivals:
    """What runs here, by "run-time/variant", and why the rest does not, by run-time or variant."""

    runs: dict[str, Run]
    missing: dict[str, str]


def build(chain: Chain) -> Rivals:
    """All variants of all run-times on one chain, each run once."""
    logging.disable(logging.WARNING)
    rivals = Rivals({}, {})
    for runtime, module in RUNTIMES.items():
        try:
            found = importlib.import_module(module)
        except ImportError as error:
            rivals.missing[runtime] = f"not installed ({error})"
            continue
        variants = found.VARIANTS.get(chain.precision)
        if not variants:
            rivals.missing[runtime] = found.ABSENT[chain.precision]
            continue
        for variant, builder in variants.items():
            name = f"{runtime}/{variant}"
            try:
                run = builder(chain)
                run()
            except Exception as error:  # whatever a foreign run-time raises is the reason it is absent
                rivals.missing[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
            else:
                rivals.runs[name] = run
        if not any(name.startswith(f"{runtime}/") for name in rivals.runs):
            rivals.missing[runtime] = "none of its variants runs here"
    return rivals
