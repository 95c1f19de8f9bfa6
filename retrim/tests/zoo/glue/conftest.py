"""Tiny files in GLUE's layout, and its real files where they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrim.zoo.glue import TASKS


@pytest.fixture
def data() -> Path:
    """SST-2, RTE and STS-B as published."""
    root = os.environ.get("RETRIM_DATA") or Path(__file__).parents[5] / "shared" / "data"
    folder = Path(root) / "glue"
    if not folder.is_dir():
        pytest.skip(f"GLUE's files are not in {folder}; set RETRIM_DATA to the folder of the data")
    return folder


HEADERS = {
    "cola": "",
    "sst2": "sentence\tlabel",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
    "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "wnli": "index\tsentence1\tsentence2\tlabel",
}
"""First lines of the published training files."""

LINES = {
    "cola": ["gj04\t1\t\tIt is so.", "gj04\t0\t*\tSo it are."],
    "sst2": ["hide new secretions \t0", "it 's good\t1"],
    "mrpc": ['1\t70\t71\tHe said "so.\tSo he said.', "0\t72\t73\tOne.\tTwo."],
    "stsb": [
        "0\tg\tf\t2012\t1\tnone\tnone\tA man.\tThe man.\t4.750",
        "1\tg\tf\t2012\t2\tnone\tnone\tA\tB\t0",
    ],
    "qqp": ["133\t2\t3\tHow?\tHow so?\t1", "134\t4\t5\tWhy?\tWhen?\t0"],
    "mnli": [
        "0\t1\t1n\tfiction\tp\tp\tp\tp\tOne.\tTwo.\tneutral\tneutral",
        "1\t1\t1c\tfiction\tp\tp\tp\tp\tOne.\tNone.\tcontradiction\tcontradiction",
    ],
    "qnli": ["0\tWho?\tShe did.\tentailment", "1\tWho?\tIt is late.\tnot_entailment"],
    "rte": ["0\tOne.\tTwo.\tnot_entailment", "1\tOne.\tSome.\tentailment"],
    "wnli": ["0\tOne.\tTwo.\t1", "1\tOne.\tNone.\t0"],
}
"""Two examples of each."""


@pytest.fixture
def published(tmp_path):
    """Write a split of a task, by default its two examples; return the folder of all tasks and the file."""

    def published(key: str, split: str = "train", lines: list[str] | None = None) -> tuple[Path, Path]:
        path = tmp_path / TASKS[key].folder / f"{split}.tsv"
        path.parent.mkdir(exist_ok=True)
        head = [HEADERS[key]] if HEADERS[key] else []
        path.write_text("".join(f"{line}\n" for line in [*head, *(LINES[key] if lines is None else lines)]))
        return tmp_path, path

    return published


@pytest.fixture
def expected():
    """Sentences and labels of the two examples."""
    return {
        "cola": (["It is so.", "So it are."], None, [1, 0]),
        "sst2": (["hide new secretions ", "it 's good"], None, [0, 1]),
        "mrpc": (['He said "so.', "One."], ["So he said.", "Two."], [1, 0]),
        "stsb": (["A man.", "A"], ["The man.", "B"], [4.75, 0]),
        "qqp": (["How?", "Why?"], ["How so?", "When?"], [1, 0]),
        "mnli": (["One.", "One."], ["Two.", "None."], [1, 2]),
        "qnli": (["Who?", "Who?"], ["She did.", "It is late."], [0, 1]),
        "rte": (["One.", "One."], ["Two.", "Some."], [1, 0]),
        "wnli": (["One.", "One."], ["Two.", "None."], [1, 0]),
    }
