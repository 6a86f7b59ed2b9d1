"""`vtd run`: a machine with devices, and a monitor to look at it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.render import emit_json
from cli.scripts import script_lines, steps
from pagetables.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cli.scripts import Step
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

    Exit status: 0; 2 if the input cannot be used, or a command of a script or a pipe failed: the line is named. A
    script ends with it; a monitor goes on. What is typed at a terminal may fail.

    \b
    Examples:
      vtd run fixtures/machines/one-unit.yaml
      vtd run fixtures/machines/two-units.yaml --monitor <<< "info iommu"
      vtd run fixtures/machines/two-units.yaml --dmar dmar.bin && vtd dmar dmar.bin
    """
    from device_models.fronts.host import Host
    from device_models.fronts.script import DrivingMonitor
    from device_models.machine_file import load_machine

    if machine == "-" and (monitor or script == "-"):
        raise click.UsageError("standard input can be read only once")
    host = Host(load_machine(machine))
    if dmar is not None:
        _write_dmar(host.machine, dmar)
    answers = _Answers(as_json)
    looks = not (script or monitor or dump or dmar)
    failed = _drive(DrivingMonitor(host), script, monitor, LOOK if looks else (), answers)
    answers.close()
    if failed is not None:
        raise InputError(failed)
    if dump is not None:
        host.machine.save(dump)
    return 0


class _Answers:
    # Shown as they come, or kept for one document.
    def __init__(self, as_json: bool) -> None:
        self._kept: list[dict[str, str]] | None = [] if as_json else None

    def add(self, step: Step) -> None:
        if self._kept is None:
            click.echo(step.output, nl=False)
        else:
            self._kept.append({"command": step.command, "output": step.output})

    def close(self) -> None:
        if self._kept is not None:
            emit_json({"commands": self._kept})


def _drive(monitor: Monitor, script: str | None, asks: bool, look: Iterable[str], answers: _Answers) -> str | None:
    # The complaint of the first command that failed. A script ends there; a monitor goes on, as QEMU's does.
    lines = script_lines(script) if script is not None else look
    for step in steps(monitor, lines, script or ""):
        answers.add(step)
        if step.complaint is not None:
            return step.complaint
    if not asks or script == "-" or monitor.host.leaving:
        return None
    typed = sys.stdin.isatty()
    complaints = []
    for step in steps(monitor, _typed() if typed else script_lines("-"), "-"):
        answers.add(step)
        complaints += [step.complaint] if step.complaint is not None and not typed else []
    return complaints[0] if complaints else None


def _write_dmar(machine: SystemMachine, path: str) -> None:
    from device_models.dmar import build_dmar
    from pagetables.images.saving import replacing

    table = build_dmar(machine)
    with replacing(path) as file:
        file.write(table)


def _typed() -> Iterator[str]:
    import readline  # noqa: F401  # importing it gives input() editing and a history

    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            click.echo()
            return
