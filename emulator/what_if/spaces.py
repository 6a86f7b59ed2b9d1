"""The domains of a run: those of the trace, or one for all devices; with addresses as recorded, or from an allocator.

The trace says which devices share a domain. Its spaces become domains of their own (with a tag in the IOTLB, Raj 2007),
or all become one: the window of a GART, or of a sparc IOMMU, is the same for every device.
"""

from __future__ import annotations

from collections.abc import Sequence

from emulator.machine import Machine
from emulator.mapping.addresses import MSI_WINDOW, AddressPlan, AddressSpace, AddressSpaces
from emulator.mapping.contexts import NoPage
from emulator.mapping.domain import Domain
from emulator.trace.spaces import Space
from pagetables.address import SourceId
from pagetables.errors import MappingError, OutOfPages

__all__ = ["RECORDED", "Spaces"]

RECORDED = "recorded"
STAND_IN_BUS = 0xFE  # requesters for spaces that no event ascribes to a device


class Spaces:
    """Domains by space of the trace. `direct` are ranges (start, size) mapped to themselves, which no allocator may
    hand out."""

    def __init__(self, machine: Machine, spaces: Sequence[Space], direct: Sequence[tuple[int, int]] = ()) -> None:
        settings = machine.settings
        self.shared = settings.window == "shared"
        self.addresses: AddressSpaces | None = None
        self.stand_ins: dict[int, SourceId] = {}
        self.count = 0  # domains: each has a root table
        self._machine, self._spaces = machine, spaces
        self.domains: dict[int, Domain] = {}  # by key
        self._extra: dict[str, Domain] = {}
        self._of_source: dict[SourceId, Domain] = {}
        if settings.iova != RECORDED:
            plan = AddressPlan(
                settings.iova,
                dict(settings.iova_options),
                reserved=_joined([MSI_WINDOW, *direct]),
                one_window=self.shared,
            )
            self.addresses = AddressSpaces(machine.layer, machine.clock, plan)

    def key(self, space: int) -> int:
        """The number under which what belongs to the domain of a space is kept."""
        return 0 if self.shared else space

    def domain(self, space: int) -> Domain:
        """The domain of a space, made when it is first needed; a MappingError if there is no page for its root."""
        key = self.key(space)
        domain = self.domains.get(key)
        if domain is None:
            domain = self.domains[key] = self._make(space)
            self._recount()
        if not self._spaces[space].devices and space not in self.stand_ins:
            self._attach_stand_in(space, domain)
        return domain

    def window(self, space: int) -> AddressSpace | None:
        """The addresses of the domain of a space; None if they are as recorded."""
        return None if self.addresses is None else self.addresses.space(self.key(space))

    def own(self, name: str) -> tuple[Domain, AddressSpace | None]:
        """Domain and addresses of something that is in no trace; a MappingError if there is no page for its root."""
        if self.addresses is not None:
            space = self.addresses.space(0 if self.shared else name)
            self._extra.setdefault(name, space.domain)
            self._recount()
            return space.domain, space
        if name not in self._extra:
            self._extra[name] = self._machine.layer.create_domain(None)
            self._recount()
        return self._extra[name], None

    def attach(self, space: int, source: SourceId) -> bool:
        """`source` translates through the domain of `space` from now on; False if there is no page for it."""
        try:
            domain = self.domain(space)
            if self._of_source.get(source) is not domain:
                self.detach(source)
                self._machine.layer.attach(domain, source)
                self._of_source[source] = domain
        except (MappingError, NoPage):
            return False
        return True

    def named(self) -> dict[str, tuple[Domain, AddressSpace | None]]:
        """Every domain made so far with its addresses, by the name of each space it serves; `own` ones by theirs."""
        found = {
            space.name: (self.domains[self.key(space.index)], self.window(space.index))
            for space in self._spaces
            if self.key(space.index) in self.domains
        }
        return found | {name: self.own(name) for name in list(self._extra)}

    def detach(self, source: SourceId) -> bool:
        """`source` translates through nothing from now on; False if it did not before."""
        domain = self._of_source.pop(source, None)
        if domain is not None:
            self._machine.layer.detach(domain, source)
        return domain is not None

    def requester(self, space: int) -> SourceId | None:
        """A device that reaches the domain of `space` now: one of the space's own, else its stand-in, else nobody."""
        domain = self.domains.get(self.key(space))
        for source in self._spaces[space].devices:
            if domain is not None and self._of_source.get(source) is domain:
                return source
        return self.stand_ins.get(space)

    def _recount(self) -> None:
        self.count = len({id(domain) for domain in (*self.domains.values(), *self._extra.values())})

    def _make(self, space: int) -> Domain:
        wanted = None if self.shared else self._spaces[space].domain_id
        if self.addresses is None:
            return self._machine.layer.create_domain(wanted)
        return self.addresses.space(self.key(space), wanted).domain

    def _attach_stand_in(self, space: int, domain: Domain) -> None:
        number = len(self.stand_ins)
        source = SourceId((STAND_IN_BUS - (number >> 8)) << 8 | number & 0xFF)
        try:
            self._machine.layer.attach(domain, source)
        except NoPage as error:
            raise OutOfPages(str(error), 0) from None
        self.stand_ins[space] = source


def _joined(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    # Ranges that touch or overlap become one: an allocator reserves each page once.
    joined: list[tuple[int, int]] = []
    for start, size in sorted(ranges):
        if joined and start <= sum(joined[-1]):
            first, length = joined[-1]
            joined[-1] = (first, max(length, start + size - first))
        else:
            joined.append((start, size))
    return tuple(joined)
