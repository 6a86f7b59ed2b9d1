"""`vtd run`: a machine with devices, and a monitor to look at it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.render import emit_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from device_models.fronts.monitor import Monitor
    from device_models.machine import SystemMachine

PROMPT = "(vtd) "
LOOK = ("info pci", "info iommu")  # where nobody asks for anything


@click.command("run")
@click.argument("machine")
@click.option("--script", metavar="FILE", help="Monitor commands to execute first; - is standard input.")
@click.option("--monitor", is_flag=True, help="Take monitor commands from standard input.")
@click.option("--dump", metavar="OUT.elf", help="At the end save memory, registers and caches.")
@click.option("--dmar", metavar="OUT.bin", help="Write the ACPI DMAR table of the machine's units, as built.")
@json_option
def command(machine: str, script: str | None, monitor: bool, dump: str | None, dmar: str | None, as_json: bool) -> int:
    """Build the machine that a YAML file describes, and look at it through a monitor.

    The monitor takes QEMU's commands (info qtree, info mtree, info pci, info lapic, xp, device_add, device_del,
    system_reset, help, quit) and two of ours: info iommu, and walk BDF IOVA; and qtest's, which drive the machine:
    writel ADDR VALUE, read ADDR SIZE, outl PORT VALUE, clock_step ... Without --script and --monitor it shows what the
    machine is.

    \b
    Examples:
      vtd run fixtures/machines/one-unit.yaml
      vtd run fixtures/machines/two-units.yaml --monitor <<< "info iommu"
      vtd run fixtures/machines/two-units.yaml --dmar dmar.bin && vtd dmar dmar.bin
    """
    from device_models.fronts.host import Host
    from device_models.fronts.script import DrivingMonitor
    from device_models.machine_file import load_machine

    host = Host(load_machine(machine))
    if dmar is not None:
        _write_dmar(host.machine, dmar)
    lines = _lines(script, monitor) if script or monitor else () if dump or dmar else LOOK
    answers = _answers(DrivingMonitor(host), lines)
    if as_json:
        emit_json({"commands": [{"command": line, "output": text} for line, text in answers]})
    else:
        for _, text in answers:
            click.echo(text, nl=False)
    if dump is not None:
        host.machine.save(dump)
    return 0


def _write_dmar(machine: SystemMachine, path: str) -> None:
    from device_models.dmar import build_dmar
    from pagetables.images.saving import replacing

    table = build_dmar(machine)
    with replacing(path) as file:
        file.write(table)


def _answers(monitor: Monitor, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip(), monitor.execute(line)
        if monitor.host.leaving:
            return


def _lines(script: str | None, monitor: bool) -> Iterator[str]:
    if script is not None:
        with click.open_file(script, encoding="utf-8", errors="replace") as file:
            yield from file
    if monitor and script != "-":
        yield from _typed() if sys.stdin.isatty() else sys.stdin


def _typed() -> Iterator[str]:
    import readline  # noqa: F401  # importing it gives input() editing and a history

    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            click.echo()
            return
