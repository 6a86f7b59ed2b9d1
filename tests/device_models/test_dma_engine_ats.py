"""The DMA engine's device-TLB: what it keeps and uses until it is told to forget, and what happens if it does not."""

from __future__ import annotations

import pytest

from emulator.engine import Engine
from emulator.unit.hooks import NoAnswer
from pagetables.layouts import DeviceTlbInvalidate
from tests.ats import DTE, EVERYTHING, ICE, ITE, PASIDE, device_tlb, pasid_device_tlb
from tests.device_models.dma_scene import (
    ATS,
    BLOCKED,
    COPY,
    EXE,
    FILL,
    NO_RIGHT,
    NO_TRANSLATION,
    NOTIFY,
    RING,
    SUCCESS,
    UNTRANSLATED,
    EngineBench,
    descriptor,
)
from tests.units import (
    FSTS,
    IQERCD,
    NIC,
    STATUS,
    iotlb_global,
    pasid_iotlb,
    wait_status,
)

OLD, NEW = 0x40_0000, 0x50_0000


def legacy(engine: Engine | str = "python", options: str = "", low: int = 4) -> tuple[EngineBench, int]:
    """Legacy mode with TT=01, ATS on, 7000h at OLD; and where the entry for it lies."""
    bench = EngineBench(engine, options=options)
    table = bench.table()
    bench.identity(table, RING)
    bench.identity(table, 0x60_0000, 5)
    bench.map(table, 0x4000_0000, 0x80_0000, level=2)
    at = bench.map(table, 0x7000, OLD)
    bench.ats_legacy(table, low=low)
    bench.start_queue()
    bench.switch_on()
    bench.start()
    return bench, at


def scalable(engine: Engine, options: str = "") -> EngineBench:
    """Scalable mode, ATS and PASIDs on, PASIDs 5 and 6 with 7000h at OLD and NEW."""
    bench = EngineBench(engine, options=options)
    bench.ats_scalable()
    bench.switch_on(pasid=True)
    own = bench.table()
    bench.identity(own, RING)
    bench.pasid_entry(0, 2, 9, own)
    for pasid, gpa in ((5, OLD), (6, NEW)):
        table = bench.table()
        bench.map_first(table, 0x7000, gpa)
        bench.pasid_entry(pasid, 1, pasid, table)
    bench.start()
    return bench


def fill(value: int, **more) -> bytes:
    return descriptor(FILL, value, 0x7000, 8, **more)


def move(bench: EngineBench, at: int) -> None:
    """7000h leads to NEW, and the unit has forgotten that it led to OLD."""
    bench.put(at, NEW | 3)
    bench.invalidate(iotlb_global())


# -- device-TLB


def test_a_translation_is_used_until_descriptor_3_takes_it(engine: Engine) -> None:
    bench, at = legacy(engine)
    assert bench.run(fill(1)) == (SUCCESS, 0)
    move(bench, at)
    assert bench.run(fill(2)) == (SUCCESS, 0)
    assert (bench.qword(OLD), bench.qword(NEW)) == (2, 0)
    bench.invalidate(device_tlb(NIC, 0x7000))
    assert bench.run(fill(3)) == (SUCCESS, 0)
    assert (bench.qword(OLD), bench.qword(NEW)) == (2, 3)
    assert bench.counters() == (2, 1, 0, 1)


def test_untranslated_descriptors_see_what_the_unit_sees(engine: Engine) -> None:
    bench, at = legacy(engine)
    bench.run(fill(1))
    move(bench, at)
    bench.run(fill(2, flags=UNTRANSLATED))
    assert (bench.qword(OLD), bench.qword(NEW)) == (1, 2)
    assert bench.counters() == (1, 0, 0, 0)


def test_without_a_device_tlb_each_page_is_translated_anew(engine: Engine) -> None:
    bench, at = legacy(engine, ",device-tlb=0")
    bench.run(fill(1))
    move(bench, at)
    bench.run(fill(2))
    assert (bench.qword(OLD), bench.qword(NEW)) == (1, 2)
    assert bench.counters() == (2, 0, 0, 0)


def test_a_full_device_tlb_forgets_what_was_used_longest_ago(engine: Engine) -> None:
    bench, _ = legacy(engine, ",device-tlb=2")
    for page in (0x60_0000, 0x60_1000, 0x60_0000, 0x60_2000, 0x60_0000, 0x60_1000):
        bench.run(descriptor(FILL, 1, page, 8))
    assert bench.counters()[:2] == (4, 2)
    assert [entry.iova for entry in bench.dma.port.tlb.entries()] == [0x60_0000, 0x60_1000]


