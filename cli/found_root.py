"""`--find-root`: the root table of an image without registers, and how sure that is."""

from __future__ import annotations

import click

from cli.render import progress
from pagetables.errors import InputError
from pagetables.images.find_root import LIKELY, Candidate, find_roots
from pagetables.images.image import Image
from pagetables.images.registers import RegisterPage

__all__ = ["found_root"]

SHOWN = 4  # of other candidates


def found_root(image: Image) -> int | None:
    """RTADDR of the likeliest root table in `image`; None where the image has registers. What was found goes to stderr.

    InputError where nothing is likely enough.
    """
    if RegisterPage.from_notes(image.notes):
        click.echo("the image has registers: no search", err=True)
        return None
    with progress("looking for root tables", sum(size for _, size in image.touched())) as tell:
        found = find_roots(image, tell)
    likely = [one for one in found if one.confidence >= LIKELY]
    if not likely:
        best = f"; the best is {_described(found[0])}" if found else ""
        raise InputError(f"{image.path}: no page is likely to be a root table{best}")
    click.echo(f"root table: {_described(likely[0])}", err=True)
    for other in likely[1 : 1 + SHOWN]:
        click.echo(f"also: {_described(other)}; see it with --rtaddr {other.rtaddr:#x}", err=True)
    if len(likely) > 1 + SHOWN:
        click.echo(f"and {len(likely) - 1 - SHOWN} more", err=True)
    return likely[0].rtaddr


def _described(one: Candidate) -> str:
    return f"{one.address:#x} ({one.mode.name.lower()} mode), {one.confidence:.0%} sure: {', '.join(one.reasons)}"
