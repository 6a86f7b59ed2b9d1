"""Root, context and PASID lookups: the order of checks, every reason, FPD, and what a valid entry says."""

from __future__ import annotations

from typing import Any

import pytest

from pagetables.fault import Fault, FaultReason
from pagetables.request import Request
from pagetables.source import (
    ContextEntry,
    Lookup,
    PasidEntry,
    Source,
    TranslationType,
    from_context,
    from_pasid_entry,
    lookup,
    lookup_context,
    lookup_pasid_entry,
)
from pagetables.walk import walk
from tests.builders import (
    FULL,
    SID,
    LegacyRoot,
    ScalableRoot,
    Scene,
    capabilities,
    execute,
    fault,
    first_stage_pasid,
    granted,
    read,
    second_stage_pasid,
    translated_request,
    translation_request,
    write,
)

R = FaultReason
HIGH = 0x0090  # a device in the upper half of its bus: 00:12.0
ABOVE_HAW = 1 << FULL.haw


def look(root: LegacyRoot | ScalableRoot, request: Request | None = None) -> Lookup:
    """The lookup of a request (a read by SID) in the root's scene."""
    scene = root.scene
    return lookup(scene.memory, root.rtaddr, request or read(0x1000), scene.capabilities)


def legacy(caps: Any = FULL, **how: Any) -> LegacyRoot:
    """SID attached in legacy mode."""
    root = LegacyRoot(Scene(caps))
    root.attach(SID, **{"table": 0x10000, **how})
    return root


def scalable(caps: Any = FULL, entry: tuple[int, ...] = second_stage_pasid(0x10000), **how: Any) -> ScalableRoot:
    """SID attached in scalable mode, at PASID 0."""
    root = ScalableRoot(Scene(caps))
    root.context(SID, **how)
    root.attach(SID, 0, *entry)
    return root


# The table mode


@pytest.mark.parametrize("pasid", [0, 5])
def test_31h_a_request_with_pasid_in_legacy_mode(pasid: int) -> None:
    request = read(0x1000, pasid=pasid)
    assert look(legacy(), request).outcome == fault(R.PASID_IN_LEGACY_MODE, request)


@pytest.mark.parametrize(
    "ttm, caps",
    [(2, FULL), (3, capabilities(adms=0)), (1, capabilities(smts=0))],
    ids=["reserved", "abort without ADMS", "scalable without SMTS"],
)
def test_30h_a_table_mode_that_cannot_be_used(ttm: int, caps: Any) -> None:
    scene = Scene(caps)
    found = lookup(scene.memory, 0x10000 | ttm << 10, read(0), caps)
    assert found == Lookup(fault(R.TTM_INVALID, read(0)))
    assert found.outcome.recorded


def test_abort_mode_refuses_everything_and_records_nothing() -> None:
    scene = Scene()
    for request in (read(0), write(0, pasid=1), translated_request(0)):
        outcome = lookup(scene.memory, 0x10000 | 3 << 10, request, FULL).outcome
        assert isinstance(outcome, Fault)
        assert not outcome.recorded


# Legacy mode


def test_legacy_steps_and_source() -> None:
    root = legacy(table=0x123000, levels=5, domain=0x1234)
    found = look(root)
    assert found.outcome == Source(TranslationType.SECOND_STAGE, 0x1234, legacy=True, ss_table=0x123000, ss_levels=5)
    assert [(s.structure, s.index, s.at) for s in found.steps] == [
        ("legacy-root-entry", 0, root.rtaddr),
        ("legacy-context-entry", SID, root.context_entry(SID)),
    ]
    assert found.steps[1].fields["did"] == 0x1234


def test_devices_of_other_buses_have_entries_of_their_own() -> None:
    root = legacy()
    root.attach(0xFFFF, table=0x77000, domain=9)
    found = look(root, Request(0xFFFF, 0))
    assert found.outcome.domain_id == 9
    assert [step.index for step in found.steps] == [255, 255]