def test_one_request_may_be_for_several_pages(engine: Engine) -> None:
    bench, _ = legacy(engine, ",pages=4")
    assert bench.run(descriptor(FILL, 1, 0x60_0000, 0x5000)) == (SUCCESS, 0)
    assert bench.counters()[:2] == (2, 3)


def test_a_large_page_is_one_translation(engine: Engine) -> None:
    bench, _ = legacy(engine)
    bench.run(descriptor(FILL, 0x11, 0x4000_0FF8, 0x3000))
    assert (bench.qword(0x80_0FF8), bench.qword(0x80_3FF0)) == (0x11, 0x11)
    assert bench.counters()[:2] == (1, 3)


def test_reading_is_asked_for_without_the_right_to_write(engine: Engine) -> None:
    bench, _ = legacy(engine)
    bench.run(descriptor(COPY, 0x7000, 0x7800, 8), descriptor(COPY, 0x7000, 0x7800, 8))
    assert bench.counters()[:2] == (2, 2)
    (entry,) = bench.dma.port.tlb.entries()
    assert (entry.word.r, entry.word.w) == (1, 1)


def test_a_translation_without_the_right_is_no_fault(engine: Engine) -> None:
    bench, at = legacy(engine)
    bench.put(at, OLD | 1)
    assert bench.run(fill(1)) == (NO_RIGHT, 0)
    assert bench.run(descriptor(FILL, 1, 0x9000, 8)) == (NO_RIGHT, 0)
    assert bench.record_of_unit() is None


def test_a_wrong_table_refuses_the_translation_and_is_recorded(engine: Engine) -> None:
    bench, _ = legacy(engine)
    root = bench.qword(0x10_1000 + 16 * NIC) & ~0xFFF
    bench.put(root + 8, 0x60_0000 | 0x83)  # a page of 512 GiB, which there is not
    assert bench.run(descriptor(FILL, 1, 1 << 39, 8)) == (NO_TRANSLATION, 0)
    assert bench.record_of_unit() == (0x0C, NIC, 0)


def test_a_unit_that_is_off_translates_for_nobody() -> None:
    bench = EngineBench()
    bench.switch_on()
    bench.start()
    assert bench.run(fill(1)) == (NO_TRANSLATION, 0)


def test_without_a_unit_nobody_answers() -> None:
    bench = EngineBench()
    bench.switch_on()
    bench.start()
    bench.machine.detach_unit(bench.unit)
    assert bench.run(fill(1)) == (NO_TRANSLATION, 0)
    assert bench.run(fill(1, flags=UNTRANSLATED)) == (SUCCESS, 0)


def test_translated_requests_need_the_units_consent(engine: Engine) -> None:
    bench, _ = legacy(engine)
    bench.run(fill(1))
    entry = 0x10_1000 + 16 * NIC
    bench.put(entry, bench.qword(entry) & ~0xC)
    bench.invalidate(b"\x11".ljust(16, b"\0"))
    assert bench.run(fill(2)) == (BLOCKED, 0x0D)
    assert bench.qword(OLD) == 1


def test_switching_ats_off_forgets_and_detaches(engine: Engine) -> None:
    bench, at = legacy(engine)
    bench.run(fill(1))
    bench.config(bench.capability(ATS) + 6, 0, 2)
    assert len(bench.dma.port.tlb) == 0
    move(bench, at)
    bench.run(fill(2))
    assert bench.qword(NEW) == 2
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    assert bench.read(FSTS) & ITE


def test_a_reset_of_the_machine_forgets_translations() -> None:
    bench, _ = legacy()
    bench.run(fill(1))
    bench.machine.reset()
    assert (len(bench.dma.port.tlb), bench.dma.port.translating) == (0, False)
    assert bench.dma.port.translations == 0


def test_interrupts_go_untranslated_when_their_address_may_not_be_kept(engine: Engine) -> None:
    bench, _ = legacy(engine)
    at = bench.dma.msi.offset
    for offset, value, size in ((4, 0xFEE0_0000, 4), (8, 0, 4), (12, 0x50, 2), (2, 1, 2)):
        bench.config(at + offset, value, size)
    assert bench.run(fill(1, flags=NOTIFY)) == (SUCCESS, 0)
    assert bench.machine.apics.vectors() == [0x50]
    assert bench.run(descriptor(FILL, 0x51, 0xFEE0_0000, 4)) == (SUCCESS, 0)
    assert bench.machine.apics.vectors() == [0x50, 0x51]


