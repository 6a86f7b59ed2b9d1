"""`vtd convert`: an image in another container, whole, or nothing but its tables."""

from __future__ import annotations

import click

from cli.options import image_options, json_option
from cli.render import console, count, emit_json, human_size, progress


@click.command("convert")
@image_options
@click.argument("out")
@click.option("--tables-only", is_flag=True, help="Keep what the units look at, and no other memory.")
@click.option(
    "--save-registers", "saved", metavar="FILE", help="Write the registers beside it, as QEMU's xp prints them."
)
@json_option
def command(
    image: str,
    registers: str | None,
    rtaddr: int | None,
    base: int | None,
    out: str,
    tables_only: bool,
    saved: str | None,
    as_json: bool,
) -> int:
    """Write an image in another container, or only its tables.

    The name of OUT says which: .elf, .lime or .raw, with .gz behind it to compress. An ELF core keeps the registers
    as notes; the others have no room for them: see --save-registers. With --tables-only OUT holds root, context, PASID
    and paging tables, interrupt entries, both queues and the DMAR table, as far as the image has them: fit for a bug
    report.

    Exit status: 0; 2 if the input cannot be used (then OUT is as it was).

    \b
    Examples:
      vtd convert fixtures/images/c-scalable/image.elf.gz tables.elf.gz --tables-only
      vtd convert fixtures/images/a-legacy-strict/image.elf.gz image.lime
    """
    from pagetables.images.convert import container_of, convert
    from pagetables.images.inspection import register_pages
    from pagetables.images.opening import open_image
    from pagetables.images.registers import RegisterPage
    from pagetables.images.saving import replacing

    container_of(out)  # a wrong name is told before anything is read
    with open_image(image, base) as memory:
        known = registers is not None or rtaddr is not None or RegisterPage.from_notes(memory.notes)
        units = register_pages(memory, registers, rtaddr) if known or tables_only or saved else ()
        total = None if tables_only else sum(size for _, size in memory.touched())
        with progress(f"writing {out}", total) as tell:
            done = convert(memory, out, units, tables_only=tables_only, progress=tell)
    if saved is not None:
        with replacing(saved) as file:
            file.write("".join(unit.as_text() for unit in units).encode())
    for lost in done.lost:
        click.echo(f"{out}: {lost}", err=True)
    if as_json:
        document = {"out": out, "container": done.container, "units": len(units), "lost": list(done.lost)}
        emit_json(document | {"memory_bytes": done.memory, "stored_bytes": done.stored, "tables_only": tables_only})
    else:
        size = f"{human_size(done.stored)} stored of {human_size(done.memory)} of memory"
        console().print(f"{out}: {done.container}, {size}, {count(len(units), 'unit')}", soft_wrap=True)
    return 0
