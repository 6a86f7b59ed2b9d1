"""`vtd audit`: findings for people, programs and CI systems, and an exit status to act upon."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from pagetables.audit import RULES
from tests.cli.conftest import ROOT
from tests.pagetables.audit.machines import BASE, NIC, Machine
from tests.pagetables.images.elf_bytes import Core, Load, note
from tests.pagetables.test_dmar import QEMU

CLEAN = ROOT / "fixtures" / "images" / "c-scalable" / "image.elf.gz"


def saved(machine: Machine, path) -> str:
    """The machine as an ELF core with its registers as our note; its path."""
    start, end = 0x10_0000, machine.scene.page()  # all that it ever took
    loads = [Load(start, machine.scene.memory.read(start, end - start))]
    page = BASE.to_bytes(8, "little") + machine.page().data
    path.write_bytes(bytes(Core(loads, notes=note(b"VTD", 1, page))))
    return str(path)


@pytest.fixture
def bad(tmp_path) -> str:
    """An image in which the NIC writes its root table and may raise anybody's interrupts."""
    machine = Machine()
    machine.attach(NIC, machine.mapped(machine.root), 1)
    machine.interrupt(0, svt=0)
    return saved(machine, tmp_path / "bad.elf")


def document(done):
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_clean_guest_exits_0_and_says_who_reaches_what(vtd) -> None:
    done = vtd("audit", CLEAN, "--json")
    assert done.returncode == 0
    report = document(done)
    assert {one["severity"] for one in report["findings"]} == {"note"}
    assert report["units"] == [{"register_base": "0xfed90000", "mode": "scalable"}]
    nic = next(one for one in report["reach"] if one["source_id"] == "00:04.0")
    assert (nic["pasid"], nic["domain_id"], nic["translation"], nic["everything"]) == (0, 4, "second-stage", False)
    assert nic["read_bytes"] == sum(one["size"] for one in nic["readable"]) > 0
    assert "the DMAR table is that of the image" in report["notes"]


def test_a_finding_says_which_rule_how_bad_who_and_where(vtd, bad) -> None:
    done = vtd("audit", bad, "--json")
    assert done.returncode == 1
    first = document(done)["findings"][0]
    assert (first["rule"], first["name"], first["severity"]) == ("VTD202", "own-structures", "error")
    assert first["devices"] == [{"unit": 0, "source_id": "00:03.0", "pasid": None}]
    assert (first["start"], first["size"]) == ("0x100000", 0x1000)


