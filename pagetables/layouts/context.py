"""Root and context entries of legacy and scalable mode.

A pointer's bits from the host address width upwards are reserved, too; only the platform knows that width.
"""

from __future__ import annotations

from pagetables.bits import Bits, Ignored, Reserved, Word
from pagetables.layouts.values import LegacyTranslation

__all__ = ["LegacyContextEntry", "LegacyRootEntry", "ScalableContextEntry", "ScalableRootEntry"]


class LegacyRootEntry(Word, name="legacy_root_entry", width=128):
    """Legacy root entry; 256 a table, index = bus."""

    p = Bits(0, about="present")
    rsvd_11_1 = Reserved(11, 1)
    ctp = Bits(63, 12, "context table page (63:HAW must be 0)", address=True)
    rsvd_127_64 = Reserved(127, 64)


class LegacyContextEntry(Word, name="legacy_context_entry", width=128):
    """Legacy context entry; 256 a table, index = device and function. FPD counts even where P=0."""

    p = Bits(0, about="present")
    fpd = Bits(1, about="fault processing disable")
    tt = Bits(3, 2, "translation type", values=LegacyTranslation)
    rsvd_11_4 = Reserved(11, 4)
    ssptptr = Bits(63, 12, "second-stage root (63:HAW must be 0)", address=True)
    aw = Bits(66, 64, "address width: 1 39-bit, 2 48-bit, 3 57-bit")
    ign_70_67 = Ignored(70, 67, "available to software")
    rsvd_71_71 = Reserved(71)
    did = Bits(87, 72, "domain id")
    rsvd_127_88 = Reserved(127, 88)


class ScalableRootEntry(Word, name="sm_root_entry", width=128):
    """Scalable-mode root entry; 256 a table, index = bus. A half that is not present is not looked at."""

    lp = Bits(0, about="lower half present (devfn 0-127)")
    rsvd_11_1 = Reserved(11, 1)
    lctp = Bits(63, 12, "lower context table page", address=True)
    up = Bits(64, about="upper half present (devfn 128-255)")
    rsvd_75_65 = Reserved(75, 65)
    uctp = Bits(127, 76, "upper context table page", address=True)


class ScalableContextEntry(Word, name="sm_context_entry", width=256):
    """Scalable-mode context entry; 128 a table, index = device and function, modulo 128."""

    p = Bits(0, about="present")
    fpd = Bits(1, about="fault processing disable")
    dte = Bits(2, about="device-TLB enable")
    paside = Bits(3, about="PASID enable")
    pre = Bits(4, about="page request enable")
    rsvd_8_5 = Reserved(8, 5)
    pdts = Bits(11, 9, "PASID directory has 2^(X+7) entries")
    pasiddirptr = Bits(63, 12, "PASID directory page (63:HAW must be 0)", address=True)
    rid_pasid = Bits(83, 64, "PASID of requests without PASID (ignored without ECAP.RPS: then 0)")
    rid_priv = Bits(84, about="privilege of requests without PASID (needs ECAP.RPRIVS)")
    rsvd_127_85 = Reserved(127, 85)
    rsvd_255_128 = Reserved(255, 128)
