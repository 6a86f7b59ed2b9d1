"""Version, capabilities, global command and status, root table address, register-based invalidation."""

from __future__ import annotations

from pagetables.bits import RO, RW, WO, Reserved
from pagetables.layouts.registers.register import Register
from pagetables.layouts.values import ContextGranularity, IotlbGranularity, TableMode

__all__ = [
    "Capability",
    "ContextCommand",
    "ExtendedCapability",
    "GlobalCommand",
    "GlobalStatus",
    "InvalidateAddress",
    "IotlbCommand",
    "RootTableAddress",
    "Version",
]


class Version(Register, name="VER", width=32, offset=0x0, reset=None):
    """Architecture version."""

    min = RO(3, 0, "minor version")
    maj = RO(7, 4, "major version")
    rsvd_31_8 = Reserved(31, 8)


class Capability(Register, name="CAP", width=64, offset=0x8, reset=None):
    """Capabilities."""

    nd = RO(2, 0, "domain-id width = 4+2*ND bits (7 reserved)")
    afl = RO(3, about="advanced fault logging (removed in rev 4.x: reserved, report 0)")
    rwbf = RO(4, about="software must flush write buffers")
    plmr = RO(5, about="protected low-memory region supported")
    phmr = RO(6, about="protected high-memory region supported")
    cm = RO(7, about="caching mode (may cache not-present/erroneous entries)")
    sagaw = RO(12, 8, "second-stage AGAW bitmap: b1 39-bit/3-level, b2 48/4, b3 57/5, b0 and b4 reserved")
    rsvd_15_13 = Reserved(15, 13)
    mgaw = RO(21, 16, "maximum guest address width minus 1")
    zlr = RO(22, about="zero-length reads to write-only pages allowed")
    dep23 = RO(23, about="deprecated (was ISOCH); report 0")
    fro = RO(33, 24, "offset of FRCD[0] in units of 16 bytes")
    sslps = RO(37, 34, "second-stage large pages: b0 2M, b1 1G, b2/b3 reserved; legal values 0,1,3")
    rsvd_38_38 = Reserved(38)
    psi = RO(39, about="page-selective invalidation")
    nfr = RO(47, 40, "number of fault recording registers minus 1")
    mamv = RO(53, 48, "largest AM accepted by page-selective IOTLB invalidation")
    dwd = RO(54, about="write draining (deprecated, report 1)")
    drd = RO(55, about="read draining (deprecated, report 1)")
    fs1gp = RO(56, about="first-stage 1 GiB pages")
    rsvd_58_57 = Reserved(58, 57)
    pi = RO(59, about="posted interrupts")
    fs5lp = RO(60, about="first-stage 5-level paging")
    ecmds = RO(61, about="enhanced command interface (rev >= 4.0)")
    esirtps = RO(62, about="hardware invalidates the IEC on SIRTP")
    esrtps = RO(63, about="hardware invalidates all DMA caches on SRTP")


class ExtendedCapability(Register, name="ECAP", width=64, offset=0x10, reset=None):
    """Extended capabilities."""

    c = RO(0, about="page-walk coherency (root/context/PASID tables, IRT, PID, legacy second-stage tables)")
    qi = RO(1, about="queued invalidation")
    dt = RO(2, about="device-TLB (ATS)")
    ir = RO(3, about="interrupt remapping")
    eim = RO(4, about="extended interrupt mode (32-bit APIC ids)")
    dep5 = RO(5, about="deprecated (was caching hints)")
    pt = RO(6, about="pass-through")
    sc = RO(7, about="snoop control (SNP bit honoured)")
    iro = RO(17, 8, "offset of IVA/IOTLB registers in units of 16 bytes")
    rsvd_19_18 = Reserved(19, 18)
    mhmv = RO(23, 20, "largest IM accepted by IEC invalidation")
    dep24 = RO(24, about="deprecated (was ECS, extended context)")
    mts = RO(25, about="memory type support")
    nest = RO(26, about="nested translation")
    rsvd_27_27 = Reserved(27, about="reserved (was DIS)")
    dep28 = RO(28, about="deprecated (first PASID attempt, never valid)")
    prs = RO(29, about="page request support")
    ers = RO(30, about="execute requests")
    srs = RO(31, about="supervisor requests")
    rsvd_32_32 = Reserved(32)
    nwfs = RO(33, about="no-write flag in translation requests honoured")
    eafs = RO(34, about="extended accessed flag")
    pss = RO(39, 35, "PASID width minus 1")
    pasid = RO(40, about="requests with PASID supported")
    dit = RO(41, about="device-TLB invalidation throttle (PFSID honoured)")
    pds = RO(42, about="page-request drain (wait descriptor PD)")
    smts = RO(43, about="scalable mode")
    vcs = RO(44, about="virtual command interface (0 on physical hardware)")
    ssads = RO(45, about="second-stage accessed/dirty")
    ssts = RO(46, about="second-stage translation")
    fsts = RO(47, about="first-stage translation")
    smpwcs = RO(48, about="scalable-mode page-walk coherency (PWSNP honoured)")
    rps = RO(49, about="RID_PASID field honoured")
    tdxio = RO(50, about="TDX-IO support (report 0)")
    pms = RO(51, about="performance monitoring")
    adms = RO(52, about="abort-DMA mode")
    rprivs = RO(53, about="RID_PRIV field honoured")
    rsvd_54_54 = Reserved(54)
    hpts = RO(55, about="host permission table (rev 5.x; report 0)")
    ptrs = RO(56, about="PASID in translated requests (rev 5.x; report 0)")
    ssirw = RO(57, about="sources disagree on name and meaning (rev 5.x; report 0)")
    sms = RO(58, about="stop-marker support")
    rsvd_59_59 = Reserved(59)
    rdts = RO(60, about="rev 5.x only, one source; report 0")
    eimer = RO(61, about="rev 5.x only, one source; report 0")
    irreq = RO(62, about="rev 5.x only, one source; report 0")
    rsvd_63_63 = Reserved(63)


