"""What each event's text says, for every kernel generation known.

`PARSERS` has a parser for each event name; it takes the text after `NAME:` and returns the fields of an `Event` from
`kind` on, None where the text is not what any known kernel prints, a reason where it is but says nothing that can be
used, or FOREIGN where another subsystem uses the name.

The texts are those of include/trace/events/{iommu,dma,swiotlb}.h, drivers/iommu/intel/trace.h and, for kernels 5.4 to
5.11, include/trace/events/intel_iommu.h. Addresses of dma events are hexadecimal without 0x.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from emulator.trace.event import GFP_CLASSES, READ, WRITE, CacheTag, Descriptor, Kind, Segments
from emulator.trace.unformatted import MARK, parse_unformatted
from pagetables.address import PAGE_SIZE

__all__ = ["FOREIGN", "PARSERS", "Fields", "Parser"]

Fields = tuple[Any, ...]
"""kind, device, domain, iova, gpa, size, access, pasid, leaf_levels, detail."""
Parser = Callable[[str], Fields | str | None]

FOREIGN: Final[Fields] = ()

_TOP = 1 << 64
_DIRECTIONS = {"BIDIRECTIONAL": READ | WRITE, "TO_DEVICE": READ, "FROM_DEVICE": WRITE}
_FLAG_WRITE = 1
_GFP = {
    f"GFP_{name}": GFP_CLASSES.index(kind)
    for name, kind in {
        "ATOMIC": "atomic", "NOWAIT": "nowait", "NOIO": "noio", "NOFS": "nofs",
        "KERNEL": "kernel", "USER": "kernel", "DMA": "kernel",
    }.items()
}  # fmt: skip

_MAP = re.compile(
    r"IOMMU: iova=0x([0-9a-f]{1,16}) (?:- 0x([0-9a-f]{1,16}) )?paddr=0x([0-9a-f]{1,16}) size=([0-9]{1,20})(?!\S)"
).match
_UNMAP = re.compile(
    r"IOMMU: iova=0x([0-9a-f]{1,16}) (?:- 0x([0-9a-f]{1,16}) )?size=([0-9]{1,20}) unmapped_size=([0-9]{1,20})(?!\S)"
).match
_DEVICE = re.compile(r"IOMMU: device=(\S+)").match
_GROUP = re.compile(r"IOMMU: groupID=([0-9]{1,10}) device=(\S+)").match
_FAULT = re.compile(r"IOMMU:.*?(\S+) iova=0x([0-9a-f]{1,16}) flags=0x([0-9a-f]{1,8})(?!\S)").match
_DMA = re.compile(
    r"(\S+) (?:dir=(\w+) )?dma_addr=([0-9a-f]{1,16}) size=([0-9]{1,20})(?: phys_addr=([0-9a-f]{1,16}))?(?!\S)"
).match
_FLAGS = re.compile(r".* flags=([A-Z_|]+)(?!\S)").match
_RAW_RANGE = re.compile(r".*? device=(\S+) .*?dma_addr=([0-9a-f]{1,16}) size=([0-9]{1,20})").match
_LIST = r"\{([0-9a-fx,]*)\}"
_SG = re.compile(
    r"(\S+) dir=(\w+) (?:nents=\S+ ents=\S+?(?: ?(\[TRUNCATED\]))? )?"
    rf"dma_addrs={_LIST} sizes={_LIST} phys_addrs={_LIST}"
).match
_SG_ONE = re.compile(rf"(\S+) dir=(\w+) (?:phys_addrs|dma_addrs)={_LIST}").match
_TAG = re.compile(r"(\S+)/(\S+) type (\S+) did ([0-9]{1,10}) pasid ([0-9]{1,10}) ref ([0-9]{1,10})").match
_FLUSH = re.compile(
    r"(\S+) (\S+)\[([0-9]{1,10})\] type (\S+) did ([0-9]{1,10}) \[0x([0-9a-f]{1,16})-0x([0-9a-f]{1,16})\]"
    r" addr 0x[0-9a-f]+( pages 0x[0-9a-f]+)? mask 0x[0-9a-f]+"
).match
_QI = re.compile(r"(\S+) (\S+): 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})").match
_BOUNCE = re.compile(r"dev_name: (\S+) dma_mask=[0-9a-f]+ dev_addr=([0-9a-f]{1,16}) size=([0-9]{1,20})").match
_OLD = re.compile(
    r"dev=(\S+) (?:\[[0-9]+/[0-9]+\] )?dev_addr=0x([0-9a-f]{1,16})(?: phys_addr=0x([0-9a-f]{1,16}))? size=([0-9]{1,20})"
).match


def _map(text: str) -> Fields | str | None:
    found = _MAP(text)
    if found is None:
        return None if text.startswith("IOMMU:") else FOREIGN
    start, end, physical, digits = found.groups()
    iova, gpa, size = int(start, 16), int(physical, 16), int(digits)
    if (
        size == _TOP
        or iova + size > _TOP
        or gpa + size > _TOP
        or (end is not None and int(end, 16) != (iova + size) % _TOP)
    ):
        return None
    if (iova | gpa | size) % PAGE_SIZE or not size:
        return "the map failed, it maps nothing" if not size else "the map is not made of whole 4 KiB pages"
    return (Kind.MAP, None, None, iova, gpa, size, 0, None, 0, None)


def _unmap(text: str) -> Fields | str | None:
    found = _UNMAP(text)
    if found is None:
        return None if text.startswith("IOMMU:") else FOREIGN
    start, end, asked, done = found.groups()
    iova, size, unmapped = int(start, 16), int(asked), int(done)
    if (
        _TOP in (size, unmapped)
        or iova + max(size, unmapped) > _TOP
        or (end is not None and int(end, 16) != (iova + size) % _TOP)
    ):
        return None
    if (iova | unmapped) % PAGE_SIZE or not unmapped:
        return "the unmap found nothing to unmap" if not unmapped else "the unmap is not made of whole 4 KiB pages"
    return (Kind.UNMAP, None, None, iova, 0, unmapped, 0, None, 0, None if size == unmapped else size)


def _about_device(kind: Kind) -> Parser:
    def parse(text: str) -> Fields | None:
        found = _DEVICE(text)
        return (kind, found[1], None, 0, 0, 0, 0, None, 0, None) if found else None

    return parse


def _group(kind: Kind) -> Parser:
    def parse(text: str) -> Fields | None:
        found = _GROUP(text)
        return (kind, found[2], None, 0, 0, 0, 0, None, 0, int(found[1])) if found else None

    return parse


def _fault(text: str) -> Fields | None:
    found = _FAULT(text)
    if found is None:
        return None
    access = WRITE if int(found[3], 16) & _FLAG_WRITE else READ
    return (Kind.FAULT, found[1], None, int(found[2], 16), 0, 0, access, None, 0, None)


def _dma(kind: Kind, detail: str | None = None) -> Parser:
    def parse(text: str) -> Fields | None:
        found = _DMA(text)
        if found is None:
            return _dma_raw(kind, text)
        device, direction, iova, size, physical = found.groups()
        gpa = int(physical, 16) if physical else 0
        return (kind, device, None, int(iova, 16), gpa, int(size), _DIRECTIONS.get(direction, 0), None, 0, detail)

    return parse


def _dma_raw(kind: Kind, text: str) -> Fields | None:
    # dma_alloc_sgt and dma_free_sgt have an array too.
    found = _RAW_RANGE(text) if text.startswith(MARK) else None
    return (kind, found[1], None, int(found[2], 16), 0, int(found[3]), 0, None, 0, None) if found else None


def _dma_alloc(text: str) -> Fields | str | None:
    # Only allocations say what memory their caller may ask for: `detail` is the class.
    fields, flags = _parse_alloc(text), _FLAGS(text)
    return (*fields[:-1], _gfp_class(flags[1])) if isinstance(fields, tuple) and flags is not None else fields


def _gfp_class(flags: str) -> int:
    return next((gfp for name, gfp in _GFP.items() if name in flags), 0)


_parse_alloc = _dma(Kind.DMA_ALLOC)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple([int(number, 16) for number in text.split(",")]) if text else ()


def _map_sg(text: str) -> Fields | None:
    found = _SG(text)
    if found is None:
        return parse_unformatted(Kind.DMA_MAP_SG, text) if text.startswith(MARK) else None
    device, direction, truncated, iovas, sizes, physical = found.groups()
    try:
        lists = Segments(_numbers(iovas), _numbers(sizes), _numbers(physical), truncated is not None)
    except ValueError:
        return None
    return (Kind.DMA_MAP_SG, device, None, 0, 0, 0, _DIRECTIONS.get(direction, 0), None, 0, lists)


def _one_list(kind: Kind) -> Parser:
    def parse(text: str) -> Fields | None:
        found = _SG_ONE(text)
        if found is None:
            return parse_unformatted(kind, text) if text.startswith(MARK) else None
        try:
            lists = Segments((), (), _numbers(found[3]), False)
        except ValueError:
            return None
        return (kind, found[1], None, 0, 0, 0, _DIRECTIONS.get(found[2], 0), None, 0, lists)

    return parse


def _tag(kind: Kind) -> Parser:
    def parse(text: str) -> Fields | None:
        found = _TAG(text)
        if found is None:
            return None
        unit, device, tag, domain, pasid, references = found.groups()
        detail = CacheTag(unit, tag, int(pasid), int(references), False)
        return (kind, device, int(domain), 0, 0, 0, 0, None, 0, detail)

    return parse


def _flush(text: str) -> Fields | None:
    found = _FLUSH(text)
    if found is None:
        return None
    unit, device, pasid, tag, domain, start, last, pages = found.groups()
    first = int(start, 16)
    size = max(int(last, 16) + 1 - first, 0)
    detail = CacheTag(unit, tag, int(pasid), 0, pages is not None)
    return (Kind.CACHE_TAG_FLUSH, device, int(domain), first, 0, size, 0, None, 0, detail)


_flush_tag = _tag(Kind.CACHE_TAG_FLUSH)


def _flush_all(text: str) -> Fields | str | None:
    fields = _flush_tag(text)
    return (*fields[:5], _TOP, *fields[6:]) if isinstance(fields, tuple) else fields


def _qi_submit(text: str) -> Fields | None:
    found = _QI(text)
    if found is None:
        return None
    _, unit, first, second, third, fourth = found.groups()
    words = (int(first, 16), int(second, 16), int(third, 16), int(fourth, 16))
    return (Kind.QI_SUBMIT, None, None, 0, 0, 0, 0, None, 0, Descriptor(unit, words))


def _page_request(text: str) -> Fields | None:
    return (Kind.PAGE_REQUEST, None, None, 0, 0, 0, 0, None, 0, text)


def _bounce(text: str) -> Fields | None:
    found = _BOUNCE(text)
    if found is None:
        return None
    return (Kind.BOUNCE, found[1], None, int(found[2], 16), 0, int(found[3]), 0, None, 0, None)


def _old(kind: Kind) -> Parser:
    # These kernels name the device of each mapping; the address keeps its offset in the page.
    def parse(text: str) -> Fields | None:
        found = _OLD(text)
        if found is None or (kind is Kind.MAP) != (found[3] is not None):
            return None
        iova, gpa, size = int(found[2], 16), int(found[3] or "0", 16), int(found[4])
        offset = iova % PAGE_SIZE
        size = -(-(offset + size) // PAGE_SIZE) * PAGE_SIZE
        if iova - offset + size > _TOP or gpa - gpa % PAGE_SIZE + size > _TOP:
            return None
        return (kind, found[1], None, iova - offset, gpa - gpa % PAGE_SIZE, size, 0, None, 0, None)

    return parse


PARSERS: Final[dict[str, Parser]] = {
    "map": _map,
    "unmap": _unmap,
    "attach_device_to_domain": _about_device(Kind.ATTACH),
    "detach_device_from_domain": _about_device(Kind.DETACH),
    "add_device_to_group": _group(Kind.GROUP_ADD),
    "remove_device_from_group": _group(Kind.GROUP_REMOVE),
    "io_page_fault": _fault,
    "dma_map_page": _dma(Kind.DMA_MAP, "page"),
    "dma_map_phys": _dma(Kind.DMA_MAP, "phys"),
    "dma_map_resource": _dma(Kind.DMA_MAP, "page"),
    "dma_unmap_page": _dma(Kind.DMA_UNMAP),
    "dma_unmap_phys": _dma(Kind.DMA_UNMAP),
    "dma_unmap_resource": _dma(Kind.DMA_UNMAP),
    **{f"dma_alloc{suffix}": _dma_alloc for suffix in ("", "_pages", "_sgt")},
    "dma_alloc_sgt_err": _dma(Kind.DMA_ERROR),
    **{f"dma_free{suffix}": _dma(Kind.DMA_FREE) for suffix in ("", "_pages", "_sgt")},
    "dma_map_sg": _map_sg,
    "dma_map_sg_err": _one_list(Kind.DMA_ERROR),
    "dma_unmap_sg": _one_list(Kind.DMA_UNMAP_SG),
    **{f"dma_sync_single_for_{side}": _dma(Kind.DMA_SYNC) for side in ("cpu", "device")},
    **{f"dma_sync_sg_for_{side}": _one_list(Kind.DMA_SYNC) for side in ("cpu", "device")},
    "cache_tag_assign": _tag(Kind.CACHE_TAG_ASSIGN),
    "cache_tag_unassign": _tag(Kind.CACHE_TAG_UNASSIGN),
    "cache_tag_flush_range": _flush,
    "cache_tag_flush_range_np": _flush,
    "cache_tag_flush_all": _flush_all,
    "qi_submit": _qi_submit,
    "prq_report": _page_request,
    "swiotlb_bounced": _bounce,
    **{f"{b}map_{what}": _old(Kind.MAP) for b in ("", "bounce_") for what in ("single", "sg")},
    **{f"{b}unmap_{what}": _old(Kind.UNMAP) for b in ("", "bounce_") for what in ("single", "sg")},
}
