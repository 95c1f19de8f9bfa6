import re

import numpy as np
import pytest

from retrim.errors import ConfigError, DataError
from retrim.zoo.glue import TASKS, Examples, read_glue


def sentence(folder, key="rte", split="train"):
    with pytest.raises(DataError) as raised:
        read_glue(folder, key, split)
    return str(raised.value)


@pytest.mark.parametrize("key", TASKS)
def test_each_task_in_its_layout(published, expected, key):
    for split in TASKS[key].splits:
        folder, path = published(key, split.name)
        first, second, labels = expected[key]
        for given in (folder, str(path.parent)):
            found = read_glue(given, key, split.name)
            assert (found.first, found.second) == (first, second)
            assert found.labels.tolist() == labels
            assert found.labels.dtype == (np.float32 if key == "stsb" else np.int64)
            assert len(found) == 2


def test_a_task_is_named_by_its_key_or_given(published):
    folder, _ = published("rte")
    assert read_glue(folder, TASKS["rte"], "train").first == read_glue(folder, "rte", "train").first


def test_columns_are_found_by_name(tmp_path):
    (tmp_path / "train.tsv").write_text("label\tx\tsentence2\tsentence1\nentailment\t\tb\ta\n")
    found = read_glue(tmp_path, "rte", "train")
    assert (found.first, found.second, found.labels.tolist()) == (["a"], ["b"], [0])


def test_byte_order_mark_windows_lines_and_no_last_end(published, expected):
    folder, path = published("mrpc")
    text = path.read_bytes().replace(b"\n", b"\r\n")
    for content in (b"\xef\xbb\xbf" + text, text.rstrip(), text + b"\r\n\n"):
        path.write_bytes(content)
        found = read_glue(folder, "mrpc", "train")
        assert (found.first, found.second, found.labels.tolist()) == expected["mrpc"]


def test_quotes_and_odd_separators_are_text(published):
    text = '"It\'s\u2028so\x85"" \x0b\x0c" \\t'
    folder, _ = published("sst2", lines=[f"{text}\t1", '"\t0'])
    assert read_glue(folder, "sst2", "train").first == [text, '"']


def test_cut_off_rows_of_qqp_are_passed_over(published):
    lines = ["1\t2\t3\tWas he", '"\tWho?\t0', "4\t5\t6\tHow?\t\t1"]
    folder, path = published("qqp", lines=lines)
    message = (
        f"2 rows of {str(path)!r} (the first in line 2) end before their last column and are passed over"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        found = read_glue(folder, "qqp", "train")
    assert (found.first, found.second, found.labels.tolist()) == (["How?"], [""], [1])


@pytest.mark.parametrize(
    ("key", "line", "rest"),
    [
        ("rte", "0\ta\tb", "must have 4 columns between tabs, not 3: correct or drop the line"),
        (
            "rte",
            "0\ta\tb\tc\tentailment",
            "must have 4 columns between tabs, not 5: correct or drop the line",
        ),
        ("rte", "", "must have 4 columns between tabs, not 1: correct or drop the line"),
        ("cola", "gj04\t1\tSo.", "must have 4 columns between tabs, not 3: correct or drop the line"),
        (
            "qqp",
            "1\t2\t3\ta\tb\t1\t",
            "must have 6 columns between tabs, not 7: correct or drop the line",
        ),
        (
            "rte",
            "0\ta\tb\tneutral",
            "must have one of entailment, not_entailment in 'label', not 'neutral': correct it, or take the folder of "
            "RTE",
        ),
        (
            "mnli",
            "1\t1\t1c\tf\tp\tp\tp\tp\ta\tb\t-\t-",
            "must have one of entailment, neutral, contradiction in 'gold_label', not '-': correct it, or take the "
            "folder of MNLI",
        ),
        (
            "sst2",
            "a\t" + "x" * 50,
            f"must have one of 0, 1 in 'label', not '{'x' * 40}…': correct it, or take the folder of SST-2",
        ),
        (
            "rte",
            "0\t \tb\tentailment",
            "must have text in 'sentence1', but has none: correct or drop the line",
        ),
        (
            "rte",
            "0\ta\t\tentailment",
            "must have text in 'sentence2', but has none: correct or drop the line",
        ),
        *(
            (
                "stsb",
                f"0\tg\tf\t2012\t1\tn\tn\ta\tb\t{score}",
                f"must have a score from 0 to 5, not {score!r}: correct or drop the line",
            )
            for score in ("5.1", "-0.1", "nan", "inf", "", "four")
        ),
    ],
)
def test_a_damaged_line_is_named(published, key, line, rest):
    filler = published(key)[1].read_text().splitlines()[-1]
    folder, path = published(key, lines=[filler, line, filler])
    number = 2 if key == "cola" else 3
    assert sentence(folder, key) == f"examples {str(path)!r}, line {number}, {rest}"


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (b"", " must hold at least one example, but are empty: copy them again"),
        (b"\xef\xbb\xbf\r\n\n", " must hold at least one example, but are empty: copy them again"),
        (
            b"index\tsentence1\tsentence2\tlabel\n",
            " must hold at least one example, but hold none: copy them again",
        ),
        (
            b"index\tsentence1\tsentence2\n0\ta\tb\n",
            ", line 1, must name the columns sentence1, sentence2, label, but lack label: take train.tsv of GLUE's RTE",
        ),
        (
            b"0\ta\tb\tentailment\n",
            ", line 1, must name the columns sentence1, sentence2, label, but lack sentence1, sentence2, label: take "
            "train.tsv of GLUE's RTE",
        ),
        (
            b"\xef\xbb\xbfindex\tsentence1\tsentence2\tlabel\n0\ta\t\xff\tentailment\n",
            ", line 2, must be UTF-8 text, but hold the byte 0xff: copy the file again, or convert it",
        ),
    ],
)
def test_a_damaged_file_is_named(published, content, rest):
    folder, path = published("rte")
    path.write_bytes(content)
    assert sentence(folder) == f"examples {str(path)!r}{rest}"


