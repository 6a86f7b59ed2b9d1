"""ftrace text read into events; against gawk, which pulls the same fields out of the same lines and adds them up."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.measure import Job
from benchmarks.scene import Scene
from emulator.trace.event import Kind
from emulator.trace.framing import Format
from emulator.trace.opening import open_trace, pieces
from emulator.trace.skipped import SkippedLines
from emulator.trace.text import TextReader
from emulator.trace.writing import trace_writer
from emulator.workloads import WORKLOADS, generate
from emulator.workloads.workload import spaces_of
from pagetables.errors import VtdError

__all__ = ["read_ftrace"]

EVENTS = 20_000  # rows of the trace; each is two or three lines
PROGRAM = r"""
# Fields by white space: quicker in gawk than patterns with groups, and right as long as no task's name has a space.
function hex(text) { return strtonum("0x" text) }
/^#/ { next }
{
    dash = match($1, /-[0-9]+$/); pid += substr($1, dash + 1); cpu += substr($2, 2, 3); time += $4 + 0; count[$5]++
}
$5 == "map:" {
    iova += strtonum(substr($7, 6)); end += strtonum($9); gpa += strtonum(substr($10, 7)); size += substr($11, 6)
}
$5 == "unmap:" { iova += strtonum(substr($7, 6)); end += strtonum($9); size += substr($10, 6) }
$5 ~ /^dma_map/ {
    way[$7]++; device[$6]++; iova += hex(substr($8, 10)); size += substr($9, 6); gpa += hex(substr($10, 11))
}
$5 ~ /^cache_tag_flush/ {
    domain += $11; split(substr($12, 2), range, "-"); iova += strtonum(range[1]); end += strtonum(range[2])
}
END { print count["map:"], count["unmap:"] }
"""


def read_ftrace(scene: Scene) -> Job:
    """A generated trace, in the words of a kernel; one operation is one line."""
    gawk = shutil.which("gawk")
    if gawk is None:
        raise VtdError("benchmark read-ftrace: it is held against gawk, which is not installed")
    folder = tempfile.TemporaryDirectory()
    scene.kept.append(folder)
    path = Path(folder.name) / "trace.txt"
    with trace_writer(str(path), Format.FTRACE, spaces_of(1), "7.x") as writer:
        for piece in generate(WORKLOADS["nic-tx"], EVENTS):
            writer.write(piece)

    def limit() -> list[int]:
        done = subprocess.run([gawk, PROGRAM, path], capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
        return [int(number) for number in done.stdout.split()]

    def ours() -> list[int]:
        counted = [0] * (max(Kind) + 1)
        with open_trace(path) as stream:
            for event in TextReader(str(path), 0, SkippedLines()).events(pieces(stream, str(path))):
                counted[event.kind] += 1
        return [counted[Kind.MAP], counted[Kind.UNMAP]]

    if limit() != ours():
        raise VtdError("benchmark read-ftrace: gawk and the reader do not find the same events")
    return Job(limit, ours, path.read_bytes().count(b"\n"))
