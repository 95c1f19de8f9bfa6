"""Series: which colour and stroke a method has, the same in every chart of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from retrim.report import quantity
from retrim.report.markup import Markup, element

DENSE = "dense"
_PLAIN = "fp32"
_COLOURS = 6
_STROKES = ("", " dashed", " dotted")


def title(row: Mapping[str, Any]) -> str:
    """What a row is called in charts: the method, and its density where that is not 1."""
    fraction, held = quantity.density(row.get("density")), _held(row)
    method = str(row.get("method", ""))
    return (
        method + held
        if method == DENSE or fraction in ("1", quantity.ABSENT)
        else f"{method} {fraction}{held}"
    )


def name(row: Mapping[str, Any]) -> str:
    """The series a row belongs to: its method, with the precision of its weights where that is not fp32."""
    return str(row.get("method", "")) + _held(row)


def is_plain(row: Mapping[str, Any]) -> bool:
    """Whether a row's weights are float32, as those of the dense model are."""
    return row.get("precision") in (None, _PLAIN)


def _held(row: Mapping[str, Any]) -> str:
    return "" if is_plain(row) else f", {row['precision']}"


class Palette:
    """Colour classes by method, in the order in which methods first appear; dense is neutral.  Once all colours are
    taken they come again with hollow marks and lines of dashes and dots.

    Parameters
    ----------
    methods : iterable of str
        Methods of the table's rows, repeats allowed.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self._index: dict[str, int] = {}
        for method in methods:
            self._add(method)

    def _add(self, method: str) -> None:
        if method != DENSE and method not in self._index:
            self._index[method] = len(self._index)

    def colour(self, method: str) -> str:
        """Class of a method."""
        self._add(method)
        if method == DENSE:
            return "dense"
        turn, colour = divmod(self._index[method], _COLOURS)
        return f"s{colour} hollow" if turn % 2 else f"s{colour}"

    def branches(self, names: Iterable[str]) -> dict[str, str]:
        """Classes of training branches: the colour of the method a name begins with, and a stroke of its own."""
        classes: dict[str, str] = {}
        used: dict[str, int] = {}
        for name in names:
            known = [m for m in (DENSE, *self._index) if m and name.startswith(m)]
            colour = self.colour(max(known, key=len) if known else name)
            turn = used.get(colour, 0)
            used[colour] = turn + 1
            classes[name] = colour + _STROKES[turn % len(_STROKES)]
        return classes


def legend(entries: Iterable[tuple[str, str, str]]) -> Markup:
    """Names with a sample of their mark: (class, mark, name), the mark ``line``, ``dot`` or ``bar``."""
    items = []
    for class_, mark, name in entries:
        sample = {
            "line": element("line", x1=1, x2=23, y1=6, y2=6, class_="curve"),
            "dot": element("circle", cx=12, cy=6, r=5, class_="dot"),
            "bar": element("rect", x=5, y=0, width=14, height=12, rx=3, class_="bar"),
        }[mark]
        drawing = element("svg", sample, class_=class_, viewBox="0 0 24 12", aria_hidden="true")
        items.append(element("li", drawing, name))
    return element("ul", *items, class_="legend")
