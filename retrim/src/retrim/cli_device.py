"""`retrim device`: what is known of devices, and what the running machine says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from retrim.cli_console import JsonOption, console, counting, say, write_json
from retrim.device import Cluster, Device, cpufreq, find, names
from retrim.device.probe import SYS, probe, this
from retrim.errors import DeviceError

devices = typer.Typer(no_args_is_help=True, help="Devices: operating points, power, battery.")

RootOption = Annotated[Path, typer.Option(help="A folder laid out like /sys.")]


def device_of(name: str, root: Path = SYS) -> Device:
    """A built-in device, one from a file, or the running machine."""
    return this(root) if name == "this" else find(name)


@devices.command("list")
def list_(root: RootOption = SYS, json_path: JsonOption = None) -> None:
    """List the built-in devices, and whether the running machine can be one."""
    found = [find(name) for name in names()]
    missing = None
    try:
        found.append(this(root))
    except DeviceError as error:
        missing = str(error)
    if json_path is not None:
        write_json(json_path, {"devices": [device.to_dict() for device in found], "this": missing})
    table = _table("device", "clusters", "MHz", "power", "battery")
    for device in found:
        for cluster in device.clusters:
            table.add_row(
                device.name if cluster is device.clusters[0] else "",
                f"{cluster.cores} × {cluster.name}",
                f"{cluster.points[0].mhz:g}–{cluster.top.mhz:g}",
                _power_words(cluster),
                f"{device.battery.capacity_mwh / 1000:g} Wh" if device.battery else "–",
            )
    console.print(table)
    if missing is not None:
        say(f"this: {missing}")


@devices.command()
def show(
    name: Annotated[str, typer.Argument(metavar="DEVICE", help="A name, `this`, or a TOML file.")],
    root: RootOption = SYS,
    json_path: JsonOption = None,
) -> None:
    """Show a device's operating points and power, the sources of the numbers, and what is odd in them."""
    device = device_of(name, root)
    found = device.to_dict()
    if json_path is not None:
        write_json(json_path, found)
    say(f"{device.name}: {device.title}")
    for cluster in device.clusters:
        console.print(_points(cluster))
        rates = ", ".join(f"{value:g} in {precision}" for precision, value in cluster.macs_per_cycle.items())
        say(f"{cluster.name}: {cluster.cores} cores; multiply-accumulates per cycle: {rates or 'unknown'}")
        for source in cluster.sources:
            say(f"  source: {source}")
    if device.battery is not None:
        say(f"battery: {device.battery.capacity_mwh:g} mWh ({device.battery.source})")
    for note in found["notes"]:
        say(f"note: {note}")


@devices.command("probe")
def probe_(root: RootOption = SYS, json_path: JsonOption = None) -> None:
    """Say what the running machine tells of clocks, batteries, temperatures and energy."""
    found = probe(root)
    if json_path is not None:
        write_json(json_path, found)
    for policy in found["cpufreq"]:
        say(
            f"{policy['name']}: {policy['mhz']:g} MHz of {policy['least_mhz']:g}–{policy['most_mhz']:g}, "
            f"{len(policy['cpus'])} processors, governor {policy['governor']}"
        )
    for battery in found["power_supply"]:
        power = "" if battery["milliwatts"] is None else f", {battery['milliwatts']:.0f} mW"
        say(f"{battery['name']}: {battery['fraction']:.0%}, {battery['status'].lower()}{power}")
    for zone in found["thermal"]:
        say(f"{zone['name']}: {zone['temp_c']:.1f} °C ({zone['kind']})")
    for counter in found["powercap"]:
        say(f"{counter['name']}: {counter['microjoules'] / 1e6:.3f} J ({counter['domain']})")
    for sentence in found["missing"].values():
        say(f"note: {sentence}")
    if not any(found[name] for name in ("cpufreq", "power_supply", "thermal", "powercap")):
        say("Nothing here can be read: `retrim simulate` shows what a built-in device would do.")


@devices.command()
def calibrate(
    artifact: Annotated[
        Path | None,
        typer.Argument(metavar="[ARTIFACT]", help="Measure the layers of this packed model.  [common ones]"),
    ] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(min=1, help="May be given several times.  \\[default: 128 1 8]")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that layers run on.")] = 1,
    seconds: Annotated[float, typer.Option(min=0, help="About how long to measure at most.")] = 60.0,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="The profile's file.  \\[default: that of this machine]")
    ] = None,
    root: RootOption = SYS,
    json_path: JsonOption = None,
) -> None:
    """Measure kernels on this machine into its profile, the same file that `retrim profile` keeps."""
    from retrim.recipe import profiles

    counts = tuple(tokens or profiles.TOKENS)
    before = cpufreq.policies(root)
    with counting("measuring kernels") as report:
        profiles.calibrate(artifact, counts, threads, seconds=seconds, path=profile, measuring=report)
    moved = cpufreq.changed(before, cpufreq.policies(root))
    found = profiles.show(artifact, counts, threads, path=profile)
    if json_path is not None:
        write_json(json_path, found | {"clock_note": moved})
    say(f"{found['path']}: {len(found['entries'])} times on {found['machine']['processor']}")
    if moved is not None:
        say(f"note: {moved}")


def _points(cluster: Cluster) -> Table:
    measured = cluster.power is None
    table = _table(
        "MHz", "V", "mW, one core", *([] if measured else [f"mW, {cluster.cores} cores", "idle mW"])
    )
    for point in cluster.points:
        row: list[Any] = [f"{point.mhz:g}", "–" if point.volts is None else f"{point.volts:g}"]
        if not measured:
            row += [f"{cluster.busy_mw(point.mhz, cores):.1f}" for cores in (1, cluster.cores)]
            row.append(f"{cluster.idle_mw(point.mhz):.1f}")
        else:
            row.append("–" if point.milliwatts is None else f"{point.milliwatts:.1f}")
        table.add_row(*row)
    return table


def _power_words(cluster: Cluster) -> str:
    if cluster.power is not None:
        return "model"
    return "measured" if cluster.top.milliwatts is not None else "unknown"


def _table(*names_: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in names_:
        table.add_column(name, justify="left" if name in ("device", "clusters", "power") else "right")
    return table
