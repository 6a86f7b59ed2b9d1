"""Everything that is mapped: spaces, runs and counts; damaged tables make findings and never an endless scan."""

from __future__ import annotations

import random
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pagetables.errors import NoMemory
from pagetables.images.opening import open_image
from pagetables.images.registers import load_registers
from pagetables.memory import PhysicalMemory
from pagetables.request import Request, Translation
from pagetables.scan import Mapping, Scan, Space, scan
from pagetables.source import TranslationType, lookup
from pagetables.walk import walk
from tests.builders import (
    FULL,
    GIB,
    MIB,
    SID,
    LegacyRoot,
    ScalableRoot,
    Scene,
    Tables,
    capabilities,
    first_stage_pasid,
    granted,
    second_stage_pasid,
    shift_of,
)
from tests.truth import FIXED, VARIANTS, Truth

PAGE = 0x1000
RW = granted("rw")


def attached(tables: Tables, sid: int = SID) -> LegacyRoot:
    """A legacy root with one device on these tables."""
    root = LegacyRoot(tables.scene)
    root.attach(sid, tables.root, levels=tables.levels)
    return root


def look(root: LegacyRoot | ScalableRoot, **how: Any) -> Scan:
    """The scan of a root's scene."""
    return scan(root.scene.memory, root.rtaddr, root.scene.capabilities, **how)


def only(root: LegacyRoot | ScalableRoot) -> Space:
    """The only space of a root; nothing may be found wrong."""
    found = look(root)
    assert found.findings == ()
    (space,) = found.spaces
    return space


def kinds(found: Scan) -> Counter[str]:
    """How many findings there are of each kind."""
    return Counter(finding.kind for finding in found.findings)


# Spaces


def test_a_legacy_space_says_whose_it_is_and_where_its_tables_are() -> None:
    tables = Scene().second_stage(3)
    assert only(attached(tables)) == Space(SID, None, 7, TranslationType.SECOND_STAGE, 3, tables.root)


def test_a_legacy_pass_through_space_has_no_tables() -> None:
    root = LegacyRoot(Scene())
    root.attach(SID, 0, levels=5, tt=2)
    assert only(root) == Space(SID, None, 7, TranslationType.PASS_THROUGH, 0, 0)


def test_every_bus_and_function_is_looked_at() -> None:
    root = LegacyRoot(Scene())
    table = root.scene.second_stage().root
    for sid in (0, 0xFF, 0x1234, 0xFFFF):
        root.attach(sid, table, domain=sid & 0xFF)
    found = look(root)
    assert [(space.source_id, space.domain_id) for space in found.spaces] == [
        (0, 0),
        (0xFF, 0xFF),
        (0x1234, 0x34),
        (0xFFFF, 0xFF),
    ]
    assert (found.mode, found.findings) == ("legacy", ())


def test_scalable_spaces_carry_the_index_into_the_pasid_table() -> None:
    root = ScalableRoot(Scene())
    first, second = root.scene.first_stage(5), root.scene.second_stage(4)
    for sid in (SID, SID | 0x80):
        root.context(sid)
        root.attach(sid, 0, *first_stage_pasid(first.root, levels=5, domain=1))
        root.attach(sid, 0xFFFFF, *second_stage_pasid(second.root, domain=2))
    found = look(root)
    assert (found.mode, found.findings) == ("scalable", ())
    expected = [
        (0, 1, TranslationType.FIRST_STAGE, 5, first.root),
        (0xFFFFF, 2, TranslationType.SECOND_STAGE, 4, second.root),
    ]
    assert [
        (one.source_id, one.pasid, one.domain_id, one.translation, one.levels, one.table) for one in found.spaces
    ] == [(sid, *rest) for sid in (SID, SID | 0x80) for rest in expected]


def test_a_small_directory_ends_where_pdts_says() -> None:
    root = ScalableRoot(Scene())
    table = root.scene.second_stage().root
    root.context(SID, pdts=0)
    root.attach(SID, (1 << 13) - 1, *second_stage_pasid(table))
    root.attach(SID, 1 << 13, *second_stage_pasid(table))  # in the same page, but beyond the directory
    assert [space.pasid for space in look(root).spaces] == [(1 << 13) - 1]


