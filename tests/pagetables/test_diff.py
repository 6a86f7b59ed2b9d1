"""Two sides compared: runs against an obvious twin that knows pages only; spaces, registers and interrupts."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.address import parse_source_id
from pagetables.diff import Run, Side, SpaceState, compare, diff, image_side
from pagetables.diff.runs import common, disjoint, uncovered
from pagetables.diff.sides import Key
from pagetables.dmesg import FaultLine
from pagetables.explain import Tables, explain
from pagetables.images.registers import RegisterPage
from pagetables.memory import PhysicalMemory
from pagetables.request import Access, Permissions
from tests.builders import LegacyRoot, ScalableRoot, Scene, first_stage_pasid, second_stage_pasid

R, RW = Permissions.R, Permissions.R | Permissions.W
PAGE = 4096
NIC, DISK = parse_source_id("00:02.0"), parse_source_id("00:03.0")


def run(iova: int, gpa: int, pages: int = 1, access: Permissions | None = RW) -> Run:
    return Run(iova * PAGE, gpa * PAGE, pages * PAGE, access)


def pages_of(runs):
    return {
        one.iova // PAGE + page: (one.gpa // PAGE + page, one.access)
        for one in runs
        for page in range(one.size // PAGE)
    }


def twin(before, after):
    """Page by page, without any thought of speed."""
    old, new = pages_of(before), pages_of(after)
    changed = {(page, old[page], new[page]) for page in old if page in new and new[page] != old[page]}
    gone = sorted(page for page in old if page not in new)
    come = sorted(page for page in new if page not in old)
    moved = set()
    for page in list(gone):
        target = next((one for one in come if new[one] == old[page]), None)
        if target is not None:
            moved.add((page, target, new[target]))
            come.remove(target)
            gone.remove(page)
    return changed, moved, {(page, old[page]) for page in gone}, {(page, new[page]) for page in come}


def by_page(changes):
    changed, moved, gone, come = set(), set(), set(), set()
    for one in changes:
        old = sorted(pages_of([one.before]).items()) if one.before else []
        new = sorted(pages_of([one.after]).items()) if one.after else []
        if one.kind == "changed":
            changed |= {(left[0], left[1], right[1]) for left, right in zip(old, new, strict=True)}
        elif one.kind == "moved":
            moved |= {(left[0], right[0], right[1]) for left, right in zip(old, new, strict=True)}
        else:
            (gone if one.kind == "gone" else come).update(old or new)
    return changed, moved, gone, come


SIDES = st.lists(
    st.builds(run, st.integers(0, 24), st.integers(0, 12), st.integers(1, 6), st.sampled_from([R, RW])), max_size=6
).map(disjoint)


@given(SIDES, SIDES)
def test_runs_differ_as_their_pages_do(before, after):
    changes = compare(before, after)
    assert by_page(changes) == twin(before, after)
    assert [one.iova for one in changes] == sorted(one.iova for one in changes)


@given(SIDES)
def test_equal_sides_have_no_changes(side):
    assert compare(side, side) == []
    single = [Run(page * PAGE, gpa * PAGE, PAGE, access) for page, (gpa, access) in sorted(pages_of(side).items())]
    assert compare(side, single) == compare(single, side) == []


@given(SIDES, SIDES)
def test_common_and_uncovered_share_out_the_pages(one, other):
    left, right = pages_of(one), pages_of(other)
    both = {page: left[page] for page in left if page in right and left[page][0] == right[page][0]}
    assert pages_of(common(one, other)) == both
    assert pages_of(uncovered(one, other)) == {page: left[page] for page in left if page not in right}


@given(st.lists(st.builds(run, st.integers(0, 9), st.integers(0, 9), st.integers(1, 4)), max_size=6))
def test_disjoint_keeps_the_first_of_each_page(runs):
    found = disjoint(runs)
    assert pages_of(found).keys() == pages_of(runs).keys()
    assert all(one.end <= other.iova for one, other in pairwise(found))


def test_neighbouring_changes_of_a_kind_are_one():
    (one,) = compare([], [run(1, 1), run(2, 2)])
    assert (one.kind, one.after) == ("come", run(1, 1, 2))
    (one,) = compare([run(1, 11, 4)], [run(1, 21), run(2, 22, 3)])
    assert (one.kind, one.before, one.after) == ("changed", run(1, 11, 4), run(1, 21, 4))


def test_moved_piece_of_a_run_is_told_with_both_addresses():
    gone, moved = compare([run(10, 100, 8)], [run(10, 100, 2), run(50, 102, 2)])
    assert (moved.kind, moved.before, moved.after) == ("moved", run(12, 102, 2), run(50, 102, 2))
    assert (gone.kind, gone.before) == ("gone", run(14, 104, 4))


def test_access_that_nobody_tells_is_not_compared():
    assert compare([run(1, 1, access=None)], [run(1, 1, access=R)]) == []
    assert [one.kind for one in compare([run(1, 1, access=None)], [run(2, 1, access=R)])] == ["moved"]
    assert [one.kind for one in compare([run(1, 1, access=RW)], [run(1, 1, access=R)])] == ["changed"]
    assert {one.kind for one in compare([run(1, 1, access=RW)], [run(2, 1, access=R)])} == {"gone", "come"}


# sides of images


def legacy(*devices: tuple[int, dict[int, int]], domain: int = 7, registers: bytes | None = None, name: str = "A"):
    scene = Scene()
    root = LegacyRoot(scene)
    for source, leaves in devices:
        tables = scene.second_stage()
        root.attach(source, tables.root, domain=domain)
        for iova, gpa in leaves.items():
            tables.leaf(iova, gpa)
    page = RegisterPage.of_root_table(root.rtaddr)
    if registers is not None:
        page = RegisterPage(0xFED90000, registers)
    return image_side(name, scene.memory, (page,))


def test_images_with_equal_tables_are_equal():
    found = diff(legacy((NIC, {0x5000: 0x9000})), legacy((NIC, {0x5000: 0x9000})))
    assert found.is_empty
    assert "not compared" in found.notes[0]


def test_space_that_came_went_or_changed():
    before = legacy((NIC, {0x5000: 0x9000}), (DISK, {0x1000: 0x1000}))
    after = legacy((NIC, {0x5000: 0xA000}), (parse_source_id("00:04.0"), {}))
    found = {one.key.source_id: one for one in diff(before, after).spaces}
    assert {source: one.kind for source, one in found.items()} == {NIC: "changed", DISK: "gone", 0x20: "come"}
    assert [one.kind for one in found[NIC].changes] == ["changed"]
    assert [one.kind for one in found[DISK].changes] == ["gone"]
    assert found[0x20].changes == ()


def test_domain_that_changed_is_a_field():
    (space,) = diff(legacy((NIC, {}), domain=7), legacy((NIC, {}), domain=8)).spaces
    assert (space.fields, space.changes) == ((("domain_id", 7, 8),), ())


def register_page(**values: int) -> bytes:
    page = bytearray(4096)
    offsets = {"CAP": 8, "ECAP": 16, "RTADDR": 32, "FSTS": 52, "IQT": 136, "IRTA": 184, "FRCD": 0x220}
    struct.pack_into("<I", page, 0, 0x10)
    for name, value in ({"CAP": 0xD2008C22260206, "ECAP": 0xF00F4A} | values).items():
        struct.pack_into("<I" if name == "FSTS" else "<Q", page, offsets[name], value)
    if "IRTA" in values:
        struct.pack_into("<I", page, 28, 0x3000000)
    return bytes(page)


def test_registers_that_differ_are_decoded():
    before, after = register_page(FSTS=2, IQT=0xC00), register_page(FSTS=0x103, IQT=0xC00)
    found = diff(legacy(registers=before), legacy(registers=after))
    (one,) = found.registers
    assert (one.name, one.before, one.after) == ("FSTS", 2, 0x103)
    assert set(one.fields) == {("pfo", 0, 1), ("fri", 0, 1)}
    assert found.notes == ()


def test_fault_records_differ_by_index():
    after = bytearray(register_page())
    struct.pack_into("<Q", after, 0x228, 1 << 63 | 5 << 32 | 0x28)
    (one,) = diff(legacy(registers=register_page()), legacy(registers=bytes(after))).registers
    assert (one.name, one.index) == ("FRCD", 0)
    assert ("fr", 0, 5) in one.fields


@pytest.mark.parametrize("records, found", [(1, []), (2, [1])])
def test_only_fault_records_that_there_are_count(records, found):
    cap = 0xD2008C22260206 | (records - 1) << 40
    after = bytearray(register_page(CAP=cap))
    struct.pack_into("<Q", after, 0x238, 1 << 63 | 5 << 32 | 0x28)
    changes = diff(legacy(registers=register_page(CAP=cap)), legacy(registers=bytes(after))).registers
    assert [one.index for one in changes] == found


def with_interrupts(entries: dict[int, tuple[int, int]]) -> Side:
    scene = Scene()
    table = scene.page()
    for index, words in entries.items():
        scene.store(table + index * 16, *words)
    return image_side("A", scene.memory, (RegisterPage(0xFED90000, register_page(IRTA=table | 7)),))


def test_interrupts_come_go_and_change():
    before = with_interrupts({1: (1 | 0x30 << 16, 0), 2: (1 | 0x31 << 16, 0), 3: (1, 0)})
    after = with_interrupts({2: (1 | 0x41 << 16, 0), 3: (1, 0), 4: (1, 0)})
    found = diff(before, after).interrupts
    kinds = [(one.index, one.before is not None, one.after is not None, one.fields) for one in found]
    assert kinds == [(1, True, False, ()), (2, True, True, (("v", 0x31, 0x41),)), (4, False, True, ())]


def test_damage_becomes_a_note():
    scene = Scene()
    root = LegacyRoot(scene)
    root.attach(NIC, 0xF000000000)
    side = image_side("B", scene.memory, (RegisterPage.of_root_table(root.rtaddr),))
    assert any("outside memory" in note for note in diff(side, side).notes)


def test_two_units_are_compared_one_by_one():
    scenes = []
    for gpa in (0x9000, 0xA000):
        scene = Scene()
        pages = []
        for number, base in enumerate((0xFED91000, 0xFED90000)):
            root = LegacyRoot(scene)
            tables = scene.second_stage()
            tables.leaf(0x1000, gpa if number else 0x1000)
            root.attach(NIC, tables.root)
            pages.append(
                RegisterPage(
                    base,
                    register_page(RTADDR=root.rtaddr)[:28]
                    + struct.pack("<I", 0xC0000000)
                    + register_page(RTADDR=root.rtaddr)[32:],
                )
            )
        scenes.append(image_side("A", scene.memory, tuple(pages)))
    (space,) = diff(*scenes).spaces
    assert (space.key, space.kind) == (Key(0, NIC, None), "changed")


WORDS = st.sampled_from([0, 1, 3, 7, 0x83]).flatmap(
    lambda bits: st.integers(0, 15).map(lambda page: page << 12 | bits)
) | st.integers(0, (1 << 64) - 1)


@given(st.dictionaries(st.integers(0, 16 * 512 - 1), WORDS, max_size=40), WORDS, st.integers(0, 0xFFFF))
def test_no_image_is_too_damaged(words, rtaddr, source):
    memory = PhysicalMemory([(0, 16 * PAGE)])
    for place, word in words.items():
        memory.write(8 * place, struct.pack("<Q", word))
    pages = (RegisterPage.of_root_table(rtaddr),)
    damaged = image_side("A", memory, pages)
    assert diff(damaged, damaged).spaces == ()
    whole = legacy((NIC, {0x5000: 0x9000}))
    assert len(diff(damaged, whole).spaces) == len(diff(whole, damaged).spaces)
    diff(damaged, trace({NIC: (7, [run(5, 9)])}))
    for reason in (2, 6, 0x79):
        assert explain(FaultLine(source, Access.READ, reason, 0x5000), Tables(memory, pages)).sentence


# an image against the end of a trace


def trace(spaces: dict[int, tuple[int | None, list[Run]]], *unclaimed: list[Run]) -> Side:
    told = {Key(0, source, None): SpaceState(runs, domain) for source, (domain, runs) in spaces.items()}
    return Side("trace", told, is_trace=True, unclaimed=unclaimed)


def scalable(*, plain: dict[int, int], user: dict[int, int] | None = None, first: bool = False) -> Side:
    scene = Scene()
    root = ScalableRoot(scene)
    root.context(NIC, bits=8)
    tables = scene.first_stage() if first else scene.second_stage()
    root.attach(NIC, 0, *(first_stage_pasid if first else second_stage_pasid)(tables.root))
    for iova, gpa in plain.items():
        tables.leaf(iova, gpa)
    if user is not None:
        other = scene.first_stage()
        root.attach(NIC, 5, *first_stage_pasid(other.root))
    return image_side("image", scene.memory, (RegisterPage.of_root_table(root.rtaddr),))


def test_trace_equals_the_tables_it_left():
    assert diff(legacy((NIC, {0x5000: 0x9000})), trace({NIC: (7, [run(5, 9)])})).is_empty
    assert diff(trace({NIC: (None, [run(5, 9)])}), legacy((NIC, {0x5000: 0x9000}))).is_empty


def test_trace_is_held_against_the_space_without_pasid():
    found = diff(scalable(plain={0x5000: 0x9000}, user={}), trace({NIC: (7, [run(5, 9)])}))
    assert found.is_empty
    assert any("1 spaces of requests with a PASID" in note for note in found.notes)


def test_trace_knows_no_user_bit_and_first_stage_writes_may_be_read():
    written = trace({NIC: (7, [run(5, 9, access=Permissions.W)])})
    assert diff(scalable(plain={0x5000: 0x9000}, first=True), written).is_empty
    assert not diff(scalable(plain={0x5000: 0x9000}), written).is_empty


def test_direction_of_a_comparison_with_a_trace_is_kept():
    image, left = legacy((NIC, {})), trace({NIC: (7, [run(5, 9)])})
    assert [one.changes[0].kind for one in diff(image, left).spaces] == ["come"]
    assert [one.changes[0].kind for one in diff(left, image).spaces] == ["gone"]


def test_what_a_trace_does_not_ascribe_may_be_anybodys():
    image = legacy((NIC, {0x5000: 0x9000, 0x7000: 0xB000}))
    found = diff(image, trace({NIC: (7, [run(7, 11)])}, [run(5, 9), run(6, 6)]))
    assert found.is_empty
    assert any("4096 bytes are mapped alike" in note for note in found.notes)
    assert not diff(image, trace({NIC: (7, [run(7, 11)])}, [run(5, 10)])).is_empty


def test_alias_that_shares_the_tables_of_its_bus_is_passed_over():
    scene = Scene()
    root = LegacyRoot(scene)
    shared, own = scene.second_stage(), scene.second_stage()
    root.attach(0x308, shared.root)
    root.attach(0x300, shared.root)
    root.attach(0x400, own.root)
    image = image_side("image", scene.memory, (RegisterPage.of_root_table(root.rtaddr),))
    found = diff(image, trace({0x308: (7, [])}))
    assert [one.key.source_id for one in found.spaces] == [0x400]
    assert any("03:00.0 is an alias" in note for note in found.notes)


@pytest.mark.parametrize("domain, equal", [(7, True), (8, False), (None, True)])
def test_domain_counts_where_the_trace_tells_it(domain, equal):
    assert diff(legacy((NIC, {})), trace({NIC: (domain, [])})).is_empty is equal