def test_bits_of_rtaddr_beyond_haw_are_not_implemented() -> None:
    root = legacy()
    root.rtaddr |= 0xFFFF << 48
    assert isinstance(look(root).outcome, Source)


def test_08h_a_root_table_outside_memory() -> None:
    scene = Scene()
    outcome = lookup(scene.memory, scene.size, Request(0x0510, 0), FULL).outcome
    assert outcome == fault(R.ROOT_ACCESS, Request(0x0510, 0), scene.size + 5 * 16)


def test_01h_a_root_entry_that_is_not_present() -> None:
    root = LegacyRoot(Scene())
    root.scene.store(root.root_entry(SID), 0xFFFF_FFFF_FFFF_FFFE, (1 << 64) - 1)  # nothing else is looked at
    assert look(root).outcome == fault(R.ROOT_NOT_PRESENT, read(0x1000), root.root_entry(SID))


@pytest.mark.parametrize("bit", [*range(1, 12), *range(FULL.haw, 128)])
def test_0ah_every_reserved_bit_of_a_root_entry(bit: int) -> None:
    root = legacy()
    at, word = root.root_entry(SID), bit // 64
    root.scene.store(at + 8 * word, root.scene.qword(at + 8 * word) | 1 << bit % 64)
    assert look(root).outcome == fault(R.ROOT_RESERVED, read(0x1000), at)


def test_09h_a_context_table_outside_memory() -> None:
    root = LegacyRoot(Scene())
    root.scene.store(root.root_entry(SID), root.scene.size | 1)
    found = look(root)
    assert found.outcome == fault(R.CONTEXT_ACCESS, read(0x1000), root.scene.size + SID * 16)
    assert [step.structure for step in found.steps] == ["legacy-root-entry"]


@pytest.mark.parametrize("fpd", [0, 2])
def test_02h_a_context_entry_that_is_not_present_obeys_its_fpd(fpd: int) -> None:
    root = LegacyRoot(Scene())
    at = root.context_entry(SID)
    root.scene.store(at, 0xFFFF_FFFF_FFFF_FFFC | fpd, (1 << 64) - 1)
    outcome = look(root).outcome
    assert outcome == fault(R.CONTEXT_NOT_PRESENT, read(0x1000), at, disabled=bool(fpd))
    assert outcome.recorded is not bool(fpd)


@pytest.mark.parametrize("bit", [*range(4, 12), *range(FULL.haw, 64), 71, *range(88, 128)])
@pytest.mark.parametrize("fpd", [0, 2])
def test_0bh_every_reserved_bit_of_a_context_entry(bit: int, fpd: int) -> None:
    root = legacy(bits=1 | fpd)
    at, word = root.context_entry(SID), bit // 64
    root.scene.store(at + 8 * word, root.scene.qword(at + 8 * word) | 1 << bit % 64)
    assert look(root).outcome == fault(R.CONTEXT_RESERVED, read(0x1000), at, disabled=bool(fpd))


@pytest.mark.parametrize("bit", [67, 68, 69, 70])
def test_bits_of_a_context_entry_that_software_may_use(bit: int) -> None:
    root = legacy()
    at = root.context_entry(SID) + 8
    root.scene.store(at, root.scene.qword(at) | 1 << bit - 64)
    assert isinstance(look(root).outcome, Source)


@pytest.mark.parametrize("domain, is_valid", [(0xFF, True), (0x100, False)])
def test_0bh_a_domain_id_wider_than_nd(domain: int, is_valid: bool) -> None:
    outcome = look(legacy(capabilities(nd=2), domain=domain)).outcome
    assert isinstance(outcome, Source) if is_valid else outcome.reason is R.CONTEXT_RESERVED


LARGEST = capabilities(sagaw=0b0110)


