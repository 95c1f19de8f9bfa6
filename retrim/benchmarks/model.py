"""A whole Transformer, packed, against PyTorch's dense runs of the same model.

    python retrim/benchmarks/model.py [--threads 1] [--tokens 128] [--json PATH]

Random weights, hardened to block columns by magnitude: speed does not depend on
what the weights are.  Rivals are PyTorch as it is and `torch.compile`; all models
take turns in one process, and medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from retrim.cli_console import write_json
from retrim.prune import Magnitude, Plan, Rule
from retrim.runtime import threads as threads_
from retrim.runtime.host import describe
from retrim.structures import BlockColumns
from retrim.torch import pack
from retrim.torch.latency import measure
from retrim.zoo.lm import build
from retrim.zoo.models import load_dense, load_packed

SIZES = {
    "demo (256 wide, 4 layers)": {"vocabulary": 2048, "width": 256, "layers": 4, "heads": 4},
    "768 wide, 6 layers": {"vocabulary": 2048, "width": 768, "layers": 6, "heads": 12},
}


def pruned(config: dict[str, Any], density: float) -> tuple[nn.Module, nn.Module]:
    """A hardened model, dense and packed."""
    model = build(config)
    pruner = Magnitude()
    weights = ("blocks.*.attention.*.weight", "blocks.*.ffn.*.weight")
    pruner.prepare(
        model, Plan([Rule(weights=name, structure=BlockColumns(32), density=density) for name in weights])
    )
    pruner.harden()
    artifact = pack(model, pruner, architecture=model.architecture, config=config)
    return load_dense(artifact), load_packed(artifact)


def compiled_over_packed(dense: nn.Module, packed: nn.Module, ids: torch.Tensor, seconds: float) -> float:
    """Milliseconds of `torch.compile` over those of the packed model, interleaved."""
    rival = torch.compile(dense)
    with torch.inference_mode():
        for model in (rival, packed, rival, packed):
            model(ids)
        ratios = []
        until = time.monotonic() + seconds
        while time.monotonic() < until or len(ratios) < 9:
            times = []
            for model in (rival, packed):
                began = time.perf_counter()
                model(ids)
                times.append(time.perf_counter() - began)
            ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each comparison")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threads_.set(options.threads)
    rows = []
    for name, sizes in SIZES.items():
        for density in (1 / 2, 1 / 3, 1 / 5):
            config = {**sizes, "context": max(128, options.tokens)}
            dense, packed = pruned(config, density)
            ids = torch.randint(0, config["vocabulary"], (1, options.tokens))
            latency = measure(dense, packed, ids, threads=options.threads, seconds=options.seconds)
            ratio = compiled_over_packed(dense, packed, ids, options.seconds / 2)
            rows.append({"model": name, "density": density, **latency.row(), "over_compiled": ratio})
    host = describe()
    table = Table(
        "model", "density", "dense ms", "packed ms", "over torch", "over torch.compile", "linears", "of bound"
    )
    for row in rows:
        table.add_row(
            row["model"],
            f"{row['density']:.3f}",
            f"{row['ms_dense']:.2f}",
            f"{row['ms_packed']:.2f}",
            f"{row['speedup']:.2f}×",
            f"{row['over_compiled']:.2f}×",
            f"{row['speedup_linears']:.2f}×",
            f"{row['amdahl']:.0%}",
        )
    console = Console()
    console.print(table)
    console.print(f"{host['cpu']}, {host['isa_selected']} kernels, fp32, {options.threads} thread(s)")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            options.json,
            {
                "kind": "model",
                "host": host,
                "threads": options.threads,
                "tokens": options.tokens,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
