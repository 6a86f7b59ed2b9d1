"""DMA and interrupts through the unit by qtest words alone, under each of QEMU's profiles; real QEMU's answers beside.

The program that the scenes were made after runs too, where it is there.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device_models.fronts.qtest import QtestServer
from device_models.machine import SystemMachine
from tests.conftest import corpus_folder
from tests.device_models.fronts.driven import ROOT as CHECKOUT
from tests.device_models.fronts.driven import Words, environment
from tests.device_models.fronts.edu_scenes import (
    ENTRIES,
    FEADDR,
    FECTL,
    FEDATA,
    FSTS,
    IRTA,
    NOWHERE,
    PAGE_A,
    PAGE_B,
    READ,
    SOURCE,
    TARGET,
    WRITE,
    Rig,
)

PROFILES = ("qemu-7.2", "qemu-10.0", "qemu-11.1")
SCALABLE = {"qemu-7.2": "x-scalable-mode=on", "qemu-10.0": "x-scalable-mode=on", "qemu-11.1": "scalable-mode=on"}
FIRST_STAGE = {"qemu-10.0": "x-scalable-mode=on,x-flts=on", "qemu-11.1": "scalable-mode=on,fsts=on"}
Machines = Callable[..., tuple[Rig, SystemMachine]]


@pytest.fixture
def make() -> Machines:
    def build(profile: str, options: str = "aw-bits=48") -> tuple[Rig, SystemMachine]:
        machine = SystemMachine(profile, 256 << 20)
        machine.add_device(f"intel-iommu,{options}")
        machine.add_device("edu,dma_mask=0xffffffffffffffff")
        return Rig(Words(QtestServer(machine).ask)), machine

    return build


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_without_translation_addresses_pass(make: Machines, profile: str) -> None:
    rig, _ = make(profile)
    assert rig.copies(PAGE_A, PAGE_B)


@pytest.mark.parametrize("levels, width, bits", [(4, 2, 48), (3, 1, 39)])
def test_legacy_second_stage_of_pages(make: Machines, profile: str, levels: int, width: int, bits: int) -> None:
    rig, _ = make(profile, f"aw-bits={bits}")
    source, target = (iova & (1 << bits) - 1 for iova in (SOURCE, TARGET))
    top = rig.table()
    rig.map(top, levels, source, PAGE_A | READ)
    rig.map(top, levels, target, PAGE_B | WRITE)
    rig.legacy(top | 1, 7 << 8 | width)
    rig.enable()
    assert rig.copies(source, target)


def test_legacy_second_stage_of_a_large_page(make: Machines, profile: str) -> None:
    rig, _ = make(profile)
    top = rig.table()
    rig.map(top, 4, 0x12_3440_0000, 0x40_0000 | 0x80 | READ | WRITE, last=2)
    rig.legacy(top | 1, 7 << 8 | 2)
    rig.enable()
    assert rig.copies(0x12_3440_3000, 0x12_3450_0000, 0x40_3000, 0x50_0000)


def test_legacy_pass_through(make: Machines, profile: str) -> None:
    rig, _ = make(profile)
    rig.legacy(2 << 2 | 1, 7 << 8 | 2)
    rig.enable()
    assert rig.copies(PAGE_A, PAGE_B)


@pytest.mark.parametrize("profile, leaked", [("qemu-7.2", 0xFFFF), ("qemu-10.0", 0xFFFF), ("qemu-11.1", 0)])
def test_a_blocked_read_and_a_blocked_write_are_recorded(make: Machines, profile: str, leaked: int) -> None:
    rig, _ = make(profile)
    top = rig.table()
    rig.map(top, 4, SOURCE, PAGE_A | READ)
    rig.legacy(top | 1, 7 << 8 | 2)
    rig.enable()
    rig.pull(NOWHERE)
    assert rig.register(FSTS) == 2
    assert rig.fault() == (NOWHERE, 0xC000_0006_0000_0008 | leaked << 40)
    rig.words.ok(f"memset {PAGE_A:#x} 256 0xaa")
    rig.push(SOURCE)
    assert rig.fault() == (SOURCE, 0x8000_0005_0000_0008 | leaked << 40)
    assert rig.words.read(PAGE_A, 256) == b"\xaa" * 256


def test_a_missing_root_entry_and_a_missing_context_entry(make: Machines, profile: str) -> None:
    rig, _ = make(profile)
    rig.enable()
    rig.pull(NOWHERE)
    assert rig.fault() == (NOWHERE, 0xC000_0001_0000_0008)
    rig, _ = make(profile)
    rig.legacy(0, 0)
    rig.enable()
    rig.pull(NOWHERE)
    assert rig.fault() == (NOWHERE, 0xC000_0002_0000_0008)


@pytest.mark.parametrize("profile, tagged", [("qemu-7.2", 1), ("qemu-10.0", 1), ("qemu-11.1", 0)])
def test_scalable_second_stage(make: Machines, profile: str, tagged: int) -> None:
    rig, _ = make(profile, f"aw-bits=48,{SCALABLE[profile]}")
    top = rig.table()
    rig.map(top, 4, SOURCE, PAGE_A | READ)
    rig.map(top, 4, TARGET, PAGE_B | WRITE)
    rig.scalable(top | 2 << 6 | 2 << 2 | 1, 7)
    rig.enable(scalable=True)
    assert rig.copies(SOURCE, TARGET)
    rig.pull(NOWHERE)
    assert rig.fault() == (NOWHERE, 0xC000_0006_0000_0008 | tagged << 31)


def test_scalable_pass_through(make: Machines, profile: str) -> None:
    rig, _ = make(profile, f"aw-bits=48,{SCALABLE[profile]}")
    rig.scalable(4 << 6 | 2 << 2 | 1, 7)
    rig.enable(scalable=True)
    assert rig.copies(PAGE_A, PAGE_B)


@pytest.mark.parametrize("profile, tagged", [("qemu-10.0", 1), ("qemu-11.1", 0)])
def test_scalable_first_stage_marks_what_it_used(make: Machines, profile: str, tagged: int) -> None:
    rig, _ = make(profile, f"aw-bits=48,{FIRST_STAGE[profile]}")
    top = rig.table()
    rig.map(top, 4, SOURCE, PAGE_A | 5, branch=7)
    rig.map(top, 4, TARGET, PAGE_B | 7, branch=7)
    rig.scalable(1 << 6 | 2 << 2 | 1, 7, top)
    rig.enable(scalable=True)
    assert rig.copies(SOURCE, TARGET)
    leaves = rig.next_table - 0x1000
    index = SOURCE >> 12 & 511
    assert [rig.words.get("readq", leaves + 8 * (index + n)) & 0xFFF for n in (0, 1)] == [0x25, 0x67]
    rig.pull(NOWHERE)
    assert rig.fault() == (NOWHERE, 0xC000_0071_0000_0008 | tagged << 31)


@pytest.mark.parametrize("profile, recorded", [("qemu-7.2", False), ("qemu-10.0", True), ("qemu-11.1", True)])
def test_interrupts_are_remapped_or_refused(make: Machines, profile: str, recorded: bool) -> None:
    rig, machine = make(profile, "aw-bits=48,intremap=on")
    for index, vector, source in ((5, 0x41, 8), (6, 0x42, 0x18)):
        rig.words.write(ENTRIES + 16 * index, struct.pack("<QQ", 1 | vector << 16, source | 1 << 18))
    rig.set_register(IRTA, ENTRIES | 7, 8)
    rig.switch_on(24)
    rig.switch_on(25)
    rig.send(0xFEE0_0010 | 5 << 5, 0)
    assert machine.apics.vectors() == [0x41]
    rig.send(0xFEE0_0000, 0x43)
    assert machine.apics.vectors() == [0x41, 0x43]
    for index, reason in ((6, 0x26), (9, 0x22)):
        rig.send(0xFEE0_0010 | index << 5, 0)
        wanted = (index << 48, 1 << 63 | reason << 32 | 8) if recorded else (0, 0)
        assert rig.fault() == wanted
    assert machine.apics.vectors() == [0x41, 0x43]


def test_an_unmasked_fault_event_reaches_the_processor(make: Machines, profile: str) -> None:
    rig, machine = make(profile)
    rig.legacy(rig.table() | 1, 7 << 8 | 2)
    rig.enable()
    for offset, value in ((FEADDR, 0xFEE0_0000), (FEDATA, 0x51), (FECTL, 0)):
        rig.set_register(offset, value)
    rig.pull(NOWHERE)
    assert machine.apics.vectors() == [0x51]
    assert rig.register(FECTL) == 0


# -- the program itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile, passed, skipped", [("qemu-7.2", 13, 2), ("qemu-10.0", 15, 0), ("qemu-11.1", 15, 0)])
def test_the_demonstration_for_qemu_prints_what_it_prints_there(
    profile: str, passed: int, skipped: int, tmp_path: Path
) -> None:
    corpus = corpus_folder()
    oracle = None if corpus is None else corpus.parent / "oracle"
    if oracle is None or not (oracle / "qtest_edu_demo.py").exists():
        pytest.skip("NOT RUN: no oracle beside VTD_CORPUS")
    program = tmp_path / "vtd-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m device_models.fronts.main "$@"\n')
    program.chmod(0o755)
    script = [sys.executable, str(oracle / "qtest_edu_demo.py"), str(program)]
    done = subprocess.run(script, env=environment(profile), capture_output=True, text=True, cwd=CHECKOUT, check=False)
    ours = done.stdout.splitlines()[1:]
    assert done.returncode == 0, done.stdout
    assert [sum(line.startswith(f"  {word}") for line in ours) for word in ("ok", "SKIP")] == [passed, skipped]
    assert [line.replace(" [qtest]", "") for line in ours] == _recorded(oracle / "demo.txt", profile)


def _recorded(path: Path, profile: str) -> list[str]:
    # What the demonstration printed for the QEMU that the profile stands for.
    version = profile.removeprefix("qemu-")
    sections = path.read_text().split("== ")
    section = next(text for text in sections if text.split()[1:2] and text.split()[1].startswith(f"{version}."))
    lines = section.splitlines()[1:]
    kept = [line.replace(" [halt]", "").replace(" [qtest]", "") for line in lines]
    return [line for line in kept if line.startswith("  ")]
