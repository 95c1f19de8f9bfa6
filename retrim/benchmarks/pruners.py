"""What a training step costs more under ADMM and SLR, updates included.

    python retrim/benchmarks/pruners.py [--steps 64] [--every 32] [--json PATH]

ResNet-20 on random images (nothing depends on what they are), batch 128.  Copies of one
network train side by side, taking turns step by step, one without a pruner and one under each method;
processor seconds of all steps are compared, those of updates of the multipliers among them.  Two
copies without a pruner show how far equal work differs.  Memory is that of the pruner's tensors over
that of the weights it prunes.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from retrim.cli_console import write_json
from retrim.prune import ADMM, SLR, Plan, Pruner, Rule
from retrim.runtime.host import describe
from retrim.structures import Elements
from retrim.zoo.classifiers import build

PLAN = Plan([Rule(weights="layer*.conv?.weight", structure=Elements(), density=1 / 8)])


class Training:
    """A network in training, with a pruner or without."""

    def __init__(self, network: nn.Module, pruner: Pruner | None) -> None:
        self.network = copy.deepcopy(network).to(memory_format=torch.channels_last)
        self.pruner = pruner
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
        self.probe = torch.randn(512, 3, 32, 32)
        if pruner is not None:
            pruner.prepare(self.network, PLAN)

    def step(self, images: torch.Tensor, classes: torch.Tensor) -> float:
        """Processor seconds of one step."""
        began = time.process_time()
        loss = functional.cross_entropy(self.network(images), classes)
        self.optimizer.zero_grad()
        loss.backward()
        if self.pruner is not None:
            self.pruner.add_gradient_()
        self.optimizer.step()
        if self.pruner is not None:
            self.pruner.step(self.loss)
        return time.process_time() - began

    @torch.no_grad()
    def loss(self) -> float:
        """Over as many images as a probe may hold."""
        self.network.eval()
        value = float(self.network(self.probe).logsumexp(1).mean())
        self.network.train()
        return value


def copies(pruner: Pruner) -> float:
    """Numbers that a pruner keeps over those of the weights it prunes."""
    state = pruner.state_dict()
    kept = sum(
        t.numel()
        for part in state.values()
        if isinstance(part, dict)
        for t in part.values()
        if torch.is_tensor(t)
    )
    return kept / sum(target.parameter.numel() for target in pruner.targets)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--every", type=int, default=32, help="steps between updates of the multipliers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build("resnet20", 10, images="cifar")
    pruners: dict[str, Pruner | None] = {
        "none": None,
        "none, again": None,
        "ADMM": ADMM(every=options.every),
        "SLR": SLR(every=options.every),
        "SLR, restoring": SLR(every=options.every, rejected="restore"),
    }
    runs = {name: Training(network, pruner) for name, pruner in pruners.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.steps + 2):
        images, classes = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
        for name, run in runs.items():
            spent = run.step(images, classes)
            if number >= 2:  # the first warm up
                seconds[name].append(spent)
    plain = sum(seconds["none"])
    rows = [
        {
            "pruner": name,
            "ms_per_step": 1e3 * sum(seconds[name]) / options.steps,
            "ms_median": 1e3 * statistics.median(seconds[name]),
            "over_none": sum(seconds[name]) / plain,
            "copies": 0.0 if run.pruner is None else copies(run.pruner),
        }
        for name, run in runs.items()
    ]
    host = describe()
    table = Table("pruner", "ms a step", "median", "over none", "copies of the weights")
    for row in rows:
        table.add_row(
            str(row["pruner"]),
            f"{row['ms_per_step']:.1f}",
            f"{row['ms_median']:.1f}",
            f"{row['over_none']:.3f}",
            f"{row['copies']:.1f}",
        )
    console = Console()
    console.print(table)
    console.print(f"{host['cpu']}, fp32, 1 thread, processor time, an update every {options.every} steps")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            options.json,
            {"kind": "pruners", "host": host, "steps": options.steps, "every": options.every, "rows": rows},
        )


if __name__ == "__main__":
    main()
