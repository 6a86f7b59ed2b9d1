"""The entries that decide over one requester, read again: the scan says what they map, a rule asks what else they say.

Nothing is checked here; a wrong entry is the scan's to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from pagetables.address import PAGE_SHIFT, Gpa
from pagetables.bits import Word
from pagetables.layouts.context import LegacyContextEntry, LegacyRootEntry, ScalableContextEntry, ScalableRootEntry
from pagetables.layouts.pasid import PasidDirectoryEntry, PasidTableEntry
from pagetables.layouts.registers import RootTableAddress
from pagetables.layouts.values import LegacyTranslation
from pagetables.memory import Memory
from pagetables.scan import Space
from pagetables.source import Source, decode_context, decode_pasid_entry

__all__ = ["Entries", "read_entries"]


@dataclass(frozen=True, slots=True)
class Entries:
    """What root, context and PASID entries say of a space, and where the deciding one is.

    `pages` are the pages of all these structures. `device_tlb` is true where translated requests are let through,
    `without_pasid` where the space serves requests without PASID.
    """

    source: Source
    at: Gpa
    pages: tuple[int, ...]
    device_tlb: bool
    without_pasid: bool


def read_entries(memory: Memory, root: RootTableAddress, space: Space, rid_pasid: bool) -> Entries:
    """The entries under `root` for the requester of `space`; `rid_pasid` says that the unit honours RID_PASID."""
    if space.pasid is None:
        return _legacy(memory, root.rta << PAGE_SHIFT, space)
    return _scalable(memory, root.rta << PAGE_SHIFT, space, rid_pasid)


def _load(memory: Memory, at: int, layout: type[Word]) -> int:
    # Where memory ends, the scan read zeros, too.
    return sum((memory.load(at + offset) or 0) << offset * 8 for offset in range(0, layout.width // 8, 8))


def _legacy(memory: Memory, root: int, space: Space) -> Entries:
    bus, devfn = divmod(space.source_id, 256)
    table = LegacyRootEntry(_load(memory, root + bus * 16, LegacyRootEntry)).ctp << PAGE_SHIFT
    at = table + devfn * 16
    entry = LegacyContextEntry(_load(memory, at, LegacyContextEntry))
    device_tlb = entry.tt == LegacyTranslation.DEVICE_TLB
    return Entries(decode_context(entry), Gpa(at), (root, table), device_tlb, without_pasid=True)


def _scalable(memory: Memory, root: int, space: Space, rid_pasid: bool) -> Entries:
    bus, devfn = divmod(space.source_id, 256)
    pasid = space.pasid or 0
    upper, index = divmod(devfn, 128)
    entry = ScalableRootEntry(_load(memory, root + bus * 16, ScalableRootEntry))
    contexts = (entry.uctp if upper else entry.lctp) << PAGE_SHIFT
    context = ScalableContextEntry(_load(memory, contexts + index * 32, ScalableContextEntry))
    where = (context.pasiddirptr << PAGE_SHIFT) + (pasid >> 6) * 8
    directory = PasidDirectoryEntry(_load(memory, where, PasidDirectoryEntry))
    table = directory.smptblptr << PAGE_SHIFT
    at = table + (pasid & 63) * 64
    # Live memory may have changed since the scan, which never yields a space of a reserved PGTT.
    deciding = PasidTableEntry(_load(memory, at, PasidTableEntry)).replace(pgtt=space.translation)
    own = pasid == (context.rid_pasid if rid_pasid else 0)
    fpd = bool(context.fpd or directory.fpd or deciding.fpd)
    source = decode_pasid_entry(deciding, fpd, privileged=own and bool(context.rid_priv))
    pages = (root, contexts, where & -(1 << PAGE_SHIFT), table)
    return Entries(source, Gpa(at), pages, bool(context.dte), own)
