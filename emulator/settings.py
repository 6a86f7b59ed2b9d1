"""What a machine can be set to: every key, its default, its values. Keys come from `--set KEY=VALUE` and from YAML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from emulator.axes import choose
from emulator.engine import ENGINES
from emulator.mapping.driver import Mode
from emulator.mapping.flush.policy import waits_for_allocator
from emulator.mapping.pressure import Gfp
from emulator.mapping.uhci import LONGEST_PACKET
from emulator.presets import AXES, find_preset, with_preset
from pagetables.address import PAGE_SIZE, parse_number, parse_size
from pagetables.errors import InputError, near
from pagetables.mapper import Stage

__all__ = ["KEYS", "WHAT_IF", "Key", "Settings", "assignments", "machine_file"]

_LEAF_NAMES = {"4k": 1, "2m": 2, "1g": 3}


@dataclass(frozen=True, slots=True)
class Settings:
    """A machine, as `emulator.machine` builds it. `ram` None means: what the trace needs."""

    profile: str = "default"
    engine: str = "native"
    mode: Mode = Mode.LEGACY
    levels: int = 4
    stage: Stage = Stage.SECOND
    leaves: frozenset[int] = frozenset({1, 2, 3})
    pool: str = "respool"
    pool_options: tuple[tuple[str, int | str], ...] = ()
    flush: str = "strict"
    flush_options: tuple[tuple[str, int | str], ...] = ()
    iova: str = "recorded"
    iova_options: tuple[tuple[str, int | str], ...] = ()
    bounce: str = "none"
    bounce_options: tuple[tuple[str, int | str], ...] = ()
    reaction: str = "fail"
    reaction_options: tuple[tuple[str, int | str], ...] = ()
    window: str = "per-domain"
    gfp: Gfp = Gfp.ATOMIC
    accesses: str = "none"
    late_us: int = 5
    sg_boundary: int = 0
    transfers: str = "recorded"
    transfers_gap_us: int = 10
    requests: str = "none"
    requests_packet: int = 64
    requests_reserve: int = 0
    requests_gfp: Gfp = Gfp.ATOMIC
    costs: str | None = None
    pressure: str | None = None
    preset: str | None = None
    ram: tuple[tuple[int, int], ...] | None = None
    latency: int | None = None
    kernel_size: int = 1 << 30
    kernel_used: int = 0
    kernel_min_free_kib: int | None = None
    kernel_reclaim_per_ms: int = 256

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Settings:
        """The settings with these keys (of `KEYS`, or `pool.OPTION` and the like) changed; InputError for one that
        means nothing."""
        changes: dict[str, Any] = {}
        options: dict[str, list[tuple[str, int | str]]] = {axis: [] for axis in AXES}
        for name, value in with_preset(values).items():
            axis, _, option = name.partition(".")
            if axis in options and option:
                options[axis].append((option, _plain(value)))
            elif name in KEYS:
                changes[KEYS[name].attribute] = _parse(name, value)
            else:
                known = [*KEYS, "pool.min", "pool.grow", "flush.entries", "flush.timeout_ms"]
                raise InputError(f"no setting is called {name!r}; {near(name, known)}")
        changes |= {f"{axis}_options": tuple(chosen) for axis, chosen in options.items()}
        return replace(cls(), **changes)._checked()

    @property
    def is_what_if(self) -> bool:
        """Whether something is set that only a what-if run does: a preset, addresses, bounces, reactions, accesses."""
        files = (self.costs, self.pressure)
        made_up = (self.accesses, self.requests)
        own = (self.preset, self.iova, self.bounce, self.reaction, self.window, self.gfp, made_up, files)
        return own != (None, "recorded", "none", "fail", "per-domain", Gfp.ATOMIC, ("none", "none"), (None, None))

    def _checked(self) -> Settings:
        if self.stage is Stage.FIRST and self.mode is Mode.LEGACY:
            raise InputError("stage=first needs mode=scalable: legacy mode has second-stage tables only")
        if self.stage is Stage.FIRST and self.levels == 3:
            raise InputError("levels=3 needs stage=second: first-stage tables have 4 or 5 levels")
        if 1 not in self.leaves:
            raise InputError("leaves must have 4k among them: what is smaller than a larger page needs it")
        if self.window == "shared" and self.iova == "recorded":
            raise InputError("window=shared needs an address allocator: recorded addresses of two domains may be equal")
        if self.sg_boundary and self.iova == "recorded":
            raise InputError("sg.boundary needs an address allocator: a list that is laid out anew may be longer")
        if self.transfers != "recorded" and self.iova == "recorded":
            raise InputError(f"transfers={self.transfers} needs an address allocator: its ranges are not the recorded")
        if self.transfers != "recorded" and self.sg_boundary:
            raise InputError(f"sg.boundary is about scatter lists: transfers={self.transfers} meets no boundary")
        if self.iova == "recorded" and waits_for_allocator(self.flush):
            raise InputError(f"flush={self.flush} waits until an address allocator asks for a flush: set iova, too")
        return self


class Key(NamedTuple):
    """One setting: the attribute of `Settings` it changes, how its value is read, and what it is about."""

    attribute: str
    parse: Callable[[str], Any]
    about: str


def assignments(texts: Iterable[str]) -> dict[str, object]:
    """`KEY=VALUE` texts as a mapping; InputError for one without `=`."""
    values: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"{text!r} is not KEY=VALUE")
        values[name.strip()] = value.strip()
    return values


def machine_file(path: Path) -> dict[str, object]:
    """The settings in a YAML file. `pool: {name: respool, min: 64}` and `pool.min: 64` mean the same."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not YAML: not text") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected settings, such as `mode: scalable`, one a line")
    return _flatten(data)


