"""`vtd bench`: how far the native engine is from the least work that could do the job."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options import json_option
from cli.render import console, emit_json, progress
from pagetables.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

DONE, MISSED = 0, 1
FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@click.command("bench")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="The benchmarks there are.")
@json_option
def command(names: tuple[str, ...], listed: bool, as_json: bool) -> int:
    """How far the native engine is from the least work that could do the job.

    Each line is a ratio of two medians, measured in turns in one run: ours over bare C on the same tables and inputs.
    Needs a checkout, the C core and a C compiler.

    \b
    Examples:
      vtd bench
      vtd bench walk replay --json

    Exit status: 0, or 1 if a target is missed.
    """
    benchmarks = _load()
    if listed:
        _show_names(benchmarks, as_json)
        return DONE
    with progress("measuring", len(names) or len(benchmarks.BENCHMARKS)) as done:
        outcomes = benchmarks.run(names, done)
    if as_json:
        emit_json({"bench": [_document(outcome) for outcome in outcomes]})
    else:
        _show(outcomes)
    return MISSED if any(outcome.met is False for outcome in outcomes) else DONE


def _load() -> ModuleType:
    if not (FOLDER / "__init__.py").is_file():
        raise InputError(f"benchmarks run from a checkout, and {FOLDER} is not there")
    if "benchmarks" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
        )
        if spec is None or spec.loader is None:
            raise InputError(f"{FOLDER} cannot be imported")
        module = sys.modules["benchmarks"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["benchmarks"]


def _document(outcome: Any) -> dict[str, object]:
    return {
        "name": outcome.name,
        "ratio": round(outcome.ratio, 3),
        "limit_ns": round(outcome.limit_ns, 3),
        "ours_ns": round(outcome.ours_ns, 3),
        "target": outcome.target,
        "better": "lower",
    }


def _show_names(benchmarks: ModuleType, as_json: bool) -> None:
    every = benchmarks.BENCHMARKS.values()
    if as_json:
        return emit_json(
            {"benchmarks": [{"name": one.name, "about": one.about, "target": one.target} for one in every]}
        )
    for one in every:
        console().print(f"{one.name:18} {one.about}")
    return None


def _show(outcomes: list[Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    table.add_column("ours : the limit")
    for title in ("limit ns", "ours ns", "ratio", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in outcomes:
        target = "-" if one.target is None else f"{one.target:g}"
        row = (one.name, one.about, f"{one.limit_ns:.2f}", f"{one.ours_ns:.2f}", f"{one.ratio:.2f}", target)
        table.add_row(*row, _verdict(one.met), style="red" if one.met is False else None)
    out = console()
    out.print(table)
    out.print("Nanoseconds for one operation, medians of turns taken in one run. Lower is better.")


def _verdict(met: bool | None) -> str:
    return {True: "within", False: "missed", None: "reported"}[met]
