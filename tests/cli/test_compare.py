"""`vtd compare`: presets and grids side by side, for people and for programs."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import replace

import pytest

from cli.__main__ import main
from cli.compare_columns import BEST, COLUMNS, WORST, Column, brief_count, brief_duration, brief_size, marks
from emulator.presets import load_presets
from emulator.settings import Settings
from emulator.what_if import metric_names, run
from tests.conftest import FIXTURES
from tests.scripts import NIC, Script
from tests.traces import with_log

TRACE = FIXTURES / "traces" / "i-firststage-k72.txt.xz"
SWAP = FIXTURES / "pressure" / "usb-swap.yaml"
FEW = "linux-7,linux-7-strict,stale-bitmap"


@pytest.fixture
def small(tmp_path):
    """A trace of a few maps, as JSON Lines."""
    lines = []
    for number in range(40):
        common = {"device": NIC, "iova": f"{(number + 1) << 21:#x}", "size": 4096, "time": 1000 * number}
        lines.append({"event": "map", "gpa": f"{0x100000 + number * 4096:#x}", "access": "rw", **common})
        if number % 3:
            lines.append({"event": "unmap", **common, "time": 1000 * number + 500})
    path = tmp_path / "small.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def shown(capsys):
    """Runs a comparison in this process; the lines it prints, none of which is wider than a terminal."""

    def run_it(*arguments, status=0):
        assert main(["compare", *map(str, arguments)]) == status
        out, err = capsys.readouterr()
        assert err == ""
        lines = out.splitlines()
        assert max(map(len, lines[1:])) <= 80
        return lines

    return run_it


def timeless(document):
    return [
        {key: value for key, value in one.items() if key not in ("elapsed_s", "events_per_s")}
        for one in document["runs"]
    ]


def test_compared_presets_print_the_keys_that_scripts_rely_on(printed):
    document = printed("compare", TRACE, "--preset", FEW)
    assert set(document) == {"runs"}
    assert [one["preset"] for one in document["runs"]] == FEW.split(",")
    for one in document["runs"]:
        assert set(metric_names()) <= set(one)
        assert {"preset", "pool", "iova", "flush", "reused_before_flush", "failed"} <= set(one)
        assert set(one["failed"]) == {"page", "address", "bounce", "descriptor"}
        assert (one["run"], one["pressure_script"], one["addresses"]) == (one["preset"], None, "re-allocated")


def test_a_compared_preset_has_the_numbers_of_its_replay(printed):
    (compared,) = timeless(printed("compare", TRACE, "--preset", "linux-7"))
    replayed = printed("replay", TRACE, "--preset", "linux-7")
    for key in ("maps_ok", "map_ns", "invalidations", "stale_window", "series", "pages", "events", "rows"):
        assert compared[key] == replayed[key]
    assert compared["applied"]["map"] == replayed["applied"]["map"] > 0
    plain = printed("replay", TRACE)
    assert (plain["events"], plain["applied"]["unmap"]) == (compared["events"], compared["applied"]["unmap"])


def test_comparing_does_not_depend_on_the_number_of_jobs(printed):
    documents = [timeless(printed("compare", TRACE, "--preset", FEW, "--jobs", jobs)) for jobs in (1, 2, 3)]
    assert json.dumps(documents[0]) == json.dumps(documents[1]) == json.dumps(documents[2])


def test_without_a_choice_every_preset_is_in_the_table(shown, small):
    lines = shown(small, "--jobs", "1")
    names = [preset.name for preset in load_presets()]
    assert lines[0] == f"small.jsonl: 66 events, {len(names)} runs"
    first = [line.split()[0] for line in lines if line.strip()]
    for name in names:
        assert first.count(name) >= 2  # a row in each table that has something to show


def test_compared_presets_stand_in_three_tables_with_best_and_worst_marked(shown):
    lines = shown(TRACE, "--preset", FEW)
    text = "\n".join(lines)
    memory = "memory, in pages of 4 KiB where no unit is given"
    assert [text.count(f"\n{theme}\n") for theme in ("failures and time", memory, "safety")] == [1, 1, 1]
    time_table, rest = text.split("\nfailures and time\n")[1].split(f"\n{memory}\n")
    rows = {line.split()[0]: line for line in time_table.splitlines() if line.startswith(("linux", "stale"))}
    assert list(rows) == FEW.split(",")
    assert "\\x1b" not in repr(text)
    assert re.search(r"linux-7 .*ns\+", rows["linux-7"])  # the shortest median of unmaps
    assert re.search(r"us-", rows["linux-7-strict"])  # each unmap waits
    assert f"{BEST} best, {WORST} worst" in rest


def test_recorded_and_reallocated_addresses_never_share_a_table_of_a_compared_grid(shown, printed):
    grid = ("--grid", "iova=recorded,rbtree,gen-pool,pool=os")
    text = "\n".join(shown(TRACE, *grid))
    recorded, reallocated = text.split("addresses re-allocated")
    assert "addresses as recorded" in recorded
    assert [recorded.count(f"\n{name} ") >= 2 for name in ("recorded", "rbtree", "gen-pool")] == [True, False, False]
    assert [reallocated.count(f"\n{name} ") >= 2 for name in ("recorded", "rbtree", "gen-pool")] == [False, True, True]
    assert {one["addresses"] for one in printed("compare", TRACE, *grid)["runs"]} == {"as recorded", "re-allocated"}


def test_runs_under_different_pressure_never_share_a_table(shown):
    bursts = FIXTURES / "pressure" / "bursts.yaml"
    more = ("--set", "kernel.size=64M", "--pressure", SWAP, "--pressure", bursts)
    text = "\n".join(shown(TRACE, "--preset", "linux-7,static", *more))
    assert text.count("addresses re-allocated, under usb-swap.yaml") == 1
    assert text.count("addresses re-allocated, under bursts.yaml") == 1
    assert "linux-7 under usb-swap.yaml" in text.split("\ndeadlocks\n")[1]


def test_points_of_a_grid_that_do_not_fit_are_left_out_and_named(shown, printed):
    grid = ("compare", TRACE, "--grid", "flush=strict,lazy-on-wrap", "--jobs", "1")
    document = printed(*grid)
    assert [one["flush"] for one in document["runs"]] == ["strict"]
    (left,) = document["left_out"]
    assert left["run"] == "lazy-on-wrap"
    assert "waits until an address allocator asks" in left["why"]
    assert any("lazy-on-wrap: flush=lazy-on-wrap waits" in line for line in shown(*grid[1:]))


def test_presets_that_nobody_named_and_that_cannot_run_are_left_out(printed, said, small):
    little = ("--set", "kernel.size=32M", "--jobs", "1")  # swiotlb wants 64 MiB in a row
    document = printed("compare", small, *little)
    assert "swiotlb" in {one["run"] for one in document["left_out"]}
    assert {one["run"] for one in document["runs"]} | {one["run"] for one in document["left_out"]} == (
        {preset.name for preset in load_presets()}
    )
    assert "swiotlb: bounce swiotlb: no 64 MiB of memory in a row" in said(
        "compare", small, *little, "--preset", "swiotlb"
    )


def test_a_grid_of_which_nothing_fits_is_a_mistake(said):
    message = said("compare", TRACE, "--grid", "flush=lazy-on-wrap,stale-bitmap", "--jobs", "1")
    assert "lazy-on-wrap: flush=lazy-on-wrap waits until" in message


def test_a_compared_preset_that_cannot_run_is_named(said):
    message = said("compare", TRACE, "--preset", "mempool,linux-7", "--set", "pool.size=64", "--jobs", "2")
    assert "linux-7: pool os has no option 'size'" in message


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--preset", "linux-8"), "no preset is called 'linux-8'"),
        (("--preset", ","), "--preset names no preset"),
        (("--grid", "pool"), "expected KEY=VALUE"),
        (("--set", "levels=9"), "levels=9"),
        (("--pressure", "no.yaml"), "no.yaml"),
        (("--jobs", "2", "--scheduler", "tcp://x:1"), "only one of them"),
        (("--find-minimum", "pool.size", "--html", "x.html"), "makes no page"),
        (("--find-minimum", "flush"), "flush is no number"),
        (("--find-minimum", "pool.siez", "--preset", "mempool", "--jobs", "1"), "pool mempool has no option 'siez'"),
        (("--jobs", "0"), "--jobs"),
        (("--html", "no/folder/page.html", "--preset", "gart"), "--html no/folder/page.html: there is no folder"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_line(said, small, arguments, message):
    assert message in said("compare", small, *arguments)


def test_a_trace_that_is_not_there_cannot_be_compared(said):
    assert "No such file" in said("compare", "no-such-trace.txt")


def test_without_dask_comparing_says_what_to_install(said, small, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'vtd-emulator[cluster]'" in said("compare", small, "--scheduler", "tcp://127.0.0.1:9")


@pytest.fixture
def full(tmp_path):
    """Settings of a run in which somebody else takes all memory."""
    script = "explains: x\nsteps:\n  - {at: 0ms, who: hog, take: all, kind: pinned, gfp: memalloc}\n"
    (tmp_path / "full.yaml").write_text(script)
    return (
        "--set",
        "kernel.size=4M",
        "--set",
        "reaction=fail",
        "--set",
        "iova=recorded",
        "--pressure",
        tmp_path / "full.yaml",
        "--jobs",
        "2",
    )


def test_the_smallest_pool_of_a_compared_preset_is_told_with_the_failures_below_it(printed, shown, small, full):
    asked = (small, "--preset", "mempool,linux-7", *full, "--find-minimum", "pool.size")
    document = printed("compare", *asked)
    assert document["setting"] == "pool.size"
    mempool, linux = document["runs"]
    tried = {one["value"]: one["failed"] for one in mempool["tried"]}
    assert tried[mempool["minimum"]] == 0 < tried[mempool["minimum"] - 1]
    assert (linux["minimum"], mempool["contradicted_by"]) == (None, [])
    assert "has no option 'size'" in linux["why"]
    assert linux["as_is"] > 0 == mempool["as_is"]
    lines = shown(*asked)
    (row,) = (line.split() for line in lines if line.startswith("mempool"))
    assert row[1:4] == [str(mempool["minimum"]), "0", str(tried[mempool["minimum"] - 1])]
    assert any("linux-7 under full.yaml: pool os has no option" in line for line in lines)


def test_a_compared_preset_that_no_value_saves_has_exit_status_1(printed, shown, small, full):
    asked = (small, "--preset", "linux-7", *full, "--find-minimum", "accesses.late_us")
    (run,) = printed("compare", *asked, status=1)["runs"]
    assert run["minimum"] is None
    assert run["as_is"] > 30
    assert any("none up to 1,048,576" in line for line in shown(*asked, status=1))


@pytest.mark.parametrize("everybody", [True, False], ids=["as a terminal does", "as kill does"])
@pytest.mark.parametrize("number, word", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_comparison_that_is_asked_to_end_takes_its_workers_along(start, tmp_path, until, number, word, everybody):
    process = start("compare", TRACE, "--jobs", "2", start_new_session=True, env={"TMPDIR": str(tmp_path)})
    until(lambda: workers_of(process.pid) >= 4)  # a tracker, a fork server and two workers
    if everybody:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", f"vtd: {word}\n")
    until(lambda: not workers_of(process.pid))
    assert list(tmp_path.iterdir()) == []


def workers_of(session):
    """How many processes of a session there are, its leader apart."""
    number = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != session:
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            number += int(fields[3]) == session and fields[0] != "Z"
    return number


def test_numbers_of_compared_presets_are_brief():
    assert [brief_count(n) for n in (0, 999, 7727, 9999, 10000, 54140, 123456, 999950, 2 * 10**6, 6 * 10**9)] == (
        ["0", "999", "7,727", "9,999", "10.0k", "54.1k", "123k", "1.0M", "2.0M", "6.0G"]
    )
    assert [brief_duration(n) for n in (0, 55, 999, 1800, 13606, 10**7, 24 * 10**8)] == (
        ["0", "55ns", "999ns", "1.8us", "14us", "10ms", "2.4s"]
    )
    assert [brief_size(n) for n in (0, 512, 4096, 3 << 29, 212_440_064, (1 << 48) - 4096)] == (
        ["0", "512B", "4KiB", "1.5GiB", "203MiB", "256TiB"]
    )


@pytest.fixture
def outcomes():
    """Outcomes that differ in their median latency and in failed maps as asked for."""
    outcome = run(Script().attach().map(0x1000, 0x5000).trace(), Settings.of({"preset": "gart"}))

    def make(*values):
        return [
            replace(outcome, map_ns={**outcome.map_ns, "p50": value}, failed={**outcome.failed, "page": failed})
            for value, failed in values
        ]

    return make


def column(name) -> Column:
    (found,) = (one for one in COLUMNS if one.name == name)
    return found


def test_best_and_worst_of_compared_presets_are_marked(outcomes):
    runs = outcomes((105, 0), (223, 0), (5000, 0), (300, 0))
    assert marks(column("map, median"), runs) == [BEST, "", WORST, ""]


def test_what_most_compared_presets_share_is_not_marked(outcomes):
    assert marks(column("map, median"), outcomes((105, 0), (105, 0), (105, 0), (300, 0))) == ["", "", "", WORST]
    assert marks(column("map, median"), outcomes((105, 0), (105, 0))) == ["", ""]
    assert marks(column("map, median"), outcomes((13601, 0), (13609, 0), (99000, 0), (99001, 0))) == (
        [BEST, BEST, WORST, WORST]  # they look the same
    )


def test_a_compared_preset_that_gives_maps_up_is_best_at_nothing_else(outcomes):
    runs = outcomes((5, 7), (105, 0), (200, 0), (300, 0))
    assert marks(column("map, median"), runs) == ["", BEST, "", WORST]
    assert marks(column("failed: page"), runs) == [WORST, "", "", ""]


def test_more_is_better_only_where_a_column_says_so(outcomes):
    small, large = outcomes((1, 0), (1, 0))
    runs = [replace(small, lowest_free=5), replace(large, lowest_free=50)]
    assert marks(column("least free"), runs) == [WORST, BEST]


def test_a_number_that_no_compared_preset_has_is_empty(outcomes):
    runs = outcomes((1, 0), (2, 0))
    assert [column("stale hits").text(one) for one in runs] == ["", ""]
    assert marks(column("stale hits"), runs) == ["", ""]


def test_columns_of_compared_presets_have_names_of_their_own():
    assert len({one.name for one in COLUMNS}) == len(COLUMNS)
    assert all(len(line) <= 6 for one in COLUMNS for line in one.title.split("\n"))


def test_all_runs_see_the_accesses_of_a_qemu_log(tmp_path, capsys):
    trace, log = with_log(tmp_path)
    asked = ["compare", str(trace), "--preset", FEW, "--jobs", "1", "--json"]
    assert main([*asked, "--accesses", str(log)]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [one["accesses"]["made"] for one in runs] == [1, 1, 1]
    assert main([*asked, "--set", "accesses=none"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [one["accesses"]["made"] for one in runs] == [0, 0, 0]


DOCUMENT = FIXTURES.parent / "docs" / "compare.md"


def test_the_comparison_of_presets_in_the_document_is_what_is_printed(shown, monkeypatch):
    monkeypatch.chdir(FIXTURES.parent)
    monkeypatch.setenv("COLUMNS", "80")
    section = DOCUMENT.read_text().split("\n    $ vtd compare ")[1].split("\n\nRead:")[0]
    command, printed = section.split("\n\n", 1)
    lines = shown(*command.replace("\\\n", " ").split())
    assert [line.strip() for line in printed.splitlines()] == [line.strip() for line in lines]


@pytest.mark.slow
def test_the_smallest_pool_in_the_document_of_compared_presets_is_what_is_found(printed, monkeypatch):
    monkeypatch.chdir(FIXTURES.parent)
    told = re.search(r"`mempool` needs `pool.size=(\d+)`;\s+with (\d+), (\d+) maps fail", DOCUMENT.read_text())
    asked = ("--preset", "mempool", "--set", "kernel.size=64M", "--pressure", "fixtures/pressure/usb-swap.yaml")
    trace = "fixtures/traces/a-legacy-strict.txt.xz"
    (run,) = printed("compare", trace, *asked, "--find-minimum", "pool.size")["runs"]
    tried = {one["value"]: one["failed"] for one in run["tried"]}
    minimum, less, failed = map(int, told.groups())
    assert (run["minimum"], less, tried[less]) == (minimum, minimum - 1, failed)


@pytest.mark.parametrize("address", ["nowhere", "tcp://nowhere", "host:port", "tls://:5"])
def test_a_scheduler_without_a_port_is_refused_before_anything_is_tried(said, small, address):
    pytest.importorskip("distributed", reason="NOT RUN: pip install 'vtd-emulator[cluster]'")
    line = said("compare", small, "--scheduler", address, "--preset", "linux-7")
    assert f"--scheduler {address}: expected an address with a port" in line