def test_one_device_or_one_pasid_can_be_asked_for() -> None:
    root = ScalableRoot(Scene())
    table = root.scene.second_stage().root
    for sid in (SID, SID + 1):
        root.context(sid)
        for pasid in (0, 5):
            root.attach(sid, pasid, *second_stage_pasid(table))
    assert [(s.source_id, s.pasid) for s in look(root, source_id=SID + 1).spaces] == [(SID + 1, 0), (SID + 1, 5)]
    assert [(s.source_id, s.pasid) for s in look(root, source_id=SID, pasid=5).spaces] == [(SID, 5)]


@pytest.mark.parametrize("ttm, mode, found", [(3, "abort", []), (2, "reserved", ["table-mode"])])
def test_modes_without_tables(ttm: int, mode: str, found: list[str]) -> None:
    root = attached(Scene().second_stage())
    answer = scan(root.scene.memory, root.rtaddr | ttm << 10, FULL)
    assert (answer.mode, answer.spaces, list(kinds(answer))) == (mode, (), found)


def test_devices_on_the_same_tables_share_what_was_read() -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    root = attached(tables)
    root.attach(SID + 1, tables.root)
    one, other = look(root).spaces
    assert one.contents is other.contents


def test_a_nested_space_has_mappings_of_both_stages() -> None:
    scene = Scene()
    offset = 0x4000_0000
    first, second = scene.first_stage(4, offset=offset), scene.second_stage(3)
    first.leaf(0x1000, gpa=0x7000)
    for page in first.pages:
        second.leaf(page + offset, gpa=page)
    second.leaf(0x7000, gpa=0x9000, permissions="r")
    root = ScalableRoot(scene)
    root.context(SID)
    root.attach(SID, 0, second.root | 3 << 6 | 1 << 2 | 1, 7, first.root)
    space = only(root)
    assert (space.translation, space.levels, space.table) == (TranslationType.NESTED, 4, first.root)
    assert space.mappings == (Mapping(0x1000, 0x7000, PAGE, RW, user=True),)
    assert space.second_stage is not None
    assert space.second_stage.mappings[0] == Mapping(0x7000, 0x9000, PAGE, granted("r"))


def nested_root(show: bool) -> ScalableRoot:
    """Two PASIDs with guest tables of their own over one second stage, which shows them or does not."""
    scene = Scene()
    second, root = scene.second_stage(3), ScalableRoot(scene)
    root.context(SID)
    for pasid in (0, 1):
        first = scene.first_stage(4, offset=GIB)
        first.leaf(0x1000, gpa=0x7000 + pasid * PAGE)
        for page in first.pages if show else ():
            second.leaf(page + GIB, gpa=page)
        root.attach(SID, pasid, second.root | 3 << 6 | 1 << 2 | 1, 7, first.root)
    return root


def test_guests_over_one_second_stage_are_each_scanned() -> None:
    found = look(nested_root(show=True))
    assert ([space.mappings[0].gpa for space in found.spaces], found.findings) == ([0x7000, 0x8000], ())


def test_guest_tables_that_the_second_stage_does_not_show_are_missing() -> None:
    root = nested_root(show=False)
    found = look(root)
    assert [(one.kind, one.at) for one in found.findings] == [("missing-table", one.table) for one in found.spaces]


# Mappings


def test_neighbours_that_continue_each_other_are_one_mapping() -> None:
    tables = Scene().second_stage()
    for index in range(520):  # across the end of a table
        tables.leaf(index * PAGE, gpa=GIB + index * PAGE)
    space = only(attached(tables))
    assert space.mappings == (Mapping(0, GIB, 520 * PAGE, RW),)
    assert space.pages == {PAGE: 520}


def test_pages_of_all_sizes_merge() -> None:
    tables = Scene().second_stage()
    tables.leaf(GIB - PAGE, gpa=GIB - PAGE)
    tables.leaf(GIB, gpa=GIB, level=3)
    tables.leaf(2 * GIB, gpa=2 * GIB, level=2)
    space = only(attached(tables))
    assert space.mappings == (Mapping(GIB - PAGE, GIB - PAGE, PAGE + GIB + 2 * MIB, RW),)
    assert space.pages == {PAGE: 1, 2 * MIB: 1, GIB: 1}


