"""A scene: what is done to a real QEMU and to our unit alike, as data; every answer of both is compared.

Operations are lists, so that a scene is JSON and a failing one can be kept, shrunk and replayed:

    ["write", offset, size, value]   a register          ["read", offset, size]    answers its value
    ["fill", address, hex]           bytes into memory   ["same", address, size]   answers bytes of memory
    ["push", iova, size, from]       the device writes bytes of its buffer, from that offset on
    ["pull", iova, size]             the device reads into its buffer

Reads and writes of the device answer nothing: what became of them is seen in memory and in the fault registers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from device_models.intel_iommu_options import Dialect, UnitOptions, compose
from emulator.bus import Bus
from emulator.engine import Engine
from emulator.profile import Profile, load_profile
from emulator.unit import RemappingUnit
from pagetables.address import Iova, SourceId
from pagetables.errors import NoMemory
from pagetables.fault import Fault
from pagetables.memory import PhysicalMemory
from pagetables.request import Request, Translation
from tests.qemu import EDU_BUFFER, EDU_SOURCE, Qemu, QemuDied

MEGABYTES = 64
BUFFER = 4088  # of edu's 4096 bytes, of which older ones refuse to move all
PATTERN = bytes((7 * index + (index >> 8)) & 0xFF for index in range(BUFFER))
SIZES = "?bw?l???q"
Op = list[Any]
Answer = int | str | None

DIED = "the emulator ended"


@dataclass(slots=True)
class Scene:
    """Operations on a machine: QEMU's version as the profile names it, and its unit's options."""

    version: str
    options: str
    ops: list[Op] = field(default_factory=list)
    what: str = ""
    loaded: bool = True  # the device has made a request already, which filled its buffer

    def to_json(self) -> str:
        """One operation a line."""
        head = {"version": self.version, "options": self.options, "what": self.what, "loaded": self.loaded}
        lines = ",\n  ".join(json.dumps(op) for op in self.ops)
        return json.dumps(head)[:-1] + f', "ops": [\n  {lines}\n]}}\n'

    @staticmethod
    def from_json(text: str) -> Scene:
        """The scene that `to_json` wrote."""
        data = json.loads(text)
        return Scene(data["version"], data["options"], data["ops"], data["what"], data["loaded"])

    def save(self, folder: Path) -> Path:
        """Write it into a file named by its content."""
        text = self.to_json()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.what or 'scene'}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.json".replace(
            " ", "-"
        )
        path.write_text(text)
        return path

    def profile(self) -> Profile:
        """Ours, with the same options."""
        given = dict(part.split("=") for part in self.options.split(",") if part)
        return compose(load_profile(f"qemu-{self.version}"), UnitOptions(Dialect(self.version), _typed(given)))


def _typed(given: dict[str, str]) -> dict[str, Any]:
    words = ("intremap", "eim")
    return {
        name: value if name in words else value == "on" if value in ("on", "off") else int(value)
        for name, value in given.items()
    }


class Theirs:
    """QEMU does what a scene says."""

    def __init__(self, scene: Scene, binary: str) -> None:
        self._qemu = Qemu(scene.options, MEGABYTES, binary=binary)
        self._lines: list[str] = []
        self._wanted: list[int] = []  # which operations the lines belong to
        self._answers: list[Answer] = []
        self._died_at: int | None = None
        self.why = ""  # it died
        if scene.loaded:
            self._load()

    def close(self) -> None:
        """End the process."""
        self._qemu.close()

    def _load(self) -> None:
        self._qemu.write_memory(0x80_0000, PATTERN)
        self._qemu.pull(0x80_0000, BUFFER)
        self._qemu.write_memory(0x80_0000, bytes(BUFFER))

    def run(self, ops: list[Op]) -> list[Answer]:
        """The answers, one for each operation; DIED from the one on that ended the emulator."""
        self._answers = [None] * len(ops)
        self.why = ""
        number = 0
        try:
            for number, op in enumerate(ops):
                self._do(number, op)
            self._flush()
        except QemuDied as died:
            self.why = str(died)
            last = self._died_at if self._died_at is not None else number
            self._answers[last:] = [DIED] * (len(ops) - last)
        return self._answers

    def _do(self, number: int, op: Op) -> None:
        match op:
            case ["write", offset, size, value]:
                self._later(number, f"write{SIZES[size]} {0xFED9_0000 + offset:#x} {value:#x}")
            case ["read", offset, size]:
                self._later(number, f"read{SIZES[size]} {0xFED9_0000 + offset:#x}")
            case ["fill", address, data]:
                self._later(number, f"write {address:#x} {len(data) // 2:#x} 0x{data}")
            case ["same", address, size]:
                self._later(number, f"read {address:#x} {size:#x}")
            case ["push", iova, size, start]:
                self._flush()
                self._qemu.dma(EDU_BUFFER + start, iova, size, to_memory=True)
            case ["pull", iova, size]:
                self._flush()
                self._qemu.dma(iova, EDU_BUFFER, size, to_memory=False)
            case _:
                raise ValueError(f"no operation: {op}")
        if len(self._lines) >= 200:
            self._flush()

    def _later(self, number: int, line: str) -> None:
        self._lines.append(line)
        self._wanted.append(number)

    def _flush(self) -> None:
        lines, self._lines, wanted, self._wanted = self._lines, [], self._wanted, []
        answers = self._qemu.ask_all(lines)
        for number, line in zip(wanted, lines, strict=True):
            self._died_at = number
            text = next(answers)
            if line.startswith("read"):
                self._answers[number] = text[2:] if line.startswith("read ") else int(text, 16)
        self._died_at = None


def _aligned(offset: int, size: int) -> list[tuple[int, int]]:
    # What a bus makes of an access: its naturally aligned parts.
    parts = []
    while size:
        part = min(offset & -offset or 8, 1 << size.bit_length() - 1, 8)
        parts.append((offset, part))
        offset, size = offset + part, size - part
    return parts


class _Bus(Bus):
    # On QEMU's bus what is nowhere reads zeros, and a page that is blocked does not end a transfer.
    def _load(self, where: Translation, size: int) -> bytes:
        try:
            return self.unit.memory.read(where.gpa, size)
        except NoMemory:
            return bytes(size)

    def load(self, request: Request, size: int) -> bytes:
        parts = ((part, super(_Bus, self).load(one, part)) for part, one in _pages(request, size))
        return b"".join(bytes(part) if isinstance(data, Fault) else data for part, data in parts)

    def store(self, request: Request, data: bytes) -> None:
        for part, one in _pages(request, len(data)):
            super().store(one, data[:part])
            data = data[part:]


def _pages(request: Request, size: int) -> Iterator[tuple[int, Request]]:
    iova = int(request.iova)
    while size:
        part = min(size, 0x1000 - iova % 0x1000)
        yield part, replace(request, iova=Iova(iova % (1 << 64)))
        iova, size = iova + part, size - part


class Ours:
    """Our unit does what a scene says."""

    def __init__(self, scene: Scene, engine: Engine) -> None:
        self.memory = PhysicalMemory([(0, MEGABYTES << 20)])
        self.unit = RemappingUnit(self.memory, scene.profile(), engine)
        self._port = _Bus(self.unit).port(SourceId(EDU_SOURCE))
        self._buffer = PATTERN if scene.loaded else bytes(BUFFER)
        if scene.loaded:
            self._port.read(0x80_0000, BUFFER)

    def run(self, ops: list[Op]) -> list[Answer]:
        """The answers, one for each operation."""
        return [self._do(op) for op in ops]

    def _do(self, op: Op) -> Answer:
        match op:
            case ["write", offset, size, value]:
                for at, part in _aligned(offset, size):
                    self.unit.write(at, part, value >> 8 * (at - offset) & (1 << 8 * part) - 1)
            case ["read", offset, size]:
                return sum(self.unit.read(at, part) << 8 * (at - offset) for at, part in _aligned(offset, size))
            case ["fill", address, data]:
                self.memory.write(address, bytes.fromhex(data))
            case ["same", address, size]:
                return self.memory.read(address, size).hex()
            case ["push", iova, size, start]:
                self._port.write(iova, self._buffer[start : start + size])
            case ["pull", iova, size]:
                self._buffer = bytes(self._port.read(iova, size)) + self._buffer[size:]
        return None


@dataclass(frozen=True, slots=True)
class Difference:
    """The first operation whose answers differ."""

    number: int
    op: Op
    ours: Answer
    theirs: Answer

    def __str__(self) -> str:
        ours, theirs = self.ours, self.theirs
        if isinstance(ours, str) and isinstance(theirs, str) and theirs != DIED:
            at = next(n for n in range(0, len(ours), 16) if ours[n : n + 16] != theirs[n : n + 16])
            return f"{self.op} at +{at // 2:#x}: ours {ours[at : at + 16]}, QEMU's {theirs[at : at + 16]}"
        shown = [f"{one:#x}" if isinstance(one, int) else str(one) for one in (ours, theirs)]
        return f"operation {self.number} {_hex(self.op)}: ours {shown[0]}, QEMU's {shown[1]}"


def _hex(op: Op) -> str:
    return " ".join(hex(part) if isinstance(part, int) else str(part) for part in op)


def differences(scene: Scene, binary: str, engine: Engine) -> list[Difference]:
    """Where the answers of both differ, in order: nothing if they are the same unit to software and devices."""
    theirs = Theirs(scene, binary)
    try:
        answers = theirs.run(scene.ops)
    finally:
        theirs.close()
    ours = Ours(scene, engine).run(scene.ops)
    pairs = enumerate(zip(scene.ops, ours, answers, strict=True))
    return [Difference(number, op, one, other) for number, (op, one, other) in pairs if one != other]
