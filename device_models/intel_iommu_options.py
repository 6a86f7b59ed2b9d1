"""What the options of intel-iommu make of a profile: capability words composed, and refused, as QEMU does.

`compose` takes the profile of a unit without options and applies those that were given. Values and refusals are those
read from QEMU 7.2.22, 10.0.2 and 11.1.3.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from device_models.options import OptionError
from emulator.profile import Profile
from pagetables.capabilities import Capabilities

__all__ = ["Dialect", "UnitOptions", "compose", "dialect_of"]

_WIDTHS = {39: 0b0010, 48: 0b0110, 57: 0b1110}  # by aw-bits, SAGAW


class Dialect(enum.Enum):
    """Whose option names, and whose refusals."""

    QEMU_7_2 = "7.2"
    QEMU_10_0 = "10.0"
    QEMU_11_1 = "11.1"


def dialect_of(profile: str) -> Dialect:
    """The dialect that a machine with `profile` speaks: the newest, but for profiles of older versions of QEMU."""
    for dialect in (Dialect.QEMU_7_2, Dialect.QEMU_10_0):
        if profile == f"qemu-{dialect.value}":
            return dialect
    return Dialect.QEMU_11_1


@dataclass(frozen=True, slots=True)
class UnitOptions:
    """Options as they were given, by their names in `dialect`; what is not there was not given."""

    dialect: Dialect
    given: Mapping[str, Any] = field(default_factory=dict)

    def get(self, *names: str) -> Any:
        """The value of the first of `names` that was given, None if none was."""
        return next((self.given[name] for name in names if name in self.given), None)

    @property
    def scalable_mode(self) -> Any:
        """True, False, or None if it was not given."""
        return self.get("scalable-mode", "x-scalable-mode")

    @property
    def first_stage(self) -> Any:
        """True, False, or None if it was not given."""
        return self.get("fsts", "x-flts")

    @property
    def pasid_bits(self) -> int | None:
        """How many bits a PASID has: 0 for none, None if it was not given."""
        if self.get("x-pasid-mode") is not None:
            return 1 if self.get("x-pasid-mode") else 0
        bits: int | None = self.get("pasid-bits")
        return bits


def compose(base: Profile, options: UnitOptions) -> Profile:
    """`base` with the options applied; OptionError, in QEMU's words, for what QEMU refuses."""
    cap: dict[str, int] = {}
    ecap: dict[str, int] = {}
    _refuse(base, options)
    _apply_switches(cap, ecap, options)
    haw = base.capabilities.haw
    bits = options.get("aw-bits")
    if bits is not None:
        cap.update(sagaw=_WIDTHS[bits], mgaw=bits - 1)
    if base.name.startswith("qemu-"):  # whose aw-bits is also the width of the machine's addresses
        haw = bits or haw
        _apply_scalable(cap, ecap, options)
    else:
        _apply_modes(ecap, options)
    if options.get("dma-translation") is False:
        cap["sagaw"] = 0
    known = base.capabilities
    capabilities = Capabilities(known.cap.replace(**cap), known.ecap.replace(**ecap), haw)
    more = {"ignore_transient_mapping"} if options.get("stale-tm") else set()
    return dataclasses.replace(base, capabilities=capabilities, behaviours=base.behaviours | more)


def _apply_switches(cap: dict[str, int], ecap: dict[str, int], options: UnitOptions) -> None:
    for name, fields, word in (
        ("caching-mode", ("cm",), cap),
        ("dma-drain", ("dwd", "drd"), cap),
        ("device-iotlb", ("dt",), ecap),
        ("snoop-control", ("sc",), ecap),
        ("pt", ("pt",), ecap),
    ):
        value = options.get(name)
        if value is not None:
            word.update(dict.fromkeys(fields, int(value)))
    if options.get("intremap") == "off":
        ecap.update(ir=0, eim=0, mhmv=0)
    elif options.get("eim") in ("on", "off"):
        ecap["eim"] = int(options.get("eim") == "on")


def _apply_scalable(cap: dict[str, int], ecap: dict[str, int], options: UnitOptions) -> None:
    # QEMU has one walker for the whole unit: first stage or second.
    if not options.scalable_mode:
        return
    if options.first_stage:
        ecap.update(smts=1, fsts=1)
        cap["fs1gp"] = int(options.get("fs1gp") is not False)
    else:
        ecap.update(smts=1, srs=1, ssts=1)
    _apply_pasid(ecap, options)
    if options.get("svm"):
        ecap.update(prs=1, nwfs=1, pds=1)


def _apply_modes(ecap: dict[str, int], options: UnitOptions) -> None:
    # A unit that has both walkers keeps what its profile says but for what is switched.
    if options.scalable_mode is not None:
        ecap["smts"] = int(options.scalable_mode)
    if options.first_stage is not None:
        ecap["fsts"] = int(options.first_stage)
    _apply_pasid(ecap, options)
    if options.get("svm") is not None:
        ecap.update(dict.fromkeys(("prs", "nwfs", "pds"), int(options.get("svm"))))


def _apply_pasid(ecap: dict[str, int], options: UnitOptions) -> None:
    bits = options.pasid_bits
    if bits is not None:
        ecap.update(pasid=int(bits > 0), pss=max(bits - 1, 0))


# -- what QEMU refuses ------------------------------------------------------------------------------------------------


def _refuse(base: Profile, options: UnitOptions) -> None:
    scalable = bool(options.scalable_mode)
    if options.get("eim") == "on":
        _refuse_eim(options)
    if not base.name.startswith("qemu-"):
        _refuse_width(options, scalable, both=True)
        return
    if options.first_stage and not scalable:
        name = "fsts" if options.dialect is Dialect.QEMU_11_1 else "x-flts"
        raise OptionError(f"{name} is only available in scalable mode")
    _refuse_width(options, scalable, both=False)
    if options.pasid_bits and not scalable:
        raise OptionError("Need to set scalable mode for PASID")
    if options.get("svm"):
        _refuse_svm(options)


def _refuse_eim(options: UnitOptions) -> None:
    if options.get("intremap") == "off":
        words = "with intremap=off" if options.dialect is Dialect.QEMU_11_1 else "without intremap=on"
        raise OptionError(f"eim=on cannot be selected {words}")
    if options.dialect is Dialect.QEMU_7_2:
        raise OptionError("eim=on requires accel=kvm,kernel-irqchip=split")


def _refuse_svm(options: UnitOptions) -> None:
    if not options.get("device-iotlb"):
        raise OptionError("Need to set device IOTLB for svm")
    if not options.first_stage:
        raise OptionError(
            "Need to set flts for svm" if options.dialect is Dialect.QEMU_10_0 else "Need to set fsts for svm"
        )
    if not options.pasid_bits:
        raise OptionError("Need to set PASID for svm")


def _refuse_width(options: UnitOptions, scalable: bool, both: bool) -> None:
    bits = options.get("aw-bits")
    if bits is None or (bits in _WIDTHS and both):
        return
    if both:
        raise OptionError(f"supported values for aw-bits are: {', '.join(map(str, _WIDTHS))}")
    first = scalable and options.first_stage
    if bits in ((48,) if first else (39, 48)):
        return
    if options.dialect is Dialect.QEMU_7_2:
        raise OptionError("Supported values for aw-bits are: 39, 48")
    name = "fsts" if options.dialect is Dialect.QEMU_11_1 else "flts"
    if first:
        raise OptionError(f"Scalable mode({name}=on): supported value for aw-bits is: 48")
    mode = f"Scalable mode({name}=off)" if scalable else "Legacy mode"
    raise OptionError(f"{mode}: supported values for aw-bits are: 39, 48")
