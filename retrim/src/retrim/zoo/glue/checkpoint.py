"""What a Hugging Face checkpoint brings along: its weights, the order of its classes, its positions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retrim.errors import ConfigError
from retrim.zoo.glue.tasks import GlueTask

_TABLES = ("position_embeddings", "wpe")
_UNNAMED = re.compile(r"LABEL_\d+")


def check_dense(name: str, config: Any) -> None:
    """Refuse a checkpoint that is quantized or packed: it cannot be trained; tell of one that is pruned.

    Raises
    ------
    ConfigError
    """
    kept = getattr(config, "quantization_config", None)
    if kept is None:
        if (Path(name) / "retrim.json").is_file():
            warnings.warn(
                f"model {name!r} is pruned already: what is called dense begins from its weights, zeros and all",
                stacklevel=2,
            )
        return
    method = kept.get("quant_method") if isinstance(kept, dict) else getattr(kept, "quant_method", None)
    what = (
        "packed by retrim: name the folder that it was packed from"
        if method == "retrim"
        else f"quantized ({method})"
    )
    raise ConfigError(f"model {name!r} must be a dense checkpoint, but is {what}")


def check_found(name: str, model: nn.Module, missing: Iterable[str]) -> None:
    """Refuse a checkpoint of which little is the model's: all but a head must be there.

    Raises
    ------
    ConfigError
    """
    absent = set(missing)
    sizes = {key: tensor.numel() for key, tensor in model.state_dict().items()}
    share = sum(size for key, size in sizes.items() if key in absent) / sum(sizes.values())
    if share > 0.5:
        raise ConfigError(
            f"model {name!r} must be a checkpoint of {type(model).__name__}, but {share:.0%} of its weights are not "
            f"there, {sorted(absent)[0]!r} among them: save it anew with save_pretrained"
        )


def check_length(name: str, model: nn.Module, max_length: int) -> None:
    """Refuse examples longer than the model has positions for, whatever its tokenizer says.

    Raises
    ------
    ConfigError
    """
    most = positions(model)
    if most is not None and max_length > most:
        raise ConfigError(
            f"max_length must be at most the {most} positions of model {name!r}, not {max_length}: make it smaller"
        )


def positions(model: nn.Module) -> int | None:
    """Tokens that a model takes at most; None where it has no table of positions."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _TABLES and isinstance(module, nn.Embedding):
            # RoBERTa counts from behind the token that fills up
            before = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before
    return None


@torch.no_grad()
def order_classes_(name: str, model: nn.Module, task: GlueTask, called: Mapping[int, str]) -> None:
    """Bring the classes of a checkpoint's head into GLUE's order, if it names GLUE's classes in another one.

    Parameters
    ----------
    name : str
        The checkpoint's, for messages.
    model : nn.Module
        With a head of `task.outputs` classes; changed in place.
    task : GlueTask
    called : mapping of int to str
        The checkpoint's own `id2label`.

    Warns
    -----
    UserWarning
        If it has other names for as many classes, so that their order cannot be told.

    Raises
    ------
    ConfigError
        If the head has no single last layer whose rows could be moved.
    """
    given = [called[number] for number in sorted(called)]
    if task.regression or len(given) != len(task.names) or all(map(_UNNAMED.fullmatch, given)):
        return
    plain, wanted = _plain(given), _plain(task.names)
    if sorted(plain) != sorted(wanted):
        warnings.warn(
            f"model {name!r} calls its classes {', '.join(given)}, where {task.folder} has {', '.join(task.names)}: "
            "they are taken in this order",
            stacklevel=2,
        )
        return
    rows = [plain.index(one) for one in wanted]
    if rows == sorted(rows):
        return
    last = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == len(wanted)]
    if len(last) != 1:
        raise ConfigError(
            f"model {name!r} has the classes of {task.folder} in another order, {', '.join(given)}, and "
            f"{len(last)} layers that could give them, not one: bring them into the order {', '.join(task.names)}"
        )
    for tensor in last[0].parameters():
        tensor.copy_(tensor[rows].clone())


def _plain(names: Sequence[str]) -> list[str]:
    """As they can be compared: upper case, spaces and hyphens say nothing."""
    return [re.sub(r"[\s-]+", "_", name.strip()).lower() for name in names]
