"""Tasks over processes of this machine.

The trace is written once, as one file a column, and mapped by each worker: its pages are shared. Workers come from a
fork server, which has no threads. Each has a pipe: tasks go in, rows done and answers come out. A worker whose parent
vanished finds its pipe broken, and ends; Ctrl-C is the parent's to handle, which ends them all.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from emulator.compare.tasks import Progress, Refused, Task, attempt, only_rows
from emulator.trace.columns import Columns
from emulator.trace.trace import Trace
from emulator.what_if import Prepared
from pagetables.errors import VtdError

__all__ = ["processors", "run_on_processes"]

T = TypeVar("T")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def run_on_processes(trace: Trace, tasks: Sequence[Task[T]], jobs: int, progress: Progress) -> list[T | Refused]:
    """The answer of each task, in their order, computed by up to `jobs` processes (by this one, if that is one).

    VtdError if a worker ends before it has answered, as it does when memory runs out.
    """
    if min(jobs, len(tasks)) <= 1:
        prepared = Prepared.of(trace)
        return [attempt(task, prepared, progress) for task in tasks]
    with _written(trace) as folder, _workers(folder, trace, min(jobs, len(tasks))) as workers:
        return _shared_out(tasks, workers, progress)


@contextlib.contextmanager
def _written(trace: Trace) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vtd-compare-") as folder:
        for name in Columns.names():
            np.save(Path(folder) / f"{name}.npy", trace.columns[name])
        yield Path(folder)


def _mapped(folder: Path, trace: Trace) -> Trace:
    columns = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode=_how(trace))) for name in Columns.names()}
    return replace(trace, columns=Columns(**columns))


def _how(trace: Trace) -> Any:
    return "r" if trace.events else None  # nothing cannot be mapped


class _Worker:
    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.task: int | None = None


@contextlib.contextmanager
def _workers(folder: Path, trace: Trace, number: int) -> Iterator[list[_Worker]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emulator.what_if"])
    _start_fork_server()
    rest = replace(only_rows(trace), columns=trace.columns.take(slice(0, 0)))
    workers = []
    try:
        for _ in range(number):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(folder, rest, theirs), daemon=True)
            process.start()
            theirs.close()  # so that our end hears when the worker is gone
            workers.append(_Worker(process, ours))
        yield workers
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def _start_fork_server() -> None:
    # It ignores Ctrl-C once it serves, and would die of it noisily while it imports: so it is born with Ctrl-C blocked,
    # which for us means late. The tracker comes first, since whoever starts it finds Ctrl-C unblocked afterwards.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shared_out(tasks: Sequence[Task[T]], workers: list[_Worker], progress: Progress) -> list[T | Refused]:
    answers: dict[int, T | Refused] = {}
    todo = iter(range(len(tasks)))
    by_pipe = {worker.pipe: worker for worker in workers}
    for worker in workers:
        _give(worker, tasks, next(todo, None))
    while len(answers) < len(tasks):
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[cast(Connection, pipe)]
            said = _heard(worker, tasks)
            if isinstance(said, int):
                progress(said)
            elif worker.task is not None:
                answers[worker.task] = said[0]
                _give(worker, tasks, next(todo, None))
    return [answers[number] for number in range(len(tasks))]


def _give(worker: _Worker, tasks: Sequence[Task[Any]], number: int | None) -> None:
    worker.task = number
    if number is not None:
        with contextlib.suppress(BrokenPipeError):  # told when its answer is waited for
            worker.pipe.send(tasks[number])


def _heard(worker: _Worker, tasks: Sequence[Task[Any]]) -> Any:
    try:
        return worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        doing = "" if worker.task is None else f"{tasks[worker.task].name}: "
        raise VtdError(f"{doing}a worker ended before it had answered{_how_it_ended(worker.process)}") from None


def _how_it_ended(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code >= 0:
        return f" (exit status {code})"
    hint = ": is there memory for so many? See --jobs" if code == -signal.SIGKILL else ""
    return f" ({signal.Signals(-code).name}{hint})"


def _work(folder: Path, rest: Trace, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trace = Prepared.of(_mapped(folder, rest))
    except FileNotFoundError:  # the parent was interrupted, and took the files along
        return
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        while True:
            task = pipe.recv()
            pipe.send((attempt(task, trace, pipe.send),))
