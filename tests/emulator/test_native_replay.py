"""The replay loop in C leaves what the mapping layer, the driver and the unit in Python leave: bytes and counts."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
import pytest

from emulator.engine import load_engine
from emulator.machine import Machine
from emulator.native import NativeEngine
from emulator.native_replay import NEVER, EventColumns, NativeReplay, Stop
from emulator.settings import Settings
from pagetables.address import Gpa, Iova, SourceId
from pagetables.errors import MappingError, VtdError
from pagetables.request import Access, Permissions, Request
from tests.required import need_engine

MAP, UNMAP, ACCESS = 1, 2, 3
PAGE = 4096
DTYPES = {"kind": "u1", "space": "u4", "access": "u1", "leaf_levels": "u1"}
MODES = ({}, {"levels": "3"}, {"mode": "scalable"}, {"mode": "scalable", "stage": "first"})


class Event(NamedTuple):
    kind: int
    space: int
    iova: int
    gpa: int = 0
    size: int = PAGE
    access: int = 3
    leaf_levels: int = 0
    time: int = 0


@pytest.fixture(scope="module", autouse=True)
def native() -> None:
    need_engine("native")


class Side:
    """A machine with one domain and one device for each space."""

    def __init__(self, settings: dict[str, str], spaces: int = 3) -> None:
        self.machine = Machine(Settings.of(settings), ram=((0, 1 << 30),))
        layer = self.machine.layer
        self.domains = [layer.create_domain() for _ in range(spaces)]
        for number, domain in enumerate(self.domains):
            layer.attach(domain, SourceId(0x100 + number))
        self.refused: list[tuple[int, str]] = []
        self.translated: list[object] = []

    def apply(self, index: int, event: Event) -> None:
        layer, domain = self.machine.layer, self.domains[event.space]
        levels = frozenset(level for level in (1, 2, 3) if event.leaf_levels >> level - 1 & 1) or None
        permissions = Permissions(event.access) if event.access else Permissions.R | Permissions.W
        try:
            if event.kind == MAP:
                layer.map(domain, Iova(event.iova), Gpa(event.gpa), event.size, permissions, levels)
            elif event.kind == UNMAP:
                layer.unmap(domain, Iova(event.iova), event.size)
            else:
                request = Request(SourceId(0x100 + event.space), Iova(event.iova), Access.READ)
                self.translated.append(self.machine.unit.translate(request))
        except MappingError as refusal:
            self.refused.append((index, type(refusal).__name__))

    def replay(self, events: list[Event]) -> None:
        for index, event in enumerate(events):
            self.machine.clock.advance_to(event.time)
            self.apply(index, event)

    def replay_natively(self, events: list[Event]) -> None:
        loop, columns = self.loop(), self.columns(events)
        clock = self.machine.clock
        while True:
            due = clock.next_due
            stop = loop.run(columns, deadline=NEVER if due is None else due)
            if loop.position:
                clock.advance_to(events[loop.position - 1].time)
            if stop is Stop.END:
                return
            if stop is Stop.FREED:
                freed = loop.freed(events[loop.position - 1].space)
                self.machine.supply.give_back(freed)
                self.machine.layer.pages.released(len(freed))
            elif stop is Stop.DEADLINE:
                clock.advance_to(events[loop.position].time)
            else:
                clock.advance_to(events[loop.position].time)
                self.apply(loop.position, events[loop.position])
                loop.position += 1

    def loop(self) -> NativeReplay:
        machine = self.machine
        loop = NativeReplay(machine.engine, machine.driver, machine.unit.queue_state, len(self.domains))
        for space, domain in enumerate(self.domains):
            loop.serve(space, domain.mapper(), domain.domain_id, domain.iova_limit, domain.gpa_limit)
        return loop

    def columns(self, events: list[Event]) -> EventColumns:
        columns = {
            name: np.array([getattr(event, name) for event in events], dtype=DTYPES.get(name, "u8"))
            for name in Event._fields
        }
        return EventColumns(self.machine.engine, **columns)

    def state(self) -> dict[str, object]:
        machine = self.machine
        start, size = machine.memory.regions[-1]
        touched = {
            at: machine.memory.read(at, PAGE)
            for run, length in machine.memory.touched()
            for at in range(run, run + length, PAGE)
            if start <= at < start + size
        }
        return {
            "memory": {at: page for at, page in touched.items() if any(page)},
            "registers": bytes(machine.unit.registers),
            "iotlb": machine.unit.iotlb.entries(),
            "counts": machine.driver.counts,
            "submitted": machine.driver.queue.submitted,
            "tail": (machine.driver.queue.tail, machine.driver.queue.sequence),
            "pages": machine.layer.pages.as_dict(),
            "supply": machine.supply.statistics,
            "refused": self.refused,
            "translated": self.translated,
        }


def random_events(seed: int, count: int) -> list[Event]:
    rng = random.Random(seed)
    events, live, time = [], [], 0
    for _ in range(count):
        time += rng.randrange(3_000)
        space = rng.randrange(3)
        iova = rng.choice((0x1000, 0x20_0000, 0x3FE0_0000, 0x7F_C000_0000)) + rng.randrange(32) * PAGE
        size = rng.choice((1, 1, 1, 2, 16, 512, 1024)) * PAGE
        kind = rng.random()
        if kind < 0.05:
            events.append(Event(ACCESS, space, iova, time=time))
        elif kind < 0.5 and live:
            event = live.pop(rng.randrange(len(live)))
            events.append(event._replace(kind=UNMAP, time=time))
        elif kind < 0.55:
            events.append(Event(UNMAP, space, iova, size=size, time=time))
        else:
            if size >= 512 * PAGE:
                iova &= -0x20_0000
            gpa = iova & 0x3FFF_F000 if rng.random() < 0.7 else rng.randrange(1 << 18) * PAGE
            access, levels = rng.choice((0, 1, 2, 3, 3)), rng.choice((0, 0, 1, 3))
            live.append(Event(MAP, space, iova, gpa, size, access, levels, time))
            events.append(live[-1])
    odd = [Event(MAP, 0, 0x1001), Event(MAP, 1, 1 << 60), Event(UNMAP, 2, 0, size=0), Event(MAP, 0, 0, 1 << 60)]
    for event in odd:
        at = rng.randrange(len(events))
        events.insert(at, event._replace(time=events[at].time))
    return events


@pytest.mark.parametrize("settings", MODES, ids=lambda settings: "-".join(settings.values()) or "legacy")
@pytest.mark.parametrize("seed", range(6))
def test_the_loop_in_c_leaves_what_python_leaves(settings: dict[str, str], seed: int) -> None:
    events = random_events(seed, 400)
    native, native_python, python = (Side({**settings, "engine": name}) for name in ("native", "native", "python"))
    native.replay_natively(events)
    native_python.replay(events)
    python.replay(events)
    assert native.state() == native_python.state()
    assert native.state() == python.state()
    assert native.machine.unit.iotlb.entries() == python.machine.unit.iotlb.entries()


def test_an_unmap_is_invalidated_before_the_next_event() -> None:
    side = Side({})
    events = [Event(MAP, 0, 0x1000, 0x5000), Event(ACCESS, 0, 0x1000), Event(UNMAP, 0, 0x1000)]
    side.replay_natively(events)
    assert side.translated[0].gpa == 0x5000
    assert side.machine.unit.iotlb.entries() == []
    assert side.machine.driver.counts.page == 1


def test_events_of_a_space_that_is_not_served_are_left() -> None:
    side = Side({})
    loop = side.loop()
    loop.leave(1)
    events = side.columns([Event(MAP, 1, 0x1000, 0x1000)])
    assert loop.run(events) is Stop.LEFT
    assert (loop.position, loop.maps) == (0, 0)


def test_events_from_the_deadline_on_are_not_done() -> None:
    side = Side({})
    side.apply(0, Event(MAP, 0, 0x1000, 0x1000))
    events = side.columns([Event(UNMAP, 0, 0x1000, time=99), Event(MAP, 0, 0x1000, 0x1000, time=100)])
    loop = side.loop()
    assert loop.run(events, deadline=100) is Stop.DEADLINE
    assert (loop.position, loop.unmaps, loop.maps) == (1, 1, 0)
    assert loop.run(events) is Stop.END


def test_a_stopped_queue_is_handed_to_the_unit() -> None:
    # IQE is set by hand: the loop must not write IQT past it, and the driver then meets a queue that stands still.
    side = Side({})
    side.apply(0, Event(MAP, 0, 0x1000, 0x1000))
    unit = side.machine.unit
    unit.fsts = unit.fsts.replace(iqe=1)
    with pytest.raises(VtdError, match="stands still"):
        side.loop().run(side.columns([Event(UNMAP, 0, 0x1000)]))


def test_columns_of_different_length_are_refused() -> None:
    engine = load_engine("native")
    assert isinstance(engine, NativeEngine)
    columns = {name: np.zeros(2, dtype=DTYPES.get(name, "u8")) for name in Event._fields}
    columns["gpa"] = np.zeros(3, dtype="u8")
    with pytest.raises(VtdError, match="differ in length"):
        EventColumns(engine, **columns)
