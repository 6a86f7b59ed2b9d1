"""Tasks over the machines of a Dask cluster. Files that settings name (pressure, costs) are read there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from emulator.compare.tasks import Progress, Refused, Task, attempt, only_rows
from emulator.trace.trace import Trace
from emulator.what_if import Prepared
from pagetables.errors import InputError

__all__ = ["run_on_cluster"]

T = TypeVar("T")
PATIENCE = "10s"  # for a scheduler to answer


def run_on_cluster(trace: Trace, tasks: Sequence[Task[T]], address: str, progress: Progress) -> list[T | Refused]:
    """The answer of each task, in their order, computed by the workers of the scheduler at `address`.

    InputError if Dask is not installed, or nobody answers. Workers need this package, in the same version.
    """
    distributed = _dask()
    _check(address)  # Dask's own refusal comes with a traceback on stderr
    try:
        client = distributed.Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"--scheduler {address}: no Dask scheduler answers: {error}") from None
    with client:  # when it is closed, early too, the scheduler forgets what nobody waits for
        rows = len(trace.columns)
        there = client.scatter(only_rows(trace), broadcast=True, hash=False)
        futures = [client.submit(_attempt, task, there, pure=False) for task in tasks]
        for _ in distributed.as_completed(futures, loop=client.loop):
            progress(rows)
        answers: list[T | Refused] = client.gather(futures)
    return answers


def _check(address: str) -> None:
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    if scheme in ("", "tcp", "tls") and not (host and port.isdecimal()):
        raise InputError(f"--scheduler {address}: expected an address with a port, such as tcp://10.0.0.1:8786")


def _dask() -> Any:
    try:
        import distributed
    except ImportError:
        raise InputError("--scheduler needs Dask: pip install 'vtd-emulator[cluster]'") from None
    return distributed


def _attempt(task: Task[T], trace: Trace) -> T | Refused:
    return attempt(task, Prepared.of(trace), lambda rows: None)
