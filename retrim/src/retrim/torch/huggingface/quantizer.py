"""Packed checkpoints through ``from_pretrained``: a quantizer of transformers named ``retrim``.

A packed folder's ``config.json`` has ``"quantization_config": {"quant_method": "retrim"}`` and its
``model.safetensors`` is an artifact.  transformers builds the model without memory,
gives it to us, loads the dense tensors by itself, and gives it to us again.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from retrim import __version__
from retrim.artifact import Artifact, load
from retrim.errors import ArtifactError, ConfigError
from retrim.torch.huggingface.fusions import activation_after, fused
from retrim.torch.linear import PackedLinear
from retrim.torch.packing import check_fit, owner_of, placed_weights, put_module

if TYPE_CHECKING:  # transformers is half loaded when it has this module registered
    from transformers.modeling_utils import PreTrainedModel

METHOD = "retrim"
WEIGHTS_FILE = "model.safetensors"


@register_quantization_config(METHOD)
class RetrimConfig(QuantizationConfigMixin):
    """What a packed checkpoint's ``config.json`` says.

    Parameters
    ----------
    retrim_version : str
        The version that packed it, to be told; the artifact has the version of its own format.
    quant_method : str
        Always ``retrim``.
    """

    def __init__(self, retrim_version: str = __version__, quant_method: str = METHOD) -> None:
        if quant_method != METHOD:
            raise ConfigError(f"quant_method must be {METHOD!r}, not {quant_method!r}")
        self.quant_method = METHOD  # type: ignore[assignment]  # its own ones are an enumeration
        self.retrim_version = retrim_version


class _Awaiting(nn.Module):
    """Stands where a packed layer will be: it has no weight to load, and no way to run."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.bias = getattr(layer, "bias", None)
        self.weight = torch.empty(0)  # no parameter; some models initialise weights of layers by their names
        self.weight._is_hf_initialized = True  # type: ignore[attr-defined]


@register_quantizer(METHOD)
class RetrimQuantizer(HfQuantizer):
    """Replaces the layers of packed weights by `PackedLinear` while transformers loads a model.

    Raises
    ------
    ConfigError
        If a checkpoint that is not packed is to be loaded so, a device is no CPU, or the model's type
        is one that its packs do not take.
    ArtifactError
        If the artifact is missing, damaged, foreign or newer, or more than one file.
    ShapeError
        If the model is not the artifact's.
    """

    def __init__(self, quantization_config: QuantizationConfigMixin, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._artifact: Artifact | None = None
        self._dtype: torch.dtype | None = None

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The type as asked for; it is checked when the packs are known."""
        self._dtype = dtype
        return dtype

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Refuse a checkpoint that is not packed, and devices that packed layers do not run on."""
        if not self.pre_quantized:
            raise ConfigError(
                "a checkpoint must be packed before it is loaded with RetrimConfig: "
                "retrim.torch.huggingface.pack_pretrained(folder, packed_folder), and load that without it"
            )
        for device in device_map.values() if isinstance(device_map, dict) else ():
            if str(device) != "cpu":
                raise ConfigError(
                    f"a packed model must be loaded on the CPU, not on {device}: leave device_map out, or load the "
                    "pruned checkpoint"
                )

    def update_device_map(self, device_map: Any) -> Any:
        """All of the model on the CPU."""
        return None if device_map is None else {"": torch.device("cpu")}

    def _process_model_before_weight_loading(
        self,
        model: PreTrainedModel,
        checkpoint_files: list[str] | None = None,
        **kwargs: Any,
    ) -> PreTrainedModel:
        artifact = load(_only(checkpoint_files))
        if artifact.architecture != type(model).__name__:
            raise ConfigError(
                f"the model must be the packed {artifact.architecture}, not {type(model).__name__}: load it with that "
                "class, or with the AutoModel of its task"
            )
        check_fit(model, artifact)
        _check_dtype(artifact, self._dtype)
        stand_ins: dict[nn.Module, _Awaiting] = {}  # one layer may have several names
        for name in _names(artifact):
            path, layer = owner_of(model, name, artifact.weights[_own(artifact, name)].kind)
            put_module(model, path, stand_ins.setdefault(layer, _Awaiting(layer)))
        model._keys_to_ignore_on_load_unexpected = _ours(artifact) | set(
            model._keys_to_ignore_on_load_unexpected or ()
        )
        self._artifact = artifact
        return model

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        if self._artifact is None:
            raise ArtifactError("a packed model must be loaded from its folder: from_pretrained(folder)")
        weights = placed_weights(self._artifact, None)
        done: dict[nn.Module, PackedLinear] = {}
        fusions: dict[str, str] = {}
        for name in _names(self._artifact):
            path = name.rpartition(".")[0]
            layer = model.get_submodule(path)
            if layer not in done:
                bias = getattr(layer, "bias", None)
                weight = weights[_own(self._artifact, name)]
                done[layer] = PackedLinear(weight, bias, fused(model, path))
                if done[layer].activation is not None:
                    fusions[path] = activation_after(path)
            put_module(model, path, done[layer])
        model.__dict__["fusions"] = partial(dict, fusions)  # for who times layers: what they took in
        self._artifact = None
        return model

    def is_serializable(self) -> bool:
        """No: copy the folder, or save the pruned model."""
        return False

    @property
    def is_trainable(self) -> bool:
        """No: train the pruned model, and pack it again."""
        return False

    @property
    def is_compileable(self) -> bool:
        """Yes: torch.compile keeps a packed layer as one call."""
        return True


def _only(files: list[str] | None) -> str:
    if not files or len(files) != 1 or Path(files[0]).suffix != ".safetensors":
        raise ArtifactError(
            f"a packed checkpoint must have one {WEIGHTS_FILE}, not {len(files or [])} files of weights: pack it again"
        )
    return files[0]


def _check_dtype(artifact: Artifact, dtype: torch.dtype | None) -> None:
    if dtype in (None, torch.float32):
        return
    running = {weight.packs[0].precision for weight in artifact.weights.values()}
    if dtype != torch.bfloat16 or "fp32" in running:
        raise ConfigError(
            f"a model packed in {', '.join(sorted(running))} must not be loaded in {dtype}: pass dtype=torch.float32, "
            "or pack it in bf16 or int8 and load it in bfloat16"
        )


def _names(artifact: Artifact) -> list[str]:
    """Every name of every packed weight."""
    return [*artifact.weights, *(alias for alias, own in artifact.aliases.items() if own in artifact.weights)]


def _own(artifact: Artifact, name: str) -> str:
    return artifact.aliases.get(name, name)


def _ours(artifact: Artifact) -> set[str]:
    """Patterns of the tensors in the file that are no tensors of the model."""
    weights = "|".join(re.escape(name) for name in artifact.weights)
    return {rf"^({weights})\.(fp32|bf16|int8)\.r\d+$", rf"^({weights})\.support$", r"^tokenizer\.json$"}
