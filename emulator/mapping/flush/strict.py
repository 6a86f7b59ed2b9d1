"""Strict: the range is invalidated before unmap returns (Linux iommu.strict=1, intel_iommu=strict, and 2.6.24).

    unmap      one page-selective invalidation of the range (domain-selective where the unit cannot), waited for;
               then its table pages go back
    hint       leaves only, if no table page went with the range

Invariants: nothing is ever stale once unmap has returned; a page is free only after its invalidation.
Costs a submission and a wait for each unmap, on whatever CPU does it.

2.6.24 gave the table pages back first and invalidated then (`free_before_flush`): between the two the unit may walk,
through its paging-structure caches, a page that somebody else already writes to.
"""

from __future__ import annotations

from typing import ClassVar

from emulator.mapping.domain import Domain
from emulator.mapping.flush.policy import InvalidationPolicy
from pagetables.address import Gpa

__all__ = ["StrictInvalidation"]


class StrictInvalidation(InvalidationPolicy):
    """The range is invalidated before unmap returns."""

    name: ClassVar[str] = "strict"

    def unmapped(self, domain: Domain, iova: int, size: int, freed: tuple[Gpa, ...], cpu: int) -> None:
        """Invalidate the range, then release the pages."""
        self.unmapped_at_once(domain, iova, size, freed)
