"""What an invalidation removes, whoever asks: the queue and the registers alike (VT-d, "Invalidation of Translation
Caches"). Completion is synchronous, so every request in flight is drained by the time it returns.
"""

from __future__ import annotations

import enum

from emulator.engine import Iotlb
from emulator.profile import Profile
from emulator.unit.not_present import NotPresentCache
from emulator.unit.source_caches import SourceCaches
from pagetables.request import Request
from pagetables.source import Source, TranslationType

__all__ = ["Granularity", "Invalidator"]


class Granularity(enum.IntEnum):
    """What an invalidation asks for or was given, in the encoding of descriptors 1 and 2, CCMD and IOTLB."""

    NONE = 0
    GLOBAL = 1
    DOMAIN = 2
    DEVICE = 3
    PAGE = 3


class Invalidator:
    """Removes from the caches of a unit. Each method returns the granularity performed, NONE if it was no request.

    What the profile does beyond the least is done here; `plain` is True if that is nothing, and nothing not present is
    cached either: then invalidating the IOTLB is all there is to do for translations.
    """

    def __init__(self, profile: Profile, sources: SourceCaches, iotlb: Iotlb, absent: NotPresentCache) -> None:
        self._capabilities = profile.capabilities
        self._sources = sources
        self._iotlb = iotlb
        self._absent = absent
        self._widens_pages = profile.behaves("widen_page_invalidation")
        self._widens_contexts = profile.behaves("widen_context_invalidation")
        self._ignores_hint = profile.behaves("ignore_invalidation_hint")
        odd = self._widens_pages or self._ignores_hint or profile.behaves("walk_as_qemu")
        self.plain = not (absent.keeps or odd)

    def everything(self) -> None:
        """Empty all caches for DMA remapping."""
        self._sources.invalidate_contexts()
        self._sources.invalidate_pasids()
        self._iotlb.invalidate_all()
        self._absent.forget()

    def contexts(
        self, granularity: int, domain_id: int, source_id: int, function_mask: int, scalable: bool
    ) -> Granularity:
        """Context-cache. Scalable-mode context entries name no domain-id, so domain-selective is global there."""
        match granularity:
            case Granularity.DOMAIN if not (scalable or self._widens_contexts):
                self._sources.invalidate_context_domain(domain_id)
                self._absent.forget_contexts(domain_id)
                return Granularity.DOMAIN
            case Granularity.DEVICE:
                self._sources.invalidate_context_device(domain_id, source_id, function_mask)
                self._absent.forget_device(domain_id, source_id, function_mask)
                return Granularity.DEVICE
            case Granularity.GLOBAL | Granularity.DOMAIN:
                self._sources.invalidate_contexts()
                self._absent.forget_contexts()
                return Granularity.GLOBAL
        return Granularity.NONE

    def iotlb(self, granularity: int, domain_id: int, address: int, mask: int, hint: bool = False) -> Granularity:
        """IOTLB and paging-structure caches; with `hint` (IH) only leaves changed. Pages beyond MAMV are no request;
        without page-selective support the domain goes."""
        cap = self._capabilities.cap
        if granularity == Granularity.PAGE and cap.psi and mask > cap.mamv:
            return Granularity.NONE
        if granularity == Granularity.PAGE and (self._widens_pages or not cap.psi):
            granularity = Granularity.DOMAIN
        match granularity:
            case Granularity.GLOBAL:
                self._iotlb.invalidate_all()
                self._absent.forget_translations()
            case Granularity.DOMAIN:
                self._iotlb.invalidate_domain(domain_id)
                self._absent.forget_translations(domain_id)
            case Granularity.PAGE:
                self._iotlb.invalidate_pages(domain_id, address, mask, hint and not self._ignores_hint)
                self._absent.forget_pages(domain_id, address, mask)
            case _:
                return Granularity.NONE
        return Granularity(granularity)

    def pasid_iotlb(
        self, granularity: int, domain_id: int, pasid: int, address: int, mask: int, hint: bool = False
    ) -> bool:
        """IOTLB by PASID: 2 all of it, 3 pages (MAMV does not limit these); False for anything else."""
        if granularity == 2 or (granularity == 3 and self._widens_pages):
            self._iotlb.invalidate_pasid(domain_id, pasid)
            self._absent.forget_translations(domain_id, pasid)
        elif granularity == 3:
            self._iotlb.invalidate_pasid_pages(domain_id, pasid, address, mask, hint and not self._ignores_hint)
        else:
            return False
        return True

    def pasid_cache(self, granularity: int, domain_id: int, pasid: int) -> bool:
        """PASID-cache: 0 a domain, 1 a PASID of a domain, 3 everything; False for anything else."""
        if granularity == 0:
            self._sources.invalidate_pasid_domain(domain_id)
        elif granularity == 1:
            self._sources.invalidate_pasid(domain_id, pasid)
        elif granularity == 3:
            self._sources.invalidate_pasids()
        else:
            return False
        self._absent.forget_pasids(pasid if granularity == 1 else None)
        return True

    def requested_page(self, request: Request, source: Source) -> None:
        """A page request was taken: translations of its page go, and paging-structure entries. Software may widen the
        rights of either, and then answers without an invalidation."""
        if source.translation is TranslationType.FIRST_STAGE:
            pasid = source.rid_pasid if request.pasid is None else request.pasid
            self._iotlb.invalidate_pasid_pages(source.domain_id, pasid, request.iova, 0, False)
        elif source.translation is not TranslationType.PASS_THROUGH:
            self._iotlb.invalidate_pages(source.domain_id, request.iova, 0, False)
