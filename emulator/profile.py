"""Profiles: which unit is emulated. A profile is a YAML file beside this module, in emulator/profiles.

It gives the words software reads (VER, CAP, ECAP; as a number, or field by field), the platform's host address width,
the capacity of the caches (an IOTLB replaces the ways of a set in turn, or is emptied when it is full), and the
behaviours in which this unit differs from what the specification asks or leaves open. What a profile does not name
keeps the specification's behaviour.

Fields are checked against each other where ECAP is composed field by field. A word given as a number was read from a
machine, and machines say what they say: Sapphire Rapids has SRS=1 and PASID=0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from emulator.behaviours import BEHAVIOURS
from emulator.engine import IotlbGeometry
from pagetables.bits import Word
from pagetables.capabilities import Capabilities
from pagetables.errors import InputError, LayoutError, near
from pagetables.layouts.registers import Capability, ExtendedCapability, Version

__all__ = ["Profile", "load_profile", "parse_profile", "profile_names"]

FOLDER = Path(__file__).parent / "profiles"
MAXIMUM_HAW = 52
MAXIMUM_LATENCY = 1_000_000_000
W = TypeVar("W", bound=Word)

_KEYS = ("name", "explains", "source", "version", "cap", "ecap", "haw")
_OPTIONAL = (
    "iotlb",
    "context_cache",
    "pasid_cache",
    "interrupt_cache",
    "paging_structure_cache",
    "performance_counters",
    "latency",
    "behaviours",
)
MOST_COUNTERS = 2  # performance counters that fit the register page


@dataclass(frozen=True, slots=True)
class Profile:
    """A unit as its maker built it. `source` says where the words come from; caches count entries."""

    name: str
    explains: str
    source: str
    version: Version
    capabilities: Capabilities
    iotlb: IotlbGeometry = field(default_factory=IotlbGeometry)
    context_cache: int = 256
    pasid_cache: int = 1024
    interrupt_cache: int = 256
    performance_counters: int = 0
    latency: int = 0
    behaviours: frozenset[str] = frozenset()

    def behaves(self, name: str) -> bool:
        """True if this unit shows the behaviour `name` (one of BEHAVIOURS)."""
        if name not in BEHAVIOURS:
            raise InputError(f"no behaviour is called {name!r}; {near(name, BEHAVIOURS)}")
        return name in self.behaviours


def profile_names() -> list[str]:
    """The profiles that come with the emulator, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """The profile called `name`; InputError with what is near otherwise."""
    names = profile_names()
    if name not in names:
        raise InputError(f"no profile is called {name!r}; {near(name, names)}")
    path = FOLDER / f"{name}.yaml"
    return parse_profile(path.read_text(encoding="utf-8"), f"profile {name}")


