"""Interrupts of real guests: the entries in their images, and every message that QEMU remapped while they ran."""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.bus import Bus
from emulator.engine import Engine
from pagetables.address import Iova, SourceId, parse_source_id
from pagetables.fault import Fault, FaultReason
from pagetables.images.inspection import register_pages
from pagetables.images.opening import open_image
from pagetables.interrupt import Interrupt, remap
from pagetables.request import Access, Request
from tests.truth import FIXED, VARIANTS, Truth
from tests.units import IRE, IRTA, SIRTP, Bench

TABLE = 0x100_0000
LOGGED = {"c-scalable": 6464, "i-firststage-k72": 6401}  # messages in the logs of QEMU's remapping
ENTRIES = 31  # present ones, in every image whose guest remaps interrupts


# -- the images


def outcomes(truth: Truth, indices: Iterator[int], source: int | None = None) -> list[object]:
    """What each index comes to, when the source of the truth's entry (or `source`) sends it."""
    sources = {one["index"]: parse_source_id(one["sid"]) for one in truth.interrupts}
    with open_image(truth.image) as image:
        (page,) = register_pages(image, truth.registers)
        found = []
        for index in indices:
            sid = sources.get(index, SourceId(0)) if source is None else SourceId(source)
            address = 0xFEE0_0010 | (index & 0x7FFF) << 5 | index >> 15 << 2
            request = Request(sid, Iova(address), Access.WRITE)
            table, status = page.interrupt_table, page.status
            found.append(remap(image, table, request, bytes(4), page.capabilities(), status).outcome)
        return found


def check_image(truth: Truth) -> None:
    """Every present entry is delivered as the truth says, to its source only, and every other index faults."""
    present = [one["index"] for one in truth.interrupts]
    delivered = outcomes(truth, iter(present))
    for one, found in zip(truth.interrupts, delivered, strict=True):
        assert found == Interrupt(
            parse_source_id(one["sid"]),
            one["vector"],
            one["apic_id"],
            one["dm"],
            one["dlm"],
            one["tm"],
            bool(one["rh"]),
            remapped=True,
        )
    refused = outcomes(truth, iter(present), source=0x1234)
    assert all(isinstance(found, Fault) and found.reason is FaultReason.IR_SOURCE_INVALID for found in refused)
    absent = [index for index in range(0x200) if index not in present]
    reasons = {found.reason for found in outcomes(truth, iter(absent)) if isinstance(found, Fault)}
    assert reasons == ({FaultReason.IR_NOT_PRESENT} if present else set())


@pytest.mark.parametrize("variant", FIXED)
def test_entries_of_an_image_are_delivered_as_they_were_meant(variant: str) -> None:
    truth = Truth.fixture(variant)
    assert len(truth.interrupts) == (0 if variant == "a-legacy-strict" else ENTRIES)
    check_image(truth)


@pytest.mark.parametrize("variant", VARIANTS)
def test_entries_of_a_recording_are_delivered_as_they_were_meant(corpus: Path, variant: str) -> None:
    check_image(Truth.recording(corpus, variant))


# -- the logs


class Guest:
    """What QEMU logged of a guest's interrupts, through our unit, whose cache knows the guest's invalidations only."""

    def __init__(self, engine: Engine, invalidates: bool = True) -> None:
        self.bench = Bench(engine)
        self.bench.start_queue()
        self.bench.write(IRTA, TABLE | 15, 8)
        self.bench.command(SIRTP)
        self.invalidates = invalidates
        self.source = SourceId(0)
        self.message = (0, 0)
        self.remapped = self.hits = self.stale = 0

    def follow(self, lines: Iterator[str]) -> None:
        for line in lines:
            event = re.search(r"(vtd_\w+) (.*)", line)
            handler = event and getattr(self, "on_" + event[1], None)
            if event and handler:
                handler(
                    *(int(word, 16 if "x" in word else 10) for word in re.findall(r"0x[0-9a-f]+|\b\d+\b", event[2]))
                )

    def on_vtd_ir_enable(self, enabled: int) -> None:
        self.bench.command(IRE, bool(enabled))

    def on_vtd_inv_desc(self, high: int, low: int = -1, *_: int) -> None:
        if low & 0xF == 4 and self.invalidates:
            self.bench.invalidate(struct.pack("<QQ", low, high))

    def on_vtd_ir_remap_msi_req(self, address: int, data: int) -> None:
        self.message = (address, data)

    def on_vtd_ir_irte_get(self, index: int, high: int, low: int) -> None:
        self.bench.memory.write(TABLE + 16 * index, struct.pack("<QQ", low, high))
        self.source = SourceId(high & 0xFFFF)
        self.hits += any(known.index == index for known in self.bench.unit.caches().interrupts)

    def on_vtd_ir_remap_msi(self, address: int, data: int, to_address: int, to_data: int) -> None:
        assert (address, data) == self.message
        unit = self.bench.unit
        unit.interrupts.clear()
        assert Bus(unit).write(self.source, address, struct.pack("<I", data)) is None
        [interrupt] = unit.interrupts
        self.remapped += 1
        self.stale += interrupt.message() != (to_address, to_data)


def log_of(corpus: Path, variant: str) -> Iterator[str]:
    with gzip.open(corpus / variant / "qemu-vtd.log.gz", "rt", errors="replace") as file:
        yield from (line for line in file if "vtd_ir_" in line or "type iec" in line)


@pytest.mark.parametrize("variant", LOGGED)
def test_every_message_that_qemu_remapped_is_remapped_the_same(engine: Engine, corpus: Path, variant: str) -> None:
    guest = Guest(engine)
    guest.follow(log_of(corpus, variant))
    assert (guest.remapped, guest.stale) == (LOGGED[variant], 0)
    assert guest.hits > guest.remapped * 0.9


def test_without_the_guests_invalidations_the_cache_would_be_stale(engine: Engine, corpus: Path) -> None:
    guest = Guest(engine, invalidates=False)
    guest.follow(log_of(corpus, "c-scalable"))
    assert guest.stale > 0
