"""`vtd bench`: what it prints and refuses. No number is judged here: that is the command's business."""

from __future__ import annotations

import json
import math

import pytest

from cli.application import run
from cli.commands import bench
from tests.required import absent

NAMES = ("walk", "replay")


@pytest.fixture(scope="module")
def outcomes():
    """One measurement of two benchmarks; their own checks compare results with the limit's."""
    from emulator.engine import MissingCore

    benchmarks = bench._load()
    from benchmarks.limits import NoCompiler

    try:
        return benchmarks.run(NAMES)
    except (MissingCore, NoCompiler) as missing:
        absent("native", str(missing))


def test_each_outcome_is_a_ratio_of_two_times(outcomes) -> None:
    assert [outcome.name for outcome in outcomes] == list(NAMES)
    for outcome in outcomes:
        assert outcome.limit_ns > 0
        assert math.isclose(outcome.ratio * outcome.limit_ns, outcome.ours_ns)


def test_bench_prints_one_json_document(outcomes, capsys, monkeypatch) -> None:
    monkeypatch.setattr(bench._load(), "run", lambda names, progress: outcomes)
    status = run(["bench", *NAMES, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["bench"]] == list(NAMES)
    assert all(row.keys() == {"name", "ratio", "limit_ns", "ours_ns", "target", "better"} for row in document["bench"])
    assert {row["better"] for row in document["bench"]} == {"lower"}
    assert status == int(any(row["ratio"] > row["target"] for row in document["bench"]))


def test_bench_prints_a_verdict_for_each(outcomes, capsys, monkeypatch) -> None:
    monkeypatch.setattr(bench._load(), "run", lambda names, progress: outcomes)
    run(["bench", *NAMES])
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert out.count("within") + out.count("missed") == len(NAMES)


def test_an_unknown_benchmark_is_refused_with_what_is_near(capsys) -> None:
    pytest.importorskip("emulator._core")
    assert run(["bench", "wlak"]) == 2
    assert "walk" in capsys.readouterr().err


def test_every_benchmark_is_listed(capsys) -> None:
    assert run(["bench", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["benchmarks"]
    assert [row["name"] for row in listed] == list(bench._load().BENCHMARKS)


def test_without_a_checkout_one_sentence_says_so(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "benchmarks")
    assert run(["bench"]) == 2
    assert "checkout" in capsys.readouterr().err


def test_without_a_compiler_one_sentence_says_so(capsys, monkeypatch) -> None:
    pytest.importorskip("emulator._core")
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "")
    assert run(["bench", "walk"]) == 2
    assert "C compiler" in capsys.readouterr().err
