"""Profiles: the ones that come with the emulator, and what a bad one is told."""

from __future__ import annotations

import pytest

from emulator.behaviours import BEHAVIOURS, MECHANISMS
from emulator.engine import IotlbGeometry
from emulator.machine import Machine
from emulator.profile import load_profile, parse_profile, profile_names
from emulator.settings import Settings
from emulator.unit.registers import UnitRegisters
from pagetables.address import Gpa, Iova, SourceId
from pagetables.errors import InputError
from pagetables.fault import Fault
from pagetables.request import Access, Permissions, Request

GOOD = """
name: mine
explains: for a test
source: written here
version: {maj: 1}
cap: {nd: 6, fro: 0x22, sslps: 3}
ecap: {qi: 1, iro: 0xF}
haw: 46
"""


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_comes_along_loads_and_makes_registers(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source
    assert profile.explains
    assert UnitRegisters(profile).read64(8) == profile.capabilities.cap


def test_the_qemu_profile_has_the_words_that_qemu_answers() -> None:
    profile = load_profile("qemu-7.2")
    assert profile.capabilities.cap == 0x00D2_008C_2226_0206
    assert profile.capabilities.ecap == 0x0000_0000_00F0_0F4A
    assert profile.version == 0x10
    assert profile.capabilities.haw == 39


def test_the_default_profile_can_do_all_that_a_replay_may_ask_for() -> None:
    can = load_profile("default").capabilities
    assert can.second_stage_levels == {3, 4, 5}
    assert can.first_stage_levels == {4, 5}
    assert can.second_stage_leaf_levels == can.first_stage_leaf_levels == {1, 2, 3}
    assert (can.mgaw, can.haw, can.domain_id_width, can.pasid_width) == (57, 52, 16, 20)
    assert can.ecap.qi
    assert can.ecap.smts
    assert can.cap.esrtps
    assert (can.cap.mamv, can.fault_records, can.cap.cm) == (18, 1, 0)


def test_an_unknown_profile_names_what_is_near() -> None:
    with pytest.raises(InputError, match=r"no profile is called 'qemu-72'; did you mean qemu-7\.2 or"):
        load_profile("qemu-72")


def test_words_may_be_numbers_or_fields() -> None:
    by_fields = parse_profile(GOOD, "mine")
    by_number = parse_profile(GOOD.replace("{nd: 6, fro: 0x22, sslps: 3}", "0x0000_000c_2200_0006"), "mine")
    assert by_fields == by_number


def test_caches_have_a_size_of_their_own() -> None:
    text = GOOD + "iotlb: {sets: 16, ways: 2}\ncontext_cache: 3\npasid_cache: 4\npaging_structure_cache: 32\n"
    profile = parse_profile(text, "mine")
    assert profile.iotlb == IotlbGeometry(16, 2, tables=32)
    dropping = text.replace("ways: 2", "ways: 2, replacement: drop-all, entries: 20")
    assert parse_profile(dropping, "mine").iotlb == IotlbGeometry(16, 2, limit=20, tables=32)
    assert (profile.context_cache, profile.pasid_cache) == (3, 4)


def test_what_is_not_named_behaves_as_specified() -> None:
    assert not any(parse_profile(GOOD, "mine").behaves(name) for name in BEHAVIOURS)
    assert parse_profile(GOOD + "behaviours: [compress_faults]", "mine").behaves("compress_faults")


def test_asking_for_an_unknown_behaviour_is_an_error() -> None:
    with pytest.raises(InputError, match="no behaviour is called 'compress'; did you mean compress_faults"):
        load_profile("spec").behaves("compress")


@pytest.mark.parametrize(
    "change, complaint",
    [
        (("haw: 46", "haw: 64"), "mine: haw: expected a number from 1 to 52, got 64"),
        (("haw: 46", "haw: yes"), "mine: haw: expected a number from 1 to 52, got True"),
        (("haw: 46", ""), "mine: haw missing"),
        (("haw: 46", "haw: 46\nsauce: 1"), "mine: 'sauce' means nothing here; did you mean source"),
        (("nd: 6", "nd: 8"), "mine: cap: nd=0x8 does not fit bits 2:0"),
        (("nd: 6", "dn: 6"), "mine: cap: Capability has no field 'dn'"),
        (("nd: 6", "nd: many"), "mine: cap.nd: expected a number"),
        (("{maj: 1}", "four"), "mine: version: expected a number, or fields with their values, got 'four'"),
        (("{maj: 1}", "0x100000000"), "mine: version: Version: 0x100000000 does not fit 32 bits"),
        (("sslps: 3", "sslps: 2"), "mine: cap.sslps is 0, 1"),
        (("qi: 1", "dt: 1"), "mine: ecap.dt needs ecap.qi"),
        (("qi: 1", "qi: 1, nest: 1, smts: 1, ssts: 1"), "mine: ecap.nest needs ecap.fsts"),
        (("qi: 1", "qi: 1, smts: 1"), "mine: ecap.smts needs one of"),
        (("nd: 6", "pi: 1"), "mine: cap.pi needs ecap.ir"),
        (("haw: 46", "haw: 46\nperformance_counters: 1"), "mine: performance_counters and ecap.pms need each other"),
        (("qi: 1", "qi: 1, pms: 1"), "mine: ecap.pms needs cap.ecmds"),
        (("nd: 6", "afl: 1"), "mine: cap.afl must be 0"),
        (("qi: 1", "qi: 1, vcs: 1"), "mine: ecap.vcs must be 0"),
        (("haw: 46", "haw: 46\nperformance_counters: 3"), "performance_counters: expected a number from 0 to 2"),
        (("explains: for a test", "explains: 7"), "mine: explains: expected words, got 7"),
        (("haw: 46", "haw: 46\niotlb: {sets: 3}"), "mine: iotlb.sets: 3 is not a power of two"),
        (
            ("haw: 46", "haw: 46\niotlb: 7"),
            "mine: iotlb: expected sets, ways, replacement, entries, compared_bits, got 7",
        ),
        (("haw: 46", "haw: 46\niotlb: {replacement: lru}"), "mine: iotlb.replacement: expected round-robin, or drop"),
        (("haw: 46", "haw: 46\niotlb: {replacement: drop-all}"), "mine: iotlb.replacement: expected round-robin, or"),
        (
            ("haw: 46", "haw: 46\niotlb: {entries: 7}"),
            "mine: iotlb.replacement: expected round-robin, or drop-all with",
        ),
        (("haw: 46", "haw: 46\npaging_structure_cache: 3"), "mine: paging_structure_cache: 3 is not a power of two"),
        (("haw: 46", "haw: 46\nbehaviours: compress"), "mine: behaviours: expected a list of names"),
        (("haw: 46", "haw: 46\nbehaviours: [compress_fault]"), "did you mean compress_faults"),
        (("name: mine", "name: [mine"), "mine: not YAML"),
    ],
)
def test_a_bad_profile_is_told_where_and_what_was_expected(change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(InputError) as error:
        parse_profile(GOOD.replace(*change), "mine")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "- 1\n- 2", "just words", "null"])
