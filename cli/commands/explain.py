"""`vtd explain`: what happened to the address in a DMAR fault line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from cli.options import NUMBER, json_option
from cli.render import console, emit_json, progress
from pagetables.errors import InputError

if TYPE_CHECKING:
    from emulator.trace.history import TraceHistory
    from pagetables.dmesg import KernelLog
    from pagetables.images.image import Image
    from pagetables.images.registers import RegisterPage

EXPLAINED, OPEN = 0, 1
WIDTHS = range(32, 53)  # physical address bits that a platform can have

MOST_ZEROS = 16  # a serial console's log may hold some zero bytes, but not one in sixteen


@click.command("explain")
@click.argument("image", required=False)
@click.option("--registers", metavar="FILE", help="Registers: registers.json, a raw page, iommu_regset or xp text.")
@click.option("--rtaddr", type=NUMBER, metavar="ADDR", help="Root table address register, where nothing tells it.")
@click.option("--base", type=NUMBER, metavar="ADDR", help="Where IMAGE begins, if it is raw memory.")
@click.option("--fault", "lines", metavar="LINE", multiple=True, help="A DMAR fault line. May be repeated.")
@click.option("--dmesg", metavar="FILE", help="A kernel log; every fault in it is explained. - is standard input.")
@click.option("--trace", "traces", metavar="FILE", multiple=True, help="A trace of the same run. May be repeated.")
@click.option("--pci", metavar="FILE", help="Devices there are: text of lspci, of QEMU's `info pci`, or pci.txt.")
@json_option
def command(
    image: str | None,
    registers: str | None,
    rtaddr: int | None,
    base: int | None,
    lines: tuple[str, ...],
    dmesg: str | None,
    traces: tuple[str, ...],
    pci: str | None,
    as_json: bool,
) -> int:
    """Why a device's DMA was refused: the tables as they are, and who mapped and unmapped the address, when.

    An IMAGE, traces, or both are needed. Without --fault and --dmesg the faults that are pending in the registers
    are explained. Faults that repeat are one. Time stamps of the log and of the trace are taken to be of one clock:
    both count from the boot on, unless trace_clock was set to another one than local, global or boot.

    Exit status: 0 if every fault is explained; 1 if what happened to one stays open; 2 if the input cannot be used.

    \b
    Examples:
      vtd explain fixtures/images/c-scalable/image.elf.gz --trace fixtures/traces/c-scalable.txt.xz \\
        --fault 'DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0xfffff000 [fault reason 0x02]'
      vtd explain --trace fixtures/traces/t-vfio-superpages.txt.xz \\
        --fault '[76.07] DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x50000000 [fault reason 0x06]'
    """
    from cli.explain_report import document, show
    from pagetables.dmesg import storms
    from pagetables.explain import Tables, explain_storm
    from pagetables.images.device_names import load_device_names

    if image is None and not traces:
        raise click.UsageError("give an IMAGE, or a --trace, or both")
    if [image, dmesg, *traces].count("-") > 1:
        raise click.UsageError("standard input can be read only once")
    log = _log(lines, dmesg)
    names = {} if pci is None else load_device_names(pci)
    with _units(image, registers, rtaddr, base) as (memory, pages):
        log = _pending(pages) if log is None else log
        haw = log.host_address_width or WIDTHS[-1]
        tables = None if memory is None else Tables(memory, pages, haw if haw in WIDTHS else WIDTHS[-1])
        history = _history(traces)
        found = [one for storm in storms(log.faults) for one in explain_storm(storm, tables, history, names)]
        if as_json:
            emit_json(document(found, log, history, names))
        else:
            show(console(), found, log, names)
    return EXPLAINED if all(one.what.verdict.explained for one in found) else OPEN


@contextmanager
def _units(
    image: str | None, registers: str | None, rtaddr: int | None, base: int | None
) -> Iterator[tuple[Image | None, tuple[RegisterPage, ...]]]:
    from pagetables.images.inspection import register_pages
    from pagetables.images.opening import open_image
    from pagetables.images.registers import load_units

    if image is None:
        if rtaddr is not None or base is not None:
            raise click.UsageError("--rtaddr and --base are for an IMAGE; none is given")
        yield None, () if registers is None else load_units(registers)
        return
    with open_image(image, base) as memory:
        yield memory, register_pages(memory, registers, rtaddr)


def _log(lines: tuple[str, ...], dmesg: str | None) -> KernelLog | None:
    from pagetables.dmesg import parse_fault_line, read_kernel_log

    if lines and dmesg is not None:
        raise click.UsageError("--fault and --dmesg exclude each other; give one of them")
    if dmesg is not None:
        return read_kernel_log(_text(dmesg))
    for line in lines:
        parse_fault_line(line)  # says what a fault line looks like
    return read_kernel_log("\n".join(lines).splitlines()) if lines else None


def _text(path: str) -> Iterator[str]:
    from emulator.trace.opening import open_trace, pieces

    with open_trace(path) as stream:
        for number, piece in enumerate(pieces(stream, path)):
            if not number and piece.count(0) * MOST_ZEROS > len(piece):
                raise InputError(f"{path}: this is binary; expected the text of a kernel log")
            yield from piece.decode("utf-8", "replace").removesuffix("\n").split("\n")


def _pending(pages: tuple[RegisterPage, ...]) -> KernelLog:
    from pagetables.dmesg import KernelLog, fault_of_record

    if not pages:
        raise click.UsageError("nothing to explain: give --fault, --dmesg, or registers that hold pending faults")
    return KernelLog(faults=[fault_of_record(record) for page in pages for record in page.pending_faults()])


def _history(traces: tuple[str, ...]) -> TraceHistory | None:
    if not traces:
        return None
    from emulator.trace import read_traces
    from emulator.trace.history import TraceHistory

    with progress("reading", None):
        return TraceHistory(read_traces(traces))
