"""`retrim simulate` and `retrim govern`: what levels are worth on a battery, and which one to run now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from retrim.cli_console import JsonOption, PlotOption, console, say, write_json
from retrim.cli_device import RootOption, device_of
from retrim.cli_tables import shown
from retrim.device import Battery, Cluster, Device, LevelTable, Workload, just_meeting, read_levels
from retrim.device.checks import number
from retrim.device.governor import Governor, consider
from retrim.device.probe import SYS, signals
from retrim.device.shares import NAMES
from retrim.device.simulation import rivals_missing
from retrim.device.simulation import simulate as simulate_
from retrim.errors import ConfigError, DeviceError

_COUNT = 6  # levels where none are given
_DEADLINE = 100.0
_MOST_SECONDS = 1e6

LevelsArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[LEVELS]", help="A table of levels (TOML or JSON).  [levels that just meet the deadline]"
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="A built-in device, or a TOML file.")]
ClusterOption = Annotated[str | None, typer.Option(help="Its cluster.  \\[default: the fastest]")]
DeadlineOption = Annotated[
    float | None, typer.Option(help="Milliseconds for one inference.  \\[default: the table's, else 100]")
]
MhzOption = Annotated[
    str | None,
    typer.Option(
        help="Without a table: operating points of its levels, with commas.  \\[default: six of them]"
    ),
]


def simulate(
    levels: LevelsArgument = None,
    device: DeviceOption = "odroid-xu3-a7",
    cluster: ClusterOption = None,
    deadline_ms: DeadlineOption = None,
    period_ms: Annotated[
        float | None, typer.Option(help="Milliseconds between two requests.  \\[default: the deadline]")
    ] = None,
    mhz: MhzOption = None,
    cores: Annotated[int, typer.Option(min=1, help="Busy during an inference.")] = 1,
    battery_mwh: Annotated[
        float | None, typer.Option(help="Capacity of the battery.  \\[default: the device's]")
    ] = None,
    static_mw: Annotated[
        float | None, typer.Option(help="Static power at the top clock.  \\[default: the device's]")
    ] = None,
    shares: Annotated[
        str, typer.Option(help=f"Of the energy: {', '.join(NAMES)}, or numbers with commas.")
    ] = NAMES[0],
    json_path: JsonOption = None,
    plot: PlotOption = None,
) -> None:
    """Empty a battery under five policies: dense, backbone, one level, DVFS, and DVFS with levels."""
    found = device_of(device)
    chosen = found.cluster(cluster)
    if static_mw is not None:
        chosen = chosen.with_static(static_mw)
    table, deadline = _table(levels, chosen, deadline_ms, mhz)
    workload = Workload(deadline_ms=deadline, period_ms=period_ms, cores=cores)
    battery = _battery(found, battery_mwh)
    title = (
        f"{found.title}, cluster {chosen.name}, {battery.capacity_mwh / 1000:g} Wh, deadline {deadline:g} ms"
    )
    result = simulate_(table, chosen, battery, workload, shares=shares) | {
        "device": found.name,
        "title": title,
    }
    if json_path is not None:
        write_json(json_path, result)
    if plot is not None:
        from retrim.report.discharge import draw

        draw(result, plot)
    say(title)
    console.print(_policies(result["policies"]))
    _say_gains(result, table)
    console.print(_sensitivity(result))
    for note in chosen.notes:
        say(f"note: {note}")
    if plot is not None:
        say(f"Picture: {plot}")


def govern(
    levels: LevelsArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print decisions and change nothing.")] = False,
    device: DeviceOption = "odroid-xu3-a7",
    cluster: ClusterOption = None,
    deadline_ms: DeadlineOption = None,
    mhz: MhzOption = None,
    policy: Annotated[
        str | None, typer.Option(help="The cpufreq policy whose clock counts.  \\[default: the fastest]")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many decisions.")] = 1,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between two of them.")] = 1.0,
    latency_p99_ms: Annotated[float | None, typer.Option(help="As the serving process would tell.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="As the serving process would tell.")] = 0,
    root: RootOption = SYS,
    json_path: JsonOption = None,
) -> None:
    """Print which level the governor would run now, from the machine's battery, clock and temperature."""
    if not dry_run:
        raise ConfigError(
            "retrim govern must be called with --dry-run: levels are switched in the process that runs the model"
        )
    number("interval", interval, most=_MOST_SECONDS)
    table, deadline = _table(levels, device_of(device, root).cluster(cluster), deadline_ms, mhz)
    governor = Governor(levels=table.levels, deadline_ms=deadline)
    current = 0
    rows: list[dict[str, Any]] = []
    try:
        for sample in range(samples):
            if sample:
                time.sleep(interval)
            now = signals(root, latency_p99_ms=latency_p99_ms, queue=queue, cluster=policy)
            decision = consider(now, current, governor)
            current = decision.level
            name = governor.levels[current].name
            rows.append(
                {"battery": now.battery, "freq_mhz": now.freq_mhz, "temp_c": now.temp_c}
                | {"level": name, "reason": decision.reason}
            )
            say(f"{_signal_words(now.battery, now.freq_mhz, now.temp_c)} → {name} ({decision.reason})")
    finally:  # what was decided is kept where a later reading fails
        if json_path is not None and rows:
            write_json(json_path, {"deadline_ms": deadline, "decisions": rows})


