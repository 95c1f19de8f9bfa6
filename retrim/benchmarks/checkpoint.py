"""A packed Hugging Face checkpoint against the best dense run-times of its model, whole model, batch 1.

    python retrim/benchmarks/checkpoint.py DENSE PACKED [--threads 1] [--tokens 128] [--json PATH]

DENSE is a checkpoint as transformers saves it (that of `retrim glue`, `pruned`, will do: zeros cost
dense run-times nothing less), PACKED what `retrim pack` or `retrim glue` made of it.  Rivals are
PyTorch, `torch.compile`, ONNX Runtime and OpenVINO, in float32; the packed model runs as it is loaded, and
under `torch.compile`.  Every run-time is held to PyTorch's output before it is timed.  In every round all take turns; medians of a run-time over the packed
model's in the same round are compared.  Files are compared with and without embeddings, which
are never packed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import AutoModelForSequenceClassification

import retrim.torch  # noqa: F401 - from_pretrained knows packed checkpoints after this
from retrim.cli_console import write_json
from retrim.runtime.host import describe
from retrim.torch import PackedLinear
from retrim.torch.latency import on_threads

Run = Callable[[], np.ndarray]
Inputs = dict[str, torch.Tensor]
TOLERANCE = 2e-3  # of the largest logit


def load(folder: Path, **options: Any) -> nn.Module:
    """A checkpoint in evaluation mode."""
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, **options
    )
    return model.eval()


def in_torch(model: nn.Module, inputs: Inputs) -> Run:
    """As it is."""

    def run() -> np.ndarray:
        found: np.ndarray = model(**inputs).logits.numpy()
        return found

    return run


class Positional(nn.Module):
    """Takes tensors in order and gives logits: what exporters like."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(self.names, values, strict=True))).logits
        return logits


def in_openvino(model: nn.Module, inputs: Inputs, threads: int) -> Run:
    """One stream, latency hint, float32."""
    import openvino as ov

    names = list(inputs)
    values = tuple(inputs.values())
    converted = ov.convert_model(
        Positional(model, names), example_input=values, input=[tuple(v.shape) for v in values]
    )
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    request = ov.Core().compile_model(converted, "CPU", settings).create_infer_request()
    for place, value in enumerate(values):
        request.set_input_tensor(place, ov.Tensor(value.numpy(), shared_memory=True))

    def run(kept: object = values) -> np.ndarray:
        request.infer(share_outputs=True)
        found: np.ndarray = request.get_output_tensor().data
        return found

    return run


def in_onnxruntime(model: nn.Module, inputs: Inputs, threads: int) -> Run:
    """All optimisations of the session, and those that fuse attention, layer norm and GELU for BERT."""
    import onnxruntime as ort
    from onnxruntime.transformers import optimizer

    names = list(inputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            Positional(model, names),
            tuple(inputs.values()),
            path,
            input_names=names,
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
        )
        config: Any = model.config
        fused = optimizer.optimize_model(
            str(path), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = ort.InferenceSession(
            fused.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    wanted = {given.name for given in session.get_inputs()}
    fed = {name: value.numpy() for name, value in inputs.items() if name in wanted}

    def run() -> np.ndarray:
        (found,) = session.run(["logits"], fed)
        return np.asarray(found)

    return run


def rivals(folder: Path, inputs: Inputs, threads: int) -> dict[str, Run]:
    """Every dense run-time, by name."""
    dense = load(folder)
    plain = load(folder, attn_implementation="eager")  # what the exporters can follow
    compiled = torch.compile(dense)
    made: dict[str, Callable[[], Run]] = {
        "PyTorch": lambda: in_torch(dense, inputs),
        "torch.compile": lambda: in_torch(compiled, inputs),
        "ONNX Runtime": lambda: in_onnxruntime(plain, inputs, threads),
        "OpenVINO": lambda: in_openvino(load(folder), inputs, threads),
    }
    found = {}
    for name, make in made.items():
        try:
            found[name] = make()
        except Exception as error:
            if name == "PyTorch":
                raise
            warnings.warn(f"{name} cannot run this model and is left out: {error}", stacklevel=2)
    return found


def held_to(runs: dict[str, Run], reference: np.ndarray) -> None:
    """Refuse to time what computes something else."""
    for name, run in runs.items():
        off = float(np.abs(run() - reference).max() / max(np.abs(reference).max(), 1e-6))
        if off > TOLERANCE:
            raise SystemExit(f"{name} is off by {off:.1e} of the largest logit: not timed")


def taking_turns(runs: dict[str, Run], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of every run, round by round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(next(iter(times.values()))) < 15:
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - began))
    return times


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(theirs, ours, strict=True))


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the weights' file, whole and without embeddings."""
    path = folder / "model.safetensors"
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    embedded = sum(
        entry["data_offsets"][1] - entry["data_offsets"][0]
        for name, entry in header.items()
        if "embeddings" in name and entry["dtype"] != "U8"
    )
    whole = path.stat().st_size
    return {"whole": whole, "without_embeddings": whole - embedded}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dense", type=Path)
    parser.add_argument("packed", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # tracers speak of constants in masks; outputs are compared below
    packed = load(options.packed)
    layers = [module for module in packed.modules() if isinstance(module, PackedLinear)]
    sized = [(layer.weight.density, layer.in_features * layer.out_features) for layer in layers]
    density = sum(kept * size for kept, size in sized) / sum(size for _, size in sized)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(5, int(packed.config.vocab_size), (1, options.tokens), generator=drawn)  # type: ignore[union-attr,arg-type]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with on_threads(options.threads), torch.inference_mode():
        runs = rivals(options.dense, inputs, options.threads)
        ours = {"packed": in_torch(packed, inputs), "compiled": in_torch(torch.compile(packed), inputs)}
        held_to(runs | ours, runs["PyTorch"]())
        times = taking_turns(runs | ours, options.seconds)
    rows = [
        {
            "name": name,
            "ms": statistics.median(times[name]),
            "ms_packed": statistics.median(times["packed"]),
            "speedup": ratio(times[name], times["packed"]),
            "ms_compiled": statistics.median(times["compiled"]),
            "speedup_compiled": ratio(times[name], times["compiled"]),
        }
        for name in runs
    ]
    files = {"dense": sizes(options.dense), "packed": sizes(options.packed)}
    host = describe()
    console = Console()
    table = Table("dense run-time", "ms", "packed, ms", "speed-up", "torch.compile(packed), ms", "speed-up")
    for row in rows:
        table.add_row(
            row["name"], f"{row['ms']:.2f}", f"{row['ms_packed']:.2f}", f"{row['speedup']:.2f}×",
            f"{row['ms_compiled']:.2f}", f"{row['speedup_compiled']:.2f}×",
        )  # fmt: skip
    console.print(table)
    shares = {key: files["packed"][key] / files["dense"][key] for key in ("whole", "without_embeddings")}
    console.print(
        f"density {density:.3f}, {options.tokens} tokens, {options.threads} thread(s), {host['cpu']}, "
        f"{host['isa_selected']} kernels, load {os.getloadavg()[0]:.1f}; file {shares['whole']:.2f}×, without embeddings "
        f"{shares['without_embeddings']:.2f}× of the dense one"
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "kind": "checkpoint",
            "host": host,
            "density": density,
            "threads": options.threads,
            "tokens": options.tokens,
            "load": os.getloadavg()[0],
            "rivals": rows,
            "bytes": files,
        }
        write_json(options.json, result)


if __name__ == "__main__":
    main()
