"""`vtd compare`: the same trace on many systems, side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.reading import read
from cli.render import emit_json, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.compare import Candidate, Minimum, Refused
    from emulator.trace import Trace
    from emulator.what_if import Outcome

DONE, NONE_FOUND = 0, 1


@click.command("compare")
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True)
@click.option(
    "--preset", "presets", metavar="A,B,C", multiple=True, help="Systems by name; every one if none is named."
)
@click.option("--grid", metavar="KEY=V,V,...", multiple=True, help="Every combination of values, instead or on top.")
@click.option("--set", "assigned", metavar="KEY=VALUE", multiple=True, help="A setting of all runs. May be repeated.")
@click.option("--machine", metavar="FILE", type=click.Path(path_type=Path), help="Settings of all runs in YAML.")
@click.option(
    "--pressure", "scripts", metavar="FILE", multiple=True, help="Each run under this script. May be repeated."
)
@click.option("--accesses", metavar="LOG", help="Device accesses of all runs: QEMU's vtd_* log of the traced guest.")
@click.option("--jobs", metavar="N", type=click.IntRange(1), help="Processes; as many as processors if not given.")
@click.option("--scheduler", metavar="ADDRESS", help="Run on a Dask cluster, such as tcp://10.0.0.1:8786.")
@click.option("--find-minimum", "key", metavar="KEY", help="The smallest value of a setting without a failed map.")
@click.option("--html", metavar="FILE", help="Write a page with sortable tables and plots.")
@json_option
def command(
    traces: tuple[str, ...],
    presets: tuple[str, ...],
    grid: tuple[str, ...],
    assigned: tuple[str, ...],
    machine: Path | None,
    scripts: tuple[str, ...],
    accesses: str | None,
    jobs: int | None,
    scheduler: str | None,
    key: str | None,
    html: str | None,
    as_json: bool,
) -> int:
    """Replay the same traces on many systems, and put what was measured side by side.

    Systems are presets (`vtd presets`), or points of a grid over any settings (see `vtd replay --help`). In a grid,
    `all` is every name of an axis. Points of a grid that make no sense are left out, and named; so are presets that
    nobody named and that cannot run. Runs that keep recorded addresses and runs that allocate their own never share a
    table; nor do runs under different pressure.

    Devices use each mapping at a random time and just before its unmap (accesses=rule), so that stale hits are seen;
    --set accesses=late makes them come too late once more, accesses=none leaves them out. Accesses that are in the
    trace, or in the log of --accesses, stand instead.

    --find-minimum doubles and halves a setting until it is known from where on no map fails, and looks at neighbours,
    since more is not always better. The answers do not depend on --jobs or --scheduler.

    \b
    Examples:
      vtd compare fixtures/traces/a-legacy-strict.txt.xz --preset linux-7,linux-7-strict,stale-bitmap
      vtd compare fixtures/traces/a-legacy-strict.txt.xz --html compare.html --set accesses=late
      vtd compare fixtures/traces/a-legacy-strict.txt.xz --grid pool=os,mempool,flush=strict,percpu
      vtd compare fixtures/traces/a-legacy-strict.txt.xz --preset respool-2007,mempool --set kernel.size=64M \\
        --pressure fixtures/pressure/usb-swap.yaml --find-minimum pool.size

    Exit status: 0; 1 if a minimum was asked for and one system has none.
    """
    _check(jobs, scheduler, key, html)
    chosen = _candidates(presets, grid, assigned, machine, scripts)
    trace, _ = read(traces, accesses)
    if key is not None:
        return _minimum(trace, chosen, key, jobs, scheduler, as_json)
    from emulator.compare import RunTask

    tasks = [RunTask(one) for one in _used_by_devices(trace, chosen)]
    answers = _run(trace, tasks, jobs, scheduler, len(trace.columns) * len(chosen))
    runs, left_out = _sorted_out(chosen, answers, bool(grid) or not presets)
    if html is not None:
        from cli.compare_page import write_page

        write_page(html, trace, runs)
    if as_json:
        emit_json(_document(trace, runs, left_out))
    else:
        from cli.compare_report import show

        show(trace, runs, left_out, html)
    return DONE


def _check(jobs: int | None, scheduler: str | None, key: str | None, html: str | None) -> None:
    if scheduler is not None and jobs is not None:
        raise click.UsageError("--jobs is for this machine, --scheduler for others: only one of them can be asked for")
    if key is not None and html is not None:
        raise click.UsageError("--find-minimum makes no page: leave out --html")
    if html is not None and not os.path.isdir(folder := os.path.dirname(os.path.abspath(html))):
        raise click.UsageError(f"--html {html}: there is no folder {folder}")


def _candidates(
    presets: tuple[str, ...],
    grid: tuple[str, ...],
    assigned: tuple[str, ...],
    machine: Path | None,
    scripts: tuple[str, ...],
) -> list[Candidate]:
    from emulator.compare import candidates, grid_points
    from emulator.mapping.pressure_script import load_script
    from emulator.settings import assignments, machine_file

    names = [name.strip() for text in presets for name in text.split(",") if name.strip()]
    if presets and not names:
        raise click.UsageError("--preset names no preset: leave it out for all of them")
    values = {**(machine_file(machine) if machine is not None else {}), **assignments(assigned)}
    for script in scripts:
        load_script(script)  # a mistake in it is told before anything runs
    return candidates(names, grid_points(grid) if grid else (), values, scripts)


def _used_by_devices(trace: Trace, chosen: Sequence[Candidate]) -> Sequence[Candidate]:
    # Stale entries are seen by who uses them: devices are made up where nobody chose, and the trace has none.
    from dataclasses import replace

    from emulator.trace.event import Kind

    if (trace.columns.kind == Kind.ACCESS).any():
        return chosen
    return [replace(one, values={"accesses": "rule", **one.values}) for one in chosen]


def _run(trace: Trace, tasks: Sequence[Any], jobs: int | None, scheduler: str | None, rows: int | None) -> list[Any]:
    from emulator.compare import processors, run_on_cluster, run_on_processes

    with progress("comparing", rows) as done:
        if scheduler is not None:
            return run_on_cluster(trace, tasks, scheduler, done)
        return run_on_processes(trace, tasks, jobs or processors(), done)


def _sorted_out(
    chosen: Sequence[Candidate], answers: Sequence[Outcome | Refused], some_may_not_fit: bool
) -> tuple[list[tuple[Candidate, Outcome]], list[Refused]]:
    # Not every point of a grid makes sense, nor every preset in little memory; what was asked for by name has to run.
    from emulator.compare import Refused, settled

    left_out = [answer for answer in answers if isinstance(answer, Refused)]
    if left_out and (not some_may_not_fit or len(left_out) == len(answers)):
        settled(list(answers))
    pairs = zip(chosen, answers, strict=True)
    return [(one, answer) for one, answer in pairs if not isinstance(answer, Refused)], left_out


def _document(trace: Trace, runs: Sequence[tuple[Candidate, Outcome]], left_out: Sequence[Refused]) -> dict[str, Any]:
    from cli.what_if_report import measured

    document: dict[str, Any] = {"runs": [{**one.as_dict(), **measured(trace, outcome)} for one, outcome in runs]}
    if left_out:
        document["left_out"] = [{"run": refused.name, "why": refused.why} for refused in left_out]
    return document


def _minimum(
    trace: Trace, chosen: Sequence[Candidate], key: str, jobs: int | None, scheduler: str | None, as_json: bool
) -> int:
    from emulator.compare import MinimumTask, numeric_key, settled
    from pagetables.errors import InputError

    tasks = [MinimumTask(one, numeric_key(key)) for one in chosen]
    found: list[Minimum] = settled(_run(trace, tasks, jobs, scheduler, None))
    if not any(one.is_settable for one in found):
        raise InputError(f"--find-minimum {key}: {found[0].why or 'no run takes it'}")
    if as_json:
        runs = [{**one.as_dict(), **minimum.as_dict()} for one, minimum in zip(chosen, found, strict=True)]
        emit_json({"setting": key, "runs": runs})
    else:
        from cli.compare_report import show_minimum

        show_minimum(trace, key, list(zip(chosen, found, strict=True)))
    return NONE_FOUND if any(one.is_settable and one.value is None for one in found) else DONE