@pytest.mark.parametrize(
    "caps, how, is_valid",
    [
        (FULL, {"levels": 3}, True),
        (FULL, {"levels": 5}, True),
        (FULL, {"levels": 2}, False),
        (FULL, {"levels": 6}, False),
        (LARGEST, {"levels": 5}, False),
        (FULL, {"tt": 1}, True),
        (capabilities(dt=0), {"tt": 1}, False),
        (FULL, {"tt": 1, "levels": 2}, False),
        (FULL, {"tt": 2, "levels": 5}, True),
        (FULL, {"tt": 2, "levels": 4}, False),  # not the largest
        (LARGEST, {"tt": 2, "levels": 4}, True),
        (capabilities(pt=0), {"tt": 2, "levels": 5}, False),
        (FULL, {"tt": 3}, False),
    ],
)
def test_03h_how_a_context_entry_may_be_programmed(caps: Any, how: dict[str, int], is_valid: bool) -> None:
    root = legacy(caps, **how)
    outcome = look(root).outcome
    if is_valid:
        assert isinstance(outcome, Source)
    else:
        assert outcome == fault(R.CONTEXT_INVALID, read(0x1000), root.context_entry(SID))


def test_reserved_bits_are_told_before_programming() -> None:
    root = legacy(levels=2)
    at = root.context_entry(SID)
    root.scene.store(at, root.scene.qword(at) | 1 << 4)
    assert look(root).outcome.reason is R.CONTEXT_RESERVED


def test_pass_through_ignores_its_table_pointer() -> None:
    root = legacy(tt=2, levels=5, table=ABOVE_HAW, bits=3)
    assert look(root).outcome == Source(TranslationType.PASS_THROUGH, 7, legacy=True, fault_processing_disabled=True)


@pytest.mark.parametrize("make", [translation_request, translated_request])
@pytest.mark.parametrize("tt, levels", [(0, 4), (2, 5)])
def test_0dh_requests_of_a_device_tlb_need_tt_01(make: Any, tt: int, levels: int) -> None:
    root = legacy(tt=tt, levels=levels, bits=3)
    expected = fault(R.TRANSLATION_TYPE_BLOCKED, make(0x1000), root.context_entry(SID), disabled=True)
    assert look(root, make(0x1000)).outcome == expected


def test_tt_01_translates_and_lets_translated_addresses_pass() -> None:
    root = legacy(tt=1)
    assert look(root, translation_request(0x1000)).outcome.translation is TranslationType.SECOND_STAGE
    source = look(root, translated_request(0x1000)).outcome
    assert source == Source(TranslationType.PASS_THROUGH, 7, legacy=True)
    request = translated_request(ABOVE_HAW)
    assert walk(root.scene.memory, source, request, FULL).outcome == fault(R.ADDRESS_BEYOND_WIDTH, request)
    request = translated_request(0xFEE0_0000)
    assert walk(root.scene.memory, source, request, FULL).outcome == fault(R.OUTPUT_IN_INTERRUPT_RANGE, request)


@pytest.mark.parametrize("bits, is_disabled", [(1, False), (3, True)])
def test_fpd_of_a_context_entry_goes_with_the_source(bits: int, is_disabled: bool) -> None:
    assert look(legacy(bits=bits)).outcome.fault_processing_disabled is is_disabled


# Scalable mode: root and context entries


def test_scalable_steps_and_source() -> None:
    root = scalable(entry=second_stage_pasid(0x123000, levels=3, domain=0x1234))
    found = look(root)
    assert found.outcome == Source(TranslationType.SECOND_STAGE, 0x1234, legacy=False, ss_table=0x123000, ss_levels=3)
    assert [(s.structure, s.index, s.at) for s in found.steps] == [
        ("sm-root-entry", 0, root.root),
        ("sm-context-entry", SID, root.context_entry(SID)),
        ("pasid-dir-entry", 0, root.directory_entry(SID, 0)),
        ("pasid-table-entry", 0, root.pasid_entry(SID, 0)),
    ]
    assert found.steps[0].note == "lower half"