def _table(
    path: Path | None, cluster: Cluster, deadline_ms: float | None, mhz: str | None
) -> tuple[LevelTable, float]:
    """The table and the deadline to hold it to."""
    if path is None:
        deadline = _DEADLINE if deadline_ms is None else deadline_ms
        return just_meeting(_frequencies(cluster, mhz), deadline), deadline
    if mhz is not None:
        raise ConfigError("mhz must not be given with a table of levels, which has its own: leave one out")
    table = read_levels(path)
    known = table.deadline_ms if deadline_ms is None else deadline_ms
    if known is None:
        raise ConfigError(f"table of levels {str(path)!r} must say deadline_ms, or give --deadline-ms")
    return table, known


def _frequencies(cluster: Cluster, mhz: str | None) -> list[float]:
    if mhz is None:
        points = cluster.points[-2 * _COUNT + 1 :: 2] if len(cluster.points) > 2 * _COUNT else cluster.points
        return [point.mhz for point in points[-_COUNT:]]
    try:
        wanted = [float(part) for part in mhz.split(",")]
    except ValueError:
        raise ConfigError(f"mhz must be numbers with commas between them, not {mhz!r}") from None
    return [cluster.point(one).mhz for one in wanted]


def _battery(device: Device, mwh: float | None) -> Battery:
    if mwh is not None:
        return Battery(capacity_mwh=mwh, source="given")
    if device.battery is None:
        raise DeviceError(f"device {device.name!r} has no battery: give one with --battery-mwh")
    return device.battery


def _policies(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("policy", "inferences", "late", "hours", "mWh", "accuracy", "work"):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for row in rows:
        accuracy, work = row["accuracy"], row["accuracy_weighted_work"]
        table.add_row(
            f"({row['policy']}) {row['title']}",
            f"{row['inferences']:,}",
            f"{row['missed']:,}",
            f"{row['hours']:.1f}",
            f"{row['energy_mwh']:.0f}",
            shown(accuracy, ".4f"),
            shown(work, ",.0f"),
        )
    return table


def _say_gains(result: Mapping[str, Any], table: LevelTable) -> None:
    gain = result["gain"]
    words = ", ".join(f"{value:.2f}× over ({name})" for name, value in gain.items())
    reached = f", of which this is {gain['c'] / result['bound_over_c']:.0%}" if "c" in gain else ""
    say(
        f"Inferences of (e): {f'{words}; ' if words else ''}over (c) at most {result['bound_over_c']:.2f}× with levels "
        f"that just meet the deadline{reached}."
    )
    idle = [row["policy"] for row in result["policies"] if not row["inferences"]]
    if idle:
        say(f"note: the battery is too small for one request of ({') and ('.join(idle)})")
    if result["late"]:
        say(f"note: late at their own clocks: {', '.join(result['late'])}")
    missing = rivals_missing(table)
    if missing:
        say(
            f"note: no model for ({') and ('.join(missing)}): the table of levels may name dense and backbone"
        )


def _sensitivity(result: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    rivals = [row["policy"] for row in result["policies"] if row["policy"] != "e"]
    for name in ("if", *(f"over ({name})" for name in rivals), "bound over (c)"):
        table.add_column(name, justify="left" if name == "if" else "right")
    for row in result["static"]:
        values = [shown(row["gain"].get(name), ".2f", "×") for name in rivals]
        words = f"static power {row['fraction']:.0%} of dynamic ({row['static_mw']:.0f} mW)"
        table.add_row(words, *values, f"{row['bound']:.2f}×")
    for name, row in result["shares"].items():
        values = [shown(row.get(rival), ".2f", "×") for rival in rivals]
        table.add_row(f"shares {name}", *values, f"{row['bound']:.2f}×")
    return table


def _signal_words(battery: float | None, mhz: float | None, temp_c: float | None) -> str:
    found = []
    if battery is not None:
        found.append(f"battery {battery:.0%}")
    if mhz is not None:
        found.append(f"{mhz:g} MHz")
    if temp_c is not None:
        found.append(f"{temp_c:.0f} °C")
    return ", ".join(found)
