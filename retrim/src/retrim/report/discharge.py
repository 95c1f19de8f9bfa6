"""A picture of batteries that empty: charge and level against time, one line a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrim.errors import ConfigError, MissingExtraError
from retrim.files import replacing

_COLOURS = {"a": "#6b6b6b", "b": "#b08d57", "c": "#8ab6d6", "d": "#d1661e", "e": "#1b6ca8"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Write the picture of what `retrim.device.simulate` found; its form follows the file's ending.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    ConfigError
        If the file cannot be written, or matplotlib knows no such form.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("pictures need matplotlib: pip install 'retrim[zoo]'") from None
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    charge, level, work = figure.subplots(3, 1, height_ratios=(3, 2, 1.6))
    policies = result["policies"]
    for policy in policies:
        _charge(charge, policy)
        if policy["policy"] in "cde":
            _level(level, policy)
    _bars(work, policies)
    charge.set(
        title=result.get("title", ""), xlabel="hours", ylabel="battery, %", ylim=(0, 102), xlim=(0, None)
    )
    level.set(xlabel="hours", ylabel="MHz (dotted: late)", xlim=charge.get_xlim(), ylim=(0, None))
    charge.legend(fontsize="small")
    level.legend(fontsize="small")
    form = path.suffix.lstrip(".") or "png"
    with replacing(path, "picture", ConfigError) as beside:
        try:
            figure.savefig(beside, format=form, dpi=130)
        except ValueError:
            raise ConfigError(f"a picture must end in .png, .svg or .pdf, not .{form}") from None


def _charge(axis: Any, policy: Mapping[str, Any]) -> None:
    hours = [point[0] for point in policy["trace"]]
    axis.plot(
        hours,
        [100 * point[1] for point in policy["trace"]],
        color=_COLOURS.get(policy["policy"]),
        label=f"({policy['policy']}) {policy['title']}",
    )


def _level(axis: Any, policy: Mapping[str, Any]) -> None:
    """The operating point in use; dotted where inferences are late."""
    colour = _COLOURS.get(policy["policy"])
    width = 6 if policy["policy"] == "d" else 2  # (e) is drawn over it, often at the same clocks
    began = 0.0
    label: str | None = f"({policy['policy']}) {policy['title']}"
    before: float | None = None
    for part in policy["levels"]:
        until = began + part["hours"]
        style = ":" if part["late"] else "-"
        if before is not None:
            axis.plot([began, began], [before, part["mhz"]], color=colour, linewidth=width / 2)
        axis.plot([began, until], [part["mhz"]] * 2, style, color=colour, linewidth=width, label=label)
        label, began, before = None, until, part["mhz"]


def _bars(axis: Any, policies: Sequence[Mapping[str, Any]]) -> None:
    names = [f"({policy['policy']})" for policy in policies]
    colours = [_COLOURS.get(policy["policy"]) for policy in policies]
    on_time = [(policy["inferences"] - policy["missed"]) / 1e6 for policy in policies]
    axis.barh(names, on_time, color=colours)
    missed = [policy["missed"] / 1e6 for policy in policies]
    axis.barh(names, missed, left=on_time, color="white", edgecolor=colours, hatch="///")
    for row, policy in enumerate(policies):
        axis.text(
            policy["inferences"] / 1e6, row, f" {policy['inferences']:,}", va="center", fontsize="small"
        )
    axis.invert_yaxis()
    most = max(policy["inferences"] for policy in policies) / 1e6
    axis.set(
        xlabel="million inferences on one battery (hatched: after the deadline)", xlim=(0, 1.15 * most or 1)
    )
