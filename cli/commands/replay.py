"""`vtd replay`: a recorded DMA trace on byte-accurate tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.reading import read
from cli.render import emit_json, progress

if TYPE_CHECKING:
    from emulator.misuse.judging import Watch
    from emulator.settings import Settings
    from emulator.trace import Trace
    from emulator.trace.alignment import Alignment

DONE, FOUND = 0, 1


@click.command("replay")
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@click.option("--machine", metavar="FILE", type=click.Path(path_type=Path), help="Settings in YAML.")
@click.option("--set", "assigned", metavar="KEY=VALUE", multiple=True, help="One setting; see above. May be repeated.")
@click.option("--preset", metavar="NAME", help="A system by name (vtd presets); other settings go over it.")
@click.option("--pool", metavar="P", help="Where table pages come from: respool, os, mempool, static ...")
@click.option("--iova", metavar="A", help="Addresses: recorded, or an allocator: rbtree+rcache, gart, stale-bitmap ...")
@click.option("--flush", metavar="F", help="When unmapped ranges are invalidated: strict, percpu, list ...")
@click.option("--engine", metavar="E", help="Who executes: native or python.")
@click.option("--until", metavar="EVENT", help="Stop after event #N, or at the time 12.5s.")
@click.option("--accesses", metavar="LOG", help="Device accesses: QEMU's vtd_* log of the traced guest.")
@click.option("--dump", metavar="OUT.elf", help="Save memory and registers as they are at the end.")
@json_option
def command(
    traces: tuple[str, ...],
    machine: Path | None,
    assigned: tuple[str, ...],
    until: str | None,
    accesses: str | None,
    dump: str | None,
    as_json: bool,
    **axes: str | None,
) -> int:
    """Replay DMA traces on an emulated unit, and report.

    Each map and unmap of TRACE (ftrace text, trace-cmd report, perf script, JSON Lines or Parquet; .gz, .xz and .zst
    as they are; - is standard input) is done again: tables are written as bytes, table pages come from a pool, the
    unit is told by descriptors in its queue. Several traces are merged by time.

    With a preset, or an address allocator, the question is what would have happened on that system: sizes, lifetimes
    and CPUs are the trace's, addresses the allocator's (re-allocated), and each step has a price in model time.

    \b
    Settings (--set, or in YAML):
      profile  engine  mode=legacy|scalable  levels=3|4|5  stage=second|first  leaves=4k,2m,1g
      pool  pool.OPTION  flush  flush.OPTION  iova  iova.OPTION
      ram=START-END,...  kernel.size  kernel.used  kernel.min_free_kib  kernel.reclaim_per_ms
    Settings of a what-if run (any of them makes it one):
      preset  bounce  bounce.OPTION  reaction  reaction.OPTION  window=per-domain|shared
      gfp=atomic|kernel|...  accesses=none|rule|late  accesses.late_us  costs=FILE  pressure=FILE
      sg.boundary=SIZE  transfers=recorded|apart|linked  transfers.gap_us
      requests=none|uhci  requests.packet  requests.reserve  requests.gfp

    \b
    Examples:
      vtd replay fixtures/traces/a-legacy-strict.txt.xz
      vtd replay fixtures/traces/a-legacy-strict.txt.xz --set mode=scalable --flush deferred --json
      vtd replay fixtures/traces/a-legacy-strict.txt.xz --until 4.5s --dump tables.elf
      vtd replay fixtures/traces/a-legacy-strict.txt.xz --preset linux-2.6.24
      vtd replay fixtures/traces/a-legacy-strict.txt.xz --iova stale-bitmap --flush stale-bitmap --set window=shared

    Exit status: 0, or 1 if there is misuse, a fault or a refused map.
    """
    from emulator.misuse.judging import Watch

    _check_dump(dump)
    settings = _settings(machine, assigned, axes)
    watch = Watch()
    trace, alignment = read(traces, accesses, watch.see, until)
    if settings.is_what_if:
        return _what_if(trace, settings, watch, alignment, dump, as_json)
    return _plain(trace, settings, watch, alignment, dump, as_json)


def _check_dump(dump: str | None) -> None:
    if dump == "-":
        raise click.UsageError(
            "--dump needs a file: an image is written out of order, which standard output cannot take"
        )


def _plain(
    trace: Trace, settings: Settings, watch: Watch, alignment: Alignment | None, dump: str | None, as_json: bool
) -> int:
    from emulator.replay import Replay

    with progress("replaying", len(trace.columns)) as done:
        run = Replay(trace, settings, done, watch=watch)
        report = run.run()
    if dump is not None:
        run.machine.save(dump)
    if as_json:
        emit_json(report.as_dict() | _aligned(alignment))
    else:
        from cli.replay_report import show

        show(report, dump)
    return FOUND if report.has_findings else DONE


def _what_if(
    trace: Trace, settings: Settings, watch: Watch, alignment: Alignment | None, dump: str | None, as_json: bool
) -> int:
    from cli.what_if_report import document, show
    from emulator.misuse.judging import judge
    from emulator.what_if.runner import Runner
    from emulator.what_if.summary import summary

    with progress("replaying", len(trace.columns)) as done:
        run = Runner(trace, settings, done)
        elapsed = run.run()
    if dump is not None:
        run.machine.save(dump)
    outcome, judged = summary(run, elapsed), judge(trace, watch, run.ledger)
    if as_json:
        emit_json(document(run, outcome, judged) | _aligned(alignment))
    else:
        show(run, outcome, judged, dump)
    return FOUND if outcome.has_findings or judged.misuse else DONE


def _aligned(alignment: Alignment | None) -> dict[str, Any]:
    return {} if alignment is None else {"alignment": alignment.as_dict()}


def _settings(machine: Path | None, assigned: tuple[str, ...], axes: dict[str, str | None]) -> Settings:
    from emulator.settings import Settings, assignments, machine_file

    values = machine_file(machine) if machine is not None else {}
    values |= assignments(assigned)
    values |= {name: value for name, value in axes.items() if value is not None}
    return Settings.of(values)
