"""`vtd convert-trace`: a trace in another format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.render import console, count, emit_json, progress

if TYPE_CHECKING:
    from emulator.trace.framing import Format


@click.command("convert-trace")
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option("--to", "asked", metavar="FORMAT", help="jsonl, parquet, ftrace, trace-cmd or perf; else by OUT's name.")
@json_option
def command(source: str, out: str, asked: str | None, as_json: bool) -> int:
    """Write a trace in another format.

    IN is ftrace text, trace-cmd report, perf script, a QEMU vtd_* log, JSON Lines or Parquet; the kind is recognised.
    The name of OUT says the format (.jsonl, .parquet, .txt or .ftrace, .report, .perf) and its compression (.gz, .xz,
    .zst behind it); - is standard output. From one kernel text to another every event line is kept; the other formats
    keep what is replayed: maps, unmaps, accesses, attached devices, each with its space. What is left out is said on
    stderr.

    Exit status: 0; 2 if the input cannot be used (then OUT is as it was).

    \b
    Examples:
      vtd convert-trace fixtures/traces/a-legacy-strict.txt.xz trace.parquet
      vtd convert-trace fixtures/traces/a-legacy-strict.txt.xz - --to perf
    """
    from emulator.trace.writing import TEXT, convert_text, format_of, text_format

    style = format_of(out, asked)
    if as_json and out == "-":
        raise click.UsageError("--json and OUT - both want standard output")
    found = text_format(source) if source != "-" else None
    if found is not None and style in TEXT:
        with progress("converting", None) as done:
            written = convert_text(source, found, out, style, done)
        lost = [] if found is style else ["whatever stands between task and event name"]
        what = count(written, "line")
    else:
        written, lost, what = _through_columns(source, out, style)
    for one in lost:
        click.echo(f"{out}: left out: {one}", err=True)
    if as_json:
        emit_json({"out": out, "format": style.value, "written": written, "left_out": lost})
    elif out != "-":
        console().print(f"{out}: {style.value}, {what}", soft_wrap=True)
    return 0


def _through_columns(source: str, out: str, style: Format) -> tuple[int, list[str], str]:
    from emulator.trace import read_traces
    from emulator.trace.writing import write_trace

    with progress("reading", None) as done:
        trace = read_traces([source], done)
    with progress("writing", len(trace.columns)) as done:
        lost = write_trace(trace, out, style, done)
    if trace.skipped:
        lost.append(f"{count(len(trace.skipped), 'line')} of {source} that could not be used")
    return len(trace.columns), lost, count(len(trace.columns), "event")
