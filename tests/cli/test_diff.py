"""`vtd diff`: recorded images against each other, and against what their traces leave mapped."""

from __future__ import annotations

from functools import partial

import pytest

from tests.conftest import FIXTURES
from tests.truth import FIXED, Truth

IMAGES, TRACES = FIXTURES / "images", FIXTURES / "traces"


def image(variant):
    return IMAGES / variant / "image.elf.gz"


@pytest.fixture
def diff(printed):
    """Runs `vtd diff --json`; the document."""
    return partial(printed, "diff", status=1)


@pytest.fixture
def refused(said):
    """Runs `vtd diff` on input that cannot be used; what it says."""
    return partial(said, "diff")


@pytest.mark.parametrize("variant", FIXED)
def test_image_equals_itself(diff, variant):
    found = diff(image(variant), image(variant), status=0)
    assert found == {"equal": True, "spaces": [], "registers": [], "interrupts": [], "notes": []}


@pytest.mark.parametrize("variant", ["a-legacy-strict", "t-vfio-superpages"])
def test_image_equals_the_end_of_its_trace(diff, variant):
    trace = TRACES / f"{variant}.txt.xz"
    assert diff(image(variant), trace, status=0)["equal"]
    assert diff(trace, image(variant), status=0)["spaces"] == []


def test_devices_that_a_trace_leaves_out_are_what_differs(diff):
    found = diff(image("c-scalable"), TRACES / "c-scalable.txt.xz")
    assert [space["source_id"] for space in found["spaces"]] == ["00:08.0", "01:00.0"]
    assert {kind for space in found["spaces"] for kind, some in space["mappings"].items() if some} == {"gone"}


def pages(entries, side):
    found = {}
    for entry in entries:
        one = entry.get(side, entry)
        start, target = int(one["iova"], 16), int(one["gpa"], 16)
        found |= {start + page: (target + page, one["access"]) for page in range(0, entry["size"], 4096)}
    return found


def test_differences_turn_one_image_into_the_other(diff):
    before, after = Truth.fixture("a-legacy-strict"), Truth.fixture("t-vfio-superpages")
    found = diff(before.image, after.image)
    for space in found["spaces"]:
        key, moves = (space["source_id"], None), space["mappings"]
        tables = {row[0]: row[1:3] for row in before.spaces.get(key, {"coverage": []})["coverage"]}
        for kind in ("gone", "changed", "moved"):
            for page, (target, access) in pages(moves[kind], "before").items():
                assert tables.pop(page) == (target, access)
        for kind in ("come", "changed", "moved"):
            tables |= pages(moves[kind], "after")
        assert tables == {row[0]: row[1:3] for row in after.spaces.get(key, {"coverage": []})["coverage"]}
    assert {"CAP", "RTADDR"} <= {register["name"] for register in found["registers"]}
    assert {interrupt["kind"] for interrupt in found["interrupts"]} == {"come"}


def test_registers_decide_what_is_compared(diff):
    truth = Truth.fixture("a-legacy-strict")
    rtaddr = truth.document["rtaddr"]
    told = diff(truth.image, truth.image, "--rtaddr-a", rtaddr, "--registers-b", truth.registers, status=0)
    assert any("registers" in note for note in told["notes"])


def test_people_read_it_within_eighty_columns(vtd):
    done = vtd("diff", image("a-legacy-strict"), image("t-vfio-superpages"), env={"COLUMNS": "200"})
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("00:1f.0, 00:1f.2, 00:1f.3: changed") for line in lines)
    assert any("more changes (--all)" in line for line in lines)
    assert any(line.startswith("registers: ") for line in lines)
    assert any(line.startswith("interrupts: ") for line in lines)
    full = vtd("diff", image("a-legacy-strict"), image("t-vfio-superpages"), "--all")
    assert "(--all)" not in full.stdout


def test_equal_images_say_so(vtd):
    done = vtd("diff", image("c-scalable"), image("c-scalable"))
    assert (done.returncode, done.stdout) == (0, "equal\n")


def test_bad_input_is_one_line(refused, tmp_path):
    assert "only once" in refused("-", "-")
    assert "No such file" in refused(image("c-scalable"), tmp_path / "none")
    trace = TRACES / "c-scalable.txt.xz"
    assert "a trace has no registers" in refused(image("c-scalable"), trace, "--rtaddr-b", "0x1000")
    (tmp_path / "text").write_text("neither image nor trace\n")
    assert "this is no trace" in refused(image("c-scalable"), tmp_path / "text")
    (tmp_path / "raw").write_bytes(bytes(8192))
    assert "no registers" in refused(tmp_path / "raw", image("c-scalable"))
    (tmp_path / "empty").write_bytes(b"")
    assert "empty" in refused(tmp_path / "empty", image("c-scalable"))
