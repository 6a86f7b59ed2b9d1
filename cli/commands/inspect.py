"""`vtd inspect`: who may reach what, from the tables of an image."""

from __future__ import annotations

import click

from cli.options import DEVICE, image_options, json_option, pasid_option
from cli.render import console, emit_json
from pagetables.address import Pasid, SourceId


@click.command("inspect")
@image_options
@click.option("--source", type=DEVICE, metavar="BDF", help="Only this device, such as 00:1f.2.")
@pasid_option
@click.option("--find-root", is_flag=True, help="Without registers: look for root tables, and use the likeliest.")
@click.option("--all", "everything", is_flag=True, help="List every mapping, not the first few of each device.")
@json_option
def command(
    image: str,
    registers: str | None,
    rtaddr: int | None,
    base: int | None,
    source: SourceId | None,
    pasid: Pasid | None,
    find_root: bool,
    everything: bool,
    as_json: bool,
) -> int:
    """Everything that the tables of an image map, for each device.

    IMAGE is an ELF core, a kdump-compressed dump, a LiME dump or raw memory, also compressed, or /proc/kcore; - is
    standard input. Its own notes tell the registers, or --registers, or --rtaddr; or --find-root looks for tables.

    Exit status: 0; 1 if --source or --pasid was given and has no tables; 2 if the input cannot be used. Damage in the
    tables is listed as findings and does not change it.

    \b
    Examples:
      vtd inspect fixtures/images/c-scalable/image.elf.gz
      vtd inspect fixtures/images/t-vfio-superpages/image.elf.gz --source 00:05.0
      vtd inspect fixtures/images/a-legacy-strict/image.elf.gz --rtaddr 0x79af000 --json
    """
    from cli.found_root import found_root
    from cli.unit_report import unit_document, unit_tree
    from pagetables.images.inspection import inspect_unit, register_pages
    from pagetables.images.opening import open_image

    with open_image(image, base) as memory:
        if find_root and registers is None and rtaddr is None:
            rtaddr = found_root(memory)
        pages = register_pages(memory, registers, rtaddr)
        units = [inspect_unit(memory, page, source_id=source, pasid=pasid) for page in pages]
    if as_json:
        emit_json({"units": [unit_document(unit) for unit in units]})
    else:
        for unit in units:
            console().print(unit_tree(unit, everything or source is not None))
    asked = source is not None or pasid is not None
    return 1 if asked and not any(unit.spaces for unit in units) else 0
