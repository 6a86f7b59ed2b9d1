"""Invalidation through CCMD, IVA and IOTLB: what is granted, what is removed, and what is refused."""

from __future__ import annotations

import pytest

from emulator.engine import Engine
from emulator.profile import load_profile
from pagetables.layouts.registers import Version
from tests.profiles import changed
from tests.units import CCMD, DISK, IOTLB, IVA, NIC, ROOT, RTADDR, SRTP, Bench

ICC = IVT = 1 << 63
SPEC = load_profile("spec")


class Scene:
    """NIC in domain 5 and DISK in domain 6, everything cached, nothing mapped any more."""

    def __init__(self, engine: Engine, profile="spec") -> None:
        self.bench = bench = Bench(engine, profile)
        self.places = [(sid, iova) for sid in (NIC, DISK) for iova in (0x1000, 0x2000)]
        tables = {NIC: bench.table(3), DISK: bench.table(3)}
        leaves = [bench.map(tables[sid], iova, 0x10_0000 + iova) for sid, iova in self.places]
        bench.legacy((NIC, tables[NIC], 5), (DISK, tables[DISK], 6))
        for (sid, iova), leaf in zip(self.places, leaves, strict=True):
            assert bench.go(iova, sid=sid) > 0
            bench.put(leaf, 0)

    def still(self) -> set:
        return {(sid, iova) for sid, iova in self.places if self.bench.go(iova, sid=sid) > 0}

    def contexts(self) -> set:
        return {entry.source_id for entry in self.bench.unit.caches().context}

    def context(self, granularity: int, did: int = 0, sid: int = 0, fm: int = 0) -> int:
        """CCMD; the granularity performed."""
        self.bench.write(CCMD, ICC | granularity << 61 | fm << 32 | sid << 16 | did, 8)
        return self._done(CCMD, 59)

    def iotlb(self, granularity: int, did: int = 0, address: int = 0) -> int:
        """IVA and IOTLB; the granularity performed."""
        self.bench.write(IVA, address, 8)
        self.bench.write(IOTLB, IVT | granularity << 60 | did << 32, 8)
        return self._done(IOTLB, 57)

    def _done(self, offset: int, shift: int) -> int:
        value = self.bench.read(offset, 8)
        assert not value >> 63, "the command is still busy"
        return value >> shift & 3


@pytest.fixture
def scene(engine: Engine) -> Scene:
    return Scene(engine)


@pytest.mark.parametrize(
    "granularity, did, sid, granted, left",
    [
        (1, 0, 0, 1, set()),
        (2, 5, 0, 2, {DISK}),
        (2, 7, 0, 2, {NIC, DISK}),
        (3, 6, DISK, 3, {NIC}),
        (0, 5, NIC, 0, {NIC, DISK}),
    ],
    ids=["global", "domain", "other-domain", "device", "none"],
)
def test_ccmd_removes_context_entries_and_says_what_it_did(scene: Scene, granularity, did, sid, granted, left) -> None:
    assert scene.context(granularity, did, sid) == granted
    assert scene.contexts() == left
    assert len(scene.still()) == 4  # the IOTLB has its own commands


def test_ccmd_masks_functions(scene: Scene) -> None:
    assert scene.context(3, 6, DISK | 7, fm=3) == 3
    assert scene.contexts() == {NIC}


@pytest.mark.parametrize(
    "granularity, did, address, granted, left",
    [
        (1, 0, 0, 1, set()),
        (2, 5, 0, 2, {(DISK, 0x1000), (DISK, 0x2000)}),
        (3, 6, 0x1000, 3, {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x2000)}),
        (3, 6, 0x1000 | 2, 3, {(NIC, 0x1000), (NIC, 0x2000)}),
        (3, 6, 0x1000 | 1 << 6, 3, {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x2000)}),
        (3, 6, 0x1000 | 1 << 60, 3, {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x2000)}),
        (3, 6, 0x1000 | 19, 0, {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x1000), (DISK, 0x2000)}),
        (0, 6, 0x1000, 0, {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x1000), (DISK, 0x2000)}),
    ],
    ids=["global", "domain", "page", "four-pages", "hint", "address-above-the-width", "beyond-mamv", "none"],
)
def test_iotlb_removes_pages_and_says_what_it_did(scene: Scene, granularity, did, address, granted, left) -> None:
    assert scene.iotlb(granularity, did, address) == granted
    assert scene.still() == left


def test_without_page_selective_support_the_domain_goes(engine: Engine) -> None:
    scene = Scene(engine, changed(SPEC, {"psi": 0}))
    assert scene.iotlb(3, 6, 0x1000) == 2
    assert scene.still() == {(NIC, 0x1000), (NIC, 0x2000)}


def test_in_scalable_mode_a_domain_selective_context_command_is_global(scene: Scene) -> None:
    scene.bench.write(RTADDR, ROOT | 1 << 10, 8)
    scene.bench.command(SRTP)
    assert scene.context(2, 5) == 1


def test_the_commands_act_on_the_half_that_holds_their_start_bit(scene: Scene) -> None:
    scene.bench.write(CCMD, NIC << 16 | 5)
    assert scene.contexts() == {NIC, DISK}
    scene.bench.write(CCMD + 4, (ICC | 3 << 61) >> 32)
    assert scene.contexts() == {DISK}
    scene.bench.write(IVA + 4, 0)
    scene.bench.write(IVA, 0x1000)
    scene.bench.write(IOTLB, 0)
    assert len(scene.still()) == 4
    scene.bench.write(IOTLB + 4, (IVT | 3 << 60 | 6 << 32) >> 32)
    assert scene.still() == {(NIC, 0x1000), (NIC, 0x2000), (DISK, 0x2000)}


def test_without_the_start_bit_nothing_happens(scene: Scene) -> None:
    scene.bench.write(CCMD, 1 << 61, 8)
    scene.bench.write(IOTLB, 1 << 60, 8)
    assert scene.contexts() == {NIC, DISK}
    assert len(scene.still()) == 4


def test_what_was_asked_can_be_read_back_but_for_the_write_only_fields(scene: Scene) -> None:
    scene.context(3, 6, DISK, fm=1)
    assert scene.bench.read(CCMD, 8) == 3 << 61 | 3 << 59 | 6
    scene.iotlb(2, 6, 0x1000)
    assert scene.bench.read(IOTLB, 8) == 2 << 60 | 2 << 57 | 6 << 32
    assert scene.bench.read(IVA, 8) == 0


def test_while_the_queue_is_on_the_commands_end_at_once_and_do_nothing(scene: Scene) -> None:
    scene.bench.start_queue()
    assert scene.context(1) == 0
    assert scene.iotlb(1) == 0
    assert scene.contexts() == {NIC, DISK}
    assert len(scene.still()) == 4


def test_a_unit_of_version_6_has_only_the_queue(engine: Engine) -> None:
    scene = Scene(engine, changed(SPEC, version=Version(0x60)))
    scene.bench.write(CCMD, ICC | 1 << 61, 8)
    assert scene.bench.read(CCMD, 8) == 0
    assert scene.contexts() == {NIC, DISK}
