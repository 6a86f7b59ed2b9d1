"""What a unit says it can do: CAP and ECAP, and the host address width, as questions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from pagetables.layouts.registers import Capability, ExtendedCapability

__all__ = ["Capabilities"]

_REGISTER_GRANULE = 16  # FRO and IRO count in these bytes


@dataclass(frozen=True)
class Capabilities:
    """The capability words of a unit, and its platform's host address width `haw` in bits (the DMAR table's word).

    Answers are kept, since every walk asks: hence no slots.
    """

    cap: Capability
    ecap: ExtendedCapability
    haw: int = 52

    @cached_property
    def address_limit(self) -> int:
        """First address beyond the host address width."""
        return 1 << self.haw

    @cached_property
    def mgaw(self) -> int:
        """Maximum guest address width in bits: how wide second-stage input may be."""
        return self.cap.mgaw + 1

    @cached_property
    def domain_id_width(self) -> int:
        """Bits of a domain-id: 4 + 2*ND."""
        return 4 + 2 * self.cap.nd

    @cached_property
    def pasid_width(self) -> int:
        """Bits of a PASID; 0 where requests with PASID are not supported."""
        return self.ecap.pss + 1 if self.ecap.pasid else 0

    @cached_property
    def second_stage_levels(self) -> frozenset[int]:
        """How many levels second-stage tables may have (3, 4, 5), from SAGAW."""
        return frozenset(levels for levels in (3, 4, 5) if self.cap.sagaw >> (levels - 2) & 1)

    @cached_property
    def second_stage_leaf_levels(self) -> frozenset[int]:
        """Levels at which a second-stage entry may map a page: 1, and 2 and 3 as SSLPS says."""
        return frozenset({1} | {level for level in (2, 3) if self.cap.sslps >> (level - 2) & 1})

    @cached_property
    def first_stage_levels(self) -> frozenset[int]:
        """How many levels first-stage tables may have: 4, and 5 with FS5LP; none without ECAP.FSTS."""
        if not self.ecap.fsts:
            return frozenset()
        return frozenset({4, 5} if self.cap.fs5lp else {4})

    @cached_property
    def first_stage_leaf_levels(self) -> frozenset[int]:
        """Levels at which a first-stage entry may map a page: 1, 2, and 3 with FS1GP."""
        return frozenset({1, 2, 3} if self.cap.fs1gp else {1, 2})

    @cached_property
    def largest_address_mask(self) -> int | None:
        """The largest AM of a page-selective IOTLB invalidation (2^AM pages); None where there is none (PSI=0)."""
        return self.cap.mamv if self.cap.psi else None

    @cached_property
    def fault_records(self) -> int:
        """How many fault recording registers there are."""
        return self.cap.nfr + 1

    @cached_property
    def fault_record_offset(self) -> int:
        """Where the first fault recording register lies, in bytes from the register base."""
        return self.cap.fro * _REGISTER_GRANULE

    @cached_property
    def iotlb_offset(self) -> int:
        """Where IVA lies, in bytes from the register base; the IOTLB register follows 8 bytes later."""
        return self.ecap.iro * _REGISTER_GRANULE
