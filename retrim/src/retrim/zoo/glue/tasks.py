"""The nine tasks of GLUE: where their files keep what, what the labels are called, and how they are scored.

The diagnostic set (AX) is none of the nine and is not here.  The order of label
names is that of the Hugging Face Hub's `nyu-mll/glue`, so that heads that were
fine-tuned there fit.

References
----------
Wang et al., GLUE: a multi-task benchmark and analysis platform for natural
language understanding, arXiv:1804.07461: tasks and metrics, section 3 and table 1;
a task's score is the unweighted mean of its metrics, section 3.4.
Column names: headers of the files that gluebenchmark.com distributes.  Numbers of
examples and label names: dataset card of `nyu-mll/glue` on the Hugging Face Hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from retrim.errors import ConfigError

MOST_SIMILAR = 5.0
"""Largest score of STS-B; the smallest is 0."""

_BINARY = ("0", "1")
_ENTAILMENT = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Split:
    """A part of a task's data.

    Attributes
    ----------
    name : str
        That of the file, without `.tsv`.
    hub : str
        As the Hugging Face Hub calls it.
    examples : int
        As published; a file may hold another number.
    """

    name: str
    hub: str
    examples: int


@dataclass(frozen=True, kw_only=True)
class GlueTask:
    """One task.

    Attributes
    ----------
    key : str
        As the Hugging Face Hub calls it.
    folder : str
        As GLUE calls it.
    sentences : tuple of str
        Columns of the first sentence and, if there are pairs, of the second.
    label : str
        Column of the label.
    header : tuple of str
        All columns, where files have no line with their names; else empty.
    hub : tuple of str
        Columns of the sentences on the Hugging Face Hub.
    names : tuple of str
        Names of the labels 0, 1, …; empty where the label is a number from 0 to 5.
    values : tuple of str
        How files write the labels 0, 1, ….
    metrics : tuple of str
        See `retrim.zoo.glue.score`.
    splits : tuple of Split
        The ones with labels.
    torn : bool
        Published files hold rows cut off before their end, and empty sentences.
    """

    key: str
    folder: str
    sentences: tuple[str, ...]
    label: str = "label"
    header: tuple[str, ...] = ()
    hub: tuple[str, ...]
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    splits: tuple[Split, ...]
    torn: bool = False

    @property
    def paired(self) -> bool:
        """Whether examples are pairs of sentences."""
        return len(self.sentences) == 2

    @property
    def regression(self) -> bool:
        """Whether labels are numbers (STS-B), not classes."""
        return not self.names

    @property
    def outputs(self) -> int:
        """Numbers that a network gives for an example: one for each class, or the one that is asked for."""
        return max(1, len(self.names))

    def split(self, name: str) -> Split:
        """The split of this name.

        Raises
        ------
        ConfigError
            If there is none with labels.
        """
        for split in self.splits:
            if split.name == name:
                return split
        raise ConfigError(
            f"split of {self.folder} must be {_or([split.name for split in self.splits])}, not {name!r}: GLUE "
            "publishes no labels of its test sets"
        )


def _train_dev(train: int, dev: int) -> tuple[Split, ...]:
    return (Split("train", "train", train), Split("dev", "validation", dev))


def _or(names: list[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]])


_ALL = (
    GlueTask(
        key="cola",
        folder="CoLA",
        sentences=("sentence",),
        header=("source", "label", "original label", "sentence"),
        hub=("sentence",),
        names=("unacceptable", "acceptable"),
        values=_BINARY,
        metrics=("matthews",),
        splits=_train_dev(8551, 1043),
    ),
    GlueTask(
        key="sst2",
        folder="SST-2",
        sentences=("sentence",),
        hub=("sentence",),
        names=("negative", "positive"),
        values=_BINARY,
        splits=_train_dev(67349, 872),
    ),
    GlueTask(
        key="mrpc",
        folder="MRPC",
        sentences=("#1 String", "#2 String"),
        label="Quality",
        hub=("sentence1", "sentence2"),
        names=("not_equivalent", "equivalent"),
        values=_BINARY,
        metrics=("accuracy", "f1"),
        splits=_train_dev(3668, 408),
    ),
    GlueTask(
        key="stsb",
        folder="STS-B",
        sentences=("sentence1", "sentence2"),
        label="score",
        hub=("sentence1", "sentence2"),
        metrics=("pearson", "spearman"),
        splits=_train_dev(5749, 1500),
    ),
    GlueTask(
        key="qqp",
        folder="QQP",
        sentences=("question1", "question2"),
        label="is_duplicate",
        hub=("question1", "question2"),
        names=("not_duplicate", "duplicate"),
        values=_BINARY,
        metrics=("accuracy", "f1"),
        splits=_train_dev(363846, 40430),
        torn=True,
    ),
    GlueTask(
        key="mnli",
        folder="MNLI",
        sentences=("sentence1", "sentence2"),
        label="gold_label",
        hub=("premise", "hypothesis"),
        names=("entailment", "neutral", "contradiction"),
        values=("entailment", "neutral", "contradiction"),
        splits=(
            Split("train", "train", 392702),
            Split("dev_matched", "validation_matched", 9815),
            Split("dev_mismatched", "validation_mismatched", 9832),
        ),
    ),
    GlueTask(
        key="qnli",
        folder="QNLI",
        sentences=("question", "sentence"),
        hub=("question", "sentence"),
        names=_ENTAILMENT,
        values=_ENTAILMENT,
        splits=_train_dev(104743, 5463),
    ),
    GlueTask(
        key="rte",
        folder="RTE",
        sentences=("sentence1", "sentence2"),
        hub=("sentence1", "sentence2"),
        names=_ENTAILMENT,
        values=_ENTAILMENT,
        splits=_train_dev(2490, 277),
    ),
    GlueTask(
        key="wnli",
        folder="WNLI",
        sentences=("sentence1", "sentence2"),
        hub=("sentence1", "sentence2"),
        names=("not_entailment", "entailment"),
        values=_BINARY,
        splits=_train_dev(635, 71),
    ),
)

TASKS = MappingProxyType({task.key: task for task in _ALL})
"""All nine by key, in the order of the paper."""


def find_task(key: str) -> GlueTask:
    """The task with this key.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if key not in TASKS:
        raise ConfigError(f"task must be one of {', '.join(TASKS)}, not {key!r}")
    return TASKS[key]
