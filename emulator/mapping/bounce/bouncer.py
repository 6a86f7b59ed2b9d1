"""Bounce buffers: memory that a device can reach, through which the rest is copied. Systems are chosen by name.

A bouncer is asked before each map and told at each unmap. Systems are registered here; others come through the entry
point group `vtd.bounce`, each naming a callable like `BouncerFactory`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

from emulator.clock import Clock
from emulator.mapping.costs import Meter
from emulator.mapping.pressure import Zone
from emulator.mapping.registry import Registry
from pagetables.errors import InputError, VtdError

__all__ = [
    "BOUNCERS",
    "GROUP",
    "NO_MASK",
    "BounceStatistics",
    "Bounced",
    "Bouncer",
    "BouncerFactory",
    "NoBounceBuffer",
    "bouncer_names",
    "make_bouncer",
]

GROUP = "vtd.bounce"
NO_MASK = (1 << 64) - 1  # a device that reaches everything
NONE = "none"


class NoBounceBuffer(VtdError):
    """A buffer has to be bounced, and there is no room for it."""


class Bounced(NamedTuple):
    """Where a buffer lies while the device uses it."""

    gpa: int
    size: int


@dataclass(slots=True)
class BounceStatistics:
    """What bouncing came to."""

    maps: int = 0  # asked for
    bounced: int = 0
    failed: int = 0  # bounces for which there was no room
    bytes_copied: int = 0
    used: int = 0  # bytes in use now
    used_highest: int = 0
    details: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int]:
        """The numbers by name, as a report prints them, the details of this system among them."""
        numbers = asdict(self)
        details: dict[str, int] = numbers.pop("details")
        return {**numbers, **details}


class Bouncer(Protocol):
    """One system of bounce buffers. `meter` pays for searches and copies; set by whoever runs operations."""

    name: str
    statistics: BounceStatistics
    meter: Meter
    on_available: list[Callable[[], None]]  # called when room was added in the background

    def prepare(self, gpa: int, size: int, access: int, mask: int = NO_MASK, cpu: int = 0) -> Bounced | None:
        """Where the device finds [gpa, gpa + size), already copied there if need be; None if it reaches it as it is.
        `access` has bit 0 if the device reads, bit 1 if it writes. NoBounceBuffer if there is no room."""
        ...

    def finish(self, bounced: Bounced) -> None:
        """The device is done: what it wrote is copied back, and the room is free."""
        ...


class BouncerFactory(Protocol):
    """Makes a bouncer; `options` are what the user set for it (`bounce.KEY`), without the prefix."""

    def __call__(self, zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> Bouncer:
        """The bouncer, its pools filled."""
        ...


BOUNCERS: Registry[BouncerFactory] = Registry(
    GROUP,
    "system of bounce buffers",
    {
        "sa1111": "emulator.mapping.bounce.sa1111:make",
        "dmabounce": "emulator.mapping.bounce.dmabounce:make",
        "swiotlb": "emulator.mapping.bounce.swiotlb:make",
        "swiotlb-dynamic": "emulator.mapping.bounce.swiotlb:make_dynamic",
    },
)
"""The systems of bounce buffers, `none` apart."""


def bouncer_names() -> list[str]:
    """Every system that can be named, plug-ins included, and `none`."""
    return sorted([NONE, *BOUNCERS.names()])


def make_bouncer(name: str, zone: Zone, clock: Clock, options: Mapping[str, int | str]) -> Bouncer | None:
    """The system called `name`, None for `none`; InputError for a name nobody has or an option it does not know."""
    if name == NONE:
        if options:
            raise InputError(f"bounce=none has no option {sorted(options)[0]!r}")
        return None
    return BOUNCERS.find(name)(zone, clock, options)