def test_a_device_of_the_upper_half_uses_the_upper_pointer() -> None:
    root = ScalableRoot(Scene())
    root.context(HIGH)
    root.attach(HIGH, 0, *second_stage_pasid(0x10000))
    found = look(root, Request(HIGH, 0))
    assert isinstance(found.outcome, Source)
    assert (found.steps[0].note, found.steps[1].index) == ("upper half", HIGH & 127)


def test_38h_a_root_table_outside_memory() -> None:
    scene = Scene()
    outcome = lookup(scene.memory, scene.size | 1 << 10, read(0), FULL).outcome
    assert outcome == fault(R.SM_ROOT_ACCESS, read(0), scene.size)


@pytest.mark.parametrize("sid", [SID, HIGH])
def test_39h_a_root_half_that_is_not_present(sid: int) -> None:
    root = ScalableRoot(Scene())
    root.scene.store(root.root_half(sid), 0xFFFF_FFFF_FFFF_FFFE)
    root.context_entry(sid ^ 0x80)  # the other half is present
    assert look(root, Request(sid, 0)).outcome == fault(R.SM_ROOT_NOT_PRESENT, Request(sid, 0), root.root)


@pytest.mark.parametrize("sid", [SID, HIGH])
@pytest.mark.parametrize("bit", [*range(1, 12), *range(FULL.haw, 64)])
def test_3ah_every_reserved_bit_of_the_half_in_use(sid: int, bit: int) -> None:
    root = ScalableRoot(Scene())
    for one in (SID, HIGH):
        root.context(one)
        root.attach(one, 0, *second_stage_pasid(0x10000))
    at = root.root_half(sid)
    root.scene.store(at, root.scene.qword(at) | 1 << bit)
    assert look(root, Request(sid, 0)).outcome == fault(R.SM_ROOT_RESERVED, Request(sid, 0), root.root)
    assert isinstance(look(root, Request(sid ^ 0x80, 0)).outcome, Source)


def test_40h_a_context_table_outside_memory() -> None:
    root = ScalableRoot(Scene())
    root.scene.store(root.root_half(SID), root.scene.size | 1)
    assert look(root).outcome == fault(R.SM_CONTEXT_ACCESS, read(0x1000), root.scene.size + SID * 32)


@pytest.mark.parametrize("fpd", [0, 2])
def test_41h_a_context_entry_that_is_not_present_obeys_its_fpd(fpd: int) -> None:
    root = ScalableRoot(Scene())
    at = root.context_entry(SID)
    root.scene.store(at, 0xFFFF_FFFF_FFFF_FFFC | fpd, *[(1 << 64) - 1] * 3)
    assert look(root).outcome == fault(R.SM_CONTEXT_NOT_PRESENT, read(0x1000), at, disabled=bool(fpd))


@pytest.mark.parametrize("bit", [*range(5, 9), *range(FULL.haw, 64), *range(85, 256)])
def test_42h_every_reserved_bit_of_a_context_entry(bit: int) -> None:
    root = scalable(bits=2)
    at, word = root.context_entry(SID), bit // 64
    root.scene.store(at + 8 * word, root.scene.qword(at + 8 * word) | 1 << bit % 64)
    assert look(root).outcome == fault(R.SM_CONTEXT_RESERVED, read(0x1000), at, disabled=True)


@pytest.mark.parametrize(
    "caps, how, is_valid",
    [
        (FULL, {"bits": 4 | 8 | 16}, True),
        (capabilities(dt=0), {"bits": 4}, False),
        (capabilities(pasid=0), {"bits": 8}, False),
        (capabilities(prs=0), {"bits": 16}, False),
        (capabilities(dt=0, pasid=0, prs=0), {}, True),
        (capabilities(pss=19), {"pdts": 7}, True),
        (capabilities(pss=15), {"pdts": 3}, True),
        (capabilities(pss=15), {"pdts": 4}, False),
        (capabilities(pss=7), {"pdts": 2}, True),  # a directory of one page, as Linux makes it
        (capabilities(pss=7), {"pdts": 3}, False),
        (capabilities(rprivs=0), {"rid_priv": 1}, False),
    ],
)
def test_43h_how_a_context_entry_may_be_programmed(caps: Any, how: dict[str, int], is_valid: bool) -> None:
    root = scalable(caps, **how)
    outcome = look(root).outcome
    if is_valid:
        assert isinstance(outcome, Source)
    else:
        assert outcome == fault(R.SM_CONTEXT_INVALID, read(0x1000), root.context_entry(SID))