class GlobalCommand(Register, name="GCMD", width=32, offset=0x18):
    """Global command; reads return 0 or are undefined."""

    rsvd_22_0 = Reserved(22, 0)
    cfi = WO(23, about="compatibility-format interrupts pass (persistent)")
    sirtp = WO(24, about="set IRT pointer (one shot)")
    ire = WO(25, about="interrupt remapping enable (persistent)")
    qie = WO(26, about="queued invalidation enable (persistent)")
    wbf = WO(27, about="write-buffer flush (one shot)")
    eafl = WO(28, about="advanced fault log enable (legacy; reserved in rev 4.x)")
    sfl = WO(29, about="set fault log (legacy; reserved in rev 4.x)")
    srtp = WO(30, about="set root table pointer (one shot)")
    te = WO(31, about="translation enable (persistent)")


class GlobalStatus(Register, name="GSTS", width=32, offset=0x1C):
    """Global status."""

    rsvd_22_0 = Reserved(22, 0)
    cfis = RO(23, about="mirrors CFI")
    irtps = RO(24, about="0 while SIRTP in progress, 1 when done")
    ires = RO(25, about="mirrors IRE")
    qies = RO(26, about="mirrors QIE")
    wbfs = RO(27, about="1 while a write-buffer flush is in progress")
    afls = RO(28, about="legacy; reserved in rev 4.x")
    fls = RO(29, about="legacy; reserved in rev 4.x")
    rtps = RO(30, about="0 while SRTP in progress, 1 when done")
    tes = RO(31, about="mirrors TE")


class RootTableAddress(Register, name="RTADDR", width=64, offset=0x20):
    """Root table address; latched by GCMD.SRTP."""

    rsvd_9_0 = Reserved(9, 0)
    ttm = RW(11, 10, "table mode: 0 legacy, 1 scalable, 2 reserved, 3 abort", values=TableMode)
    rta = RW(63, 12, "root table page (63:HAW not implemented: read 0)", address=True)


class ContextCommand(Register, name="CCMD", width=64, offset=0x28):
    """Context command: register-based context-cache invalidation (gone from VER.MAJ=6 on)."""

    did = RW(15, 0, "domain id")
    sid = WO(31, 16, "source id")
    fm = WO(33, 32, "function mask: ignore 0 none, 1 bit 2, 2 bits 2:1, 3 bits 2:0 of the function")
    rsvd_58_34 = Reserved(58, 34)
    caig = RO(60, 59, "granularity performed", values=ContextGranularity)
    cirg = RW(62, 61, "granularity requested: 1 global, 2 domain, 3 device", values=ContextGranularity)
    icc = RW(63, about="start; hardware clears when done")


class InvalidateAddress(Register, name="IVA", width=64, offset=0x0, base="iro"):
    """Invalidate address (gone from VER.MAJ=6 on). Bits from the guest address width upwards are ignored."""

    am = WO(5, 0, "2^AM pages")
    ih = WO(6, about="1: only leaf entries changed")
    rsvd_11_7 = Reserved(11, 7)
    addr = WO(63, 12, "page address; low AM bits ignored", address=True)


class IotlbCommand(Register, name="IOTLB", width=64, offset=0x8, base="iro"):
    """IOTLB invalidate (gone from VER.MAJ=6 on). Some Intel units come up with IAIG=1; this declares 0."""

    rsvd_31_0 = Reserved(31, 0)
    did = RW(47, 32, "domain id")
    dw = RW(48, about="drain writes")
    dr = RW(49, about="drain reads")
    rsvd_56_50 = Reserved(56, 50)
    iaig = RO(58, 57, "granularity performed; 0 for a bad request", values=IotlbGranularity)
    rsvd_59_59 = Reserved(59)
    iirg = RW(61, 60, "granularity requested: 1 global, 2 domain, 3 page", values=IotlbGranularity)
    rsvd_62_62 = Reserved(62)
    ivt = RW(63, about="start; hardware clears when done")
