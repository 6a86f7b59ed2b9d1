"""Global commands: what latches when, and what a status shows."""

from __future__ import annotations

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from tests.profiles import changed
from tests.units import (
    CFI,
    FECTL,
    GCMD,
    GSTS,
    IQA,
    IQH,
    IQT,
    IRE,
    IRTA,
    NIC,
    QIE,
    QUEUE,
    ROOT,
    RTADDR,
    SIRTP,
    SRTP,
    STATUS,
    TE,
    WBF,
    Bench,
    R,
    W,
    wait_status,
)

RTPS, QIES, IRTPS, IRES, CFIS, TES = 1 << 30, 1 << 26, 1 << 24, 1 << 25, 1 << 23, 1 << 31


SPEC = load_profile("spec")


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return Bench(engine)


def mapped(bench: Bench) -> int:
    """A table that maps 0x1000 to 0x5000; returns the leaf's place."""
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000, R | W)
    bench.legacy((NIC, table, 5))
    return leaf


def test_with_translation_off_addresses_pass_unchanged(bench: Bench) -> None:
    assert bench.go(0x1234_5678, "w") == 0x1234_5678
    assert bench.read(GSTS) == 0


def test_rtaddr_takes_effect_only_by_srtp(bench: Bench) -> None:
    mapped(bench)
    assert bench.go(0x1000) == 0x5000
    bench.write(RTADDR, 0x30_0000, 8)
    assert bench.go(0x1000) == 0x5000
    assert bench.unit.root == ROOT
    bench.command(SRTP)
    assert bench.unit.root == 0x30_0000
    assert bench.go(0x1000) == -0x1


def test_rtps_stays_after_completion(bench: Bench) -> None:
    bench.command(SRTP)
    assert bench.read(GSTS) == RTPS
    bench.command(WBF)
    assert bench.read(GSTS) == RTPS


def test_write_buffer_flush_completes_at_once(bench: Bench) -> None:
    bench.command(WBF)
    assert bench.read(GSTS) == 0


def test_srtp_empties_the_caches_with_esrtps(bench: Bench) -> None:
    leaf = mapped(bench)
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    bench.command(SRTP)
    assert bench.unit.caches().iotlb == bench.unit.caches().context == ()
    assert bench.go(0x1000) == -0x6


def test_srtp_leaves_the_caches_without_esrtps(engine: Engine) -> None:
    bench = Bench(engine, changed(SPEC, {"esrtps": 0}))
    leaf = mapped(bench)
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    bench.write(RTADDR, 0x30_0000, 8)
    bench.command(SRTP)
    assert bench.go(0x1000) == 0x5000  # the old root's context entry and translation are still cached
    assert bench.go(0x1000, sid=0x18) == -0x1


def test_cached_entries_do_not_outlive_the_mode_of_the_root_table(engine: Engine) -> None:
    bench = Bench(engine, changed(SPEC, {"esrtps": 0}))
    mapped(bench)
    assert bench.go(0x1000) == 0x5000
    bench.write(RTADDR, ROOT | 3 << 10, 8)
    bench.command(SRTP)
    assert bench.go(0x1000) < 0


def test_translation_off_and_on_empties_the_caches_of_a_scalable_unit(bench: Bench) -> None:
    leaf = mapped(bench)
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    bench.command(TE, on=False)
    assert bench.read(GSTS) & TES == 0
    assert bench.go(0x1000) == 0x1000
    bench.command(TE)
    assert bench.go(0x1000) == -0x6


def test_translation_off_and_on_leaves_the_caches_of_a_legacy_unit(engine: Engine) -> None:
    bench = Bench(engine, "alder-lake")
    table = bench.table()
    leaf = bench.map(table, 0x1000, 0x5000)
    bench.legacy((NIC, table, 5))
    assert bench.go(0x1000) == 0x5000
    bench.put(leaf, 0)
    bench.command(TE, on=False)
    bench.command(TE)
    assert bench.go(0x1000) == 0x5000


def test_translation_without_a_root_table_uses_the_latched_zero(bench: Bench) -> None:
    bench.command(TE)
    assert bench.go(0x1000) == -0x1


def test_a_persistent_bit_that_equals_the_status_is_no_change(bench: Bench) -> None:
    mapped(bench)
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1))
    assert bench.read(IQH, 8) == 16
    bench.write(GCMD, TE | QIE)
    assert bench.read(IQH, 8) == 16
    assert bench.read(GSTS) == TES | RTPS | QIES


def test_te_and_srtp_in_one_write_are_both_done(bench: Bench) -> None:
    table = bench.table()
    bench.map(table, 0x1000, 0x5000)
    bench.legacy_context(NIC, table, 5)
    bench.write(RTADDR, ROOT, 8)
    bench.write(GCMD, TE | SRTP)
    assert bench.read(GSTS) == TES | RTPS
    assert bench.go(0x1000) == 0x5000


