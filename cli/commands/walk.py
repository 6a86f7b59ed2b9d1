"""`vtd walk`: where one address of a device leads, step by step."""

from __future__ import annotations

import click

from cli.options import DEVICE, NUMBER, image_options, json_option, pasid_option
from cli.render import console, emit_json
from pagetables.address import Iova, Pasid, SourceId

IOVA_LIMIT = 1 << 64


@click.command("walk")
@image_options
@click.argument("source", type=DEVICE, metavar="BDF")
@click.argument("iova", type=NUMBER, metavar="IOVA")
@pasid_option
@click.option(
    "--access", type=click.Choice(["r", "w", "rw"]), default="r", help="What the device wants; r if not said."
)
@json_option
def command(
    image: str,
    registers: str | None,
    rtaddr: int | None,
    base: int | None,
    source: SourceId,
    iova: Iova,
    pasid: Pasid | None,
    access: str,
    as_json: bool,
) -> int:
    """Where an address of a device leads: each step, and the verdict.

    Exit status: 0 if the access is translated, 1 if it ends in a fault, 2 if the input cannot be used.

    \b
    Examples:
      vtd walk fixtures/images/t-vfio-superpages/image.elf.gz 00:05.0 0x80000000
      vtd walk fixtures/images/t-vfio-superpages/image.elf.gz 00:05.0 0x10100000 --access w
      vtd walk fixtures/images/c-scalable/image.elf.gz 00:03.0 0xfffc0000 --json
    """
    from cli.walk_report import answer_document, answer_lines
    from pagetables.images.inspection import answer, register_pages
    from pagetables.images.opening import open_image
    from pagetables.request import Access, Request, Translation

    if iova >= IOVA_LIMIT:
        raise click.BadParameter(f"{iova:#x} has more than 64 bits", param_hint="'IOVA'")
    request = Request(source, iova, Access(access), pasid)
    with open_image(image, base) as memory:
        found = answer(memory, register_pages(memory, registers, rtaddr), request)
    if as_json:
        emit_json(answer_document(found))
    else:
        out = console()
        for line in answer_lines(found):
            out.print(line, soft_wrap=True)
    return 0 if isinstance(found.outcome, Translation) else 1
