import dataclasses

import pytest

from retrim.errors import ConfigError
from retrim.zoo.glue import TASKS, find_task
from retrim.zoo.glue.metrics import METRICS

FOLDERS = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"]


def test_nine_tasks_in_the_order_of_the_paper():
    assert [task.folder for task in TASKS.values()] == FOLDERS
    assert all(find_task(key).key == key for key in TASKS)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.key)
def test_the_parts_of_a_task_fit(task):
    assert len(task.sentences) == len(task.hub) == 1 + task.paired
    assert len(task.names) == len(task.values)
    assert set(task.metrics) <= set(METRICS)
    assert task.outputs == (3 if task.key == "mnli" else 1 if task.key == "stsb" else 2)
    assert task.regression == (task.key == "stsb")
    assert not task.header or {*task.sentences, task.label} <= {*task.header}
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.key = "other"


def test_labels_are_numbered_as_on_the_hub():
    assert TASKS["rte"].names == TASKS["qnli"].names == ("entailment", "not_entailment")
    assert TASKS["wnli"].names == ("not_entailment", "entailment")
    assert TASKS["mnli"].names == ("entailment", "neutral", "contradiction")
    assert TASKS["cola"].names == ("unacceptable", "acceptable")


def test_splits():
    assert [split.name for split in TASKS["mnli"].splits] == ["train", "dev_matched", "dev_mismatched"]
    assert TASKS["mnli"].split("dev_matched").hub == "validation_matched"
    assert TASKS["rte"].split("dev").hub == "validation"
    assert TASKS["qqp"].split("train").examples == 363846


def test_what_is_not_there_is_refused():
    with pytest.raises(ConfigError) as raised:
        find_task("sst-2")
    assert str(raised.value) == (
        "task must be one of cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, not 'sst-2'"
    )
    with pytest.raises(ConfigError) as raised:
        TASKS["rte"].split("test")
    assert str(raised.value) == (
        "split of RTE must be train or dev, not 'test': GLUE publishes no labels of its test sets"
    )
    with pytest.raises(ConfigError, match="must be train, dev_matched or dev_mismatched, not 'dev'"):
        TASKS["mnli"].split("dev")
