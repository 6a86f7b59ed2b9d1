"""`vtd dmar`: an ACPI DMAR table, and what is wrong with it."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import console, emit_json


@click.command("dmar")
@click.argument("file")
@json_option
def command(file: str, as_json: bool) -> int:
    """What an ACPI DMAR table says, and what an operating system would complain about.

    FILE is the table itself (/sys/firmware/acpi/tables/DMAR), the text of acpidump, or an image of memory in which
    firmware left it; also compressed; - is standard input (not for images).

    Exit status: 0; 1 if there is an error or a warning; 2 if there is no DMAR table in FILE.

    \b
    Examples:
      vtd dmar fixtures/dmar/qemu-7.2-q35.bin
      vtd dmar fixtures/images/c-scalable/image.elf.gz --json
    """
    from cli.dmar_report import dmar_document, dmar_tree
    from pagetables.dmar_check import check_dmar
    from pagetables.images.dmar_file import load_dmar
    from pagetables.severity import Severity

    report = check_dmar(load_dmar(file))
    if as_json:
        emit_json(dmar_document(report))
    else:
        console().print(dmar_tree(report))
    return 1 if (report.worst or Severity.NOTE) > Severity.NOTE else 0
