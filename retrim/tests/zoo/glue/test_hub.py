import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from retrim.errors import ConfigError, DataError, MissingExtraError
from retrim.zoo.glue import TASKS, load_hub


class DatasetsError(Exception):
    pass


class HTTPError(Exception):
    pass


class Data(dict):
    @property
    def column_names(self):
        return list(self)


@pytest.fixture
def hub(monkeypatch):
    """Put a stand-in for `datasets` in place, that gives or raises this; return the calls."""

    def hub(answer):
        calls = []

        def load_dataset(path, name, split):
            calls.append((path, name, split))
            if isinstance(answer, Exception):
                raise answer
            return answer

        module = ModuleType("datasets")
        module.load_dataset = load_dataset
        module.exceptions = SimpleNamespace(DatasetsError=DatasetsError)
        monkeypatch.setitem(sys.modules, "datasets", module)
        return calls

    return hub


def test_pairs(hub):
    calls = hub(Data(premise=["a", "b"], hypothesis=["c", "d"], label=[2, 0], idx=[0, 1]))
    found = load_hub("mnli", "dev_mismatched")
    assert calls == [("nyu-mll/glue", "mnli", "validation_mismatched")]
    assert (found.first, found.second, found.labels.tolist()) == (["a", "b"], ["c", "d"], [2, 0])
    assert found.labels.dtype == np.int64


def test_single_sentences_and_scores(hub):
    hub(Data(sentence=["a"], label=[1]))
    assert load_hub(TASKS["cola"], "train").second is None
    hub(Data(sentence1=["a"], sentence2=["b"], label=[4.5]))
    found = load_hub("stsb", "dev")
    assert found.labels.tolist() == [4.5]
    assert found.labels.dtype == np.float32


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("offline mode is enabled"),
        FileNotFoundError("not on the Hub"),
        OSError("500"),
        ValueError("Couldn't find cache for nyu-mll/glue for config 'rte'"),
        DatasetsError("damaged"),
        HTTPError("no route"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_reach(hub, monkeypatch, error):
    monkeypatch.setitem(sys.modules, "httpx2", SimpleNamespace(HTTPError=HTTPError))
    hub(error)
    with pytest.raises(ConfigError) as raised:
        load_hub("rte", "dev")
    assert str(raised.value) == (
        "RTE must come from the Hugging Face Hub or from a copy kept earlier, but neither is in reach "
        f"({type(error).__name__}): give a folder with RTE/dev.tsv to read_glue instead"
    )
    assert raised.value.__cause__ is error


def test_a_mistake_is_none_of_the_hubs(hub):
    hub(KeyError("of the program"))
    with pytest.raises(KeyError):
        load_hub("rte", "dev")


@pytest.mark.parametrize("found", [None, ModuleType("datasets")], ids=["none", "a folder of that name"])
def test_without_datasets(monkeypatch, found):
    monkeypatch.setitem(sys.modules, "datasets", found)
    with pytest.raises(MissingExtraError) as raised:
        load_hub("rte", "dev")
    assert str(raised.value) == (
        "GLUE from the Hugging Face Hub needs datasets: pip install datasets, or name a folder of GLUE's files by --data"
    )


def test_a_wrong_split_is_refused_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="split of RTE must be train or dev, not 'test'"):
        load_hub("rte", "test")


@pytest.mark.parametrize(
    ("data", "rest"),
    [
        (
            Data(sentence1=["a"], label=[0]),
            "must have the columns sentence1, sentence2, label, but lacks sentence2: give a folder to read_glue instead",
        ),
        (
            Data(sentence1=["a", "c"], sentence2=["b", None], label=[0, 1]),
            "must have text in every row of sentence2, but has none in some: give a folder to read_glue instead",
        ),
        *(
            (
                Data(sentence1=["a"] * len(labels), sentence2=["b"] * len(labels), label=labels),
                "must have labels from 0 to 1, but has others or none: give a folder to read_glue instead",
            )
            for labels in ([-1], [2], [None], [])
        ),
    ],
)
def test_changed_data_are_refused(hub, data, rest):
    hub(data)
    with pytest.raises(DataError) as raised:
        load_hub("rte", "train")
    assert str(raised.value) == f"nyu-mll/glue, rte, {rest}"
