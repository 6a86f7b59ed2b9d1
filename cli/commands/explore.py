"""`vtd explore`: walking through the tables of an image by hand."""

from __future__ import annotations

import click

from cli.options import image_options


@click.command("explore")
@image_options
def command(image: str, registers: str | None, rtaddr: int | None, base: int | None) -> int:
    """Walk through the tables of an image: devices, tables level by level, entries bit by bit.

    In a terminal, by keys alone: Enter opens, u goes up, / asks for an address, x shows the bytes, ? explains. Needs
    the extra "explore". IMAGE and the registers are as for vtd inspect.

    \b
    Examples:
      vtd explore fixtures/images/t-vfio-superpages/image.elf.gz
      vtd explore fixtures/images/c-scalable/image.elf.gz --rtaddr 0x7da7400
    """
    import sys
    from importlib.util import find_spec

    from cli.explorer.tables import Unit
    from pagetables.images.inspection import register_pages
    from pagetables.images.opening import open_image

    if find_spec("textual") is None:
        raise click.ClickException("explore needs textual, which is not installed: pip install 'vtd-emulator[explore]'")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("explore needs a terminal; for a pipe there are vtd inspect and vtd walk")
    with open_image(image, base) as memory:
        units = [Unit(memory, page) for page in register_pages(memory, registers, rtaddr)]
        from cli.explorer.app import Explorer

        Explorer(units, image).run()
    return 0
