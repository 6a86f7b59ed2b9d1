"""`vtd inspect`: choices of mappings, names of devices, the queue and the DMAR table."""

from __future__ import annotations

import json

import pytest

from cli.__main__ import main
from tests.conftest import FIXTURES

IMAGES = FIXTURES / "images"
VFIO = IMAGES / "t-vfio-superpages/image.elf.gz"


@pytest.fixture
def inspect(capsys):
    """Runs `vtd inspect --json`; the document."""

    def run(*arguments, status=0):
        assert main(["inspect", *map(str, arguments), "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return run


def mappings(document):
    return [one for space in document["units"][0]["spaces"] for one in space["mappings"]]


def test_pages_of_one_size(inspect):
    document = inspect(VFIO, "--size", "1G")
    assert mappings(document) == [{"iova": "0x80000000", "gpa": "0x40000000", "size": 1 << 30, "access": "rw"}]
    pages = [space["pages"] for space in document["units"][0]["spaces"] if space["pages"]]
    assert pages == [{"1073741824": 1}]
    assert sum(one["size"] for one in mappings(inspect(VFIO, "--size", "2M"))) == 7 << 21


def test_pages_by_access(inspect):
    whole = mappings(inspect(VFIO, "--source", "00:05.0"))
    for access, wanted in (("ro", ["r"]), ("r", ["r", "rw"]), ("w", ["rw"]), ("rw", ["rw"])):
        chosen = mappings(inspect(VFIO, "--source", "00:05.0", "--access", access))
        assert chosen == [one for one in whole if one["access"] in wanted]
    assert inspect(VFIO, "--access", "wo", status=1)["units"][0]["mode"] == "legacy"


@pytest.mark.parametrize("span", ["0x10100000-0x10101000", "0x10100000+4096", "0x10100fff"])
def test_pages_at_addresses(inspect, span):
    (one,) = mappings(inspect(VFIO, "--source", "00:05.0", "--iova", span))
    assert one == {"iova": "0x10100000", "gpa": "0xe564000", "size": 4096, "access": "r"}


def test_pages_that_lead_into_memory(inspect):
    document = inspect(VFIO, "--gpa", "0xe564000+1")
    assert [space["source_id"] for space in document["units"][0]["spaces"] if space["mappings"]] == ["00:05.0"]
    assert [one["gpa"] for one in mappings(document)] == ["0xe564000"]


def test_nothing_chosen_is_status_1(inspect):
    assert mappings(inspect(VFIO, "--iova", "0x1-0x2", "--source", "00:05.0", status=1)) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--iova", "5-4", "is no range"),
        ("--iova", "-5", "is no range"),
        ("--gpa", "x-y", "is not a number"),
        ("--gpa", "0-0x10000000000000001", "is no range"),
        ("--size", "8K", "'8K' is no page size"),
        ("--size", "8192", "is no page size"),
        ("--access", "x", "'x' is not one of"),
    ],
)
def test_a_choice_that_means_nothing_is_refused(capsys, option, value, message):
    assert main(["inspect", str(VFIO), option, value]) == 2
    assert message in capsys.readouterr().err


def test_devices_have_names_where_a_file_says_them(inspect, tmp_path, capsys):
    (tmp_path / "lspci.txt").write_text("00:05.0 Unclassified device: edu\n", encoding="utf-8")
    document = inspect(VFIO, "--pci", tmp_path / "lspci.txt")
    names = {space["source_id"]: space["device"] for space in document["units"][0]["spaces"]}
    assert (names["00:05.0"], names["00:04.0"]) == ("Unclassified device: edu", None)
    assert main(["inspect", str(VFIO), "--pci", str(tmp_path / "lspci.txt")]) == 0
    assert "00:05.0  Unclassified device: edu  domain 5" in capsys.readouterr().out


def test_the_queue_is_decoded(inspect):
    queue = inspect(IMAGES / "c-scalable/image.elf.gz")["units"][0]["queue"]
    assert (queue["address"], queue["size"], queue["slot_size"], queue["slots"]) == ("0x42f2000", 8192, 32, 256)
    assert (queue["head"], queue["tail"], queue["pending"], queue["enabled"]) == (184, 184, 0, True)
    assert "QEMU 7.2" in queue["note"]
    one = queue["descriptors"][183]
    assert (one["slot"], one["name"], one["at"], one["pending"]) == (183, "inv-wait", hex(0x42F2000 + 183 * 32), False)
    assert one["fields"]["sw"] == 1
    assert int(one["fields"]["staddr"], 16) % 4 == 0


def test_the_dmar_table_gives_the_address_width(inspect):
    for variant, width in (("c-scalable", 48), ("a-legacy-strict", 39)):
        dmar = inspect(IMAGES / variant / "image.elf.gz")["dmar"]
        assert dmar["host_address_width"] == width


def test_people_see_the_state_and_the_queue(capsys):
    assert main(["inspect", str(IMAGES / "c-scalable/image.elf.gz")]) == 0
    out = capsys.readouterr().out
    for text in (
        "enabled: translation, root table set, queued invalidation",
        "second-stage 3/4 levels",
        "invalidation queue on: 256 slots of 32 bytes at 0x42f2000, head 184, tail 184: empty",
        "note: IQA.DW reads 0",
        "<- head and tail",
        "DMAR table of BOCHS BXPC, host address width 48",
    ):
        assert text in out


def test_a_pending_fault_is_named(capsys, corpus):
    assert main(["inspect", str(corpus / "h-fault/image.elf"), "--pci", str(corpus / "h-fault/pci.txt")]) == 0
    out = capsys.readouterr().out
    assert "pending fault: write of 0xabcde000 by 00:05.0 ([1234:11e8]), reason 0x05 (write-denied)" in out
