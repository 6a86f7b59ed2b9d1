"""ATS translation requests: a device asks for translations to keep (VT-d, "Address Translation Service"; PCIe ATS).

Faults that software can repair are no errors here: the device gets a completion without rights, and may ask for the
page. Nothing of them is recorded. All other faults are recorded and end the request: unsupported request where the
requester is not entitled or not known, completer abort where the tables are wrong (the specification's text for this
split was not at hand).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from emulator.unit.device_tlb import encode_range
from pagetables.address import PAGE_SHIFT, PAGE_SIZE, Iova, level_shift
from pagetables.capabilities import Capabilities
from pagetables.errors import VtdError
from pagetables.fault import Fault, FaultReason
from pagetables.layouts.page_request import AtsTranslationCompletion
from pagetables.request import Access, AddressType, Permissions, Request, Translation
from pagetables.source import Source, TranslationType
from pagetables.walk import INTERRUPT_RANGE

__all__ = ["RECOVERABLE", "CompletionStatus", "TranslationCompletion", "TranslationRequests"]

_CAN_RECOVER = {0x05, 0x06, 0x51, 0x59, *range(0x70, 0x7E), 0x80, 0x81, 0x82, 0x84, 0x85, 0x86, 0x90, 0x91}
RECOVERABLE = frozenset(reason for reason in FaultReason if reason in _CAN_RECOVER)
"""Faults of a translation request that are answered with success and without rights, and are not recorded. 05h, 06h,
51h, 59h, 70h to 73h, 80h, 81h and 85h are known; the second-stage and nested codes follow from what they mean."""

_TABLES_ARE_WRONG = {
    0x03,
    0x07,
    0x08,
    0x09,
    0x0A,
    0x0B,
    0x0C,
    0x38,
    0x3A,
    0x40,
    0x42,
    0x43,
    0x50,
    0x52,
    0x58,
    0x5A,
    0x5B,
}
_READ_DENIED = (FaultReason.READ_DENIED, FaultReason.SM_READ_DENIED)


class CompletionStatus(enum.IntEnum):
    """Completion status, as in the header of a PCIe completion."""

    SUCCESS = 0
    UNSUPPORTED_REQUEST = 1
    COMPLETER_ABORT = 4


@dataclass(frozen=True, slots=True)
class TranslationCompletion:
    """The answer to a translation request: on success one entry for each range, from the requested address on.

    The entries have one size. `fault` is why rights or the whole translation are withheld, recorded unless recovery is
    possible; an entry without rights still says how large the range is that it is about.
    """

    status: CompletionStatus
    entries: tuple[AtsTranslationCompletion, ...] = ()
    fault: Fault | None = None

    @property
    def succeeded(self) -> bool:
        """True for a completion with entries, be they without rights."""
        return self.status is CompletionStatus.SUCCESS


@dataclass(frozen=True, slots=True)
class _Range:
    # One entry, the size of what it is about, and the fault that took its rights.
    entry: AtsTranslationCompletion
    shift: int
    fault: Fault | None = None


class TranslationRequests:
    """Answers translation requests. `look_up` finds a request's source, `walk` translates under it; neither records."""

    def __init__(
        self,
        capabilities: Capabilities,
        look_up: Callable[[Request], Source | Fault],
        walk: Callable[[Source, Request], Translation | Fault],
        interrupt_range_faults: bool = False,
    ) -> None:
        self._capabilities = capabilities
        self._look_up = look_up
        self._walk = walk
        self._interrupt_range_faults = interrupt_range_faults

    def answer(self, request: Request, no_write: bool = False, pages: int = 1) -> TranslationCompletion:
        """Translations for `pages` pages from the request's on, as many as have one size and can be read.

        Access.EXECUTE asks for execute permission beside the others; `no_write` (NW) is only heard with ECAP.NWFS, and
        keeps dirty bits as they are.
        """
        if pages < 1:
            raise VtdError(f"a translation request is for at least 1 page, not {pages}")
        access = Access.EXECUTE if request.access is Access.EXECUTE else Access.READ
        page = Iova(request.iova >> PAGE_SHIFT << PAGE_SHIFT)
        request = replace(request, iova=page, access=access, address_type=AddressType.TRANSLATION_REQUEST)
        no_write = no_write and bool(self._capabilities.ecap.nwfs)
        if request.privileged and not self._capabilities.ecap.srs:
            return self._without_supervisors(request)
        source = self._look_up(request)
        if isinstance(source, Fault):
            return _ended(source, request)
        if _asks_for_interrupts(request):
            return self._interrupt_range(source, request)
        return self._translations(source, request, no_write, pages)

    def _translations(self, source: Source, request: Request, no_write: bool, pages: int) -> TranslationCompletion:
        first = self._range(source, request, no_write)
        if isinstance(first, Fault):
            return _ended(first, request)
        entries, size = [first.entry], 1 << first.shift
        at, end = (request.iova & ~(size - 1)) + size, request.iova + pages * PAGE_SIZE
        while at < end and first.fault is None:
            next_ = replace(request, iova=Iova(at))
            if _asks_for_interrupts(next_):
                break
            found = self._walk(source, replace(next_, access=Access.READ))
            # What granting a right would mark as written has to be of the completion first.
            if isinstance(found, Fault) or found.page_shift != first.shift:
                break
            entries.append(self._readable(source, next_, found, no_write).entry)
            at += size
        return TranslationCompletion(CompletionStatus.SUCCESS, tuple(entries), first.fault)

    def _range(self, source: Source, request: Request, no_write: bool) -> _Range | Fault:
        found = self._walk(source, replace(request, access=Access.READ))
        if isinstance(found, Translation):
            return self._readable(source, request, found, no_write)
        if found.reason in _READ_DENIED and not no_write:
            written = self._walk(source, replace(request, access=Access.WRITE))
            if isinstance(written, Translation):
                return _granted(request, written, w=1)
        found = replace(found, request=request)  # a record tells whether execute permission was asked for
        if found.reason not in RECOVERABLE:
            return found
        shift = _shift_of(found, source)
        return _Range(_entry(request, 0, shift), shift, found)

    def _readable(self, source: Source, request: Request, found: Translation, no_write: bool) -> _Range:
        writes = not no_write and self._writable(source, request, found)
        executes = request.access is Access.EXECUTE and isinstance(self._walk(source, request), Translation)
        return _granted(request, found, r=1, w=int(writes), exe=int(executes))

    def _writable(self, source: Source, request: Request, found: Translation) -> bool:
        # What is granted for writing counts as written: the tables' dirty bit is set now.
        if not found.permissions & Permissions.W:
            return False
        return isinstance(self._walk(source, replace(request, access=Access.WRITE)), Translation)

    def _without_supervisors(self, request: Request) -> TranslationCompletion:
        # Without SRS privileged requests are granted nothing, and PRIV says that they were understood.
        source = self._look_up(replace(request, privileged=False))
        if isinstance(source, Fault):
            return _ended(source, request)
        return TranslationCompletion(CompletionStatus.SUCCESS, (_entry(request, 0, PAGE_SHIFT),))

    def _interrupt_range(self, source: Source, request: Request) -> TranslationCompletion:
        if self._interrupt_range_faults:
            reason = FaultReason.SM_OUTPUT_IN_INTERRUPT_RANGE
            if source.legacy:
                reason = FaultReason.OUTPUT_IN_INTERRUPT_RANGE
            return _ended(Fault(reason, request, disabled=source.fault_processing_disabled), request)
        # Interrupts are sent untranslated: the device may write there, and must not translate first.
        entry = _entry(request, request.iova, PAGE_SHIFT, w=1, u=1)
        return TranslationCompletion(CompletionStatus.SUCCESS, (entry,))


