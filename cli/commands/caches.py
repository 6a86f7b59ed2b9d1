"""`vtd caches`: what a unit has cached, and what of it memory no longer says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.render import emit_json, progress
from cli.scripts import script_lines, steps
from pagetables.errors import InputError

if TYPE_CHECKING:
    from cli.caches_report import CheckedUnit

DONE, STALE = 0, 1
MACHINES = re.compile(r"\.ya?ml(\.(gz|xz|zst))?$", re.IGNORECASE)


@click.command("caches")
@click.argument("subjects", metavar="MACHINE|IMAGE...", nargs=-1)
@click.option(
    "--script", metavar="FILE", help="Commands for a machine before its caches are shown; - is standard input."
)
@click.option("--trace", "traces", metavar="TRACE", multiple=True, help="Replay this trace, and show what is left.")
@click.option("--accesses", metavar="LOG", help="Device accesses of the trace: QEMU's vtd_* log of the traced guest.")
@click.option(
    "--set", "assigned", metavar="KEY=VALUE", multiple=True, help="A setting of the replay (vtd replay --help)."
)
@click.option("--until", metavar="EVENT", help="Stop the replay after event #N, or at the time 12.5s.")
@json_option
def command(
    subjects: tuple[str, ...],
    script: str | None,
    traces: tuple[str, ...],
    accesses: str | None,
    assigned: tuple[str, ...],
    until: str | None,
    as_json: bool,
) -> int:
    """Every entry of every cache of a unit, each compared with the tables in memory.

    Context cache, PASID cache, IOTLB, paging-structure caches and interrupt entry cache, with tags and capacities. An
    entry that differs from what memory says now is stale: the unit uses it until software invalidates it.

    MACHINE is a machine in YAML; --script drives it with the monitor's commands and those of qtest (writel ADDR VALUE,
    write ADDR SIZE DATA, outl PORT VALUE, clock_step ...). IMAGE is one that vtd saved (vtd replay --dump): others do
    not hold caches, which are in the unit and not in memory.

    \b
    Examples:
      vtd caches --trace fixtures/misuse/use-in-stale-window.jsonl --set flush=deferred
      vtd caches fixtures/machines/two-units.yaml --json

    Exit status: 0; 1 if an entry is stale; 2 if there are no caches to be seen.
    """
    from cli.caches_report import caches_document, has_stale, print_caches

    if not subjects and not traces:
        raise click.UsageError("a MACHINE, an IMAGE or --trace TRACE is needed")
    units = [unit for subject in subjects for unit in _of_subject(subject, script)]
    if traces:
        units += _of_replay(traces, accesses, assigned, until)
    if as_json:
        emit_json(caches_document(units))
    else:
        print_caches(units)
        if traces and not units[-1].entries:
            click.echo("nothing is cached where no device accesses anything: --accesses adds those of a log", err=True)
    return STALE if has_stale(units) else DONE


def _of_subject(subject: str, script: str | None) -> Iterator[CheckedUnit]:
    if MACHINES.search(subject):
        return _of_machine(subject, script)
    if script is not None:
        raise click.UsageError(f"--script drives a machine, and {subject} is none: expected a file that ends in .yaml")
    return _of_image(subject)


def _of_machine(path: str, script: str | None) -> Iterator[CheckedUnit]:
    from cli.caches_report import CheckedUnit
    from device_models.fronts.host import Host
    from device_models.fronts.script import DrivingMonitor
    from device_models.machine_file import load_machine
    from emulator.unit.cache_contents import cache_contents
    from pagetables.cache_check import check_caches

    machine = load_machine(path)
    if script is not None:
        monitor = DrivingMonitor(Host(machine))
        for step in steps(monitor, script_lines(script), script):
            if step.complaint is not None:
                raise InputError(step.complaint)
            click.echo(f"{step.command}: {step.output.rstrip()}", err=True)
    for unit in machine.units:
        caches = cache_contents(unit)
        yield CheckedUnit(caches, check_caches(machine.memory, caches, unit.capabilities))


def _of_image(path: str) -> Iterator[CheckedUnit]:
    from cli.caches_report import CheckedUnit
    from pagetables.cache_check import check_caches
    from pagetables.cached import caches_from_notes
    from pagetables.errors import ImageError
    from pagetables.images.opening import open_image
    from pagetables.images.registers import RegisterPage

    with open_image(path) as image:
        found = caches_from_notes((note.owner, note.type, note.data) for note in image.notes)
        if not found:
            raise ImageError(
                f"{path}: no caches in this {image.container}: they are in the unit, not in memory, and only images "
                "that vtd saved hold them (vtd replay --dump)"
            )
        pages = {page.base: page for page in RegisterPage.from_notes(image.notes)}
        for caches in found:
            page = pages.get(caches.register_base)
            if page is None:
                raise ImageError(
                    f"{path}: caches of a unit at {caches.register_base:#x}, whose registers are not there"
                )
            yield CheckedUnit(caches, check_caches(image, caches, page.capabilities(caches.haw)))


def _of_replay(
    traces: tuple[str, ...], accesses: str | None, assigned: tuple[str, ...], until: str | None
) -> Iterator[CheckedUnit]:
    from cli.caches_report import CheckedUnit
    from emulator.replay import Replay
    from emulator.settings import Settings, assignments
    from emulator.trace import read_traces
    from emulator.unit.cache_contents import cache_contents
    from pagetables.cache_check import check_caches

    trace = read_traces(traces)
    if accesses is not None:
        from emulator.trace.alignment import merge_accesses

        trace, _ = merge_accesses(trace, accesses)
    if until is not None:
        trace = trace.until(until)
    with progress("replaying", len(trace.columns)) as done:
        run = Replay(trace, Settings.of(assignments(assigned)), done)
        run.run()
    unit = run.machine.unit
    caches = cache_contents(unit)
    yield CheckedUnit(caches, check_caches(run.machine.memory, caches, unit.capabilities))
