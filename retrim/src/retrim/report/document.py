"""The document: the sections of a result put into one HTML page, and the page into a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrim.errors import ConfigError
from retrim.files import replacing
from retrim.report import accuracy, circumstances, curves, density_map, kernels, latency, quantity, summary
from retrim.report.markup import Markup, element, join
from retrim.report.series import Palette, name
from retrim.report.stylesheet import STYLE

# The browser itself refuses whatever would leave the page.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(result: Mapping[str, Any], *, title: str) -> str:
    """The result of a demo or a benchmark as one HTML page.

    The page depends on the result and the title alone: no date, no random name.

    Parameters
    ----------
    result : Mapping
        Ready for JSON: ``kind``, ``host``, ``seconds``, ``settings``, ``rows``, ``layers``,
        ``curves``, ``corpus``, and ``measure``: what accuracy is called and means.  What is missing, None or empty is left out of the page,
        and so is a number that is None or not finite.  In place of ``rows``, ``layers``, ``kernels``, ``settings``
        and ``measure`` there may be ``parts``, each with its own and a ``name``: they are shown one after another.
    title : str
        Heading of the page.

    Returns
    -------
    str
        A whole HTML document without script, network access or other files.

    Raises
    ------
    ConfigError
        A training curve has another number of values than of steps.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    main = element("main", _header(result, title), "\n", *_sections(result))
    return f"<!DOCTYPE html>\n{element('html', head, element('body', main), lang='en')}\n"


def write(path: str | os.PathLike[str], result: Mapping[str, Any], *, title: str | None = None) -> None:
    """Write the page of a result: beside the file first, then renamed, so that no half page is ever there.

    Parameters
    ----------
    path : path-like
        The HTML file; its folder must exist.
    result : Mapping
        As for `page`.
    title : str, optional
        Heading of the page; without it, the kind of the result.

    Raises
    ------
    ConfigError
        The file cannot be written.
    """
    target = Path(path)
    content = page(result, title=title or f"retrim {result.get('kind') or 'result'}").encode()
    with replacing(target, "report", ConfigError) as beside:
        beside.write_bytes(content)


def _header(result: Mapping[str, Any], title: str) -> Markup:
    host = result.get("host") or {}
    facts = [
        str(host["cpu"]) if host.get("cpu") else None,
        f"{host['isa_selected']} kernels" if host.get("isa_selected") else None,
        quantity.duration(result.get("seconds"))
        if quantity.finite(result.get("seconds")) is not None
        else None,
    ]
    line = " · ".join(fact for fact in facts if fact)
    return element("header", element("h1", title), element("p", line) if line else None)


def _sections(result: Mapping[str, Any]) -> list[Markup]:
    parts = result.get("parts") or [result]
    rows = [row for part in parts for row in part.get("rows") or []]
    palette = Palette(name(row) for row in rows)
    curve = curves.chart(result.get("curves") or {}, palette)
    found: list[tuple[str, str, Markup | None]] = []
    for part in parts:
        of = f", {part['name']}" if len(parts) > 1 and part.get("name") else ""
        found += [(f"{head}{of}", lead, body) for head, lead, body in _of_part(part, palette)]
    measures = [part["measure"] for part in parts if part.get("measure")]
    layers = any(part.get("layers") for part in parts)
    found += [
        ("Training", "After each name, the smoothed loss at the last step.", curve),
        (
            "How to read this page",
            "",
            circumstances.guide(
                rows, layers=layers, curves=curve is not None, measure=measures[0] if measures else None
            ),
        ),
        ("Machine", "", circumstances.machine(result.get("host") or {})),
        ("Text", "", circumstances.corpus(result.get("corpus") or {})),
    ]
    for part in parts:
        of = f", {part['name']}" if len(parts) > 1 and part.get("name") else ""
        found.append((f"Settings{of}", "", circumstances.settings(part.get("settings") or {})))
    return [_section(name, lead, body) for name, lead, body in found if body is not None]


def _of_part(part: Mapping[str, Any], palette: Palette) -> list[tuple[str, str, Markup | None]]:
    """Heading, lead and body of what one set of rows is shown by."""
    rows = part.get("rows") or []
    word = str((part.get("measure") or {}).get("word", "Accuracy"))
    return [
        ("In short", "", summary.headline(rows, word)),
        ("Results", "", summary.results(rows, word)),
        (
            f"{word} against density",
            "The dashed line is the dense model.",
            accuracy.chart(rows, palette, word),
        ),
        ("Latency", "Milliseconds for the whole model. Shorter is better.", latency.chart(rows)),
        (
            "Kernels",
            "What this machine’s profile chose for the packed layers.",
            kernels.section(part.get("kernels") or []),
        ),
        (
            "Density, layer by layer",
            "What was kept of each packed weight.",
            density_map.section(part.get("layers") or []),
        ),
    ]


def _section(name: str, lead: str, body: Markup) -> Markup:
    identity = name.lower().replace(",", "").replace(" ", "-")
    parts = [element("h2", name, id=identity), *([element("p", lead, class_="lead")] if lead else []), body]
    return join([element("section", join(parts, "\n"), aria_labelledby=identity), Markup("\n")])