def test_a_gap_another_target_or_another_access_begins_a_new_mapping() -> None:
    tables = Scene().second_stage()
    leaves = [(0, 0x10000, "rw"), (1, 0x11000, "r"), (2, 0x12000, "w"), (3, 0x19000, "w"), (5, 0x1B000, "w")]
    for index, gpa, permissions in leaves:
        tables.leaf(index * PAGE, gpa=gpa, permissions=permissions)
    assert [(m.iova // PAGE, m.gpa, m.access.text()) for m in only(attached(tables)).mappings] == leaves


@pytest.mark.parametrize("level", [2, 3, 4])
def test_access_is_what_all_levels_grant(level: int) -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    tables.leaf(1 << 47, gpa=0x6000)  # under another entry of the top
    tables.change(0, level, clear=2)
    assert [m.access.text() for m in only(attached(tables)).mappings] == ["r", "rw"]


def test_a_page_that_no_access_reaches_is_shown_with_none() -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000, permissions="w")
    tables.change(0, 2, clear=2)
    assert [m.access.text() for m in only(attached(tables)).mappings] == ["-"]


def test_first_stage_mappings_say_user_or_not_and_stand_in_both_halves() -> None:
    root = ScalableRoot(Scene())
    tables = root.scene.first_stage()
    top = (1 << 64) - PAGE
    tables.leaf(0, gpa=0x5000)
    tables.leaf(PAGE, gpa=0x6000, permissions="rs")
    tables.leaf((1 << 47) - PAGE, gpa=0x8000)
    tables.leaf((1 << 64) - (1 << 47), gpa=0x9000)  # continues the one before in the table, not in addresses
    tables.leaf(top, gpa=0x7000)
    root.context(SID)
    root.attach(SID, 0, *first_stage_pasid(tables.root))
    assert only(root).mappings == (
        Mapping(0, 0x5000, PAGE, RW, user=True),
        Mapping(PAGE, 0x6000, PAGE, granted("r"), user=False),
        Mapping((1 << 47) - PAGE, 0x8000, PAGE, RW, user=True),
        Mapping((1 << 64) - (1 << 47), 0x9000, PAGE, RW, user=True),
        Mapping(top, 0x7000, PAGE, RW, user=True),
    )


@pytest.mark.parametrize("levels", [3, 4, 5])
def test_the_last_page_of_a_space_is_found(levels: int) -> None:
    tables = Scene().second_stage(levels)
    iova = (1 << shift_of(levels + 1)) - PAGE
    tables.leaf(iova, gpa=0x5000)
    assert only(attached(tables)).mappings == (Mapping(iova, 0x5000, PAGE, RW),)


def test_a_table_linked_twice_is_listed_at_both_places_and_told_of() -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    for place in (1, 2):
        tables.put(place * 2 * MIB, 2, tables.raw(0, 2))
    found = look(attached(tables))
    assert [m.iova for m in found.spaces[0].mappings] == [0, 2 * MIB, 4 * MIB]
    assert found.spaces[0].pages == {PAGE: 3}
    assert kinds(found) == {"shared-table": 1}


def test_a_table_reached_with_other_rights_is_read_again() -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    tables.put(2 * MIB, 2, tables.raw(0, 2) & ~2)
    tables.put(4 * MIB, 2, tables.raw(0, 2))
    assert [m.access.text() for m in look(attached(tables)).spaces[0].mappings] == ["rw", "r", "rw"]


# What is wrong


def test_reserved_bits_are_told_once_a_table() -> None:
    tables = Scene().second_stage()
    at = tables.leaf(PAGE, gpa=0x5000, extra=1 << 62)
    tables.leaf(2 * PAGE, gpa=0x5000, extra=1 << 62)
    tables.leaf(3 * PAGE, gpa=0x5000)
    table = tables.put(1 << 30, 3, 0x803)
    found = look(attached(tables))
    assert [(one.kind, one.at) for one in found.findings] == [("reserved-bits", at), ("reserved-bits", table)]
    assert "2 entries of the second-stage table" in found.findings[0].message
    assert found.findings[0].source == SID
    assert [m.iova for m in found.spaces[0].mappings] == [3 * PAGE]


def test_a_table_of_nothing_but_bad_entries_maps_nothing() -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000, extra=1 << 62)
    found = look(attached(tables))
    assert (found.spaces[0].mappings, kinds(found)) == ((), {"reserved-bits": 1})


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_table_outside_memory_is_missing(level: int) -> None:
    scene = Scene()
    tables = scene.second_stage()
    tables.put(0, level + 1, scene.size | 3)
    tables.leaf(1 << 47, gpa=0x5000)
    found = look(attached(tables))
    assert [(one.kind, one.at) for one in found.findings] == [("missing-table", scene.size)]
    assert len(found.spaces[0].mappings) == 1


