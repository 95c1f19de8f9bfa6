"""Language modelling as a task: text in windows, next-token accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from retrim.errors import ConfigError, CorpusError
from retrim.torch import Distillation
from retrim.zoo.corpus import Corpus, read_corpus
from retrim.zoo.evaluation import evaluate
from retrim.zoo.lm import LMConfig, build
from retrim.zoo.task import Last, Task
from retrim.zoo.tokens import TokenizedCorpus, tokenize

_PROBE = 64


@dataclass(frozen=True, kw_only=True)
class LanguageTask(Task):
    """A causal Transformer on text.

    Parameters
    ----------
    text : Path, optional
        File or folder to train on; None: the standard library of the running Python.
    held_out : Path, optional
        File to score on, whole; None: the part of `text` that `read_corpus` holds out.
    library : bool
        Train on the standard library too.
    vocabulary : int
        Entries of the byte-pair encoding, trained on what is trained on.
    width, layers, heads, context, expansion : int
        See `LMConfig`.
    batch : int
        Windows of `context` tokens.
    windows : int
        Windows of an epoch, drawn anew for each; 0: as many as fill the text.
    scored : int
        Held-out tokens of a score, spread evenly; 0: all.
    distillation : Distillation, optional
        What the teacher adds to the loss, once there is one (`taught`); logits alone.
    """

    text: Path | None = None
    held_out: Path | None = None
    library: bool = False
    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    context: int = 128
    expansion: int = 4
    batch: int = 8
    windows: int = 0
    scored: int = 0
    distillation: Distillation | None = None
    teacher: nn.Module | None = field(default=None, repr=False)
    _last: Last[torch.Tensor, torch.Tensor] = field(
        init=False, default_factory=Last, repr=False, compare=False
    )

    metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        LMConfig(vocabulary=self.vocabulary, **self._sizes)
        for name, least in (("batch", 1), ("windows", 0), ("scored", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be a whole number >= {least}, not {getattr(self, name)}")
        if self.distillation is not None and self.distillation.hidden:
            raise ConfigError(
                f"hidden must be 0 for language, which is distilled by its logits alone, not {self.distillation.hidden:g}"
            )

    def taught(self, teacher: nn.Module) -> LanguageTask:
        """The same task, with a teacher where there is a distillation; no gradient reaches it."""
        if self.distillation is None:
            return self
        return replace(self, teacher=teacher.eval())

    def build(self, seed: int) -> nn.Module:
        return build({"vocabulary": self.vocabulary, **self._sizes}, seed)

    @property
    def steps(self) -> int:
        return max(1, self._windows // self.batch)

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[torch.Tensor]:
        """Windows of context + 1 tokens, int64, shape (batch, context + 1), from places that the seed draws."""
        ids = self._ids.train
        draw = np.random.default_rng([seed, epoch])
        first = draw.integers(0, len(ids) - self.context, self.steps * self.batch)
        for step in range(start, self.steps):
            rows = [
                ids[at : at + self.context + 1] for at in first[step * self.batch : (step + 1) * self.batch]
            ]
            yield torch.from_numpy(np.stack(rows).astype(np.int64))

    def loss(self, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        given, wanted = batch[:, :-1], batch[:, 1:]
        logits = model(given)
        own = functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())
        if self.teacher is None or self.distillation is None or not model.training:
            return own
        return self.distillation(
            own, logits.float().flatten(0, 1), self._theirs(self.teacher, batch).flatten(0, 1)
        )

    def _theirs(self, teacher: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """The teacher's logits, kept for the levels that meet the same batch."""
        with torch.no_grad():
            return self._last.of(batch, lambda: teacher(batch[:, :-1]).float())

    def probe(self) -> Sequence[torch.Tensor]:
        ids, length = self._ids.train, self.context + 1
        count = min(_PROBE, len(ids) // length)
        starts = np.linspace(0, len(ids) - length, count).astype(int)
        rows = np.stack([ids[at : at + length] for at in starts]).astype(np.int64)
        return [torch.from_numpy(rows[at : at + self.batch]) for at in range(0, count, self.batch)]

    def score(self, model: nn.Module) -> dict[str, float]:
        """Next-token accuracy in percent, and perplexity."""
        found = evaluate(model, self._ids.held_out, self.context, batch=self.batch, most=self.scored or None)
        return {"accuracy": 100 * found.accuracy, "perplexity": found.perplexity}

    @property
    def tokens(self) -> TokenizedCorpus:
        """Tokenizer and text."""
        return self._ids

    @property
    def _sizes(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("width", "layers", "heads", "context", "expansion")}

    @property
    def _windows(self) -> int:
        return self.windows or len(self._ids.train) // self.context

    @cached_property
    def _ids(self) -> TokenizedCorpus:
        corpus = self._corpus()
        found = tokenize(corpus, self.vocabulary)
        if len(found.train) <= self.context or len(found.held_out) <= self.context:
            raise CorpusError(
                f"text must have more than {self.context} tokens to train on and to hold out, not "
                f"{len(found.train)} and {len(found.held_out)}"
            )
        return found

    def _corpus(self) -> Corpus:
        own = read_corpus(self.text)
        train, held_out, digest = own.train, own.held_out, own.digest
        if self.held_out is not None:
            other = read_corpus(self.held_out)
            train, held_out = train + held_out, other.train + other.held_out
            digest += other.digest
        if self.library and self.text is not None:
            more = read_corpus(None)
            train, digest = train + more.train, digest + more.digest
        return Corpus(train, held_out, own.source, digest)
