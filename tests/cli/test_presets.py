"""`vtd presets`, and `vtd replay` on a preset or with an allocator."""

from __future__ import annotations

import json
import re

import pytest

from emulator.presets import load_presets
from emulator.what_if import metric_names
from tests.conftest import FIXTURES

TRACE = FIXTURES / "traces" / "a-legacy-strict.txt.xz"
REPLAY_KEYS = (
    "events applied skipped faults misuse live_mappings live_bytes table_pages supply invalidations stale_window "
    "elapsed_s events_per_s engine"
)


def document(done) -> dict:
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_every_preset_is_listed_with_its_sentence_and_seed(vtd) -> None:
    done = vtd("presets", env={"COLUMNS": "80"})
    text = " ".join(done.stdout.split())
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for preset in load_presets():
        assert preset.name in text


def test_presets_as_json_have_name_sentence_seed_and_axes(vtd) -> None:
    presets = document(vtd("presets", "--json"))["presets"]
    assert [one["name"] for one in presets] == [preset.name for preset in load_presets()]
    for one in presets:
        assert {"name", "explains", "seed", "axes"} <= one.keys()
        assert one["axes"].keys() == {"pool", "iova", "bounce", "flush", "reaction"}


def test_one_preset_is_shown_with_all_it_sets(vtd) -> None:
    shown = vtd("presets", "linux-4.7").stdout
    assert "iova.magazine" in shown
    assert "flush.per_cpu" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["presets", "linux-47"], "did you mean linux-4.7"),
        (["replay", TRACE, "--preset", "gartt"], "did you mean gart"),
        (["replay", TRACE, "--preset", "gart", "--set", "window=per-domian"], "per-domain"),
        (["replay", TRACE, "--iova", "rbtree", "--flush", "lazy-on-wrap"], "never does"),
    ],
)
def test_what_does_not_exist_or_fit_is_one_line(vtd, arguments, message) -> None:
    done = vtd(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_replay_on_a_preset_says_that_addresses_are_re_allocated(vtd) -> None:
    done = vtd("replay", TRACE, "--preset", "linux-7-strict", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert "what if: linux-7-strict, addresses re-allocated" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_replay_on_a_preset_with_recorded_addresses_says_so(vtd) -> None:
    done = document(vtd("replay", TRACE, "--preset", "linux-7", "--iova", "recorded", "--json"))
    assert (done["preset"], done["iova"], done["addresses"]) == ("linux-7", "recorded", "as recorded")


def test_the_document_of_a_what_if_run_has_the_keys_of_a_replay_and_every_metric(vtd) -> None:
    done = document(vtd("replay", TRACE, "--preset", "linux-7", "--json"))
    assert set(REPLAY_KEYS.split()) <= done.keys()
    assert metric_names().keys() <= done.keys()
    assert done["applied"] == {"map": 7728, "unmap": 6625, "access": 0}


def test_a_stale_hit_is_a_finding(vtd) -> None:
    done = vtd("replay", TRACE, "--preset", "sparc-generic", "--set", "accesses=rule", "--json")
    assert document(done)["accesses"]["hits"] > 0
    assert done.returncode == 1


def test_a_plain_replay_is_no_what_if_run(vtd) -> None:
    assert "addresses" not in document(vtd("replay", TRACE, "--json"))


def test_tables_of_a_what_if_run_are_saved_as_they_are_at_the_end(vtd, tmp_path) -> None:
    dump = tmp_path / "after.elf"
    vtd("replay", TRACE, "--preset", "linux-7-strict", "--dump", dump, "--json")
    unit = document(vtd("inspect", dump, "--json"))["units"][0]
    mapped = sum(mapping["size"] for space in unit["spaces"] for mapping in space["mappings"])
    assert mapped >= 20 << 20


def test_a_preset_is_shown_with_every_option_of_its_choices(vtd):
    shown = vtd("presets", "linux-4.7").stdout
    for key, value in {"iova.magazine": "128", "flush.entries": "250", "pool.gfp": "atomic"}.items():
        assert re.search(rf"^ +{re.escape(key)} +{value} *$", shown, re.MULTILINE), key
    (preset,) = document(vtd("presets", "linux-4.7", "--json"))["presets"]
    assert preset["options"]["iova"]["magazine"] == 128
    assert preset["options"]["flush"]["timeout_ms"] == 10


def test_every_choice_of_every_axis_is_listed_with_its_options(vtd):
    shown = vtd("presets", "--options", env={"COLUMNS": "80"}).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "min=64  grow=64  delay_us=50" in shown
    assert re.search(r"^transfers +pieces: as recorded, each apart, or reserved and linked", shown, re.MULTILINE)
    told = document(vtd("presets", "--options", "--json"))
    assert {"transfers", "transfers.gap_us", "sg.boundary"} <= told["settings"].keys()
    axes = told["axes"]
    assert list(axes) == ["pool", "iova", "bounce", "flush", "reaction"]
    assert axes["reaction"]["sleep"] == {"timeout_ms": 5000, "wakes": 1}