@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_table_that_leads_back_is_a_loop(level: int) -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    at = tables.put(1 << shift_of(level), level, tables.root | 3)
    found = look(attached(tables))
    assert [(one.kind, one.at) for one in found.findings] == [("loop", at)]
    assert len(found.spaces[0].mappings) == 1


def test_entries_beyond_mgaw_are_told_of_and_not_listed() -> None:
    tables = Scene(capabilities(mgaw=41)).second_stage()
    tables.leaf((1 << 42) - PAGE, gpa=0x5000)
    tables.leaf(1 << 42, gpa=0x6000)
    found = look(attached(tables))
    assert kinds(found) == {"beyond-width": 1}
    assert [m.gpa for m in found.spaces[0].mappings] == [0x5000]


class Torn:
    """A memory without some of its qwords, as a dump may be that ends in the middle of a page."""

    def __init__(self, memory: PhysicalMemory, start: int, end: int) -> None:
        self.memory, self.start, self.end = memory, start, end

    def load(self, address: int) -> int | None:
        """None in the hole."""
        return None if self.start <= address < self.end else self.memory.load(address)

    def read(self, address: int, size: int) -> bytes:
        """NoMemory if it meets the hole."""
        if address < self.end and address + size > self.start:
            raise NoMemory(address, size)
        return self.memory.read(address, size)


def test_a_table_half_outside_memory_is_read_as_far_as_it_goes() -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    tables.leaf(511 * PAGE, gpa=0x6000)
    table = tables.entry(0, 1)
    root = attached(tables)
    torn = Torn(tables.scene.memory, table + 8, table + PAGE)
    found = scan(torn, root.rtaddr, FULL)
    assert [(one.kind, one.at) for one in found.findings] == [("partial-table", table)]
    assert "4088 of 4096 bytes" in found.findings[0].message
    assert [m.gpa for m in found.spaces[0].mappings] == [0x5000]


@pytest.mark.parametrize("scalable", [False, True])
def test_a_root_table_outside_memory_is_a_finding(scalable: bool) -> None:
    scene = Scene()
    found = scan(scene.memory, scene.size | scalable << 10, FULL)
    assert (found.spaces, [(one.kind, one.at) for one in found.findings]) == ((), [("missing-table", scene.size)])


def test_missing_context_and_pasid_structures_are_findings() -> None:
    root = ScalableRoot(Scene())
    size = root.scene.size
    for sid in (SID, SID + 1, SID + 2):
        root.context(sid, pdts=2)
    root.scene.store(root.context_entry(SID), size | 2 << 9 | 1)
    root.scene.store(root.directory_entry(SID + 1, 5), size + PAGE | 1)
    root.scene.store(root.root_half(0x300), size + 2 * PAGE | 1)
    found = look(root)
    assert found.spaces == ()
    assert {(one.kind, one.at, one.source) for one in found.findings} == {
        ("missing-table", size, SID),
        ("missing-table", size + PAGE, SID + 1),
        ("missing-table", size + 2 * PAGE, 0x300),
    }


@pytest.mark.parametrize(
    "how, is_shown", [({"levels": 2}, True), ({"tt": 3}, False), ({"bits": 0x11}, True), ({"tt": 2}, True)]
)
def test_a_context_entry_that_would_fault_is_told_of(how: dict[str, int], is_shown: bool) -> None:
    tables = Scene().second_stage()
    tables.leaf(0, gpa=0x5000)
    root = LegacyRoot(tables.scene)
    at = root.attach(SID, **{"table": tables.root, **how})
    found = look(root)
    assert [(one.kind, one.at, one.source) for one in found.findings] == [("bad-entry", at, SID)]
    assert "legacy-context-entry" in found.findings[0].message
    assert bool(found.spaces) is is_shown


