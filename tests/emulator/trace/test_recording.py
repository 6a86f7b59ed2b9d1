"""What `vtd record` tells people to record is what we read."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from emulator.trace.qemu import QemuReader
from emulator.trace.recording import EVENTS, TOOLS, Recording, commands, kernel_notes
from emulator.trace.skipped import SkippedLines
from emulator.trace.tracepoints import PARSERS
from pagetables.errors import InputError


def test_every_event_that_is_enabled_is_one_that_is_read() -> None:
    assert all(event in PARSERS for events in EVENTS.values() for event in events)


def test_every_event_of_iommu_that_is_read_is_enabled() -> None:
    # but for what only older kernels have, and syncs, which say nothing that is replayed
    older = re.compile(
        r"detach_device|(bounce_)?(un)?map_(single|sg)|cache_tag_flush_(all|range_np)|dma_sync_|dma_check"
    )
    enabled = {event for events in EVENTS.values() for event in events}
    assert {name for name in PARSERS if not older.match(name)} <= enabled


def test_every_event_of_qemu_that_is_enabled_is_one_that_is_read() -> None:
    (line,) = commands("qemu", Recording())
    enabled = re.findall(r"-trace (\w+)", line)
    assert set(enabled) == set(QemuReader("log", 0, SkippedLines())._parsers)


def test_groups_are_those_of_recorded_kernels(corpus: Path) -> None:
    text = gzip.decompress((corpus / "a-legacy-strict" / "event_formats.txt.gz").read_bytes()).decode()
    known = set(re.findall(r"(?m)^name: (\w+)", text))
    enabled = {event for events in EVENTS.values() for event in events}
    assert known & enabled
    assert {"map", "unmap", "qi_submit"} <= known & enabled


@pytest.mark.parametrize("tool", TOOLS)
def test_commands_are_a_shell_script(tool: str) -> None:
    lines = commands(tool, Recording(seconds=7, buffer_kib=1234, groups=("iommu", "dma")))
    if shutil.which("sh"):
        subprocess.run(["sh", "-n"], input="\n".join(lines), text=True, check=True)
    text = "\n".join(lines)
    assert tool in ("qemu",) or "iommu" in text
    assert "intel_iommu" not in text or tool == "qemu"
    assert tool in ("qemu", "boot") or "sleep 7" in text
    assert tool == "qemu" or ("2048K" if tool == "perf" else "1234") in text
    assert tool == "qemu" or "mono" in text


@pytest.mark.parametrize(
    "version, words",
    [
        ("5.10.0", ["5.12", "dma:*", "cache_tag"]),
        ("6.1.0-56-amd64", ["dma:*", "cache_tag"]),
        ("6.12", []),
        ("7.0.2", ["prints no iommu:map", "dma_iova_link"]),
        ("7.2.13", ["dma_iova_link"]),
    ],
)
def test_notes_say_what_a_kernel_lacks(version: str, words: list[str]) -> None:
    notes = kernel_notes(version)
    assert all(any(word in note for note in notes) for word in words)
    assert len(notes) == len(words) + 1  # all lack io_page_fault
    assert set(notes) <= set(kernel_notes(None))


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean perf"):
        commands("pref", Recording())
    with pytest.raises(InputError, match="did you mean iommu"):
        Recording.of(1, 1, ["iomu"])
    with pytest.raises(InputError, match="expected at least 1"):
        Recording.of(0, 1, [])
    with pytest.raises(InputError, match="'new' is no kernel version"):
        kernel_notes("new")
    assert Recording.of(1, 1, []).groups == tuple(EVENTS)