@pytest.mark.parametrize("make", [translation_request, translated_request])
def test_44h_requests_of_a_device_tlb_need_dte(make: Any) -> None:
    root = scalable(bits=2)
    expected = fault(R.DEVICE_TLB_DISABLED, make(0x1000), root.context_entry(SID), disabled=True)
    assert look(root, make(0x1000)).outcome == expected
    assert isinstance(look(scalable(bits=4), make(0x1000)).outcome, Source)


def test_a_translated_request_stops_at_the_context_entry() -> None:
    root = ScalableRoot(Scene())
    root.context(SID, bits=4)  # no PASID table at all
    found = look(root, translated_request(0x1000))
    assert found.outcome == Source(TranslationType.PASS_THROUGH, 0, legacy=False)
    assert len(found.steps) == 2
    request = translated_request(ABOVE_HAW)
    assert walk(root.scene.memory, found.outcome, request, FULL).outcome == fault(R.SM_ADDRESS_BEYOND_HAW, request)


def test_45h_a_request_with_pasid_needs_paside() -> None:
    root, request = scalable(), read(0x1000, pasid=0)
    assert look(root, request).outcome == fault(R.PASID_DISABLED, request, root.context_entry(SID))
    assert isinstance(look(scalable(bits=8), request).outcome, Source)


@pytest.mark.parametrize("pdts", [0, 1, 2, 7])
def test_46h_a_pasid_beyond_the_directory(pdts: int) -> None:
    root = scalable(bits=8, pdts=pdts)
    last = (1 << pdts + 13) - 1
    root.attach(SID, last, *second_stage_pasid(0x10000, domain=9))
    assert look(root, read(0, pasid=last)).outcome.domain_id == 9
    request = read(0, pasid=last + 1)
    assert look(root, request).outcome == fault(R.PASID_BEYOND_DIRECTORY, request, root.context_entry(SID))


def test_48h_a_rid_pasid_beyond_the_directory() -> None:
    root = scalable(rid_pasid=1 << 13, pdts=0)
    assert look(root).outcome == fault(R.RID_PASID_BEYOND_DIRECTORY, read(0x1000), root.context_entry(SID))


@pytest.mark.parametrize("rps, domain", [(1, 9), (0, 7)])
def test_a_request_without_pasid_uses_rid_pasid_if_rps(rps: int, domain: int) -> None:
    root = scalable(capabilities(rps=rps), rid_pasid=5)
    root.attach(SID, 5, *second_stage_pasid(0x10000, domain=9))
    assert look(root).outcome.domain_id == domain


# Scalable mode: PASID directory and table entries


def test_50h_a_directory_outside_memory() -> None:
    root = scalable(bits=8)
    at = root.context_entry(SID)
    root.scene.store(at, root.scene.size | 7 << 9 | 9)
    request = read(0, pasid=5 << 6)
    assert look(root, request).outcome == fault(R.PASID_DIRECTORY_ACCESS, request, root.scene.size + 40)


@pytest.mark.parametrize("context_fpd", [0, 2])
@pytest.mark.parametrize("fpd", [0, 2])
def test_51h_a_directory_entry_that_is_not_present_obeys_fpd_of_both(fpd: int, context_fpd: int) -> None:
    root = scalable(bits=context_fpd)
    at = root.directory_entry(SID, 0)
    root.scene.store(at, 0xFFFF_FFFF_FFFF_FFFC | fpd)
    expected = fault(R.PASID_DIRECTORY_NOT_PRESENT, read(0x1000), at, disabled=bool(fpd | context_fpd))
    assert look(root).outcome == expected