def test_people_get_findings_by_severity_and_rule(vtd, bad) -> None:
    done = vtd("audit", bad, env={"COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert lines[0].startswith(f"{bad}: 1 unit, 1 device, ")
    assert [line for line in lines if line in ("error", "warning", "note")] == ["error", "warning"]
    assert "  VTD202 own-structures: a device reaches the tables or queues that hold it back" in done.stdout
    assert "00:03.0        1   second-stage   4 KiB    4 KiB        1" in done.stdout
    assert "note: no DMAR table: reserved memory (RMRR)" in done.stdout


def test_only_what_is_asked_decides_over_the_status(vtd, bad) -> None:
    assert vtd("audit", bad, "--rule", "shared-domain,VTD308").returncode == 0
    assert vtd("audit", bad, "--rule", "VTD401").returncode == 1
    errors = document(vtd("audit", bad, "--severity", "error", "--json"))["findings"]
    assert {one["severity"] for one in errors} == {"error"}
    assert vtd("audit", bad, "--rule", "vtd401", "--severity", "error").returncode == 0


def test_nothing_found_is_said(vtd, bad) -> None:
    assert "1 rule, nothing found" in vtd("audit", bad, "--rule", "pass-through").stdout


def test_symbols_hints_and_a_table_are_used(vtd, tmp_path) -> None:
    machine = Machine()
    machine.attach(NIC, machine.mapped(0x200_0000, iova=0x200_0000), 1)
    image = saved(machine, tmp_path / "image.elf")
    (tmp_path / "System.map").write_text("ffffffff81000000 T _text\nffffffff82000000 T _etext\n")
    (tmp_path / "hints").write_text("kernel: {phys_base: 0x1000000}\nregions: [{start: 0x2000000, size: 1}]\n")
    (tmp_path / "dmar").write_bytes(QEMU)
    options = ["--symbols", tmp_path / "System.map", "--hints", tmp_path / "hints", "--dmar", tmp_path / "dmar"]
    report = document(vtd("audit", image, "--json", *options))
    assert [one["rule"] for one in report["findings"]] == ["VTD201", "VTD203"]
    assert report["notes"] == []


# -- SARIF 2.1.0: what its schema requires


def test_sarif_has_what_the_standard_requires(vtd, bad) -> None:
    done = vtd("audit", bad, "--format", "sarif")
    assert done.returncode == 1
    log = document(done)
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "vtd audit"
    assert [one["id"] for one in rules] == [rule.id for rule in RULES]
    for rule in rules:
        assert rule["defaultConfiguration"]["level"] in ("note", "warning", "error")
        assert rule["shortDescription"]["text"].endswith(".")
    assert run["results"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("note", "warning", "error")
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": bad, "index": 0}
        assert set(location["physicalLocation"].get("address", {})) <= {"absoluteAddress", "length", "kind"}
        assert all(set(one) == {"name", "kind"} for one in location.get("logicalLocations", ()))
    assert run["artifacts"] == [{"location": {"uri": bad}}]
    assert run["invocations"][0]["executionSuccessful"] is True
    fingerprints = [result["partialFingerprints"]["vtdSubject/v1"] for result in run["results"]]
    assert len(set(fingerprints)) == len(fingerprints)


def test_sarif_of_an_odd_file_name_is_a_uri(vtd, tmp_path) -> None:
    odd = saved(Machine(), tmp_path / "a b%é.elf")
    uri = document(vtd("audit", odd, "--format", "sarif"))["runs"][0]["artifacts"][0]["location"]["uri"]
    assert uri.endswith("/a%20b%25%C3%A9.elf")


# -- JUnit


def test_junit_has_a_case_for_each_rule(vtd, bad) -> None:
    done = vtd("audit", bad, "--format", "junit")
    assert (done.returncode, done.stderr) == (1, "")
    root = ElementTree.fromstring(done.stdout)
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("tests")) == ("testsuites", "testsuite", str(len(RULES)))
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [f"{rule.id} {rule.name}" for rule in RULES]
    failed = {case.get("name").split()[0]: case.find("failure") for case in cases if case.find("failure") is not None}
    assert suite.get("failures") == root.get("failures") == str(len(failed)) == "2"
    assert (failed["VTD202"].get("type"), failed["VTD401"].get("type")) == ("error", "warning")
    assert "00:03.0 can write 4 KiB" in failed["VTD202"].text


def test_junit_of_a_clean_guest_fails_nothing_and_keeps_notes(vtd) -> None:
    suite = ElementTree.fromstring(vtd("audit", CLEAN, "--format", "junit").stdout)[0]
    assert suite.get("failures") == "0"
    shared = next(case for case in suite if case.get("name").startswith("VTD101"))
    assert "00:1f.0, 00:1f.2 and 00:1f.3 use the same tables" in shared.find("system-out").text


def test_junit_of_a_file_name_that_xml_cannot_hold_is_xml(vtd, tmp_path) -> None:
    odd = saved(Machine(), tmp_path / "a\x01\udcff<.elf")
    ElementTree.fromstring(vtd("audit", odd, "--format", "junit").stdout)


# -- Use


def test_rules_are_listed(vtd) -> None:
    done = vtd("audit", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(rule.id in done.stdout and rule.name in done.stdout for rule in RULES)


def test_only_a_root_table_address_is_enough(vtd, bad) -> None:
    report = document(vtd("audit", bad, "--rtaddr", "0x100000", "--json"))
    assert [one["rule"] for one in report["findings"]] == ["VTD202"]
    assert report["notes"][0].startswith("only the root table address is known")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--rule", "VTD999"], "no rule is called 'vtd999'"),
        (["--hints", "{bad}"], "neither YAML nor the text of /proc/iomem"),
        (["--symbols", "{bad}"], "no symbols in it"),
        (["--dmar", "{bad}"], "no DMAR table in it"),
        (["--dmar", "/nowhere"], "No such file or directory"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--registers", "{bad}"], "an ELF file, not registers"),
    ],
)
def test_what_cannot_be_used_is_one_line(vtd, bad, options, what) -> None:
    done = vtd("audit", bad, *(option.format(bad=bad) for option in options))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vtd: ")
    assert done.stderr.count("\n") == 1
    assert what in done.stderr
