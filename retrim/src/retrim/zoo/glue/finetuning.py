"""Fine-tuning a Hugging Face checkpoint on a GLUE task, as experiments and the training loop see it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError
from retrim.torch import Distillation
from retrim.zoo.glue.checkpoint import check_dense, check_found, check_length, order_classes_
from retrim.zoo.glue.encode import Encoded, Tokens, encode
from retrim.zoo.glue.examples import Examples
from retrim.zoo.glue.hub import load_hub
from retrim.zoo.glue.metrics import score
from retrim.zoo.glue.tasks import GlueTask, find_task
from retrim.zoo.glue.tsv import read_glue
from retrim.zoo.glue.unlabelled import unlabelled
from retrim.zoo.task import PLACED, Last, Task

POOL = 4
"""Examples without labels over those with: what epochs draw from."""

_PROBE = 512
_UNREADABLE = (OSError, ValueError, KeyError)  # of transformers, where a folder or name is no checkpoint


@dataclass(frozen=True, kw_only=True)
class FineTuning(Task):
    """A sequence classifier, or a regression for STS-B, on one of GLUE's tasks.

    Parameters
    ----------
    task : str
        Key of the task; see `retrim.zoo.glue.TASKS`.
    model : str
        Folder of a checkpoint, or its name on the Hugging Face Hub; a head that is missing begins at random.
    data : Path, optional
        GLUE's folder, or the task's; None fetches the task from the Hub.
    batch : int
    max_length : int
        Tokens of an example at most.
    examples : int
        Training examples in use, a fixed random subset; 0: all.
    bucketed : bool
        Examples of about one length together in a batch.
    distillation : Distillation or None
        What the teacher adds to the loss, once there is one (`taught`).
    unlabelled : float
        Share of an epoch's examples that are drawn from text without labels instead (`retrim.zoo.glue.unlabelled`),
        once there is a teacher; each epoch has as many steps as without.
    texts : tuple of str
        Tasks whose training sentences are such text too, beside the task's own.
    scored : int
        Held-out examples of a score, of each set that GLUE names, spread evenly; 0: all.
    """

    task: str
    model: str = field(metadata=PLACED)
    data: Path | None = None
    batch: int = 32
    max_length: int = 128
    examples: int = 0
    bucketed: bool = True
    distillation: Distillation | None = None
    unlabelled: float = 0.0
    texts: tuple[str, ...] = ()
    scored: int = field(default=0, repr=False)  # decides no training, which checkpoints name by the rest
    teacher: nn.Module | None = field(default=None, repr=False)
    _last: Last[Encoded, Any] = field(init=False, default_factory=Last, repr=False, compare=False)

    metric: ClassVar[str] = "score"

    def __post_init__(self) -> None:
        find_task(self.task)
        for name, least in (("batch", 1), ("max_length", 8), ("examples", 0), ("scored", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be a whole number >= {least}, not {getattr(self, name)}")
        if not 0 <= self.unlabelled < 1:
            raise ConfigError(
                f"unlabelled must be a share of examples, 0 <= share < 1, not {self.unlabelled}"
            )
        if self.unlabelled and self.distillation is None:
            raise ConfigError("unlabelled text needs a teacher: give distil, or leave unlabelled out")
        if self.texts and not self.unlabelled:
            raise ConfigError("texts are unlabelled text to learn from: give its share, unlabelled, too")
        for name in self.texts:
            find_task(name)

    def taught(self, teacher: nn.Module) -> FineTuning:
        """The same task, with a teacher where there is a distillation; no gradient reaches it."""
        if self.distillation is None:
            return self
        return replace(self, teacher=teacher.eval())

    def build(self, seed: int) -> nn.Module:
        """The checkpoint with a head for the task, classes in GLUE's order; `seed` decides a head that is missing.

        Raises
        ------
        ConfigError
            If there is no such checkpoint, or it has fewer positions than `max_length`.
        """
        from transformers import AutoConfig, AutoModelForSequenceClassification

        glue = self.glue
        config = self._loaded(AutoConfig)
        check_dense(self.model, config)
        called = dict(config.id2label)
        kind = "regression" if glue.regression else "single_label_classification"
        labels: dict[str, Any] = {}
        if not glue.regression:
            labels = {
                "id2label": dict(enumerate(glue.names)),
                "label2id": {name: number for number, name in enumerate(glue.names)},
            }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built, report = self._loaded(
                AutoModelForSequenceClassification,
                num_labels=glue.outputs,
                problem_type=kind,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # the head of another task: this one's begins at random
                output_loading_info=True,
                **labels,
            )
        check_found(self.model, built, report["missing_keys"])
        check_length(self.model, built, self.max_length)
        order_classes_(self.model, built, glue, called)
        if built.config.pad_token_id is None:  # decoders look for the last token that is none
            built.config.pad_token_id = self.tokenizer.pad_token_id
        found: nn.Module = built
        return found

    @property
    def steps(self) -> int:
        return self.training.steps(self.batch)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[Encoded]:
        if not self.unlabelled or self.teacher is None:
            return self.training.batches(self.batch, seed, epoch, start, bucketed=self.bucketed)
        return self.mixed.batches(
            self.batch, seed, epoch, start, bucketed=self.bucketed, among=self._drawn(seed, epoch)
        )

    def loss(self, model: nn.Module, batch: Encoded) -> torch.Tensor:
        if self.teacher is None or self.distillation is None or not model.training:
            return self._own(model(**batch.inputs()).logits, batch.labels)
        from retrim.torch.huggingface.distil import distilled

        asked = {**batch.inputs(), "output_hidden_states": bool(self.distillation.hidden)}
        ours = model(**asked)
        teacher = self.teacher
        with torch.no_grad():
            theirs = self._last.of(batch, lambda: teacher(**asked))  # levels meet one batch in turn
        own = self._own(ours.logits, batch.labels)
        return distilled(self.distillation, own, ours, theirs, batch.attention_mask, self.glue.regression)

    def probe(self) -> Sequence[Encoded]:
        chosen = np.arange(min(_PROBE, len(self.training)))
        return [self.training.batch(chosen[first : first + 64]) for first in range(0, len(chosen), 64)]

    def score(self, model: nn.Module) -> dict[str, float]:
        """The task's metrics in percent, and their mean, `score`; of MNLI those of both sets, `score` of the matched one."""
        found: dict[str, float] = {}
        for name, tokens in self.held_out.items():
            scores = score(self.glue, self.outputs(model, tokens), tokens.labels)
            suffix = name.removeprefix("dev").removeprefix("_matched")
            found |= {f"{metric}{suffix}": value for metric, value in scores.items()}
        return found

    def outputs(self, model: nn.Module, tokens: Tokens) -> np.ndarray:
        """What the network gives for examples, shape (n, outputs); in evaluation mode, which is undone."""
        training = model.training
        model.eval()
        order = np.argsort(tokens.lengths, kind="stable")  # little padding; put back below
        found = np.empty((len(tokens), self.glue.outputs), dtype=np.float32)
        try:
            with torch.inference_mode():
                for first in range(0, len(order), 64):
                    chosen = order[first : first + 64]
                    found[chosen] = model(**tokens.batch(chosen).inputs()).logits.float().numpy()
        finally:
            model.train(training)
        return found

    @property
    def glue(self) -> GlueTask:
        """What GLUE says about the task."""
        return find_task(self.task)

    @cached_property
    def tokenizer(self) -> Any:
        """The checkpoint's."""
        from transformers import AutoTokenizer

        return self._loaded(AutoTokenizer)

    @cached_property
    def training(self) -> Tokens:
        """Examples to train on."""
        return encode(self._chosen(), self.tokenizer, self.max_length)

    def _chosen(self) -> Examples:
        whole = self._read("train")
        if self.examples > len(whole):
            raise ConfigError(
                f"examples must be at most the {len(whole)} of the training set, not {self.examples}"
            )
        if self.examples:
            chosen = np.sort(np.random.default_rng(0).permutation(len(whole))[: self.examples])
            whole = _some(whole, chosen)
        return whole

    def _drawn(self, seed: int, epoch: int) -> np.ndarray:
        """Numbers of an epoch's examples among the mixed ones: as many as there are labelled ones."""
        labelled = len(self.training)
        draw = np.random.default_rng([seed, epoch, 1])
        others = round(self.unlabelled * labelled)
        own = draw.permutation(labelled)[: labelled - others]
        pool = labelled + draw.permutation(POOL * labelled)[:others]
        return np.concatenate([own, pool])

    @cached_property
    def mixed(self) -> Tokens:
        """Examples to train on, and after them those without labels, `POOL` times as many."""
        own = self._chosen()
        sources = [own, *(self._read("train", name) for name in self.texts)]
        more = unlabelled(sources, POOL * len(own), pairs=own.second is not None, seed=0)
        return encode(_joined(own, more, self.glue.regression), self.tokenizer, self.max_length)

    @cached_property
    def held_out(self) -> dict[str, Tokens]:
        """Examples to score on, by split."""
        names = [split.name for split in self.glue.splits if split.name != "train"]
        return {
            name: encode(self._spread(self._read(name)), self.tokenizer, self.max_length) for name in names
        }

    @property
    def held_out_digest(self) -> str:
        """Hash of all that scores are computed on."""
        found = hashlib.sha256()
        for name, tokens in self.held_out.items():
            found.update(name.encode())
            for part in (tokens.ids, tokens.starts, tokens.labels):
                found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()

    def _spread(self, examples: Examples) -> Examples:
        if not 0 < self.scored < len(examples):
            return examples
        return _some(examples, np.linspace(0, len(examples) - 1, self.scored).astype(int))

    def _read(self, split: str, task: str | None = None) -> Examples:
        name = task or self.task
        return load_hub(name, split) if self.data is None else read_glue(self.data, name, split)

    def _own(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss over examples that have a label; 0 without any."""
        known = ~labels.isnan() if self.glue.regression else labels >= 0
        logits, labels = logits.float()[known], labels[known]
        if not len(labels):
            return logits.sum()  # of nothing: 0, with a gradient of 0
        if self.glue.regression:
            return functional.mse_loss(logits.squeeze(-1), labels)
        return functional.cross_entropy(logits, labels)

    def _loaded(self, kind: Any, **options: Any) -> Any:
        from safetensors import SafetensorError
        from transformers.utils import logging as talk

        said = talk.get_verbosity()
        talk.set_verbosity(logging.ERROR)  # that the head is missing is expected
        try:
            return kind.from_pretrained(self.model, trust_remote_code=False, **options)
        except (*_UNREADABLE, SafetensorError) as error:
            first = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"model {self.model!r} must be the folder of a checkpoint, or a name that the Hugging Face Hub knows: "
                f"{first}"
            ) from error
        finally:
            talk.set_verbosity(said)


def _joined(own: Examples, more: Examples, regression: bool) -> Examples:
    """One after the other; unknown classes are -1."""
    labels = more.labels if regression else np.full(len(more), -1, dtype=own.labels.dtype)
    second = None if own.second is None else [*own.second, *(more.second or ())]
    return Examples([*own.first, *more.first], second, np.concatenate([own.labels, labels]))


def _some(examples: Examples, chosen: np.ndarray) -> Examples:
    second = examples.second
    return Examples(
        [examples.first[number] for number in chosen],
        None if second is None else [second[number] for number in chosen],
        examples.labels[chosen],
    )
