"""Pruning a Hugging Face checkpoint on one of GLUE's tasks: fine-tune, prune, retrain, save, pack, measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, field_serializer, field_validator, model_validator
from torch import nn

from retrim.errors import ConfigError, MissingExtraError
from retrim.recipe.comparing import Branch, ComparisonRun, Progress
from retrim.recipe.comparison import (
    AnyMethod,
    Comparison,
    FormPart,
    FormsPart,
    MethodPart,
    RetrainPart,
    StagePart,
    check_arrives,
)
from retrim.recipe.densities import UnevenPart
from retrim.recipe.part import checked, read_toml
from retrim.recipe.schema import DistilPart, valued
from retrim.recipe.tasks import GluePart, make_task
from retrim.runtime.host import describe
from retrim.structures import Structure, from_dict
from retrim.torch.latency import measure
from retrim.zoo.glue.checkpoint import positions
from retrim.zoo.glue.finetuning import FineTuning
from retrim.zoo.glue.tasks import find_task

Say = Callable[[str], None]
_TOKENS = 128  # of the timed runs


class GlueRecipe(UnevenPart):
    """How a checkpoint is fine-tuned and pruned, whatever checkpoint and task.

    Parameters
    ----------
    version : 1
    batch, max_length, examples, bucketed, distil, unlabelled, texts
        See `retrim.zoo.glue.finetuning.FineTuning`.
    dense
        Fine-tuning of the dense model; without it, the checkpoint is fine-tuned already.
    prune, retrain
        Training with the pruner up to the hard projection; masked retraining.
    structure
        What the linear weights of all blocks are brought into.
    rate, rates
        Weights over kept weights: one, or several that are run one after another from one dense network.
    heads, densities, sensitivity
        See `retrim.recipe.densities.UnevenPart`.
    pruner
        See `retrim.recipe.comparison`.
    model : str, optional
        The checkpoint to take where none is named.
    tasks : tuple of str
        Those that the recipe is for; empty: any.
    """

    version: Literal[1]
    batch: int = Field(default=32, ge=1)
    max_length: int = Field(default=128, ge=8)
    examples: int = Field(default=0, ge=0)
    bucketed: bool = True
    distil: DistilPart | None = None
    unlabelled: float = Field(default=0.0, ge=0, lt=1)
    texts: tuple[str, ...] = ()
    dense: StagePart | None = None
    prune: StagePart
    retrain: RetrainPart
    structure: Structure
    rate: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    rates: tuple[float, ...] = ()
    pruner: AnyMethod = Field(discriminator="type")
    model: str | None = Field(default=None, min_length=1)
    tasks: tuple[str, ...] = ()

    @field_validator("tasks")
    @classmethod
    def _check_tasks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for task in value:
            valued(find_task, task)
        return value

    @model_validator(mode="after")
    def _check_rates(self) -> GlueRecipe:
        if (self.rate is None) == (not self.rates):
            raise ValueError("a recipe must have either a rate or rates")
        for rate in self.rates:
            if not 1 <= rate < float("inf"):
                raise ValueError(f"a rate must be a number >= 1 (weights over kept weights), not {rate:g}")
        if len(set(self.rates)) < len(self.rates):
            raise ValueError(f"rates must hold each rate once, not {list(self.rates)}")
        check_arrives(self.pruner, self.prune)
        return self

    @property
    def every_rate(self) -> tuple[float, ...]:
        """The rate, or all of them."""
        return self.rates if self.rate is None else (self.rate,)

    @field_validator("structure", mode="before")
    @classmethod
    def _read_structure(cls, value: Any) -> Any:
        return value if isinstance(value, Structure) else valued(from_dict, value)

    @field_serializer("structure")
    def _write_structure(self, value: Structure) -> dict[str, Any]:
        return value.to_dict()

    def comparison(
        self, task: str, model: str, data: str | None, globs: list[str], seed: int, rate: float | None = None
    ) -> Comparison:
        """As a comparison of one branch, or of one for each rate."""
        text = GluePart(
            type="glue",
            task=task,
            model=model,
            data=data,
            batch=self.batch,
            max_length=self.max_length,
            examples=self.examples,
            bucketed=self.bucketed,
            distil=self.distil,
            unlabelled=self.unlabelled,
            texts=self.texts,
        )
        rules = tuple(FormPart(weights=glob, structure=self.structure) for glob in globs)
        return Comparison(
            version=1,
            task=text,
            dense=self.dense,
            prune=self.prune,
            retrain=self.retrain,
            forms=(
                FormsPart(
                    name=type(self.structure).__name__,
                    rules=rules,
                    rates=self.every_rate if rate is None else (rate,),
                    heads=self.heads,
                    densities=self.densities,
                    sensitivity=self.sensitivity,
                ),
            ),
            methods=(MethodPart(name=self.pruner.type, pruner=self.pruner, seeds=(seed,)),),
        )


def read_glue_recipe(path: Path) -> GlueRecipe:
    """Read a recipe.

    Raises
    ------
    ConfigError
    """
    return checked(GlueRecipe, read_toml(path), str(path))


def run_glue(
    recipe: GlueRecipe,
    task: str,
    model: str | None,
    data: Path | None,
    out: Path,
    *,
    rate: float | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Prune `model` on `task`; checkpoints, `pruned/` and `packed/` lie in `out`, and a second call goes on there.

    Parameters
    ----------
    model : str, optional
        A folder, in that of `data` or anywhere, or a name on the Hub.  Default: the recipe's.
    seed : int
        Of pruning and retraining; the dense network is that of seed 0.
    rate : float, optional
        In place of the recipe's; `pruned/` and `packed/` then lie in `out/RATEx`.

    Raises
    ------
    ConfigError
        If model, task or data are not there, or are not the recipe's, the model's type has no known plan,
        or the recipe has several rates and none is chosen.
    MissingExtraError
        Without transformers.
    """
    try:
        from retrim.torch.huggingface import plan_for
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"retrim glue needs {error.name}: pip install 'retrim[hf]'") from None
    model = _checked(recipe, task, model, data)
    where, rate = _place(recipe, out, rate)
    folder, name = (Path(), None) if data is None else (data.parent, data.name)
    dense = make_task(recipe.comparison(task, model, name, ["*"], seed, rate).task, folder).build(0)
    globs = [rule.weights for rule in plan_for(dense, recipe.structure, 1 / rate).rules]
    comparison = recipe.comparison(task, model, name, globs, seed, rate)
    run = ComparisonRun(comparison, folder, out, progress)
    baseline = run.baseline()
    branch = Branch(comparison.forms[0], rate, comparison.methods[0], seed)
    pruned, pruner, row = run.trained(branch)
    sizes, packed = _saved(run, pruned, pruner, where)
    assert isinstance(run.task, FineTuning)  # noqa: S101 - the recipe made it
    tokens = min(_TOKENS, positions(pruned) or _TOKENS)
    words = torch.randint(5, int(pruned.config.vocab_size), (1, tokens))  # type: ignore[union-attr,arg-type]
    return {
        "kind": "glue",
        "host": describe(),
        "task": task,
        "model": model,
        "rate": rate,
        "seed": seed,
        "recipe": recipe.model_dump(mode="json"),
        "metric": run.task.metric,
        "baseline": baseline,
        "row": row,
        "packed_score": run.task.score(packed),
        "densities": {target.name: target.reached for target in pruner.targets},
        "bytes": sizes,
        "latency": {"threads": threads, **measure(pruned, packed, words, threads=threads).row()},
    }


