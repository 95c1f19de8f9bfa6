"""Markup: HTML and SVG elements as text in which every plain string is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape

_VOID = frozenset({"meta", "wbr"})
_NOT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


class Markup(str):
    """A string that is HTML already; any other string is text, and is escaped."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Escape a string; what HTML must not hold (control characters, lone surrogates) becomes U+FFFD."""
    return value if isinstance(value, Markup) else Markup(escape(_NOT_TEXT.sub("\ufffd", value), quote=True))


def element(name: str, /, *children: str | None, **attributes: str | float | None) -> Markup:
    """One element with its children.

    Parameters
    ----------
    name : str
    *children : str or None
        `Markup` goes in as it is, any other string escaped, None not at all.
    **attributes : str, float or None
        None leaves the attribute out.  A trailing underscore is dropped (``class_``),
        the other underscores become hyphens (``aria_label``); numbers keep two decimals.
    """
    opening = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value if isinstance(value, str) else number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{join(child for child in children if child is not None)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Parts one after the other, each escaped unless it is markup."""
    return Markup(between.join(text(part) for part in parts))


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def table(
    head: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    caption: str,
    marked: int | None = None,
    class_: str = "data",
) -> Markup:
    """A table that scrolls sideways by itself where the screen is too narrow.

    Parameters
    ----------
    head : iterable of str
        Column titles.
    rows : iterable of iterables of str
        Cells; the first one of a row is its header.  Finished ``<td>`` markup is kept.
    caption : str
        Name of the table for those who do not see it.
    marked : int, optional
        Index of the row to set off.
    """
    body = []
    for index, (first, *rest) in enumerate(rows):
        cells = [
            cell if cell.startswith("<td") and isinstance(cell, Markup) else element("td", cell)
            for cell in rest
        ]
        body.append(
            element(
                "tr", element("th", first, scope="row"), *cells, class_="marked" if index == marked else None
            )
        )
    titles = element("tr", *(element("th", title, scope="col") for title in head))
    return element(
        "div",
        element("table", element("thead", titles), "\n", element("tbody", join(body, "\n")), class_=class_),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def details(summary: str, *children: str) -> Markup:
    """Something folded away behind its name."""
    return element("details", element("summary", summary), *children)


def picture(draw: Callable[[int], Markup]) -> Markup:
    """The same drawing for wide and for narrow screens, so that its text keeps its size on both.

    Parameters
    ----------
    draw : callable
        Makes the SVG for a width in pixels.  The style sheet shows one of the two.
    """
    return join([element("div", draw(800), class_="wide"), element("div", draw(340), class_="narrow")], "\n")


def svg(width: float, height: float, label: str, *children: str) -> Markup:
    """A drawing as one image with a spoken description."""
    return element(
        "svg", *children, viewBox=f"0 0 {number(width)} {number(height)}", role="img", aria_label=label
    )
