"""`vtd dmar`: a table read and judged."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import ROOT
from tests.pagetables.images.test_dmar_file import dump
from tests.pagetables.test_dmar import QEMU, STRUCTURES
from tests.pagetables.test_dmar import table as plain_table

TABLE = ROOT / "fixtures" / "dmar" / "qemu-7.2-q35.bin"


@pytest.fixture
def odd(tmp_path):
    """A table with one of each structure, and things wrong with some."""
    (tmp_path / "odd.bin").write_bytes(plain_table(*STRUCTURES.values()))
    return tmp_path / "odd.bin"


def test_a_right_table_exits_0(vtd) -> None:
    done = vtd("dmar", TABLE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "DRHD unit at 0xfed90000, 4 KiB of registers" in done.stdout
    assert "IOAPIC 0 at ff:00.0" in done.stdout
    assert "nothing to complain about" in done.stdout


def test_text_of_acpidump_says_the_same(vtd, tmp_path) -> None:
    (tmp_path / "text").write_text(dump(QEMU))
    assert vtd("dmar", tmp_path / "text").stdout == vtd("dmar", TABLE).stdout
    with (tmp_path / "text").open() as text:
        assert vtd("dmar", "-", stdin=text).stdout == vtd("dmar", TABLE).stdout


def test_an_image_says_what_its_firmware_left(vtd) -> None:
    document = json.loads(vtd("dmar", ROOT / "fixtures/images/c-scalable/image.elf.gz", "--json").stdout)
    assert (document["host_address_width"], document["flags"], document["complaints"]) == (48, ["INTR_REMAP"], [])
    (unit,) = document["structures"]
    assert (unit["kind"], unit["base"], unit["segment"], unit["offset"]) == ("drhd", "0xfed90000", 0, 48)
    assert {"type": 2, "source_id": "00:1c.1", "start_bus": 0, "path": [[28, 1]], "enum_id": 0, "flags": 0} in unit[
        "scopes"
    ]


def test_complaints_exit_1_and_are_shown(vtd, odd) -> None:
    done = vtd("dmar", odd)
    assert (done.returncode, done.stderr) == (1, "")
    assert "warning: DRHD at 0x30 lists PCI devices although INCLUDE_PCI_ALL is set (unit-scope)" in done.stdout
    assert "RMRR reserved memory 0x7d000000-0x7d7fffff (8 MiB) [segment 5]" in done.stdout


def test_every_kind_of_structure_has_its_document(vtd, odd) -> None:
    document = json.loads(vtd("dmar", odd, "--json").stdout)
    kinds = [one["kind"] for one in document["structures"]]
    assert kinds == [*STRUCTURES]
    by_kind = {one["kind"]: one for one in document["structures"]}
    assert (by_kind["rmrr"]["base"], by_kind["rmrr"]["limit"]) == ("0x7d000000", "0x7d7fffff")
    assert by_kind["drhd"]["scopes"][1] == {
        "type": 2,
        "source_id": None,
        "start_bus": 0,
        "path": [[28, 0], [0, 1]],
        "enum_id": 0,
        "flags": 0,
    }
    assert by_kind["andd"]["path"] == "\\_SB.I"
    assert by_kind["unknown"] == {
        "offset": by_kind["unknown"]["offset"],
        "kind": "unknown",
        "type": 0x77,
        "body": "616263",
    }
    assert {one["severity"] for one in document["complaints"]} <= {"note", "warning", "error"}


def test_a_note_alone_exits_0(vtd, tmp_path) -> None:
    (tmp_path / "table").write_bytes(QEMU + b"\0")
    done = vtd("dmar", tmp_path / "table")
    assert done.returncode == 0
    assert "note: 1 bytes follow the table" in done.stdout


def test_a_wrong_checksum_is_a_complaint_not_bad_input(vtd, tmp_path) -> None:
    (tmp_path / "table").write_bytes(QEMU[:9] + b"\x77" + QEMU[10:])
    done = vtd("dmar", tmp_path / "table", "--json")
    assert done.returncode == 1
    assert [one["check"] for one in json.loads(done.stdout)["complaints"]] == ["checksum"]


def test_control_characters_of_a_table_do_not_reach_the_terminal(vtd, tmp_path) -> None:
    table = bytearray(QEMU)
    table[10:16] = b"\x1b[2J\x07\x00"
    (tmp_path / "table").write_bytes(bytes(table))
    shown = vtd("dmar", tmp_path / "table").stdout
    assert "\x1b" not in shown
    assert "\\x1b[2J\\x07" in shown


@pytest.mark.parametrize(("data", "what"), [(b"", "empty"), (bytes(4096), "no DMAR table in it"), (b"DMAR", "4 bytes")])
def test_what_is_no_table_is_one_line(vtd, tmp_path, data: bytes, what: str) -> None:
    (tmp_path / "file").write_bytes(data)
    done = vtd("dmar", tmp_path / "file")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert what in done.stderr