def test_iqa_is_latched_when_the_queue_is_enabled(bench: Bench) -> None:
    bench.start_queue()
    bench.write(IQA, 0x70_0000, 8)
    bench.memory.write(QUEUE, wait_status(STATUS, 9))
    bench.write(IQT, 16, 8)
    assert bench.memory.read(STATUS, 4) == b"\x09\0\0\0"


def test_a_tail_written_before_the_queue_is_enabled_is_held(bench: Bench) -> None:
    bench.memory.write(QUEUE, wait_status(STATUS, 9))
    bench.write(IQA, QUEUE, 8)
    bench.write(IQT, 16, 8)
    assert (bench.read(IQH, 8), bench.read(IQT, 8)) == (0, 16)
    bench.command(QIE)
    assert bench.read(IQH, 8) == 16
    assert bench.memory.read(STATUS, 4) == b"\x09\0\0\0"


def test_disabling_the_queue_resets_the_head_and_keeps_the_tail(bench: Bench) -> None:
    bench.start_queue()
    bench.submit(wait_status(STATUS, 1))
    bench.command(QIE, on=False)
    assert (bench.read(IQH, 8), bench.read(IQT, 8)) == (0, 16)
    assert bench.read(GSTS) == 0


def test_a_tail_written_while_the_queue_is_off_executes_nothing(bench: Bench) -> None:
    bench.memory.write(QUEUE, wait_status(STATUS, 1))
    bench.write(IQA, QUEUE, 8)
    bench.write(IQT, 16, 8)
    assert bench.memory.read(STATUS, 4) == bytes(4)


def test_without_queued_invalidation_qie_does_nothing(engine: Engine) -> None:
    none = {name: 0 for name in SPEC.capabilities.ecap.fields() if name not in ("iro", "c")}
    bench = Bench(engine, changed(SPEC, ecap=none))
    bench.command(QIE)
    assert bench.read(GSTS) == 0


def test_interrupt_commands_latch_the_table_and_show_their_status(bench: Bench) -> None:
    bench.write(IRTA, 0x40_0000 | 0x80F, 8)
    assert bench.unit.interrupt_table == 0
    bench.command(SIRTP)
    assert bench.unit.interrupt_table == 0x40_080F
    assert bench.read(GSTS) == IRTPS
    bench.command(IRE)
    assert bench.read(GSTS) == IRTPS | IRES
    bench.command(CFI)
    assert bench.read(GSTS) == IRTPS | IRES | CFIS
    bench.command(IRE, on=False)
    assert bench.read(GSTS) == IRTPS | CFIS


def test_without_interrupt_remapping_its_commands_do_nothing(engine: Engine) -> None:
    bench = Bench(engine, "default")
    bench.write(GCMD, IRE | SIRTP | CFI)
    assert bench.read(GSTS) == 0


def test_gcmd_reads_0_and_a_qword_read_there_gives_the_status_above(bench: Bench) -> None:
    bench.command(SRTP)
    assert bench.read(GCMD) == 0
    assert bench.read(GCMD, 8) == RTPS << 32


def test_abort_dma_mode_refuses_everything_and_records_nothing(bench: Bench) -> None:
    bench.write(RTADDR, ROOT | 3 << 10, 8)
    bench.command(SRTP)
    bench.command(TE)
    assert bench.go(0x1000) < 0
    assert bench.go(0x1000, pasid=1) < 0
    assert bench.read(0x34) == 0


@pytest.mark.parametrize("mode", [2, 3])
def test_other_table_modes_fault_30h(engine: Engine, mode: int) -> None:
    bench = Bench(engine, changed(SPEC, ecap={"adms": 0}))
    bench.write(RTADDR, ROOT | mode << 10, 8)
    bench.command(SRTP)
    bench.command(TE)
    assert bench.go(0x1000) == -0x30
    assert bench.record()[1] >> 32 & 0xFF == 0x30


def test_reset_forgets_everything(bench: Bench) -> None:
    mapped(bench)
    bench.start_queue()
    assert bench.go(0x1000) == 0x5000
    assert bench.go(0x9000) == -0x6
    fresh = Bench(bench.unit.engine).unit.register_page()
    bench.unit.reset()
    assert bench.unit.register_page() == fresh
    assert bench.unit.caches().iotlb == ()
    assert bench.go(0x1000) == 0x1000
    assert bench.unit.root == 0


def test_a_warm_reset_keeps_the_fault_log(bench: Bench) -> None:
    mapped(bench)
    assert bench.go(0x9000) == -0x6
    record = bench.record()
    bench.unit.reset(warm=True)
    assert bench.record() == record
    assert bench.read(0x34) & 2
    assert bench.read(FECTL) == 0x8000_0000


def test_after_a_warm_reset_faults_go_on_behind_the_records_that_are_left(bench: Bench) -> None:
    mapped(bench)
    assert bench.go(0x9000) == -0x6
    bench.unit.reset(warm=True)
    bench.command(TE)
    assert bench.go(0xA000) < 0
    assert (bench.read(0x34) & 1, bench.record(0)[0], bench.record(1)[0]) == (0, 0x9000, 0xA000)