def _asks_for_interrupts(request: Request) -> bool:
    return INTERRUPT_RANGE[0] <= request.iova < INTERRUPT_RANGE[1] and request.pasid is None


def _entry(request: Request, address: int, shift: int, **rights: int) -> AtsTranslationCompletion:
    # N is never granted: what the unit writes is snooped. Global is always 0.
    number, s = encode_range(address, shift)
    return AtsTranslationCompletion.of(priv=int(request.privileged), s=s, addr=number, **rights)


def _granted(request: Request, found: Translation, **rights: int) -> _Range:
    return _Range(_entry(request, found.gpa, found.page_shift, **rights), found.page_shift)


def _shift_of(fault: Fault, source: Source) -> int:
    # A fault of a nested walk does not say which stage its level is of.
    if fault.level and source.translation is not TranslationType.NESTED:
        return level_shift(fault.level)
    return PAGE_SHIFT


def _ended(fault: Fault, request: Request) -> TranslationCompletion:
    if fault.reason in RECOVERABLE:
        return TranslationCompletion(CompletionStatus.SUCCESS, (_entry(request, 0, PAGE_SHIFT),), fault)
    wrong = fault.reason in _TABLES_ARE_WRONG
    status = CompletionStatus.COMPLETER_ABORT if wrong else CompletionStatus.UNSUPPORTED_REQUEST
    return TranslationCompletion(status, fault=fault)