def parse_profile(text: str, where: str) -> Profile:
    """The profile in a YAML text; `where` begins every complaint."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a mapping with {', '.join(_KEYS)}")
    _check_keys(data, where)
    haw = _number(data["haw"], f"{where}: haw", 1, MAXIMUM_HAW)
    cap = _word(Capability, data["cap"], f"{where}: cap")
    ecap = _word(ExtendedCapability, data["ecap"], f"{where}: ecap")
    if isinstance(data["ecap"], dict):
        _check_dependencies(cap, ecap, where)
    counters = _number(data.get("performance_counters", 0), f"{where}: performance_counters", 0, MOST_COUNTERS)
    if bool(counters) is not bool(ecap.pms):
        raise InputError(f"{where}: performance_counters and ecap.pms need each other")
    return Profile(
        name=_text(data["name"], f"{where}: name"),
        explains=_text(data["explains"], f"{where}: explains"),
        source=_text(data["source"], f"{where}: source"),
        version=_word(Version, data["version"], f"{where}: version"),
        capabilities=Capabilities(cap, ecap, haw),
        iotlb=_geometry(data.get("iotlb", {}), data.get("paging_structure_cache", 0), where),
        context_cache=_number(data.get("context_cache", 256), f"{where}: context_cache", 1, 1 << 20),
        pasid_cache=_number(data.get("pasid_cache", 1024), f"{where}: pasid_cache", 1, 1 << 20),
        interrupt_cache=_number(data.get("interrupt_cache", 256), f"{where}: interrupt_cache", 0, 1 << 16),
        performance_counters=counters,
        latency=_number(data.get("latency", 0), f"{where}: latency", 0, MAXIMUM_LATENCY),
        behaviours=_behaviours(data.get("behaviours", []), f"{where}: behaviours"),
    )


def _check_keys(data: Mapping[Any, Any], where: str) -> None:
    for key in data:
        if key not in _KEYS + _OPTIONAL:
            raise InputError(f"{where}: {key!r} means nothing here; {near(str(key), _KEYS + _OPTIONAL)}")
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} missing")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: expected words, got {value!r}")
    return " ".join(value.split())


def _number(value: object, where: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{where}: expected a number from {low} to {high}, got {value!r}")
    return value


def _word(layout: type[W], value: object, where: str) -> W:
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return layout(value)
        if isinstance(value, dict):
            return layout.of(**{str(name): _number(v, f"{where}.{name}", 0, 1 << 64) for name, v in value.items()})
    except LayoutError as error:
        raise InputError(f"{where}: {error}") from None
    raise InputError(f"{where}: expected a number, or fields with their values, got {value!r}")


def _geometry(value: object, tables: object, where: str) -> IotlbGeometry:
    keys = ("sets", "ways", "replacement", "entries", "compared_bits")
    if not isinstance(value, dict) or not set(value) <= set(keys):
        raise InputError(f"{where}: iotlb: expected {', '.join(keys)}, got {value!r}")
    usual = IotlbGeometry()
    sets = _power(value.get("sets", usual.sets), f"{where}: iotlb.sets", 1, 1 << 20)
    ways = _number(value.get("ways", usual.ways), f"{where}: iotlb.ways", 1, 64)
    replacement = value.get("replacement", "round-robin")
    if replacement not in ("round-robin", "drop-all") or (replacement == "drop-all") is not ("entries" in value):
        raise InputError(f"{where}: iotlb.replacement: expected round-robin, or drop-all with entries")
    limit = _number(value.get("entries", 0), f"{where}: iotlb.entries", 0, sets * ways)
    capacity = _power(tables, f"{where}: paging_structure_cache", 0, 1 << 16)
    bits = _number(value.get("compared_bits", 0), f"{where}: iotlb.compared_bits", 0, 52)
    return IotlbGeometry(sets, ways, limit, capacity, bits)


def _power(value: object, where: str, low: int, high: int) -> int:
    number = _number(value, where, low, high)
    if number & number - 1:
        raise InputError(f"{where}: {number} is not a power of two")
    return number


def _behaviours(value: object, where: str) -> frozenset[str]:
    if not isinstance(value, list):
        raise InputError(f"{where}: expected a list of names, got {value!r}")
    for name in value:
        if name not in BEHAVIOURS:
            raise InputError(f"{where}: {name!r} is not one; {near(str(name), BEHAVIOURS)}")
    return frozenset(value)


# Which capability is worth nothing without another: fields of ECAP that are 1 need those named to be 1.
_NEEDS: dict[str, tuple[str, ...]] = {
    "dt": ("qi",),
    "ir": ("qi",),
    "eim": ("ir",),
    "smts": ("qi",),
    "mts": ("smts",),
    "srs": ("smts", "pasid"),
    "ers": ("pasid",),
    "pasid": ("smts",),
    "fsts": ("smts",),
    "ssts": ("smts",),
    "smpwcs": ("smts",),
    "rps": ("smts",),
    "nest": ("smts", "fsts", "ssts"),
    "prs": ("dt", "smts"),
    "pds": ("prs",),
    "nwfs": ("dt",),
    "dit": ("dt",),
    "eafs": ("fsts", "smpwcs"),
    "ssads": ("ssts", "smpwcs"),
    "rprivs": ("srs",),
    "sms": ("prs",),
}


def _check_dependencies(cap: Capability, ecap: ExtendedCapability, where: str) -> None:
    have = {name for name, value in ecap.fields().items() if value}
    for name in sorted(have & _NEEDS.keys()):
        missing = [other for other in _NEEDS[name] if other not in have]
        if missing:
            raise InputError(f"{where}: ecap.{name} needs ecap.{' and ecap.'.join(missing)}")
    if ecap.smts and not have & {"fsts", "ssts", "pt"}:
        raise InputError(f"{where}: ecap.smts needs one of ecap.fsts, ecap.ssts, ecap.pt")
    if cap.sslps == 2:
        raise InputError(f"{where}: cap.sslps is 0, 1 (2 MiB) or 3 (2 MiB and 1 GiB), got 2")
    if cap.pi and not ecap.ir:
        raise InputError(f"{where}: cap.pi needs ecap.ir")
    if ecap.pms and not cap.ecmds:
        raise InputError(f"{where}: ecap.pms needs cap.ecmds")
    if cap.afl or ecap.vcs:
        name = "cap.afl" if cap.afl else "ecap.vcs"
        raise InputError(f"{where}: {name} must be 0: what it promises is not modelled, and no current unit has it")
