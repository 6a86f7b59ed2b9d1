"""Translation as QEMU's intel-iommu does it, for the profiles that are QEMU's.

It differs from the specification's too often, and in the order of things, to be told as exceptions to it: an IOTLB hit
decides before any table is read, rights are judged entry by entry and before reserved bits, scalable mode ends in the
codes of legacy mode. So it stands here beside the specification's, which stays as it is; both engines use it.

`sources` finds out who a requester is, `walk` reads the paging entries, `iotlb` keeps what they said, `translator` is
the way of a request through the three.
"""

from emulator.unit.qemu.iotlb import QemuIotlb
from emulator.unit.qemu.translator import QemuTranslator

__all__ = ["QemuTranslator", "QemuIotlb"]
