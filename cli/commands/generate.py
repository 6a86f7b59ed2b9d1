"""`vtd generate`: a synthetic trace with the shape of a real driver's."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.render import console, count, emit_json, progress


@click.command("generate")
@click.argument("workload", required=False)
@click.argument("out", required=False)
@click.option(
    "--events",
    metavar="N",
    type=click.IntRange(max=1 << 40),
    default=100_000,
    show_default=True,
    help="Rows of the trace.",
)
@click.option("--devices", metavar="N", type=int, default=1, show_default=True, help="Devices, each with its space.")
@click.option(
    "--seed", metavar="N", type=click.IntRange(0), default=0, show_default=True, help="Of the random numbers."
)
@click.option("--rate", metavar="X", type=float, default=1.0, show_default=True, help="Factor on the usual rate.")
@click.option("--to", "asked", metavar="FORMAT", help="jsonl, parquet, ftrace, trace-cmd or perf; else by OUT's name.")
@click.option("--list", "listed", is_flag=True, help="The workloads there are.")
@json_option
def command(
    workload: str | None,
    out: str | None,
    events: int,
    devices: int,
    seed: int,
    rate: float,
    asked: str | None,
    listed: bool,
    as_json: bool,
) -> int:
    """Write a synthetic trace with the shape of a real driver's.

    Ring sizes, buffer sizes, lifetimes, batches, CPUs and classes of requests are those of Linux drivers; the same
    arguments give the same trace. OUT is as for `vtd convert-trace`; it is written as it is made, whatever its length.

    \b
    Examples:
      vtd generate --list
      vtd generate nic-tx out.jsonl.zst --events 200000
      vtd generate pressure - --to ftrace --events 20 --devices 2

    Exit status: 0; 2 if the arguments cannot be used (then OUT is as it was).
    """
    from emulator.workloads import WORKLOADS, generate
    from pagetables.errors import InputError, near

    if listed:
        return _show(as_json)
    if workload is None or out is None:
        raise click.UsageError("Missing argument 'WORKLOAD' or 'OUT'; --list tells the workloads")
    if workload not in WORKLOADS:
        raise InputError(f"no workload is called {workload!r}; {near(workload, WORKLOADS)}")
    if as_json and out == "-":
        raise click.UsageError("--json and OUT - both want standard output")
    from emulator.trace.writing import format_of, trace_writer
    from emulator.workloads.workload import spaces_of

    style, spaces, last = format_of(out, asked), spaces_of(devices), 0
    pieces = generate(WORKLOADS[workload], events, devices, seed, rate)
    with progress("generating", events) as done, trace_writer(out, style, spaces, "7.x") as writer:
        for piece in pieces:
            writer.write(piece)
            done(len(piece))
            last = int(piece.time_ns[-1])
    if as_json:
        emit_json({"out": out, "workload": workload, "format": style.value, "events": events, "span_ns": last})
    elif out != "-":
        told = f"{count(events, 'event')} of {workload} in {last / 1e9:.3g} s of its time"
        console().print(f"{out}: {style.value}, {told}", soft_wrap=True)
    return 0


def _show(as_json: bool) -> int:
    from emulator.workloads import WORKLOADS

    if as_json:
        emit_json({"workloads": [{"name": one.name, "explains": one.about} for one in WORKLOADS.values()]})
        return 0
    for one in WORKLOADS.values():
        console().print(f"{one.name:12} {one.about}")
    return 0