@pytest.mark.parametrize("pgtt, is_shown", [(0, False), (5, False), (1, True)])
def test_a_pasid_entry_that_would_fault_is_told_of(pgtt: int, is_shown: bool) -> None:
    root = ScalableRoot(Scene(capabilities(fsts=0)))
    root.context(SID)
    at = root.attach(SID, 3, pgtt << 6 | 1, 7, root.scene.first_stage().root)
    found = look(root)
    assert [(one.kind, one.at, one.source) for one in found.findings] == [("bad-entry", at, SID)]
    assert "fault 5bh" in found.findings[0].message
    assert bool(found.spaces) is is_shown


def test_a_first_stage_of_a_reserved_mode_is_shown_without_mappings() -> None:
    root = ScalableRoot(Scene())
    root.context(SID)
    root.attach(SID, 0, *first_stage_pasid(0x10000, levels=7))
    found = look(root)
    assert (found.spaces[0].mappings, kinds(found)) == ((), {"bad-entry": 1})


@pytest.mark.parametrize("upper", [False, True])
def test_root_entries_that_would_fault_are_told_of(upper: bool) -> None:
    root = ScalableRoot(Scene())
    sid = SID | upper << 7
    root.context(sid)
    at = root.root_half(sid)
    root.scene.store(at, root.scene.qword(at) | 1 << 5)
    found = look(root)
    assert [(one.kind, one.at) for one in found.findings] == [("bad-entry", root.root)]
    legacy = attached(Scene().second_stage())
    legacy.scene.store(legacy.root_entry(SID), legacy.scene.qword(legacy.root_entry(SID)) | 1 << 5)
    assert kinds(look(legacy)) == {"bad-entry": 1}


def test_a_directory_entry_that_would_fault_is_told_of() -> None:
    root = ScalableRoot(Scene())
    root.context(SID)
    root.attach(SID, 5, *second_stage_pasid(root.scene.second_stage().root))
    at = root.directory_entry(SID, 5)
    root.scene.store(at, root.scene.qword(at) | 1 << 5)
    found = look(root)
    assert (kinds(found), [space.pasid for space in found.spaces]) == ({"bad-entry": 1}, [5])


def test_entries_that_are_not_present_are_passed_over_whatever_else_they_say() -> None:
    tables = Scene().second_stage()
    root = LegacyRoot(tables.scene)
    root.attach(SID, tables.root, bits=0)
    root.scene.store(root.root_entry(0x500), 0xFFF0)
    tables.put(0, 1, 0x5F00 & ~3)
    assert look(root) == Scan("legacy", (), ())
    scalable = ScalableRoot(Scene())
    scalable.context(SID)
    scalable.attach(SID, 0, 0x80)
    scalable.scene.store(scalable.directory_entry(SID, 200), 0x8000)
    scalable.scene.store(scalable.context_entry(SID + 1), 0x8000)
    assert look(scalable) == Scan("scalable", (), ())


# Damage without end


def garbage(seed: int, pages: int, legal: bool) -> PhysicalMemory:
    """Pages whose every qword is a table entry that leads to one of them."""
    rng = random.Random(seed)
    memory = PhysicalMemory([(0, pages * PAGE)])
    for page in range(pages):
        noise = 0 if legal else 0xFFF0_0000_0000_0FF8
        entries = [rng.randrange(pages) * PAGE | rng.getrandbits(64) & noise | 3 for _ in range(512)]
        if page == 0:  # the root table: four buses are enough
            entries[8:] = [0] * 504
        memory.write(page * PAGE, struct.pack("<512Q", *entries))
    return memory


@pytest.mark.parametrize("legal", [True, False])
@pytest.mark.parametrize("ttm", [0, 1])
def test_pages_that_all_lead_to_each_other_are_scanned_to_the_end(ttm: int, legal: bool) -> None:
    found = scan(garbage(ttm, 12, legal), ttm << 10, FULL)
    assert found.findings


