"""`vtd diff`: what changed from one image to another, or against the end of a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.options import NUMBER, json_option
from cli.render import console, emit_json, progress
from pagetables.errors import InputError

if TYPE_CHECKING:
    from pagetables.diff import Side

EQUAL, DIFFERENT = 0, 1
HEAD = 4096


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--registers-a", metavar="FILE", help="Registers of A: registers.json, a raw page, iommu_regset or xp.")
@click.option("--registers-b", metavar="FILE", help="Registers of B.")
@click.option("--rtaddr-a", type=NUMBER, metavar="ADDR", help="Root table address register of A.")
@click.option("--rtaddr-b", type=NUMBER, metavar="ADDR", help="Root table address register of B.")
@click.option("--base-a", type=NUMBER, metavar="ADDR", help="Where A begins, if it is raw memory.")
@click.option("--base-b", type=NUMBER, metavar="ADDR", help="Where B begins, if it is raw memory.")
@click.option("--all", "everything", is_flag=True, help="List every change, not the first few of each device.")
@json_option
def command(
    before: str,
    after: str,
    registers_a: str | None,
    registers_b: str | None,
    rtaddr_a: int | None,
    rtaddr_b: int | None,
    base_a: int | None,
    base_b: int | None,
    everything: bool,
    as_json: bool,
) -> int:
    """What changed from A to B: mappings, spaces, registers, interrupts.

    A and B are images; one of them may be a trace, which counts as what it leaves mapped (no registers, no
    interrupts). A mapping is come, gone, changed (other memory or access at its address) or moved (same memory and
    access at another address of the same device).

    Exit status: 0 if they are equal, 1 if they differ, 2 if the input cannot be used.

    \b
    Examples:
      vtd diff fixtures/images/a-legacy-strict/image.elf.gz fixtures/images/c-scalable/image.elf.gz
      vtd diff fixtures/images/c-scalable/image.elf.gz fixtures/traces/c-scalable.txt.xz
    """
    from cli.diff_report import difference_document, show
    from pagetables.diff import diff

    if before == after == "-":
        raise click.UsageError("standard input can be read only once")
    found = diff(_side(before, registers_a, rtaddr_a, base_a), _side(after, registers_b, rtaddr_b, base_b))
    if as_json:
        emit_json(difference_document(found))
    else:
        show(console(), found, everything)
    return EQUAL if found.is_empty else DIFFERENT


def _side(path: str, registers: str | None, rtaddr: int | None, base: int | None) -> Side:
    from pagetables.diff import image_side
    from pagetables.images.inspection import register_pages
    from pagetables.images.opening import open_image

    if _is_trace(path):
        if not (registers is None and rtaddr is None and base is None):
            raise InputError(f"{path}: a trace has no registers and no base; those are for images")
        return _trace_side(path)
    with open_image(path, base) as memory:
        return image_side(path, memory, register_pages(memory, registers, rtaddr))


def _is_trace(path: str) -> bool:
    # Images have zero bytes in their first page, text has none. Standard input cannot be looked at twice: an image.
    if path == "-":
        return False
    from emulator.trace.opening import open_trace

    with open_trace(path) as stream:
        head = stream.read(HEAD)
    return bool(head) and b"\0" not in head


def _trace_side(path: str) -> Side:
    from emulator.trace import read_traces
    from emulator.trace.end_state import end_state

    with progress("reading", None):
        return end_state(read_traces([path]))