def test_what_is_missing_is_named(tmp_path, published):
    absent = tmp_path / "absent"
    assert sentence(absent) == f"data folder {str(absent)!r} must be a folder that exists"
    assert sentence(tmp_path) == (
        f"data folder {str(tmp_path)!r} must hold RTE/train.tsv or train.tsv, but does not: unpack GLUE's RTE there"
    )
    folder, path = published("rte")
    assert sentence(folder, split="dev") == (
        f"data folder {str(tmp_path)!r} must hold RTE/dev.tsv, but does not: unpack GLUE's RTE there"
    )
    assert sentence(path) == f"data folder {str(path)!r} must be a folder that exists"
    with pytest.raises(ConfigError, match="split of RTE must be train or dev, not 'validation'"):
        read_glue(folder, "rte", "validation")
    with pytest.raises(ConfigError, match="task must be one of"):
        read_glue(folder, "RTE", "train")


def test_examples_are_of_one_length():
    with pytest.raises(DataError) as raised:
        Examples(["a", "b"], ["c"], np.zeros(2))
    assert str(raised.value) == (
        "examples must have as many second sentences and labels as first ones, 2, not 1 and (2,)"
    )
    with pytest.raises(DataError, match=r"2, not 2 and \(1,\)"):
        Examples(["a", "b"], None, np.zeros(1))


@pytest.mark.parametrize(
    ("key", "split", "balance"),
    [
        ("sst2", "train", [29780, 37569]),
        ("sst2", "dev", [428, 444]),
        ("rte", "train", [1249, 1241]),
        ("rte", "dev", [146, 131]),
    ],
)
def test_published_classes(data, key, split, balance):
    found = read_glue(data, key, split)
    assert len(found) == TASKS[key].split(split).examples
    assert np.bincount(found.labels).tolist() == balance


@pytest.mark.parametrize(("split", "mean"), [("train", 2.700999), ("dev", 2.363908)])
def test_published_scores(data, split, mean):
    found = read_glue(data, "stsb", split)
    assert len(found) == TASKS["stsb"].split(split).examples
    assert (found.labels.min(), found.labels.max()) == (0, 5)
    assert found.labels.mean() == pytest.approx(mean, abs=1e-5)
