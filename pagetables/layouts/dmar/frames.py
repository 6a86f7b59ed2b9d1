"""The fixed parts of a DMAR table's structures, field by field."""

from __future__ import annotations

from typing import Any

from construct import Bytes, BytesInteger, Int8ul, Int16ul, Int32ul, Int64ul, Struct

__all__ = ["FRAMES", "HEAD", "HEADER", "SCOPE"]

HEADER = Struct(
    "signature" / Bytes(4),
    "length" / Int32ul,
    "revision" / Int8ul,
    "checksum" / Int8ul,
    "oemid" / Bytes(6),
    "oem_table_id" / Bytes(8),
    "oem_revision" / Int32ul,
    "creator_id" / Bytes(4),
    "creator_revision" / Int32ul,
    "haw" / Int8ul,
    "flags" / Int8ul,
    "rsvd" / BytesInteger(10, swapped=True),
)
HEAD = Struct("type" / Int16ul, "length" / Int16ul)
DRHD = Struct(*HEAD.subcons, "flags" / Int8ul, "size" / Int8ul, "segment" / Int16ul, "base" / Int64ul)
RMRR = Struct(*HEAD.subcons, "rsvd" / Int16ul, "segment" / Int16ul, "base" / Int64ul, "limit" / Int64ul)
ATSR = Struct(*HEAD.subcons, "flags" / Int8ul, "rsvd" / Int8ul, "segment" / Int16ul)
RHSA = Struct(*HEAD.subcons, "rsvd" / Int32ul, "base" / Int64ul, "pxm" / Int32ul)
ANDD = Struct(*HEAD.subcons, "rsvd" / BytesInteger(3, swapped=True), "devnum" / Int8ul)
SATC = Struct(*HEAD.subcons, "flags" / Int8ul, "rsvd" / Int8ul, "segment" / Int16ul)
SIDP = Struct(*HEAD.subcons, "rsvd" / Int16ul, "segment" / Int16ul)
SCOPE = Struct(
    "type" / Int8ul, "length" / Int8ul, "flags" / Int8ul, "rsvd" / Int8ul, "enum_id" / Int8ul, "start_bus" / Int8ul
)

FRAMES: dict[str, Any] = {
    "acpi_dmar_header": HEADER,
    "acpi_drhd": DRHD,
    "acpi_rmrr": RMRR,
    "acpi_atsr": ATSR,
    "acpi_rhsa": RHSA,
    "acpi_andd": ANDD,
    "acpi_satc": SATC,
    "acpi_sidp": SIDP,
    "acpi_device_scope": SCOPE,
}
