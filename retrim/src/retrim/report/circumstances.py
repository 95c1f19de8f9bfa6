"""The circumstances of a result: machine and versions, settings, text, and how to read the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from retrim.report import quantity
from retrim.report.markup import Markup, element
from retrim.report.series import is_plain

_HOST = (
    ("cpu", "Processor"),
    ("isa", "Instruction sets"),
    ("isa_selected", "Kernels used"),
    ("cores", "Cores"),
    ("system", "System"),
    ("python", "Python"),
)
_CORPUS = (
    ("source", "Source"),
    ("train_tokens", "Training tokens"),
    ("held_out_tokens", "Held-out tokens"),
    ("digest", "Digest"),
)
_WORDS = (
    ("density", "Density", "Kept weights as a share of all weights, of the layers that were pruned."),
    (
        "perplexity",
        "Perplexity",
        "The exponential of the mean loss per token on text that was not trained on. Lower is better.",
    ),
    ("accuracy", "Accuracy", "How often the most probable next token is the right one, on the same text."),
    (
        "speedup",
        "Speed-up",
        (
            "The time of the dense run-time divided by that of the packed model: same machine, same precision, "
            "same threads, interleaved in one run."
        ),
    ),
    ("speedup_linears", "Linears", "The same for the pruned linear layers alone."),
    (
        "amdahl",
        "Of bound",
        (
            "The speed-up of the whole model as a share of what Amdahl’s law allows, given how much of the time "
            "the pruned layers take and how much faster they became."
        ),
    ),
)


def machine(host: Mapping[str, Any]) -> Markup | None:
    """Processor, system and versions."""
    versions = [(str(name), value) for name, value in (host.get("versions") or {}).items()]
    return _list([*_named(host, _HOST), *versions])


def settings(values: Mapping[str, Any]) -> Markup | None:
    """Everything the run was told."""
    return _list((str(name), value) for name, value in values.items())


def corpus(values: Mapping[str, Any]) -> Markup | None:
    """The text that was trained and measured on."""
    return _list(_named(values, _CORPUS))


def guide(
    rows: Sequence[Mapping[str, Any]], *, layers: bool, curves: bool, measure: Mapping[str, str] | None = None
) -> Markup | None:
    """What the words on this page mean; only of those that occur."""
    other = {"accuracy": (measure["word"], measure["meaning"])} if measure else {}
    entries = [
        other.get(key, (word, meaning))
        for key, word, meaning in _WORDS
        if any(quantity.finite(row.get(key)) is not None for row in rows)
    ]
    if any(not is_plain(row) for row in rows):
        entries.append(
            (
                "bf16, int8",
                (
                    "Rows whose packed weights have fewer bits; int8 scales each token by itself. Their times are set "
                    "against the same dense model in fp32, so that their speed-up is that of pruning and precision "
                    "together."
                ),
            )
        )
    if layers:
        entries.append(
            ("Density map", "One cell a weight: the stronger its colour, the more of it was kept.")
        )
    if curves:
        entries.append(
            (
                "Training curves",
                (
                    "Points are single measurements; the line is their centred moving mean over a twentieth of the "
                    "curve. Single points far outside the rest are not shown."
                ),
            )
        )
    if not entries:
        return None
    return element(
        "dl", *(element("div", element("dt", w), element("dd", m)) for w, m in entries), class_="guide"
    )


def _named(values: Mapping[str, Any], names: Iterable[tuple[str, str]]) -> list[tuple[str, Any]]:
    return [(word, values[key]) for key, word in names if values.get(key) not in (None, [], "")]


def _list(entries: Iterable[tuple[str, Any]]) -> Markup | None:
    pairs = [element("div", element("dt", name), element("dd", _value(value))) for name, value in entries]
    return element("dl", *pairs, class_="facts") if pairs else None


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return quantity.fixed(value, 0)
    return quantity.plain(value)
