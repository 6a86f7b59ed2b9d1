"""The numbers of docs/answers.md, for every preset, are what comparing the recordings and its generated loads gives."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict

import pytest

from cli.__main__ import main
from tests.conftest import FIXTURES

DOCUMENT = (FIXTURES.parent / "docs" / "answers.md").read_text()
WITH_MEMORY, UNDER_PRESSURE = DOCUMENT.split("## Without")
BOOT = FIXTURES / "traces" / "a-legacy-strict.txt.xz"
LOADS = ("boot", "pressure", "nic-tx", "nic-rx", "nvme", "usb-storage")
WAITS = {"takes table pages": "a DMA map", "must stay": "descriptors"}


def spelt(ns):
    """A time as the document has it."""
    for unit, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= scale:
            return f"{ns / scale:.3g} {unit}"
    return f"{ns} ns" if ns else "0"


def row(runs):
    """The row of one preset: sums over the recordings, the most of any, medians of the first."""
    unmaps = sum(run["unmaps"] for run in runs)
    flushes = sum(run["invalidations"][kind] for run in runs for kind in ("global", "domain", "page"))
    return [
        "/".join(str(sum(run["failed"][cause] for run in runs)) for cause in ("page", "address", "bounce")),
        spelt(runs[0]["map_ns"]["p50"]),
        spelt(runs[0]["unmap_ns"]["p50"]),
        f"{float(f'{1000 * flushes / unmaps:.3g}'):,g}",
        f"{sum(sum(run['os_calls'].values()) for run in runs):,}",
        "/".join(f"{max(run['pages'][kind]['peak'] for run in runs):,}" for kind in ("live", "empty", "idle")),
        spelt(max(run["stale_window"]["max_ns"] for run in runs)),
        str(sum(run["reused_before_flush"] for run in runs)),
        f"{100 * sum(run['accesses']['hits'] for run in runs) / unmaps:.1f} %",
    ]


def failures(run):
    """The maps a run gave up, as the document has them."""
    return f"{sum(run['failed'].values()):,}"


def pressed_row(runs):
    """The row of one preset under pressure: failed maps of each load, the fewest free pages, the circle of the boot."""
    boot = runs[0]
    waits = [short for circle in boot["deadlocks"] for end, short in WAITS.items() if circle.endswith(end)]
    return [*map(failures, runs), str(min(run["lowest_free"] for run in runs)), *(waits or ["-"])]


def table(text, number=0):
    """The cells of the rows of a table of presets, by preset."""
    rows = re.findall(r"(?:^\| `.*\n)+", text, re.MULTILINE)[number].splitlines()
    return {cells[0].strip("`"): cells[1:] for cells in map(cells_of, rows)}


def cells_of(line):
    """The cells of a row of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.slow
def test_answers_for_every_preset_are_what_comparing_the_recordings_gives(corpus, printed):
    found = defaultdict(list)
    for trace in sorted(corpus.glob("*/trace.txt.gz")):
        for run in printed("compare", trace, "--set", "accesses=late")["runs"]:
            found[run["run"]].append(run)
    assert {preset: row(runs) for preset, runs in found.items()} == table(WITH_MEMORY)


@pytest.mark.slow
def test_answers_about_addresses_handed_out_early_are_what_devices_meet(corpus, printed):
    first, *others = sorted(corpus.glob("*/trace.txt.gz"))
    pools = ("--preset", "sparc-generic,stale-bitmap")
    ruled = [printed("compare", trace, *pools)["runs"] for trace in (first, *others)]
    logged = printed("compare", first, *pools, "--accesses", first.parent / "qemu-vtd.log.gz")["runs"]
    sparc, stale_bitmap = ([run["accesses"]["hits"] for run in runs] for runs in zip(*ruled, logged, strict=True))
    assert not any(stale_bitmap)
    told = re.search(r"late, (\d+) accesses through them .*?, (\d+) did\.", WITH_MEMORY, re.DOTALL)
    assert told is not None
    assert [*map(int, told.groups())] == [sum(sparc[:-1]), sparc[-1]]


@pytest.fixture(scope="module")
def pressed(tmp_path_factory):
    """For each script and preset the runs on `LOADS`: the boot, and what the document's own commands generate."""
    import json
    from contextlib import redirect_stdout
    from io import StringIO

    folder, found = tmp_path_factory.mktemp("loads"), defaultdict(list)
    loads = {"boot": BOOT}
    for line in re.findall(r"^ +vtd (generate .*)$", UNDER_PRESSURE, re.MULTILINE):
        _, name, out, *rest = shlex.split(line)
        loads[name] = folder / out
        assert main(["generate", name, str(loads[name]), *rest]) == 0
    for name in LOADS:
        asked = ["compare", str(loads[name]), "--set", "kernel.size=256M", "--json"]
        for script in ("usb-swap", "long"):
            asked += ["--pressure", str(FIXTURES / "pressure" / f"{script}.yaml")]
        with redirect_stdout(StringIO()) as out:
            assert main(asked) == 0
        for run in json.loads(out.getvalue())["runs"]:
            found["usb-swap" if "usb-swap" in run["pressure_script"] else "long", run["run"]].append(run)
    return found


@pytest.mark.slow
def test_answers_under_a_disk_to_swap_to_are_what_comparing_gives(pressed):
    measured = {preset: pressed_row(runs) for (script, preset), runs in pressed.items() if script == "usb-swap"}
    assert measured == table(UNDER_PRESSURE)


@pytest.mark.slow
def test_answers_with_memory_full_for_long_are_what_comparing_gives(pressed):
    measured = {preset: [*map(failures, runs)] for (script, preset), runs in pressed.items() if script == "long"}
    assert {preset: row for preset, row in measured.items() if set(row) != {"0"}} == table(UNDER_PRESSURE, 1)


def test_the_answers_are_of_every_preset():
    from emulator.presets import load_presets

    names = [preset.name for preset in load_presets()]
    assert list(table(WITH_MEMORY)) == list(table(UNDER_PRESSURE)) == names
