"""Protected memory regions: ranges that no device may reach, for boot before translation is on (VT-d, PMEN).

A unit of major version 2 or later guards them whatever TE says, before translation and after it; an older one only
where nothing translates. What is blocked is not reported: no fault reason exists for it. The unit's own accesses to
its tables, queues and status words are not subject to it.
"""

from __future__ import annotations

from dataclasses import replace

from emulator.unit.implemented import PROTECTED_GRANULE
from emulator.unit.registers import UnitRegisters
from pagetables.fault import Fault, FaultReason
from pagetables.request import Request, Translation

__all__ = ["ProtectedRegions"]

_GUARDS_TRANSLATED = 2  # from this major version on
_GRANULE_SHIFT = PROTECTED_GRANULE.bit_length() - 1


class ProtectedRegions:
    """The regions of one unit, as they were when protection was switched on or a bound was written."""

    def __init__(self, registers: UnitRegisters) -> None:
        self._registers = registers
        self._everything = registers.profile.version.maj >= _GUARDS_TRANSLATED
        self.ranges: tuple[tuple[int, int], ...] = ()

    def changed(self) -> None:
        """PMEN or a bound was written: PRS follows EPM, and the ranges are read again."""
        registers = self._registers
        enabled = registers.pmen.epm
        registers.pmen = registers.pmen.replace(prs=enabled)
        cap = registers.capabilities.cap
        bounds: list[tuple[int, int]] = [(registers.plmbase, registers.plmlimit)] if cap.plmr else []
        bounds += [(registers.phmbase, registers.phmlimit)] if cap.phmr else []
        # The low bits of a limit count as ones; a base above its limit disables the region.
        found = ((int(base), int(limit) | PROTECTED_GRANULE - 1) for base, limit in bounds)
        self.ranges = tuple((base, limit + 1) for base, limit in found if base <= limit) if enabled else ()

    def check(self, request: Request, answer: Translation, translated: bool) -> Translation | Fault:
        """`answer`, or a silent fault where it leads into a region. `translated`: a paging structure yielded it.

        The fault carries READ_DENIED or WRITE_DENIED, as what stands nearest.
        """
        if not self.ranges or (translated and not self._everything):
            return answer
        if not any(start <= answer.gpa < end for start, end in self.ranges):
            # A larger page may reach into a region further on.
            return replace(answer, page_shift=min(answer.page_shift, _GRANULE_SHIFT))
        reason = FaultReason.WRITE_DENIED if request.access.writes else FaultReason.READ_DENIED
        return Fault(reason, request, silent=True)
