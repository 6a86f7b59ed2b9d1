"""`vtd audit`: what each device can reach, and what a person should look at."""

from __future__ import annotations

import click

from cli.options import image_options, json_option


def _list(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from cli.audit_report import list_rules

        list_rules()
        context.exit()


@click.command("audit")
@image_options
@click.option("--dmar", metavar="FILE", help="ACPI DMAR table, as `vtd dmar` reads it; else that in the image.")
@click.option("--symbols", metavar="FILE", help="System.map or /proc/kallsyms: where the kernel is.")
@click.option("--hints", metavar="FILE", help="What memory is for: YAML, or the text of /proc/iomem.")
@click.option("--rule", "rules", metavar="ID,..", default="", help="Only these rules, by id or name.")
@click.option(
    "--severity",
    type=click.Choice(["note", "warning", "error"]),
    default="note",
    help="Only findings at least as bad; note if not said.",
)
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "sarif", "junit"]), default="text", help="How to print them."
)
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="The rules there are.")
@json_option
def command(
    image: str,
    registers: str | None,
    rtaddr: int | None,
    base: int | None,
    dmar: str | None,
    symbols: str | None,
    hints: str | None,
    rules: str,
    severity: str,
    form: str,
    as_json: bool,
) -> int:
    """What each device can read and write, and what a person should look at.

    Each rule has an id that stays, and a page in docs/audit/.

    Exit status: 0; 1 if a warning or an error is among the findings printed; 2 if the input cannot be used.

    \b
    Examples:
      vtd audit fixtures/images/c-scalable/image.elf.gz
      vtd audit fixtures/images/t-vfio-superpages/image.elf.gz --rule shared-domain,VTD104
      vtd audit fixtures/images/a-legacy-strict/image.elf.gz --severity warning --format sarif
    """
    from cli.audit_report import print_report
    from pagetables.audit import Severity, audit, choose_rules
    from pagetables.audit.known import gather
    from pagetables.images.inspection import register_pages
    from pagetables.images.opening import open_image

    chosen = choose_rules(rules.split(","))
    with open_image(image, base) as memory:
        pages = register_pages(memory, registers, rtaddr)
        known = gather(memory, dmar, symbols, hints)
        report = audit(memory, pages, dmar=known.dmar, symbols=known.symbols, hints=known.hints, rules=chosen)
    shown = report.at_least(Severity[severity.upper()]).with_notes(known.notes)
    print_report(shown, image, "json" if as_json else form)
    return 1 if (shown.worst or Severity.NOTE) > Severity.NOTE else 0