@pytest.mark.parametrize("bit", [*range(2, 12), *range(FULL.haw, 64)])
def test_52h_every_reserved_bit_of_a_directory_entry(bit: int) -> None:
    root = scalable()
    at = root.directory_entry(SID, 0)
    root.scene.store(at, root.scene.qword(at) | 1 << bit)
    assert look(root).outcome == fault(R.PASID_DIRECTORY_RESERVED, read(0x1000), at)


def test_58h_a_pasid_table_outside_memory() -> None:
    root = scalable(bits=8)
    root.scene.store(root.directory_entry(SID, 5), root.scene.size | 1)
    request = read(0, pasid=5)
    assert look(root, request).outcome == fault(R.PASID_ENTRY_ACCESS, request, root.scene.size + 5 * 64)


@pytest.mark.parametrize("where", ["context", "directory", "entry", "nowhere"])
def test_59h_an_entry_that_is_not_present_obeys_fpd_of_all_three(where: str) -> None:
    root = scalable(bits=2 if where == "context" else 0)
    at, directory = root.pasid_entry(SID, 0), root.directory_entry(SID, 0)
    root.scene.store(at, 2 if where == "entry" else 0xFFFF_FFFF_FFFF_FFFC)
    root.scene.store(directory, root.scene.qword(directory) | (2 if where == "directory" else 0))
    expected = fault(R.PASID_ENTRY_NOT_PRESENT, read(0x1000), at, disabled=where != "nowhere")
    assert look(root).outcome == expected


RESERVED_PASID_BITS = [
    *(10, 11),
    *range(FULL.haw, 64),
    *range(80, 87),
    *range(91, 96),
    *(99, 103, 107, 111, 115, 119, 123, 127),
    *range(136, 140),
    *range(192, 512),
]


@pytest.mark.parametrize("bit", RESERVED_PASID_BITS)
def test_5ah_every_reserved_bit_of_a_pasid_table_entry(bit: int) -> None:
    root = scalable()
    at, word = root.pasid_entry(SID, 0), bit // 64
    root.scene.store(at + 8 * word, root.scene.qword(at + 8 * word) | 1 << bit % 64)
    assert look(root).outcome == fault(R.PASID_ENTRY_RESERVED, read(0x1000), at)


@pytest.mark.parametrize("bit", range(128 + FULL.haw, 192))
def test_5ah_a_first_stage_pointer_beyond_haw(bit: int) -> None:
    root = scalable(entry=first_stage_pasid(1 << bit - 128))
    assert look(root).outcome.reason is R.PASID_ENTRY_RESERVED


def test_pointers_that_a_translation_type_does_not_use_are_not_checked() -> None:
    assert isinstance(look(scalable(entry=(ABOVE_HAW | 1 << 6 | 1, 7, 0x10000))).outcome, Source)
    assert isinstance(look(scalable(entry=(*second_stage_pasid(0x10000), ABOVE_HAW))).outcome, Source)
    assert isinstance(look(scalable(entry=(ABOVE_HAW | 4 << 6 | 1, 7, ABOVE_HAW))).outcome, Source)


def test_a_nested_first_stage_pointer_is_a_guest_address() -> None:
    root = scalable(entry=(0x10000 | 3 << 6 | 2 << 2 | 1, 7, ABOVE_HAW))
    assert look(root).outcome.fs_table == ABOVE_HAW


def test_5ah_a_domain_id_wider_than_nd() -> None:
    root = scalable(capabilities(nd=2), entry=second_stage_pasid(0x10000, domain=0x100))
    assert look(root).outcome.reason is R.PASID_ENTRY_RESERVED


def with_bits(pgtt: int, *qwords: int) -> tuple[int, ...]:
    """A PASID table entry of this PGTT, 4 levels, with bits set besides."""
    base = [pgtt << 6 | 2 << 2 | 1 | 0x10000, 7, 0x20000]
    return tuple(base[i] | (qwords[i] if i < len(qwords) else 0) for i in range(3))


