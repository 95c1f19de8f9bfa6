"""What happens with transformers not loaded yet, and with transformers not there at all."""

from __future__ import annotations

import sys

import pytest

import retrim.torch.huggingface as ours
from retrim.errors import MissingExtraError
from retrim.torch.huggingface.registration import _Waiting, register


def waiting() -> int:
    return sum(isinstance(finder, _Waiting) for finder in sys.meta_path)


def test_one_finder_waits_however_often_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, _Waiting)])
    monkeypatch.delitem(sys.modules, "transformers.quantizers.auto", raising=False)
    register()
    register()
    assert waiting() == 1
    assert sys.meta_path[0].find_spec("transformers", None) is None
    assert waiting() == 1


def test_loaded_already() -> None:
    auto = pytest.importorskip(
        "transformers.quantizers.auto", reason="the Hugging Face extra is not installed"
    )
    register()
    assert not waiting()
    assert auto.AUTO_QUANTIZER_MAPPING["retrim"] is ours.RetrimQuantizer
    assert auto.AUTO_QUANTIZATION_CONFIG_MAPPING["retrim"] is ours.RetrimConfig


@pytest.mark.parametrize(
    ("name", "module"),
    [("PruneCallback", "callback"), ("DistillationTrainer", "distil"), ("pack_pretrained", "saving")],
)
def test_without_transformers(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for loaded in [key for key in sys.modules if key == "transformers" or key.startswith("transformers.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for own in ("callback", "distil", "saving", "quantizer"):
        monkeypatch.delitem(sys.modules, f"retrim.torch.huggingface.{own}", raising=False)
        monkeypatch.delattr(ours, own, raising=False)
    with pytest.raises(MissingExtraError) as caught:
        getattr(ours, name)
    assert str(caught.value) == (
        f"retrim.torch.huggingface.{name} needs transformers: pip install 'retrim[hf]'"
    )


def test_names_that_are_there_and_one_that_is_not() -> None:
    assert dir(ours) == sorted(ours.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Pruner'"):
        ours.Pruner  # noqa: B018
