"""Rules of isolation: who shares what with whom, and who is not held back at all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from pagetables.address import Gpa
from pagetables.audit.executable import writable_and_executable
from pagetables.audit.firmware import reserved_for
from pagetables.audit.ranges import shared_ranges
from pagetables.audit.rule import Hit, Severity, Subject, rule
from pagetables.audit.scene import Domain, Requester, Scene
from pagetables.source import TranslationType
from pagetables.wording import count, human_size, names

__all__ = ["DEVICE_TLB", "IDENTITY_MAP", "PASS_THROUGH", "SHARED_DOMAIN", "SHARED_MEMORY", "WRITABLE_AND_EXECUTABLE"]

MIB = 1 << 20
SMALL = 64 << 10  # bytes in one piece: buffers that share a page never make more
COINCIDENCE = 2 * MIB  # an IOVA may equal its GPA by chance, but hardly for as long as this
WHOLE_MEMORY = 1 << 30  # identity-mapped bytes from which on it is as good as pass-through
COMBINATIONS = 64  # sets of domains that share memory, the largest first


def _shared_domain(scene: Scene) -> Iterator[Hit]:
    for domain in scene.domains:
        devices = sorted({(one.unit, one.source_id): one for one in domain.devices}.values())
        if len(devices) > 1:
            total = human_size(domain.reachable.size)
            text = f"{names(devices)} use the same tables: what one may reach, all may ({total})"
            yield Hit(Severity.NOTE, text, Subject(tuple(devices), entry=domain.requesters[0].entries.at))


SHARED_DOMAIN = rule("VTD101", "shared-domain", Severity.NOTE, "devices share a domain")(_shared_domain)


def _shared_memory(scene: Scene) -> Iterator[Hit]:
    sets = [domain.reachable for domain in scene.domains]
    for members, ranges in islice(shared_ranges(sets), COMBINATIONS):
        domains = [scene.domains[index] for index in members]
        writers = [one for one in domains if len(one.writable & ranges)]
        start, size = next(iter(ranges))
        text = (
            f"{human_size(ranges.size)} in {count(len(ranges), 'piece')}, the first at {start:#x}, reachable by "
            f"{names(map(_first, domains))}; {names(map(_first, writers)) or 'none'} can write them"
        )
        severity = Severity.WARNING if writers and ranges.largest > SMALL else Severity.NOTE
        yield Hit(severity, text, Subject(tuple(one.devices[0] for one in domains), start, size))


def _first(domain: Domain) -> str:
    devices = domain.devices
    return str(devices[0]) if len(devices) == 1 else f"{devices[0]} (and {len(devices) - 1} in its domain)"


SHARED_MEMORY = rule("VTD102", "shared-memory", Severity.WARNING, "memory is reachable by more than one domain")(
    _shared_memory
)


def _pass_through(scene: Scene) -> Iterator[Hit]:
    for one in scene.requesters:
        if one.space.translation is TranslationType.PASS_THROUGH:
            text = f"{one.device} is passed through: it reaches all memory, whatever the tables of others say"
            yield Hit(Severity.WARNING, text, _of(one))


PASS_THROUGH = rule("VTD103", "pass-through", Severity.WARNING, "a device reaches all memory")(_pass_through)


def _identity_map(scene: Scene) -> Iterator[Hit]:
    for domain in scene.domains:
        identity = domain.identity(least=COINCIDENCE)
        for requester in domain.requesters:
            identity = identity - reserved_for(scene, requester)
        if not len(identity):
            continue
        start, size = next(iter(identity))
        text = (
            f"{human_size(identity.size)} are mapped to their own addresses, the first {human_size(size)} at {start:#x}"
        )
        if identity.size >= WHOLE_MEMORY:
            hit = (Severity.WARNING, f"{text}: as good as no translation for {names(domain.devices)}")
        else:
            hit = (Severity.NOTE, f"{text}, for {names(domain.devices)}")
        yield Hit(*hit, Subject(domain.devices, start, size, domain.requesters[0].entries.at))


IDENTITY_MAP = rule("VTD104", "identity-map", Severity.WARNING, "memory is mapped to its own addresses")(_identity_map)


def _writable_and_executable(scene: Scene) -> Iterator[Hit]:
    for domain in scene.domains:
        users = [one for one in domain.requesters if one.entries.source.execute_requests]
        if not users:
            continue
        runs = writable_and_executable(scene, users[0])
        if runs:
            total = sum(one.size for one in runs)
            text = (
                f"{names(one.device for one in users)} may execute (ERE=1) {human_size(total)} that can be written as "
                f"well, from {runs[0].iova:#x} on"
            )
            devices = tuple(one.device for one in users)
            yield Hit(Severity.WARNING, text, Subject(devices, runs[0].gpa, runs[0].size, users[0].entries.at))


WRITABLE_AND_EXECUTABLE = rule(
    "VTD105", "writable-and-executable", Severity.WARNING, "memory can be both written and executed by a device"
)(_writable_and_executable)


def _device_tlb(scene: Scene) -> Iterator[Hit]:
    for one in scene.requesters:
        if one.entries.device_tlb:
            text = (
                f"translated requests of {one.device} are let through: its own TLB (ATS) is trusted to ask only for "
                "what it was given"
            )
            yield Hit(Severity.NOTE, text, _of(one))


DEVICE_TLB = rule("VTD106", "device-tlb", Severity.NOTE, "a device's own translations are trusted")(_device_tlb)


def _of(requester: Requester) -> Subject:
    return Subject((requester.device,), entry=Gpa(requester.entries.at))
