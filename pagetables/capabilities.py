"""What a unit says it can do: CAP and ECAP, and the host address width, as questions."""

from __future__ import annotations

from dataclasses import dataclass, field

from pagetables.layouts.registers import Capability, ExtendedCapability

__all__ = ["Capabilities"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capability words of a unit. `haw` (host address width, bits) is the platform's: DMAR says it, CAP does not."""

    cap: Capability
    ecap: ExtendedCapability
    haw: int = 52

    # Widths are asked for on every walk; the words never change.
    mgaw: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mgaw", self.cap.mgaw + 1)

    @property
    def domain_id_width(self) -> int:
        """Bits of a domain-id: 4 + 2*ND."""
        return 4 + 2 * self.cap.nd

    @property
    def second_stage_levels(self) -> frozenset[int]:
        """Table levels the second stage can use (3, 4, 5), from SAGAW."""
        return frozenset(levels for levels in (3, 4, 5) if self.cap.sagaw >> (levels - 2) & 1)

    @property
    def second_stage_leaf_levels(self) -> frozenset[int]:
        """Levels at which a second-stage entry may map a page: 1, and 2 and 3 as SSLPS says."""
        return frozenset({1} | {level for level in (2, 3) if self.cap.sslps >> (level - 2) & 1})

    @property
    def first_stage_leaf_levels(self) -> frozenset[int]:
        """Levels at which a first-stage entry may map a page: 1, 2, and 3 with FS1GP."""
        return frozenset({1, 2, 3} if self.cap.fs1gp else {1, 2})

    @property
    def address_limit(self) -> int:
        """First address beyond the host address width."""
        return 1 << self.haw