# -- PASIDs


def test_each_pasid_has_its_own_translations_until_descriptor_8_takes_them(engine: Engine) -> None:
    bench = scalable(engine)
    bench.run(fill(5, pasid=5), fill(6, pasid=6))
    assert (bench.qword(OLD), bench.qword(NEW)) == (5, 6)
    table = bench.table()
    bench.map_first(table, 0x7000, 0x60_0000)
    bench.pasid_entry(5, 1, 5, table)
    bench.invalidate(b"\x37".ljust(32, b"\0"), pasid_iotlb(2, 5, 5))
    bench.invalidate(pasid_device_tlb(NIC, 6, 0x7000))
    bench.run(fill(55, pasid=5))
    assert (bench.qword(OLD), bench.qword(0x60_0000)) == (55, 0)
    bench.invalidate(pasid_device_tlb(NIC, 0, EVERYTHING, s=1, g=1))
    bench.run(fill(56, pasid=5))
    assert (bench.qword(OLD), bench.qword(0x60_0000)) == (55, 56)


def test_execution_is_asked_for_and_kept_apart(engine: Engine) -> None:
    bench = scalable(engine)
    table = bench.table()
    bench.map_first(table, 0x7000, OLD)
    bench.map_first(table, 0x8000, NEW, 1 << 63 | 0x67)
    bench.pasid_entry(5, 1, 5, table, more=1 << 1 | 1 << 5)
    assert bench.run(descriptor(COPY, 0x7000, 0x7800, 8, EXE, pasid=5)) == (SUCCESS, 0)
    assert bench.run(descriptor(COPY, 0x8000, 0x7800, 8, EXE, pasid=5)) == (NO_RIGHT, 0)
    assert bench.run(descriptor(COPY, 0x8000, 0x7800, 8, pasid=5)) == (SUCCESS, 0)


# -- invalidations that go wrong


def test_a_lying_device_writes_where_it_must_not(engine: Engine) -> None:
    bench, at = legacy(engine, ",invalidations=lie")
    bench.run(fill(1))
    move(bench, at)
    bench.invalidate(device_tlb(NIC, 0x7000))
    bench.run(fill(2))
    assert (bench.qword(OLD), bench.qword(NEW)) == (2, 0)
    assert not bench.read(FSTS) & ITE


def test_a_device_that_ignores_invalidations_times_out(engine: Engine) -> None:
    bench, _ = legacy(engine, ",invalidations=ignore")
    bench.run(fill(1))
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    assert bench.read(FSTS) & ITE
    assert bench.read(IQERCD, 8) >> 32 & 0xFFFF == NIC
    assert bench.qword(STATUS) != 0x77


def test_an_invalidation_that_gets_lost_times_out_too(engine: Engine) -> None:
    bench, _ = legacy(engine)
    bench.unit.hooks.on_descriptor(DeviceTlbInvalidate, NoAnswer(), times=1)
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    assert bench.read(FSTS) & ITE
    assert bench.counters()[3] == 0


def test_a_slow_answer_is_waited_for(engine: Engine) -> None:
    bench, _ = legacy(engine, ",answer-after=5000")
    bench.unit.timing.device_answer = 10_000
    bench.run(fill(1))
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    bench.settle(4999)
    assert bench.qword(STATUS) != 0x77
    bench.settle(1)
    assert (bench.qword(STATUS), bench.read(FSTS)) == (0x77, 0)


def test_after_a_reset_of_the_machine_no_answer_to_an_invalidation_of_before_comes(engine: Engine) -> None:
    bench, _ = legacy(engine, ",answer-after=5000")
    bench.unit.timing.device_answer = 10_000
    bench.submit(device_tlb(NIC, 0x7000))
    bench.settle(4000)
    bench.submit(device_tlb(NIC, 0x8000), wait_status(STATUS, 0x77))
    bench.settle(1000)  # the first is answered
    bench.machine.reset()
    bench.settle(20_000)
    assert (bench.qword(STATUS), bench.read(FSTS)) == (0, 0)


def test_an_answer_that_comes_too_late_is_unexpected(engine: Engine) -> None:
    bench, _ = legacy(engine, ",answer-after=5000")
    bench.unit.timing.device_answer = 1000
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    bench.settle(1000)
    assert bench.read(FSTS) & (ITE | ICE) == ITE
    bench.settle(4000)
    assert bench.read(FSTS) & (ITE | ICE) == ITE | ICE