def _checked(recipe: GlueRecipe, task: str, model: str | None, data: Path | None) -> str:
    """The model's name, once all that is named is seen to be there and the recipe's."""
    if data is not None and not data.is_dir():
        raise ConfigError(f"data must be GLUE's folder, but {str(data)!r} is none: name it by --data")
    if recipe.tasks and find_task(task).key not in recipe.tasks:
        raise ConfigError(f"task must be one of the recipe's, {', '.join(recipe.tasks)}, not {task!r}")
    named = recipe.model if model is None else model
    if named is None:
        raise ConfigError("a model must be named by --model, since the recipe names none")
    return named


def _place(recipe: GlueRecipe, out: Path, rate: float | None) -> tuple[Path, float]:
    """Folder of the checkpoints at a rate, and the rate: the recipe's only one where none is chosen."""
    if rate is None:
        if recipe.rate is None and len(recipe.rates) > 1:
            said = ", ".join(f"{one:g}" for one in recipe.rates)
            raise ConfigError(f"one of the recipe's rates must be chosen, {said}")
        return out, recipe.every_rate[0]
    if not 1 <= rate < float("inf"):
        raise ConfigError(f"rate must be a number >= 1 (weights over kept weights), not {rate:g}")
    return out / f"{rate:g}x", rate


def _saved(run: ComparisonRun, model: nn.Module, pruner: Any, out: Path) -> tuple[dict[str, int], nn.Module]:
    """Write the pruned and the packed checkpoint; their sizes, and the packed model as a user loads it."""
    from transformers import AutoModelForSequenceClassification

    from retrim.torch.huggingface import pack_pretrained, save_pruned

    assert isinstance(run.task, FineTuning)  # noqa: S101 - the recipe made it
    save_pruned(model, pruner, out / "pruned")
    run.task.tokenizer.save_pretrained(out / "pruned")
    pack_pretrained(out / "pruned", out / "packed")
    packed: nn.Module = AutoModelForSequenceClassification.from_pretrained(out / "packed")
    files = {name: out / name / "model.safetensors" for name in ("pruned", "packed")}
    return {name: path.stat().st_size for name, path in files.items()}, packed