def test_a_table_whose_entries_all_lead_to_one_lower_table_is_cut_short() -> None:
    scene = Scene()
    tables = scene.second_stage(5)
    pages = [tables.root, *(scene.page() for _ in range(4))]
    for upper, lower in pairwise(pages):
        scene.store(upper, *[lower | 3] * 512)
    scene.store(pages[-1], *[index << 13 | 3 for index in range(512)])
    found = look(attached(tables))
    assert kinds(found) == {"shared-table": 4, "cut": 1}
    assert found.spaces[0].pages == {PAGE: 512**5}  # counted all the same
    assert len(found.spaces[0].mappings) < 1 << 19


def test_a_pasid_directory_that_claims_everything_is_cut_short() -> None:
    root = ScalableRoot(Scene())
    table = root.scene.page()
    entry = second_stage_pasid(root.scene.second_stage().root)
    root.scene.store(table, *[*entry, 0, 0, 0, 0, 0, 0] * 64)
    for sid in range(4):
        root.context(sid, pdts=7)
        root.scene.store(root.directory_entry(sid, 0), *[table | 1] * 16384)
    found = look(root)
    assert (len(found.spaces), kinds(found)) == (1 << 16, {"cut": 1})


def test_directories_that_claim_more_than_any_machine_has_are_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagetables.scan.DIRECTORY_LIMIT", 100)
    root = ScalableRoot(Scene())
    table = root.scene.page()  # empty
    root.context(SID)
    root.scene.store(root.directory_entry(SID, 0), *[table | 1] * 101)
    assert kinds(look(root)) == {"cut": 1}
    root.scene.store(root.directory_entry(SID, 0), 0)
    assert kinds(look(root)) == {}


# Recorded kernels


def merged(rows: list[list[str]]) -> tuple[Mapping, ...]:
    """The truth's leaves, neighbours that continue each other joined in the plainest way."""
    found: list[Mapping] = []
    for row in rows:
        iova, gpa, size = (int(text, 16) for text in row[:3])
        access, user = granted(row[3].replace("-", "").replace("U", "").lower()), "U" in row[3]
        last = found[-1] if found else None
        if last and (last.iova + last.size, last.gpa + last.size, last.access, last.user) == (iova, gpa, access, user):
            found[-1] = Mapping(last.iova, last.gpa, last.size + size, access, user)
        else:
            found.append(Mapping(iova, gpa, size, access, user))
    return tuple(found)


def agrees(truth: Truth) -> int:
    """How many leaves were compared: spaces, runs, counts, and the entry each walk ends in, against the truth."""
    registers = load_registers(truth.registers)
    caps, rtaddr, compared = registers.capabilities(), int(registers.root_table), 0
    with open_image(truth.image) as memory:
        found = scan(memory, rtaddr, caps)
        assert found.findings == ()
        spaces = {(space.source_id, space.pasid): space for space in found.spaces}
        assert set(spaces) == {(one["sid"], one["pasid"]) for one in truth.document["attachments"]}
        for one in truth.document["attachments"]:
            space, table = spaces[one["sid"], one["pasid"]], truth.document["tables"][one["table"]]
            assert (space.domain_id, space.levels, space.table) == (one["did"], table["levels"], int(table["root"], 16))
            assert space.translation.name == f"{table['stage'].upper()}_STAGE"
            assert space.pages == Counter(int(row[2], 16) for row in table["maps"])
            assert space.mappings == merged(table["maps"])
            source = lookup(memory, rtaddr, Request(one["sid"], 0), caps).outcome
            for row in table["maps"]:
                iova, gpa, size = (int(text, 16) for text in row[:3])
                walked = walk(memory, source, Request(one["sid"], iova + 0x123), caps)
                assert isinstance(walked.outcome, Translation)
                assert (walked.outcome.gpa, 1 << walked.outcome.page_shift) == (gpa + 0x123, size)
                assert (walked.steps[-1].at, walked.steps[-1].entry) == (int(row[4], 16), int(row[5], 16))
                compared += 1
    return compared


@pytest.mark.parametrize("variant", FIXED)
def test_a_recorded_kernels_tables_read_as_an_independent_walker_read_them(variant: str) -> None:
    assert agrees(Truth.fixture(variant)) > 0


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant not in FIXED])
def test_the_large_recordings_too(corpus: Path, variant: str) -> None:
    assert agrees(Truth.recording(corpus, variant)) > 0
