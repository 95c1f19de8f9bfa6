"""GLUE's nine tasks: examples from files or the Hugging Face Hub, as tokens in batches, and their metrics.

References
----------
Wang et al., GLUE: a multi-task benchmark and analysis platform for natural
language understanding, arXiv:1804.07461.
"""

from retrim.zoo.glue.encode import Encoded, Tokens, encode
from retrim.zoo.glue.examples import Examples
from retrim.zoo.glue.hub import load_hub
from retrim.zoo.glue.metrics import accuracy, f1, matthews, pearson, score, spearman
from retrim.zoo.glue.tasks import TASKS, GlueTask, Split, find_task
from retrim.zoo.glue.tsv import read_glue

__all__ = [
    "TASKS",
    "Encoded",
    "Examples",
    "GlueTask",
    "Split",
    "Tokens",
    "accuracy",
    "encode",
    "f1",
    "find_task",
    "load_hub",
    "matthews",
    "pearson",
    "read_glue",
    "score",
    "spearman",
]
