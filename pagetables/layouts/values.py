"""What the values of some fields are called. A value without a name is reserved."""

from __future__ import annotations

import enum

__all__ = [
    "ContextGranularity",
    "DeliveryMode",
    "DestinationMode",
    "IotlbGranularity",
    "LegacyTranslation",
    "PasidCacheGranularity",
    "PasidIotlbGranularity",
    "SourceValidation",
    "TableMode",
    "TranslationType",
    "TriggerMode",
]


class TableMode(enum.IntEnum):
    """RTADDR.TTM: which tables the root table address leads to. (2 was extended mode until revision 3.0.)"""

    LEGACY = 0
    SCALABLE = 1
    ABORT = 3


class LegacyTranslation(enum.IntEnum):
    """TT of a legacy context entry."""

    SECOND_STAGE = 0
    DEVICE_TLB = 1  # second-stage, and the only type that lets translation requests and translated requests pass
    PASS_THROUGH = 2


class TranslationType(enum.IntEnum):
    """PGTT of a PASID table entry: how addresses of a source are translated."""

    FIRST_STAGE = 1
    SECOND_STAGE = 2
    NESTED = 3
    PASS_THROUGH = 4


class ContextGranularity(enum.IntEnum):
    """What a context-cache invalidation drops (CCMD, descriptor 1)."""

    GLOBAL = 1
    DOMAIN = 2
    DEVICE = 3


class IotlbGranularity(enum.IntEnum):
    """What an IOTLB invalidation drops (IOTLB register, descriptor 2)."""

    GLOBAL = 1
    DOMAIN = 2
    PAGE = 3


class PasidIotlbGranularity(enum.IntEnum):
    """What a PASID-based IOTLB invalidation drops (descriptor 6)."""

    PASID = 2
    PAGE = 3


class PasidCacheGranularity(enum.IntEnum):
    """What a PASID-cache invalidation drops (descriptor 7)."""

    DOMAIN = 0
    PASID = 1
    GLOBAL = 3


class DestinationMode(enum.IntEnum):
    """DM of an interrupt: what its destination is."""

    PHYSICAL = 0
    LOGICAL = 1


class DeliveryMode(enum.IntEnum):
    """DLM of an interrupt: what it does at the processor."""

    FIXED = 0
    LOWEST_PRIORITY = 1
    SMI = 2
    NMI = 4
    INIT = 5
    EXT_INT = 7


class TriggerMode(enum.IntEnum):
    """TM of an interrupt."""

    EDGE = 0
    LEVEL = 1


class SourceValidation(enum.IntEnum):
    """SVT of an interrupt remapping entry: how the requester is compared with SID."""

    NONE = 0
    SOURCE_ID = 1  # but for the function bits that SQ names
    BUS_RANGE = 2  # first bus in SID 15:8, last in 7:0
