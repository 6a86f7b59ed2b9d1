"""Root and context entries of legacy and scalable mode (facts: 3, 4)."""

from __future__ import annotations

from pagetables.bits import Bits, Ignored, Reserved, Word

__all__ = ["LegacyContextEntry", "LegacyRootEntry", "ScalableContextEntry", "ScalableRootEntry"]


class LegacyRootEntry(Word, name="legacy_root_entry", width=128):
    """Legacy root entry, 256 per table, index = bus."""

    p = Bits(0, 0, "present")
    rsvd_11_1 = Reserved(11, 1)
    ctp = Bits(63, 12, "context table page (63:HAW must be 0)")
    rsvd_127_64 = Reserved(127, 64)


class LegacyContextEntry(Word, name="legacy_context_entry", width=128):
    """Legacy context entry, 256 per table, index = devfn."""

    p = Bits(0, 0, "present")
    fpd = Bits(1, 1, "fault processing disable")
    tt = Bits(3, 2, "translation type")
    rsvd_11_4 = Reserved(11, 4)
    ssptptr = Bits(63, 12, "second-stage root (63:HAW must be 0)")
    aw = Bits(66, 64, "address width: 1 39-bit, 2 48, 3 57")
    ign_70_67 = Ignored(70, 67, "available to software")
    rsvd_71_71 = Reserved(71)
    did = Bits(87, 72, "domain id")
    rsvd_127_88 = Reserved(127, 88)


class ScalableRootEntry(Word, name="sm_root_entry", width=128):
    """Scalable-mode root entry."""

    lp = Bits(0, 0, "lower half present (devfn 0-127)")
    rsvd_11_1 = Reserved(11, 1)
    lctp = Bits(63, 12, "lower context table page")
    up = Bits(64, 64, "upper half present (devfn 128-255)")
    rsvd_75_65 = Reserved(75, 65)
    uctp = Bits(127, 76, "upper context table page")


class ScalableContextEntry(Word, name="sm_context_entry", width=256):
    """Scalable-mode context entry, 128 per table, index = devfn & 0x7f."""

    p = Bits(0, 0, "present")
    fpd = Bits(1, 1, "fault processing disable")
    dte = Bits(2, 2, "device-TLB enable")
    paside = Bits(3, 3, "PASID enable")
    pre = Bits(4, 4, "page request enable")
    rsvd_8_5 = Reserved(8, 5)
    pdts = Bits(11, 9, "PASID directory has 2^(X+7) entries")
    pasiddirptr = Bits(63, 12, "PASID directory page (63:HAW must be 0)")
    rid_pasid = Bits(83, 64, "PASID used by requests without PASID (RPS)")
    rid_priv = Bits(84, 84, "privilege of requests without PASID (RPRIVS)")
    rsvd_127_85 = Reserved(127, 85)
    rsvd_255_128 = Reserved(255, 128)