@pytest.mark.parametrize("low", [0, PASIDE])
def test_without_dte_nothing_is_translated(engine: Engine, low: int) -> None:
    bench = EngineBench(engine)
    bench.ats_scalable(low)
    bench.switch_on()
    own = bench.table()
    bench.identity(own, RING)
    bench.pasid_entry(0, 2, 9, own)
    bench.start()
    assert bench.run(fill(1)) == (NO_TRANSLATION, 0)
    assert bench.record_of_unit() == (0x44, NIC, 0)


def test_nested_translations_lead_through_both_stages(engine: Engine) -> None:
    bench = scalable(engine)
    first, second = bench.table(), bench.table()
    bench.map_first(first, 0x7000, 0x9000)
    bench.identity(second, 0x20_0000, 64)
    bench.map(second, 0x9000, 0x60_0000)
    bench.pasid_entry(7, 3, 7, first, second)
    assert bench.run(fill(7, pasid=7)) == (SUCCESS, 0)
    assert bench.qword(0x60_0000) == 7
    (entry,) = bench.dma.port.tlb.entries()
    assert (entry.iova, entry.gpa, entry.pasid) == (0x7000, 0x60_0000, 7)


@pytest.mark.parametrize(
    "profile, mode, outcome",
    [
        ("qemu-11.1", ",scalable-mode=on", (SUCCESS, 0)),
        ("qemu-11.1", "", (BLOCKED, 5)),
        ("qemu-10.0", ",x-scalable-mode=on", (BLOCKED, 5)),
        ("qemu-7.2", "", (BLOCKED, 5)),
    ],
)
def test_qemus_unit_trusts_translated_requests_in_scalable_mode_only(
    engine: Engine, profile: str, mode: str, outcome: tuple[int, int]
) -> None:
    bench = EngineBench(engine, profile, unit=f",aw-bits=48,device-iotlb=on{mode}")
    table = bench.table()
    bench.identity(table, RING)
    bench.map(table, 0x7000, OLD)
    if mode:
        bench.pasid_entry(0, 2, 9, table)
        bench.ats_scalable(DTE)
    else:
        bench.ats_legacy(table)
    bench.switch_on()
    bench.start()
    assert bench.run(fill(1)) == outcome
    assert (bench.qword(OLD), bench.counters()[0]) == (int(outcome[0] == SUCCESS), 1)


def test_qemus_unit_refuses_translated_requests_with_a_pasid_in_silence(engine: Engine) -> None:
    bench = EngineBench(engine, "qemu-11.1", unit=",device-iotlb=on,scalable-mode=on,pasid-bits=20")
    bench.ats_scalable(DTE | PASIDE)
    assert bench.translated(OLD, pasid=5) == -0x0D
    assert bench.translated(OLD) == OLD
    assert not bench.read(FSTS) & 2


def test_a_device_that_leaves_is_asked_no_more(engine: Engine) -> None:
    bench, _ = legacy(engine)
    bench.run(fill(1))
    bench.machine.remove_device(bench.dma)
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    assert bench.read(FSTS) & ITE


def test_a_device_that_left_answers_nothing_that_it_was_asked_before(engine: Engine) -> None:
    bench, _ = legacy(engine, ",answer-after=5000")
    bench.unit.timing.device_answer = 10_000
    bench.submit(device_tlb(NIC, 0x7000), wait_status(STATUS, 0x77))
    bench.machine.remove_device(bench.dma)
    bench.settle(10_000)
    assert (bench.qword(STATUS), bench.read(FSTS)) == (0, ITE)


def test_behind_a_root_port_the_requester_has_the_number_of_its_bus(engine: Engine) -> None:
    bench = EngineBench(engine, root_port="p1")
    assert bench.dma.source_id == 0x0200
    table = bench.table()
    bench.identity(table, RING)
    bench.map(table, 0x7000, OLD)
    bench.ats_legacy(table)
    bench.start_queue()
    bench.put(0x10_0000 + 16 * 2, 0x10_1001, 0)
    bench.put(0x10_1000, table | 5, 5 << 8 | 2)
    bench.switch_on()
    bench.start()
    assert bench.run(fill(1)) == (SUCCESS, 0)
    bench.invalidate(device_tlb(0x0200, 0x7000))
    assert (bench.qword(OLD), len(bench.dma.port.tlb)) == (1, 0)
