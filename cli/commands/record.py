"""`vtd record`: the commands that record a trace on a target machine."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import emit_json


@click.command("record")
@click.argument("tool", metavar="[TOOL]", default="ftrace")
@click.option(
    "--seconds",
    metavar="N",
    type=click.IntRange(max=1 << 31),
    default=30,
    show_default=True,
    help="How long to record.",
)
@click.option(
    "--buffer",
    metavar="KIB",
    type=click.IntRange(max=1 << 31),
    default=65536,
    show_default=True,
    help="Buffer of each CPU.",
)
@click.option("--events", metavar="GROUP", multiple=True, help="iommu, dma, intel_iommu or swiotlb; else all of them.")
@click.option("--kernel", metavar="VERSION", help="Only what concerns this kernel, such as 6.12.")
@json_option
def command(tool: str, seconds: int, buffer: int, events: tuple[str, ...], kernel: str | None, as_json: bool) -> int:
    """Print the commands that record a usable trace on a target machine.

    TOOL is ftrace (a root shell and nothing else), trace-cmd, perf, boot (from the first map on) or qemu (what a
    guest's devices access, for `vtd replay --accesses`). Nothing is run here; what it prints is a shell script.

    \b
    Examples:
      vtd record
      vtd record trace-cmd --seconds 10 --kernel 7.0.2
      vtd record perf --events iommu --events dma

    Exit status: 0.
    """
    from emulator.trace.recording import Recording, commands, kernel_notes

    lines = commands(tool, Recording.of(seconds, buffer, events))
    notes = kernel_notes(kernel)
    if as_json:
        emit_json({"tool": tool, "commands": lines, "notes": notes})
        return 0
    for note in notes:
        click.echo(f"# {note}")
    for line in lines:
        click.echo(line)
    return 0