def test_something_else_than_a_mapping_is_told_so(text: str) -> None:
    with pytest.raises(InputError, match="expected a mapping with name"):
        parse_profile(text, "mine")


REAL = {
    "alder-lake": {"nd": 2, "sagaw": 0b0100, "mgaw": 38, "psi": 1, "mamv": 18, "plmr": 1, "phmr": 1, "c": 0, "eim": 1},
    "alder-lake-graphics": {"sagaw": 0b0100, "mgaw": 38, "psi": 0, "dt": 1, "pss": 19, "c": 0},
    "sapphire-rapids": {"nd": 6, "sagaw": 0b1100, "mgaw": 56, "pi": 1, "c": 1, "smts": 1, "nest": 1, "pasid": 0},
}


@pytest.mark.parametrize("name", REAL)
def test_words_of_a_real_machine_are_taken_as_they_are(name):
    can = load_profile(name).capabilities
    fields = can.cap.fields() | can.ecap.fields()
    assert {field: fields[field] for field in REAL[name]} == REAL[name]


@pytest.mark.parametrize("name", REAL)
def test_a_driver_brings_up_the_unit_of_a_real_machine(name):
    machine = Machine(Settings.of({"profile": name, "engine": "python", "ram": "0-64M", "kernel.size": "16M"}))
    domain = machine.layer.create_domain()
    machine.layer.attach(domain, SourceId(0x10))
    machine.layer.map(domain, Iova(0x1000), Gpa(0x5000), 0x1000, Permissions.R)
    request = Request(SourceId(0x10), Iova(0x1234), Access.READ)
    assert machine.unit.translate(request).gpa == 0x5234
    machine.layer.unmap(domain, Iova(0x1000), 0x1000)
    assert isinstance(machine.unit.translate(request), Fault)


def test_each_behaviour_belongs_to_one_mechanism():
    assert sum(map(len, MECHANISMS.values())) == len(BEHAVIOURS) > 50
