"""`vtd convert`, and what inspect says of its output."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import ROOT

IMAGES = ROOT / "fixtures" / "images"
STRICT = IMAGES / "a-legacy-strict" / "image.elf.gz"


def inspected(vtd, *arguments):
    """What `vtd inspect --json` prints."""
    done = vtd("inspect", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tables_alone_are_inspected_as_the_whole_image(vtd, tmp_path):
    out = tmp_path / "tables.elf.gz"
    done = vtd("convert", STRICT, out, "--tables-only")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{out}: ELF core, " in done.stdout
    assert ", 1 unit" in done.stdout
    assert inspected(vtd, out) == inspected(vtd, STRICT)


def test_json_says_what_was_written(vtd, tmp_path):
    done = vtd("convert", STRICT, tmp_path / "out.lime", "--json")
    document = json.loads(done.stdout)
    assert document["container"] == "LiME dump"
    assert document["units"] == 1
    assert document["tables_only"] is False
    assert document["stored_bytes"] <= document["memory_bytes"]
    assert "no room for registers" in document["lost"][0]
    assert "out.lime: a LiME file has no room for registers" in done.stderr


def test_registers_are_saved_beside_what_has_no_room_for_them(vtd, tmp_path):
    vtd("convert", STRICT, tmp_path / "out.lime", "--save-registers", tmp_path / "registers.txt")
    assert (tmp_path / "registers.txt").read_text().startswith("00000000fed90000: 0x00000010\n")
    assert inspected(vtd, tmp_path / "out.lime", "--registers", tmp_path / "registers.txt") == inspected(vtd, STRICT)


def test_raw_memory_with_a_base_gets_its_addresses(vtd, tmp_path):
    raw = tmp_path / "piece"
    raw.write_bytes(b"x" * 8192)
    assert vtd("convert", raw, tmp_path / "out.elf", "--base", "0x1000000").returncode == 0
    assert vtd("convert", tmp_path / "out.elf", tmp_path / "back.raw").returncode == 0
    assert (tmp_path / "back.raw").stat().st_size == 0x1002000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.qcow2"], "out.qcow2: its name says no container"),
        (["nowhere/out.elf"], "nowhere/out.elf: No such file"),
        (["out.elf", "--base", "0x1000"], "its addresses are in the file"),
        (["out.elf", "--registers", "missing.json"], "missing.json: No such file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_and_leaves_nothing(vtd, tmp_path, arguments, message):
    done = vtd("convert", STRICT, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_stays_when_the_input_is_damaged(vtd, tmp_path):
    (tmp_path / "out.elf").write_text("old")
    (tmp_path / "in").write_bytes(b"EMiL" + bytes(100))
    assert vtd("convert", tmp_path / "in", tmp_path / "out.elf").returncode == 2
    assert (tmp_path / "out.elf").read_text() == "old"


def test_tables_need_registers(vtd, tmp_path):
    vtd("convert", STRICT, tmp_path / "out.raw")
    done = vtd("convert", tmp_path / "out.raw", tmp_path / "tables.elf", "--tables-only")
    assert done.returncode == 2
    assert "no registers in this raw memory" in done.stderr


def test_the_root_table_is_found_in_an_image_without_registers(vtd, tmp_path):
    vtd("convert", IMAGES / "c-scalable" / "image.elf.gz", tmp_path / "out.lime")
    done = vtd("inspect", tmp_path / "out.lime", "--find-root", "--json")
    assert "root table: 0x7da7000 (scalable mode), 99% sure: 17 devices" in done.stderr
    (unit,) = json.loads(done.stdout)["units"]
    (true,) = inspected(vtd, IMAGES / "c-scalable" / "image.elf.gz")["units"]
    assert unit["spaces"] == true["spaces"]
    assert unit["mode"] == "scalable"


def test_registers_make_a_search_unnecessary(vtd):
    done = vtd("inspect", STRICT, "--find-root", "--json")
    assert done.stderr == "the image has registers: no search\n"
    assert json.loads(done.stdout) == inspected(vtd, STRICT)


def test_where_no_root_table_is_likely_nothing_is_guessed(vtd, tmp_path):
    (tmp_path / "raw").write_bytes(bytes(1 << 20))
    done = vtd("inspect", tmp_path / "raw", "--find-root")
    assert done.returncode == 2
    assert "no page is likely to be a root table" in done.stderr
