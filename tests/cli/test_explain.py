"""`vtd explain`: the faults of recorded guests, held against their tables and traces."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
from functools import partial

import pytest

from cli.__main__ import main
from tests.conftest import FIXTURES

IMAGES, TRACES = FIXTURES / "images", FIXTURES / "traces"
VFIO, VFIO_TRACE = IMAGES / "t-vfio-superpages/image.elf.gz", TRACES / "t-vfio-superpages.txt.xz"
SCALABLE, SCALABLE_TRACE = IMAGES / "c-scalable/image.elf.gz", TRACES / "c-scalable.txt.xz"
WRITE = (
    "[   72.712935] DMAR: [DMA Write NO_PASID] Request device [00:05.0] fault addr 0x30000000 "
    "[fault reason 0x05] PTE Write access is not set"
)
READ = (
    "[   76.072482] DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x50000000 "
    "[fault reason 0x06] PTE Read access is not set"
)
ALIAS = (
    "[    6.501076] DMAR: [DMA Read NO_PASID] Request device [03:00.0] fault addr 0xfffff000 "
    "[fault reason 0x02] Present bit in context entry is clear"
)
MAPPED = (
    "[   76.5] DMAR: [DMA Read NO_PASID] Request device [00:05.0] fault addr 0x10000000 [fault reason 0x06] PTE Read"
)


@pytest.fixture
def explain(printed):
    """Runs `vtd explain --json`; the document."""
    return partial(printed, "explain")


@pytest.fixture
def refused(said):
    """Runs `vtd explain` on input that cannot be used; what it says."""
    return partial(said, "explain")


def test_write_to_a_page_for_reading(explain):
    (fault,) = explain(VFIO, "--trace", VFIO_TRACE, "--fault", WRITE)["faults"]
    assert (fault["verdict"], fault["agrees"], fault["count"]) == ("permission", True, 1)
    assert (fault["source_id"], fault["address"], fault["access"], fault["reason"]) == ("00:05.0", "0x30000000", "w", 5)
    assert (fault["walk"]["outcome"], fault["walk"]["reason"]) == ("fault", 5)
    assert fault["walk"]["steps"][-1]["structure"] == "ss-pde-2m"
    live = fault["history"]["live"]
    assert (live["iova"], live["size"], live["gpa"], live["devices"]) == (
        "0x30000000",
        4 << 20,
        "0x9c00000",
        ["00:05.0"],
    )
    assert (live["mapped"]["task"], live["mapped"]["time_ns"]) == ("vfiomap-410", 51351793000)


def test_read_of_what_was_freed(explain):
    (fault,) = explain(VFIO, "--trace", VFIO_TRACE, "--fault", READ)["faults"]
    assert (fault["verdict"], fault["explained"]) == ("freed", True)
    freed = fault["history"]["freed"]
    assert (freed["mapped"]["line"], freed["unmapped"]["line"]) == (27545, 27570)
    assert "freed 23 s before" in fault["sentence"]


def test_alias_of_a_bridge_and_both_codes(explain):
    (fault,) = explain(SCALABLE, "--trace", SCALABLE_TRACE, "--fault", ALIAS)["faults"]
    assert (fault["verdict"], fault["agrees"]) == ("alias-missing", True)
    assert (fault["reason"], fault["walk"]["reason"], fault["walk"]["condition"]) == (0x02, 0x41, "SCT.2")
    assert any("0x02" in line and "0x41" in line for line in fault["evidence"])
    assert fault["history"]["live"]["devices"] == ["02:00.0", "03:01.0"]
    assert fault["history"]["live"]["mapped"]["task"] == "ip-253"


def test_image_alone_and_trace_alone_explain_too(explain):
    assert explain(SCALABLE, "--fault", ALIAS)["faults"][0]["history"] is None
    (fault,) = explain("--trace", VFIO_TRACE, "--fault", READ)["faults"]
    assert (fault["walk"], fault["agrees"], fault["verdict"]) == (None, None, "freed")


def test_what_stays_open_is_a_no(explain):
    (fault,) = explain(VFIO, "--fault", MAPPED, status=1)["faults"]
    assert (fault["verdict"], fault["agrees"], fault["walk"]["outcome"]) == ("mapped-now", False, "translated")


def test_faults_that_repeat_are_one(explain, tmp_path):
    log = tmp_path / "dmesg.txt.gz"
    lines = [WRITE.replace("72.7", f"{73 + n}.7") for n in range(12)] + ["dmar_fault: 5 callbacks suppressed", READ]
    log.write_bytes(gzip.compress("\n".join(lines).encode()))
    found = explain(VFIO, "--trace", VFIO_TRACE, "--dmesg", log)
    assert [(fault["count"], fault["line"]) for fault in found["faults"]] == [(12, 1), (1, 14)]
    assert (found["faults"][0]["first_time"], found["faults"][0]["last_time"]) == (73.712935, 84.712935)
    assert found["log"] == {"limited": True, "suppressed": 5, "unprinted": 0}
    assert any("at most 10 faults in 5 seconds" in note for note in found["notes"])


def test_log_from_standard_input(start):
    process = start("explain", VFIO, "--dmesg", "-", "--json", stdin=subprocess.PIPE)
    out, err = process.communicate(WRITE)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["faults"][0]["verdict"] == "permission"


def test_log_without_faults_has_nothing_to_explain(explain, capsys, tmp_path):
    log = tmp_path / "dmesg.txt"
    log.write_text("all is well\n")
    assert explain(VFIO, "--dmesg", log)["faults"] == []
    assert main(["explain", str(VFIO), "--dmesg", str(log)]) == 0
    assert "1 line of the log hold no DMAR fault" in capsys.readouterr().out


@pytest.fixture
def pending(tmp_path):
    """Registers with a fault that is pending: a write of 0xcbcde000 by 00:05.0."""
    document = json.loads((IMAGES / "t-vfio-superpages/registers.json").read_text())
    page = bytearray.fromhex(document["raw_hex"])
    struct.pack_into("<QQ", page, 0x220, 0xCBCDE000, 0x80FFFF0500000028)
    path = tmp_path / "registers.json"
    path.write_text(json.dumps({"base": document["base"], "raw_hex": page.hex()}))
    return path


def test_pending_faults_need_no_log(explain, pending):
    (fault,) = explain(VFIO, "--registers", pending)["faults"]
    assert (fault["address"], fault["access"], fault["reason"], fault["pasid"]) == ("0xcbcde000", "w", 5, None)
    assert (fault["agrees"], fault["line"], fault["first_time"]) == (True, None, None)
    assert explain("--registers", pending, "--trace", VFIO_TRACE)["faults"][0]["verdict"] == "never-mapped"


def test_devices_that_exist_are_named_and_are_no_aliases(explain, vtd, tmp_path):
    devices = tmp_path / "lspci.txt"
    devices.write_text("03:01.0 Ethernet controller: Intel 82540EM\n")
    (fault,) = explain(SCALABLE, "--fault", ALIAS, "--pci", devices)["faults"]
    assert (fault["verdict"], fault["name"]) == ("alias-missing", None)
    assert "03:00.0: no device of this machine" in vtd("explain", SCALABLE, "--fault", ALIAS, "--pci", devices).stdout
    devices.write_text("03:00.0 Display: of a kind\n03:01.0 Ethernet controller: Intel 82540EM\n")
    (fault,) = explain(SCALABLE, "--fault", ALIAS, "--pci", devices)["faults"]
    assert (fault["verdict"], fault["name"]) == ("not-attached", "Display: of a kind")


def test_people_read_it_within_eighty_columns(vtd):
    done = vtd("explain", VFIO, "--trace", VFIO_TRACE, "--fault", WRITE, "--fault", READ, env={"COLUMNS": "200"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.startswith("1. 00:05.0 tried to write to 0x30000000, which is mapped")
    assert "2. 00:05.0 tried to read 0x50000000, which was freed 23 s before" in done.stdout
    assert done.stdout.count("look at next") == 2


def test_bad_input_is_one_line(refused, tmp_path):
    assert "give an IMAGE, or a --trace" in refused("--fault", WRITE)
    assert "fault reason 0x05" in refused(VFIO, "--fault", "segfault at 0")
    assert "--fault and --dmesg" in refused(VFIO, "--fault", WRITE, "--dmesg", "x")
    assert "No such file" in refused(VFIO, "--dmesg", tmp_path / "none")
    assert "is an ELF file" in refused(VFIO, "--fault", WRITE, "--trace", VFIO)
    assert "nothing to explain" in refused("--trace", VFIO_TRACE)
    assert "--rtaddr" in refused("--trace", VFIO_TRACE, "--fault", WRITE, "--rtaddr", "0x1000")
    assert "only once" in refused("-", "--dmesg", "-")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF" + bytes(4096))
    assert "expected the text of a kernel log" in refused(VFIO, "--dmesg", binary)


# the large recordings


def recorded(corpus, variant):
    folder = corpus / variant
    return (
        folder / "image.elf",
        *("--registers", folder / "registers.json"),
        *("--dmesg", folder / "dmesg.txt"),
        *("--trace", folder / "trace.txt.gz"),
    )


def test_faults_that_were_made_on_purpose(explain, corpus):
    found = explain(*recorded(corpus, "h-fault"))
    told = [(fault["address"], fault["reason"], fault["verdict"], fault["agrees"]) for fault in found["faults"]]
    assert told == [
        ("0x12345000", 6, "never-mapped", True),
        ("0xdeadb000", 5, "never-mapped", True),
        ("0x7fffff000", 6, "never-mapped", True),
    ]
    assert found["log"]["unprinted"] == 1
    (fault,) = explain(*recorded(corpus, "h-fault")[:3])["faults"]
    assert (fault["address"], fault["access"], fault["reason"]) == ("0xabcde000", "w", 5)
    assert (fault["verdict"], fault["agrees"]) == ("not-mapped", True)


@pytest.mark.parametrize("variant", ["c-scalable", "i-firststage-k72"])
def test_alias_that_linux_leaves_out_in_scalable_mode(explain, corpus, variant):
    (fault,) = explain(*recorded(corpus, variant))["faults"]
    assert (fault["verdict"], fault["agrees"], fault["walk"]["reason"]) == ("alias-missing", True, 0x41)


def test_vfio_user_that_broke_its_own_rules(explain, corpus):
    found = explain(*recorded(corpus, "t-vfio-superpages"))
    assert [fault["verdict"] for fault in found["faults"]] == ["permission", "freed"]
