"""What every pack that gets past `parse` must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from retrim.artifact.layout import PANEL, AnyView, ListView, PackView, lane_width


def holds(view: AnyView) -> bool:
    """What a kernel relies on, said again list by list."""
    return lists_hold(view) if isinstance(view, ListView) else blocks_hold(view)


def lists_hold(view: ListView) -> bool:
    width, count = lane_width(view.precision), -(-view.outputs // PANEL) * PANEL // view.height
    ends = view.ends.reshape(-1).tolist()
    found = [
        view.ends.shape == (count, view.segments),
        1 <= view.segments <= 8,
        view.packed_rows == count * view.height,
        ends == sorted(ends),
        view.columns.size == ends[-1] * width,
        view.values.size == ends[-1] * width * view.height,
        (view.scales is None) == (view.precision != "int8"),
        view.scales is None or bool((np.isfinite(view.scales) & (view.scales > 0)).all()),
        view.precision != "int8" or view.values.min(initial=0) >= -127,
    ]
    columns, values = view.columns.tolist(), view.values.reshape(-1, view.height, width)
    for first in range(0, len(ends), view.segments):
        seen: list[int] = []
        for cell in range(first, first + view.segments):
            lanes = range(ends[cell - 1] if cell else 0, ends[cell])
            segment = [column for lane in lanes for column in columns[lane * width : (lane + 1) * width]]
            kept = sorted(set(segment))
            repeated = len(segment) - len(kept)
            found += [repeated < width, segment == kept + kept[-1:] * repeated]
            found.append(not repeated or not values[ends[cell] - 1, :, width - repeated :].any())
            seen += kept
        found += [len(set(seen)) == len(seen), all(0 <= column < view.inputs for column in seen)]
    return all(found)


def blocks_hold(view: PackView) -> bool:
    width = lane_width(view.precision)
    rows = [] if view.rows is None else [row for row in view.rows.tolist() if row != -1]
    found = [
        view.starts[0] == 0,
        view.starts[-1] == len(view.columns),
        view.height % PANEL == view.packed_rows % PANEL == view.inputs % view.group == 0,
        len(view.starts) - 1 == -(-view.packed_rows // view.height),
        view.packed_rows >= view.outputs if view.rows is None else len(view.rows) == view.packed_rows,
        len(set(rows)) == len(rows),
        all(0 <= row < view.outputs for row in rows),
        (view.scales is None) == (view.precision != "int8"),
        view.scales is None or (len(view.scales) == view.packed_rows and bool((view.scales > 0).all())),
        view.scales is None or bool(np.isfinite(view.scales).all()),
        view.precision != "int8" or view.values.min(initial=0) >= -127,
    ]
    end = 0
    for block in range(len(view.starts) - 1):
        columns = view.columns[view.starts[block] : view.starts[block + 1]].tolist()
        groups = [columns[i : i + view.group] for i in range(0, len(columns), view.group)]
        panels = (min((block + 1) * view.height, view.packed_rows) - block * view.height) // PANEL
        end += panels * PANEL * -(-len(columns) // width) * width
        found += [
            view.starts[block] <= view.starts[block + 1],
            columns == sorted(set(columns)),
            all(0 <= column < view.inputs for column in columns),
            all(group == list(range(group[0], group[0] + view.group)) for group in groups),
            all(group[0] % view.group == 0 for group in groups),
        ]
    return all([*found, end == view.values.size])


@pytest.fixture(scope="session")
def in_range() -> Callable[[AnyView], bool]:
    """Tells whether a kernel may read what a view describes."""
    return holds