@pytest.mark.parametrize(
    "caps, entry, is_valid",
    [
        *[(FULL, with_bits(pgtt), pgtt in (1, 2, 3, 4)) for pgtt in range(8)],
        (capabilities(fsts=0), with_bits(1), False),
        (capabilities(ssts=0), with_bits(2), False),
        (capabilities(nest=0), with_bits(3), False),
        (capabilities(pt=0), with_bits(4), False),
        (FULL, second_stage_pasid(0x10000, levels=2), False),
        (FULL, second_stage_pasid(0x10000, levels=6), False),
        (capabilities(sagaw=0b0100), second_stage_pasid(0x10000, levels=3), False),
        (FULL, (1 << 6 | 7 << 2 | 1, 7, 0x20000), True),  # AW of a first-stage entry is ignored
        (FULL, first_stage_pasid(0x10000, levels=5), True),
        (capabilities(fs5lp=0), first_stage_pasid(0x10000, levels=5), False),
        (FULL, first_stage_pasid(0x10000, levels=6), False),
        (FULL, first_stage_pasid(0x10000, levels=7), False),
        (FULL, with_bits(3, 0, 0, 2 << 2), False),
        (FULL, with_bits(2, 1 << 9), True),
        (capabilities(ssads=0), with_bits(2, 1 << 9), False),
        (FULL, with_bits(2, 0, 1 << 23), True),
        (capabilities(smpwcs=0), with_bits(2, 0, 1 << 23), False),
        (FULL, with_bits(2, 0, 1 << 24), True),
        (capabilities(sc=0), with_bits(2, 0, 1 << 24), False),
        (FULL, with_bits(1, 0, 0, 1), True),
        (capabilities(srs=0), with_bits(1, 0, 0, 1), False),
        (FULL, with_bits(1, 0, 0, 2), True),
        (capabilities(ers=0), with_bits(1, 0, 0, 2), False),
        (FULL, with_bits(1, 0, 0, 1 << 7), True),
        (capabilities(eafs=0), with_bits(1, 0, 0, 1 << 7), False),
        (FULL, with_bits(2, 0, 1 << 25 | 1 << 26 | 0x7777_7777 << 32), True),
        (capabilities(mts=0), with_bits(2, 0, 1 << 25), False),
        (capabilities(mts=0), with_bits(2, 0, 1 << 26), False),
        (capabilities(mts=0), with_bits(2, 0, 1 << 32), False),
        (capabilities(mts=0), with_bits(2, 0, 1 << 62), False),
    ],
)
def test_5bh_how_a_pasid_table_entry_may_be_programmed(caps: Any, entry: tuple[int, ...], is_valid: bool) -> None:
    root = scalable(caps, entry=entry)
    outcome = look(root).outcome
    if is_valid:
        assert isinstance(outcome, Source)
    else:
        assert outcome == fault(R.PASID_ENTRY_INVALID, read(0x1000), root.pasid_entry(SID, 0))


def test_reserved_bits_are_told_before_the_translation_type() -> None:
    assert look(scalable(entry=(1 << 10 | 1, 0, 0))).outcome.reason is R.PASID_ENTRY_RESERVED


def test_an_entry_of_zeros_is_not_present_rather_than_invalid() -> None:
    assert look(scalable(entry=(0,))).outcome.reason is R.PASID_ENTRY_NOT_PRESENT


@pytest.mark.parametrize("ere", [0, 2])
def test_5ch_execute_requests_need_ere(ere: int) -> None:
    root = scalable(entry=with_bits(1, 0, 0, ere))
    outcome = look(root, execute(0x1000)).outcome
    if ere:
        assert outcome.execute_requests
    else:
        assert outcome == fault(R.EXECUTE_REQUEST_DISABLED, execute(0x1000), root.pasid_entry(SID, 0))


