"""Pressure scripts: who takes how many pages when, and what swapping takes, read from YAML.

    explains: what this is about
    steps:
      - {at: 0ms, who: page cache, take: 60%, kind: clean}          # of the zone, or a number of pages
      - {at: 10ms, who: browser, leave: 40, kind: anonymous}        # take all but 40 free pages
      - {at: 20ms, who: net rx, take: 500, rate: 50, gfp: atomic}   # 50 pages in each ms
      - {at: 90ms, who: net rx, give back: all}
      - {at: 95ms, reclaim per ms: 16}
    swap out: {disk: usb, packet: 64, descriptors: atomic, reserve: 0, pages per write: 30, bytes per s: 1000000}

`every` and `times` repeat a step. `kind` is what it takes to free the pages again: clean (the default), dirty,
anonymous or pinned; `gfp` (kernel by default) how deep the taker may dig. `emulator.mapping.pressure_run` applies it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from emulator.clock import MICROSECOND, MILLISECOND, SECOND
from emulator.mapping.pressure import Held
from emulator.mapping.watermarks import Gfp
from pagetables.errors import InputError, near

__all__ = ["Action", "Amount", "PressureScript", "Step", "SwapDisk", "load_script", "read_script"]

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(ns|us|ms|s)")
_UNITS = {"ns": 1, "us": MICROSECOND, "ms": MILLISECOND, "s": SECOND}
_STEP_KEYS = ("at", "who", "kind", "gfp", "rate", "every", "times")
_SWAP_KEYS = ("disk", "packet", "descriptors", "reserve", "pages per write", "bytes per s")


class Action(enum.Enum):
    """What a step does; the value is its key in the file."""

    TAKE = "take"
    LEAVE = "leave"
    GIVE_BACK = "give back"
    RECLAIM = "reclaim per ms"


class Amount(NamedTuple):
    """A number of pages, or a share of the zone in percent; `everything` for all that somebody has."""

    pages: int = 0
    percent: int = 0
    everything: bool = False

    def of(self, managed: int) -> int:
        """Pages in a zone of `managed` pages."""
        return self.pages + managed * self.percent // 100


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a script. `at` is in ns from its start; `rate` in pages a ms, 0 for all at once."""

    at: int
    action: Action
    amount: Amount
    who: str = ""
    kind: Held = Held.CLEAN
    gfp: Gfp = Gfp.KERNEL
    rate: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class SwapDisk:
    """The USB disk that dirty and anonymous pages are written to. `reserve` descriptors are had from the start."""

    packet: int = 64
    descriptors: Gfp = Gfp.ATOMIC
    reserve: int = 0
    pages_per_write: int = 30
    bytes_per_s: int = 1_000_000


@dataclass(frozen=True, slots=True)
class PressureScript:
    """Steps in the order of their times, and the disk, None if writing takes no time and no memory."""

    file: str
    explains: str
    steps: tuple[Step, ...]
    swap: SwapDisk | None = None


class _Field(NamedTuple):
    # A value and where it stands.
    value: Any
    line: int


