"""Comparing presets: which systems are compared, who computes it, and what the smallest sufficient value is."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.compare import (
    Candidate,
    MinimumTask,
    Refused,
    RunTask,
    candidates,
    cluster,
    grid_points,
    numeric_key,
    processors,
    run_on_cluster,
    run_on_processes,
    settled,
)
from emulator.compare.minimum import LARGEST, find_minimum
from emulator.mapping.iova.allocator import allocator_names
from emulator.mapping.supply import supply_names
from emulator.presets import load_presets
from emulator.settings import Settings
from emulator.what_if import Prepared, run
from pagetables.errors import InputError, VtdError
from tests.scripts import DISK, NIC, Script
from tests.tasks import Answers, Dies, NamesAFile, Refuses

PAGE = 4096
NAMES = ["respool-2007", "gart-lazy", "sparc-generic", "linux-7", "linux-7-strict", "swiotlb"]


def churned(maps: int = 200, live: int = 20, stride: int = 1) -> Script:
    """One-page maps of two devices, at most `live` of each at a time; `stride` pages apart."""
    script = Script().attach(NIC).attach(DISK, 1)
    for number in range(maps):
        for space in (0, 1):
            if number >= live:
                script.unmap((number - live + 1) * stride * PAGE, space=space, cpu=number % 3)
            script.map((number + 1) * stride * PAGE, 0x100000 + number * PAGE, space=space, cpu=number % 3)
    return script


def nothing(rows: int) -> None:
    """Nobody watches."""


def timeless(outcome) -> str:
    """What two runs must agree on, as text: all but the seconds they took."""
    return json.dumps(
        {key: value for key, value in outcome.as_dict().items() if key not in ("elapsed_s", "events_per_s")}
    )


def test_without_a_choice_every_preset_is_compared():
    assert [one.label for one in candidates()] == [preset.name for preset in load_presets()]


def test_presets_are_compared_in_the_order_they_are_named():
    chosen = candidates(["linux-7", "gart"], values={"levels": "3"})
    assert [one.label for one in chosen] == ["linux-7", "gart"]
    assert [one.settings().iova for one in chosen] == ["rbtree+rcache", "gart"]
    assert {one.settings().levels for one in chosen} == {3}


def test_an_unknown_preset_is_told_before_anything_runs():
    with pytest.raises(InputError, match=r"no preset is called 'linux-8'.*linux-7"):
        candidates(["gart", "linux-8"])


def test_a_preset_that_is_named_twice_is_a_mistake():
    with pytest.raises(InputError, match="'gart' is named twice"):
        candidates(["gart", "linux-7", "gart"])


def test_a_grid_is_every_combination():
    points = grid_points(["pool=os,mempool,flush=strict", "levels=3,4"])
    assert points == [
        {"pool": pool, "flush": "strict", "levels": levels} for pool in ("os", "mempool") for levels in ("3", "4")
    ]


def test_a_grid_knows_all_names_of_an_axis():
    assert [point["pool"] for point in grid_points(["pool=all"])] == list(supply_names())
    assert [point["iova"] for point in grid_points(["iova=all"])] == ["recorded", *allocator_names()]
    assert grid_points(["levels=all"]) == [{"levels": "all"}]  # no axis: the setting refuses it itself


@pytest.mark.parametrize("text", ["os,pool=os", "pool=", "pool", "", "pool=os,", "=os"])
def test_a_grid_without_a_key_or_a_value_is_a_mistake(text):
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        grid_points([text])


def test_a_grid_that_names_a_key_twice_is_a_mistake():
    with pytest.raises(InputError, match="'pool' twice"):
        grid_points(["pool=os", "pool=mempool"])


def test_a_point_of_a_grid_is_called_by_what_distinguishes_it():
    chosen = candidates(points=grid_points(["pool=os,mempool", "flush=strict", "pool.size=8,16"]))
    assert [one.label for one in chosen] == [
        "os pool.size=8",
        "os pool.size=16",
        "mempool pool.size=8",
        "mempool pool.size=16",
    ]
    assert [one.label for one in candidates(points=grid_points(["pool=os,flush=strict"]))] == ["os strict"]


def test_a_grid_over_presets_goes_over_them():
    chosen = candidates(["gart", "linux-7"], points=grid_points(["levels=3,4"]))
    assert [one.label for one in chosen] == [f"{name} levels={n}" for name in ("gart", "linux-7") for n in (3, 4)]
    assert [one.settings().levels for one in chosen] == [3, 4, 3, 4]
    assert [one.label for one in candidates(["gart"], points=grid_points(["levels=3"]))] == ["gart"]


def test_each_preset_runs_under_each_pressure_script(tmp_path):
    chosen = candidates(["gart", "linux-7"], scripts=["a.yaml", str(tmp_path / "b.yaml")])
    assert [one.name for one in chosen] == [
        "gart under a.yaml",
        "linux-7 under a.yaml",
        "gart under b.yaml",
        "linux-7 under b.yaml",
    ]
    assert chosen[0].settings().pressure == "a.yaml"
    assert chosen[0].as_dict() == {"run": "gart", "pressure_script": "a.yaml"}


def test_a_compared_preset_is_the_run_of_it_alone():
    trace = churned().trace()
    (outcome,) = run_on_processes(trace, [RunTask(Candidate("x", {"preset": "linux-7"}))], 1, nothing)
    assert timeless(outcome) == timeless(run(trace, Settings.of({"preset": "linux-7"})))


def test_presets_compare_alike_on_any_number_of_processes():
    trace = churned().trace()
    tasks = [RunTask(one) for one in candidates(NAMES, values={"accesses": "late"})]
    alone, two, many = ([*map(timeless, run_on_processes(trace, tasks, jobs, nothing))] for jobs in (1, 2, 7))
    assert alone == two == many
    assert len(set(alone)) == len(NAMES)


def test_answers_are_in_order_and_every_row_is_told_whoever_computes():
    trace = churned(maps=30).trace()
    rows = len(trace.columns)
    for jobs in (1, 3):
        told = []
        answers = run_on_processes(trace, [Answers(number) for number in range(5)], jobs, told.append)
        assert [(number, seen) for number, seen, _ in answers] == [(number, rows) for number in range(5)]
        assert sum(told) == 5 * rows
        own = {process == os.getpid() for _, _, process in answers}
        assert own == {jobs == 1}


def test_every_row_of_a_compared_preset_is_told():
    told = []
    trace = churned(maps=900).trace()
    run_on_processes(trace, [RunTask(one) for one in candidates(["gart"])], 1, told.append)
    assert sum(told) == len(trace.columns) > 1024
    assert len(told) > 2


def test_an_empty_trace_can_be_compared_on_processes():
    outcomes = run_on_processes(Script().trace(), [RunTask(one) for one in candidates(["gart", "linux-7"])], 2, nothing)
    assert [outcome.events for outcome in outcomes] == [0, 0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_refusal_leaves_the_other_answers_alone_and_names_the_run(jobs):
    trace = churned(maps=3).trace()
    answers = run_on_processes(trace, [Answers(1), Refuses(), NamesAFile(), Answers(2)], jobs, nothing)
    assert [answers[0][0], answers[3][0]] == [1, 2]
    assert answers[1] == Refused("the odd one", "no room for it")
    assert answers[2] == Refused("the reader", "no/such/costs.yaml: No such file or directory")
    with pytest.raises(InputError, match=r"^the odd one: no room for it$"):
        settled(answers)
    assert settled([answers[0], answers[3]]) == [answers[0], answers[3]]


def test_a_preset_that_cannot_run_is_refused_by_its_name():
    task = RunTask(Candidate("linux-7", {"preset": "linux-7", "pool.size": "4"}))
    (answer,) = run_on_processes(churned(maps=3).trace(), [task], 1, nothing)
    assert answer.name == "linux-7"
    assert "pool os has no option 'size'" in answer.why


@pytest.mark.parametrize(
    "task, how", [(Dies(), "SIGKILL: is there memory"), (Dies(signal.SIGTERM), "SIGTERM"), (Dies(0), "exit status 3")]
)
def test_a_worker_that_ends_is_told_with_what_it_was_doing(task, how):
    with pytest.raises(VtdError, match=f"the doomed one: a worker ended before it had answered .{how}"):
        run_on_processes(churned(maps=3).trace(), [task, Answers(1), Answers(2)], 2, nothing)


def test_processors_are_those_this_process_may_use():
    assert processors() == len(os.sched_getaffinity(0)) >= 1


def test_a_trace_is_prepared_once_for_every_preset():
    trace = churned(maps=40).trace()
    prepared = Prepared.of(trace)
    before = pickle.dumps(prepared)
    for name in NAMES:
        assert timeless(run(prepared, Settings.of({"preset": name}))) == timeless(
            run(trace, Settings.of({"preset": name}))
        )
    assert pickle.dumps(prepared) == before


# The smallest sufficient value.


@given(st.integers(0, 5000))
def test_the_minimum_is_found_where_more_never_fails(threshold):
    found = find_minimum(lambda value: max(threshold - value, 0))
    assert found.value == threshold
    assert found.contradictions == []
    assert found.tried[threshold] == 0
    if threshold:
        assert found.tried[threshold - 1] == 1
    if threshold > 1:
        assert {threshold + 1, 2 * threshold} <= set(found.tried)
    assert len(found.tried) <= 2 * (threshold.bit_length() + 1) + 9


@given(st.integers(2, 500), st.sampled_from([1, 2]))
def test_a_setting_that_is_not_monotone_near_its_minimum_is_told(threshold, beyond):
    found = find_minimum(lambda value: 7 if value < threshold or value == threshold + beyond else 0)
    if found.value == threshold:
        assert found.contradictions == [(threshold, threshold + beyond)]
    else:  # halving met the hole and went above it
        assert found.value == threshold + beyond + 1
        assert found.tried[threshold + beyond] == 7


def test_a_smaller_value_that_suffices_after_all_is_the_minimum_and_the_hole_is_told():
    found = find_minimum(lambda value: 0 if value == 38 or value >= 40 else 3)
    assert found.value == 38
    assert found.contradictions == [(38, 39)]


def test_no_value_suffices():
    found = find_minimum(lambda value: 1)
    assert found.value is None
    assert max(found.tried) == LARGEST
    assert found.contradictions == []
    assert found.as_dict()["minimum"] is None


def test_values_that_cannot_be_are_passed_over():
    found = find_minimum(lambda value: None if value < 5 else 0)
    assert found.value == 5
    assert found.is_settable
    assert not find_minimum(lambda value: None).is_settable


def test_values_are_multiples_of_what_the_setting_counts_in():
    found = find_minimum(lambda value: 0 if value >= 5 * 4096 else 1, step=4096)
    assert found.value == 5 * 4096
    assert all(value % 4096 == 0 for value in found.tried)


def test_the_minimum_of_a_preset_is_the_one_that_trying_all_of_them_finds(tmp_path):
    # Each map needs a table of its own; everything else is taken, so that only the pool has pages.
    (tmp_path / "full.yaml").write_text(
        "explains: x\nsteps:\n  - {at: 0ms, who: hog, take: all, kind: pinned, gfp: memalloc}\n"
    )
    trace = churned(maps=30, live=12, stride=512).trace()
    values = {"preset": "mempool", "iova": "recorded", "reaction": "fail", "kernel.size": "4M"}
    candidate = Candidate("mempool", values, str(tmp_path / "full.yaml"))
    prepared = Prepared.of(trace)
    found = MinimumTask(candidate, "pool.size")(prepared, nothing)
    failed = {size: run(prepared, candidate.settings(**{"pool.size": size})).failures for size in range(80)}
    assert found.value == min(size for size, count in failed.items() if not count) > 10
    assert failed[found.value - 1] > 0
    assert found.as_is == run(prepared, candidate.settings()).failures
    assert all(failed[size] == count for size, count in found.tried.items() if size in failed)


def test_a_preset_without_the_setting_has_no_minimum_and_says_why():
    found = MinimumTask(Candidate("linux-7", {"preset": "linux-7"}), "pool.size")(
        Prepared.of(churned(3).trace()), nothing
    )
    assert not found.is_settable
    assert "pool os has no option 'size'" in found.why
    assert found.as_is == 0


def test_an_axis_has_no_smallest_value():
    assert numeric_key("pool.size") == "pool.size"
    with pytest.raises(InputError, match="pool is no number"):
        numeric_key("pool")


# Other machines.


@pytest.fixture
def scheduler():
    """The address of a Dask scheduler with two workers in this process."""
    pytest.importorskip("distributed", reason="NOT RUN: pip install 'vtd-emulator[cluster]'")
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp://"
    ) as one:
        yield one.scheduler_address


@pytest.mark.filterwarnings("default")
def test_presets_compare_alike_on_a_cluster(scheduler):
    trace, told = churned(maps=60).trace(), []
    tasks = [RunTask(one) for one in candidates(NAMES)]
    there = run_on_cluster(trace, tasks, scheduler, told.append)
    assert [*map(timeless, there)] == [*map(timeless, run_on_processes(trace, tasks, 1, nothing))]
    assert sum(told) == len(NAMES) * len(trace.columns)
    assert run_on_cluster(trace, [Refuses()], scheduler, nothing) == [Refused("the odd one", "no room for it")]


@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("distributed", reason="NOT RUN: pip install 'vtd-emulator[cluster]'")
    monkeypatch.setattr(cluster, "PATIENCE", "1s")
    with pytest.raises(InputError, match=r"--scheduler tcp://127.0.0.1:9: no Dask scheduler answers"):
        run_on_cluster(churned(3).trace(), [Answers(1)], "tcp://127.0.0.1:9", nothing)


def test_without_dask_comparing_on_a_cluster_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'vtd-emulator\[cluster\]'"):
        run_on_cluster(churned(3).trace(), [Answers(1)], "tcp://127.0.0.1:9", nothing)


def test_what_workers_get_is_the_trace_as_it_is():
    trace = churned(maps=5).trace()
    for name in trace.columns.names():
        assert np.array_equal(trace.columns[name], pickle.loads(pickle.dumps(trace)).columns[name])