@pytest.mark.parametrize("sre", [0, 1])
def test_5dh_supervisor_requests_need_sre(sre: int) -> None:
    root = scalable(bits=8, entry=with_bits(1, 0, 0, sre))
    request = read(0x1000, pasid=0, privileged=True)
    outcome = look(root, request).outcome
    if sre:
        assert (outcome.supervisor_requests, outcome.privileged) == (True, False)
    else:
        assert outcome == fault(R.SUPERVISOR_REQUEST_DISABLED, request, root.pasid_entry(SID, 0))


def test_rid_priv_makes_requests_without_pasid_privileged() -> None:
    root = scalable(bits=8, rid_priv=1, entry=with_bits(1, 0, 0, 1))
    assert look(root).outcome.privileged
    assert not look(root, read(0, pasid=0)).outcome.privileged


def test_5dh_for_a_request_that_rid_priv_made_privileged() -> None:
    root = scalable(rid_priv=1, entry=with_bits(1))
    assert look(root).outcome.reason is R.SUPERVISOR_REQUEST_DISABLED


def test_a_first_stage_entry_says_everything() -> None:
    switches = 1 | 2 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7
    root = scalable(entry=(3 | 1 << 6, 5 | 1 << 23, 0x20000 | switches))
    assert look(root).outcome == Source(
        TranslationType.FIRST_STAGE,
        5,
        legacy=False,
        fs_table=0x20000,
        fs_levels=5,
        fault_processing_disabled=True,
        write_protect=True,
        no_execute=True,
        supervisor_execute_prevention=True,
        extended_accessed=True,
        supervisor_requests=True,
        execute_requests=True,
        walk_snoop=True,
    )


def test_a_nested_entry_has_both_tables() -> None:
    root = scalable(entry=(0x10000 | 1 << 9 | 1 << 5 | 3 << 6 | 1 << 2 | 1, 5, 0x20000))
    assert look(root).outcome == Source(
        TranslationType.NESTED,
        5,
        legacy=False,
        ss_table=0x10000,
        ss_levels=3,
        fs_table=0x20000,
        fs_levels=4,
        ss_accessed_dirty=True,
        ss_execute=True,
    )


def test_a_pass_through_entry_has_no_tables() -> None:
    root = scalable(entry=(0x10000 | 4 << 6 | 1, 5, 0x20000))
    assert look(root).outcome == Source(TranslationType.PASS_THROUGH, 5, legacy=False)


# Parts, as a unit with caches uses them


def test_a_cached_context_entry_needs_no_memory() -> None:
    root = legacy()
    steps: list[Any] = []
    entry = lookup_context(root.scene.memory, root.rtaddr, read(0), FULL, steps)
    assert isinstance(entry, ContextEntry)
    assert (entry.legacy, entry.domain_id, len(steps)) == (True, 7, 2)
    assert from_context(entry, read(0), FULL) == look(root).outcome


def test_a_cached_pasid_entry_carries_fpd_of_its_directory() -> None:
    root = scalable(bits=8)
    directory = root.directory_entry(SID, 0)
    root.scene.store(directory, root.scene.qword(directory) | 2)
    context = lookup_context(root.scene.memory, root.rtaddr, read(0), FULL, [])
    assert isinstance(context, ContextEntry)
    assert (context.legacy, context.domain_id) == (False, 0)
    assert from_context(context, read(0, pasid=3), FULL) == 3
    entry = lookup_pasid_entry(root.scene.memory, context, 0, read(0), FULL, [])
    assert isinstance(entry, PasidEntry)
    assert (entry.domain_id, entry.fault_processing_disabled) == (7, True)
    assert from_pasid_entry(entry, context, read(0)).fault_processing_disabled


# The whole way


def test_a_lookup_and_a_walk_translate_a_request() -> None:
    root = LegacyRoot(Scene())
    tables = root.scene.second_stage(3)
    tables.leaf(0x1000, gpa=0x5000, permissions="w")
    root.attach(SID, tables.root, levels=3)
    request = write(0x1234)
    answer = walk(root.scene.memory, look(root, request).outcome, request, FULL).outcome
    assert (answer.gpa, answer.permissions) == (0x5234, granted("w"))