def load_script(path: str | Path) -> PressureScript:
    """The script in a file; InputError names the file and the line of what is wrong with it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not YAML: not text") from None
    return read_script(text, str(path))


def read_script(text: str, file: str = "script") -> PressureScript:
    """The script in `text`; `file` is what errors call it."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    return _Reader(file).script(tree)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file

    def script(self, tree: yaml.Node | None) -> PressureScript:
        if not isinstance(tree, yaml.MappingNode):
            raise InputError(f"{self._file}: expected `steps:` and a list of steps")
        fields = self._fields(tree, 1, ("explains", "steps", "swap out"))
        if "steps" not in fields:
            raise InputError(f"{self._file}: has no `steps:`")
        steps = [step for node in self._items(fields["steps"]) for step in self._steps(node)]
        steps.sort(key=lambda step: step.at)
        swap = self._swap(fields["swap out"]) if "swap out" in fields else None
        explains = self._text("explains", fields["explains"]) if "explains" in fields else ""
        return PressureScript(self._file, explains, tuple(steps), swap)

    def _steps(self, node: yaml.Node) -> list[Step]:
        line = node.start_mark.line + 1
        actions = [action.value for action in Action]
        fields = self._fields(node, line, (*_STEP_KEYS, *actions))
        chosen = [action for action in Action if action.value in fields]
        if len(chosen) != 1:
            raise self._error(line, f"a step has one of {', '.join(actions)}")
        step = self._step(line, chosen[0], fields)
        every = self._time("every", fields["every"]) if "every" in fields else 0
        times = self._number("times", fields["times"], 1) if "times" in fields else 1
        if (times > 1) != (every > 0):
            raise self._error(line, "`every` and `times` go together")
        return [replace(step, at=step.at + turn * every) for turn in range(times)]

    def _step(self, line: int, action: Action, fields: dict[str, _Field]) -> Step:
        if "at" not in fields:
            raise self._error(line, "a step has a time, such as `at: 10ms`")
        if action is not Action.RECLAIM and "who" not in fields:
            raise self._error(line, "a step says who takes pages or gives them back, such as `who: page cache`")
        return Step(
            at=self._time("at", fields["at"]),
            action=action,
            amount=self._amount(action, fields[action.value]),
            who=self._text("who", fields["who"]) if "who" in fields else "",
            kind=Held(self._choice("kind", fields.get("kind"), [kind.value for kind in Held], Held.CLEAN.value)),
            gfp=Gfp(self._choice("gfp", fields.get("gfp"), [gfp.value for gfp in Gfp], Gfp.KERNEL.value)),
            rate=self._number("rate", fields["rate"], 1) if "rate" in fields else 0,
            line=line,
        )

    def _swap(self, field: _Field) -> SwapDisk:
        fields = self._fields(field.value, field.line, _SWAP_KEYS)
        self._choice("disk", fields.get("disk"), ["usb"], "usb")
        standard = SwapDisk()

        def number(key: str, default: int, least: int) -> int:
            return self._number(key, fields[key], least) if key in fields else default

        gfp = self._choice("descriptors", fields.get("descriptors"), [gfp.value for gfp in Gfp], Gfp.ATOMIC.value)
        return SwapDisk(
            packet=number("packet", standard.packet, 1),
            descriptors=Gfp(gfp),
            reserve=number("reserve", standard.reserve, 0),
            pages_per_write=number("pages per write", standard.pages_per_write, 1),
            bytes_per_s=number("bytes per s", standard.bytes_per_s, 1),
        )

    def _fields(self, node: Any, line: int, known: tuple[str, ...]) -> dict[str, _Field]:
        if not isinstance(node, yaml.MappingNode):
            raise self._error(line, f"expected `key: value`, with keys {', '.join(known)}")
        fields: dict[str, _Field] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value not in known:
                raise self._error(line, f"no key is called {key.value!r}; {near(str(key.value), known)}")
            if key.value in fields:
                raise self._error(line, f"{key.value!r} stands here twice")
            fields[key.value] = _Field(value.value if isinstance(value, yaml.ScalarNode) else value, line)
        return fields

    def _items(self, field: _Field) -> list[yaml.Node]:
        if not isinstance(field.value, yaml.SequenceNode):
            raise self._error(field.line, "expected a list, a step an item")
        items: list[yaml.Node] = field.value.value
        return items

    def _text(self, key: str, field: _Field) -> str:
        if not isinstance(field.value, str) or not field.value.strip():
            raise self._error(field.line, f"{key}: expected a text")
        return field.value.strip()

    def _time(self, key: str, field: _Field) -> int:
        match = _TIME.fullmatch(self._text(key, field))
        if match is None:
            raise self._error(field.line, f"{key}: {field.value!r} is no time: expected 10ms, 250us, 1.5s")
        return round(float(match[1]) * _UNITS[match[2]])

    def _number(self, key: str, field: _Field, least: int) -> int:
        text = self._text(key, field)
        if not text.isdecimal() or int(text) < least:
            raise self._error(field.line, f"{key}: {text!r}: expected a number, {least} or more")
        return int(text)

    def _amount(self, action: Action, field: _Field) -> Amount:
        text = self._text(action.value, field)
        if text == "all" and action in (Action.TAKE, Action.GIVE_BACK):
            return Amount(everything=True)
        share = text.removesuffix("%").strip()
        if share != text and share.isdecimal() and int(share) <= 100 and action is not Action.RECLAIM:
            return Amount(percent=int(share))
        if text.isdecimal():
            return Amount(pages=int(text))
        raise self._error(
            field.line, f"{action.value}: {text!r}: expected a number of pages, a share such as 60%, or all"
        )

    def _choice(self, key: str, field: _Field | None, known: list[str], default: str) -> str:
        if field is None:
            return default
        text = self._text(key, field)
        if text not in known:
            raise self._error(field.line, f"{key}: {text!r}: {near(text, known)}")
        return text

    def _error(self, line: int, message: str) -> InputError:
        return InputError(f"{self._file}, line {line}: {message}")