def _flatten(data: Mapping[Any, Any]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in data.items():
        if isinstance(value, dict):
            values.update({str(name) if key == "name" else f"{name}.{key}": inner for key, inner in value.items()})
        else:
            values[str(name)] = value
    return values


def _plain(value: object) -> int | str:
    try:
        return parse_number(str(value))
    except InputError:
        return str(value)


def _parse(name: str, value: object) -> Any:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return KEYS[name].parse(text)
    except InputError as error:
        raise InputError(f"{name}={text}: {error}") from None


def _choice(values: Mapping[str, Any] | Iterable[str]) -> Callable[[str], Any]:
    table = dict(values) if isinstance(values, Mapping) else {value: value for value in values}

    def parse(text: str) -> Any:
        if text not in table:
            raise InputError(f"expected {' or '.join(table)}")
        return table[text]

    return parse


def _natural(low: int = 0) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = parse_number(text)
        if number < low:
            raise InputError(f"expected at least {low}")
        return number

    return parse


def _pages(text: str) -> int:
    size = parse_size(text)
    if size % PAGE_SIZE or not size:
        raise InputError(f"expected a multiple of {PAGE_SIZE:#x}, and not 0")
    return size


def _packet(text: str) -> int:
    size = parse_number(text)
    if not 1 <= size <= LONGEST_PACKET:
        raise InputError(f"expected 1 to {LONGEST_PACKET}")
    return size


def _boundary(text: str) -> int:
    size = parse_size(text)
    if size & (size - 1) or 0 < size < PAGE_SIZE:
        raise InputError(f"expected a power of two, a page or more, or 0: not {size:#x}")
    return size


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split(","):
        start, dash, end = part.partition("-")
        first, last = (parse_size(start), parse_size(end)) if dash else (0, parse_size(start))
        if last <= first:
            raise InputError(f"{part.strip()!r} is empty; expected START-END or a size, such as 0-3G,4G-6G")
        ranges.append((first, last - first))
    return tuple(ranges)


def _leaves(text: str) -> frozenset[int]:
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in _LEAF_NAMES:
            raise InputError(f"{name!r} is no page size; expected some of 4k,2m,1g")
    return frozenset(_LEAF_NAMES[name] for name in names)


def _on(axis: str) -> Callable[[str], str]:
    return partial(choose, axis)


KEYS: dict[str, Key] = {
    "profile": Key("profile", str, "the unit's capabilities: a profile's name"),
    "engine": Key("engine", _choice(ENGINES), "who executes: native or python"),
    "mode": Key("mode", _choice({"legacy": Mode.LEGACY, "scalable": Mode.SCALABLE}), "legacy or scalable"),
    "levels": Key("levels", _choice({"3": 3, "4": 4, "5": 5}), "table levels: 3 (39 bits), 4 (48) or 5 (57)"),
    "stage": Key("stage", _choice({"second": Stage.SECOND, "first": Stage.FIRST}), "second or first (scalable only)"),
    "leaves": Key("leaves", _leaves, "page sizes the mapper may use: some of 4k,2m,1g"),
    "pool": Key("pool", _on("pool"), "where table pages come from; its options are pool.OPTION"),
    "flush": Key("flush", _on("flush"), "when unmapped ranges are invalidated: a policy; its options are flush.OPTION"),
    "iova": Key("iova", _on("iova"), "addresses: recorded, or an allocator; its options are iova.OPTION"),
    "bounce": Key("bounce", _on("bounce"), "how buffers a device cannot reach are bounced"),
    "reaction": Key("reaction", _on("reaction"), "what the driver does when a map fails; options: reaction.OPTION"),
    "window": Key("window", _choice(("per-domain", "shared")), "addresses for each domain, or one window for all"),
    "gfp": Key("gfp", Gfp.named, "class of a map's requests where the trace does not tell: atomic, kernel, ..."),
    "accesses": Key("accesses", _choice(("none", "rule", "late")), "device accesses a what-if run makes up"),
    "accesses.late_us": Key("late_us", _natural(1), "how long after an unmap a late device still comes"),
    "sg.boundary": Key(
        "sg_boundary", _boundary, "segment boundary of all devices, such as 64K; as recorded if not set"
    ),
    "transfers": Key(
        "transfers", _choice(("recorded", "apart", "linked")), "pieces: as recorded, each apart, or reserved and linked"
    ),
    "transfers.gap_us": Key("transfers_gap_us", _natural(), "longest time between pieces that are linked"),
    "requests": Key(
        "requests", _choice(("none", "uhci")), "what a request takes besides its mapping: uhci descriptors"
    ),
    "requests.packet": Key("requests_packet", _packet, "bytes of a packet: one descriptor each"),
    "requests.reserve": Key("requests_reserve", _natural(), "descriptors that are had from the start"),
    "requests.gfp": Key("requests_gfp", Gfp.named, "the class in which more are asked for"),
    "costs": Key("costs", str, "a file with model times that replace some of the standard ones"),
    "pressure": Key("pressure", str, "a file that says who takes memory when, from the last attach on"),
    "preset": Key("preset", lambda name: find_preset(name).name, "a system by name; other settings go over it"),
    "ram": Key("ram", _ranges, "memory of the machine: START-END,...; what the trace needs if not set"),
    "latency": Key("latency", _natural(), "nanoseconds that an invalidation takes; the profile's if not set"),
    "kernel.size": Key("kernel_size", _pages, "memory for tables, above all other"),
    "kernel.used": Key("kernel_used", _natural(), "pages of it that others hold: memory pressure"),
    "kernel.min_free_kib": Key("kernel_min_free_kib", _natural(1), "its min watermark; by its size if not set"),
    "kernel.reclaim_per_ms": Key("kernel_reclaim_per_ms", _natural(), "pages the background reclaimer frees in 1 ms"),
}
"""Every key that `--set` and a machine file know, but for the options of an axis (`pool.OPTION`)."""
_OF_RUNS = ("window", "gfp", "accesses", "sg", "transfers", "requests", "costs", "pressure")
WHAT_IF = tuple(key for key in KEYS if key.partition(".")[0] in _OF_RUNS)
"""Those among them that belong to what-if runs and to none of their axes."""
