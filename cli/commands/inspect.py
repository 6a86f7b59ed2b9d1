"""`vtd inspect`: who may reach what, from the tables of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cli.options import DEVICE, image_options, json_option, pasid_option
from cli.selection_options import chosen, selection_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.unit_outline import Extent
    from pagetables.address import Pasid, SourceId
    from pagetables.dmar_check import DmarReport
    from pagetables.images.image import Image
    from pagetables.images.inspection import UnitReport
    from pagetables.selection import Selection


@click.command("inspect")
@image_options
@click.option("--source", type=DEVICE, metavar="BDF", help="Only this device, such as 00:1f.2.")
@pasid_option
@selection_options
@click.option("--find-root", is_flag=True, help="Without registers: look for root tables, and use the likeliest.")
@click.option("--pci", metavar="FILE", help="Names of devices: text of lspci, of QEMU's `info pci`, or pci.txt.")
@click.option("--all", "everything", is_flag=True, help="List every mapping, not the first few of each device.")
@click.option("--html", metavar="OUT", help="Write one page with a map of each address space, for a browser.")
@json_option
def command(
    image: str,
    registers: str | None,
    rtaddr: int | None,
    base: int | None,
    source: SourceId | None,
    pasid: Pasid | None,
    find_root: bool,
    pci: str | None,
    everything: bool,
    html: str | None,
    as_json: bool,
    **selected: Any,
) -> int:
    """Everything that the tables of an image map, for each device.

    IMAGE is an ELF core, a kdump-compressed dump, a LiME dump or raw memory, also compressed, or /proc/kcore; - is
    standard input. Its own notes tell the registers, or --registers, or --rtaddr; or --find-root looks for tables.
    The host address width is that of the DMAR table, where the image has one.

    Ranges are START-END, without END, or START+SIZE. A page is listed if any of it lies in the range.

    Exit status: 0; 1 if a choice of devices or mappings was made and nothing is left; 2 if the input cannot be used.
    Damage in the tables is listed as findings and does not change it.

    \b
    Examples:
      vtd inspect fixtures/images/c-scalable/image.elf.gz
      vtd inspect fixtures/images/t-vfio-superpages/image.elf.gz --source 00:05.0 --size 2M
      vtd inspect fixtures/images/a-legacy-strict/image.elf.gz --rtaddr 0x79af000 --json
      vtd inspect fixtures/images/i-firststage-k72/image.elf.gz --html page.html
    """
    from cli.unit_outline import Extent
    from pagetables.images.device_names import load_device_names
    from pagetables.images.opening import open_image

    selection = chosen(**selected)
    names = load_device_names(pci) if pci is not None else {}
    with open_image(image, base) as memory:
        dmar, read = _reader(memory, (registers, rtaddr, find_root), source, pasid)
        units = read(selection)
        if html is not None:
            from cli.html_page import write_page

            write_page(html, image, units, names, lambda size: read(replace(selection, page_size=size)))
    if as_json:
        _print_json(units, dmar, names)
    elif html is None:
        runs = everything or source is not None or not selection.is_everything
        _print_tree(units, dmar, names, Extent(runs, everything))
    return _status(units, selection, source is not None or pasid is not None)


def _status(units: list[UnitReport], selection: Selection, asked: bool) -> int:
    # 1 where a choice of mappings or devices was made, and nothing is left.
    if not selection.is_everything:
        return 0 if any(len(space.mappings) for unit in units for space in unit.spaces) else 1
    return 1 if asked and not any(unit.spaces for unit in units) else 0


def _reader(
    memory: Image, given: tuple[str | None, int | None, bool], source: SourceId | None, pasid: Pasid | None
) -> tuple[DmarReport | None, Callable[[Selection], list[UnitReport]]]:
    # The DMAR table, and what reads the units as far as a selection goes.
    from cli.found_root import found_root
    from emulator.leaf_reader import leaf_reader
    from pagetables.images.inspection import inspect_unit, register_pages

    registers, rtaddr, find_root = given
    if find_root and registers is None and rtaddr is None:
        rtaddr = found_root(memory)
    pages = register_pages(memory, registers, rtaddr)
    dmar, haw = _dmar(memory)

    def read(selection: Selection) -> list[UnitReport]:
        return [
            inspect_unit(memory, page, source_id=source, pasid=pasid, haw=haw, selection=selection, bulk=leaf_reader)
            for page in pages
        ]

    return dmar, read


def _dmar(memory: Image) -> tuple[DmarReport | None, int]:
    from pagetables.dmar_check import check_dmar
    from pagetables.errors import InputError
    from pagetables.images.acpi import find_dmar

    found = find_dmar(memory)
    if found is None:
        return None, WIDEST
    try:
        report = check_dmar(found.table)
    except InputError as error:
        click.echo(f"the image's DMAR table cannot be used: {error}", err=True)
        return None, WIDEST
    if NARROWEST <= report.table.haw <= WIDEST:
        return report, report.table.haw
    click.echo(f"the DMAR table says host addresses have {report.table.haw} bits; {WIDEST} are assumed", err=True)
    return report, WIDEST


NARROWEST, WIDEST = 32, 52  # bits of a host address


def _print_json(units: list[UnitReport], dmar: DmarReport | None, names: dict[SourceId, str]) -> None:
    from cli.dmar_report import dmar_document
    from cli.json_stream import emit_stream
    from cli.render import progress
    from cli.unit_report import unit_document

    with progress("listing", _total(units)) as told:
        documents = (unit_document(unit, names, told) for unit in units)
        emit_stream({"units": documents, "dmar": None if dmar is None else dmar_document(dmar)})


def _print_tree(units: list[UnitReport], dmar: DmarReport | None, names: dict[SourceId, str], extent: Extent) -> None:
    from cli.dmar_report import dmar_tree
    from cli.outline import print_outline
    from cli.render import console, progress
    from cli.unit_outline import unit_outline

    with progress("listing", _total(units) if extent.mappings else 0) as told:
        for unit in units:
            print_outline(unit_outline(unit, extent, names, told))
    if dmar is not None:
        console().print(dmar_tree(dmar))


def _total(units: list[UnitReport]) -> int:
    return sum(len(space.mappings) for unit in units for space in unit.spaces)
