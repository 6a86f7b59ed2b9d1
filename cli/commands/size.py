"""`vtd size`: how much memory tables and their supplies take, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.options import SIZE, json_option
from cli.render import console, count, emit_json, human_size

if TYPE_CHECKING:
    from emulator.supply_sizing import Holding

PAGE_SIZE = 4096
STATIC = "static"


@click.command("size")
@click.option(
    "--window", type=SIZE, default="256M", show_default=True, metavar="SIZE", help="What each device may have mapped."
)
@click.option("--devices", type=click.IntRange(1, 1 << 16), default=1, show_default=True, help="Each with its domain.")
@click.option("--levels", type=click.IntRange(1, 5), default=3, show_default=True, help="Table levels.")
@click.option(
    "--memory", type=SIZE, default="1G", show_default=True, metavar="SIZE", help="Memory that table pages come from."
)
@json_option
def command(window: int, devices: int, levels: int, memory: int, as_json: bool) -> int:
    """How much memory table pages take: all at once, or as each supply holds them.

    A static aperture has every table of its window from the start. The other supplies hold what they hold idle at their
    defaults. A burst is tables taken at once, by callers that may not sleep, before the first map fails: with MEMORY
    free, and with none free. A map of one scattered page takes a table of each level below the root.

    \b
    Examples:
      vtd size --window 256M --devices 8 --levels 3
      vtd size --window 4G --devices 16 --levels 4 --json
    """
    from emulator.sizing import table_pages
    from emulator.supply_sizing import holdings

    pages = table_pages(window, levels)
    document = {
        "window": window,
        "devices": devices,
        "levels": levels,
        "memory": memory,
        "aperture": _aperture(window, levels, devices, pages),
        "supplies": [_static(pages * devices), *(_supply(one, levels) for one in holdings(memory))],
    }
    if as_json:
        emit_json(document)
    else:
        _show(document)
    return 0


def _aperture(window: int, levels: int, devices: int, pages: int) -> dict[str, Any]:
    tables = [-(-window // (PAGE_SIZE << 9 * level)) for level in range(1, levels)]
    return {
        "pages_per_device": pages,
        "pages": pages * devices,
        "bytes": pages * devices * PAGE_SIZE,
        "tables_by_level": {str(level): number for level, number in enumerate([*tables, 1], 1)},
        "mapped_pages_per_device": window // PAGE_SIZE,
    }


def _static(pages: int) -> dict[str, Any]:
    # None: it has every table that its window can need, so that no burst of tables is too long.
    return {
        "name": STATIC,
        "idle_pages": pages,
        "idle_bytes": pages * PAGE_SIZE,
        "burst": None,
        "burst_without_memory": None,
    }


def _supply(one: Holding, levels: int) -> dict[str, Any]:
    each = max(levels - 1, 1)
    return {
        "name": one.name,
        "idle_pages": one.idle,
        "idle_bytes": one.idle * PAGE_SIZE,
        "burst": {"tables": one.burst, "scattered_maps": one.burst // each},
        "burst_without_memory": {
            "tables": one.burst_without_memory,
            "scattered_maps": one.burst_without_memory // each,
        },
    }


def _show(document: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    aperture, out = document["aperture"], console()
    devices, window = document["devices"], document["window"]
    for_devices = count(devices, "device")
    out.print(f"A static aperture of {human_size(window)} for {for_devices} in {document['levels']}-level tables:")
    out.print(
        f"  {count(aperture['pages'], 'page')}, {human_size(aperture['bytes'])}, "
        f"{aperture['bytes'] / devices / window:.2%} of what it maps; for each device"
    )
    for level, number in aperture["tables_by_level"].items():
        out.print(f"  {number:>11,} of level {level}")
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("supply", no_wrap=True)
    for title in ("held idle", "burst", "maps", "none free", "maps"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in sorted(document["supplies"], key=lambda one: one["idle_pages"]):
        table.add_row(*_row(one), style="bold" if one["name"] == STATIC else None)
    out.print(table)
    mapped = count(aperture["mapped_pages_per_device"], "page")
    out.print("held idle  table pages from the start on, with each supply's defaults")
    out.print(f"static     has every table: it fails when a device has {mapped} mapped")
    out.print(f"burst      tables taken at once before the first failure, {human_size(document['memory'])} being free")
    out.print("none free  the same when the system has no page for such a caller")
    out.print("maps       of one page each, every one of them in tables of its own")


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    bursts = [one["burst"], one["burst_without_memory"]]
    idle = f"{one['idle_pages']:,} ({human_size(one['idle_bytes'])})" if one["idle_pages"] else "0"
    numbers = [number for burst in bursts for number in (burst or {"tables": None, "scattered_maps": None}).values()]
    return one["name"], idle, *("-" if number is None else f"{number:,}" for number in numbers)
