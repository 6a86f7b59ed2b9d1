"""A small client for a real QEMU: memory, registers and the edu device's DMA, over the qtest channel on its stdio.

No guest code runs but a firmware of `cli; hlt`. With `-icount sleep=off` an idle machine's virtual time jumps to the
next timer, so that edu's DMA, 100 ms of virtual time after its doorbell, takes no time here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

BINARY = "qemu-system-x86_64"
UNIT_BASE = 0xFED9_0000
EDU_BAR = 0xE000_0000
EDU_SOURCE = 0x0008  # 00:01.0
EDU_BUFFER = 0x4_0000
_MACHINE = "q35,hpet=off,pit=off,smm=off,vmport=off,sata=off,smbus=off"  # no timers that would keep time running
_EDU_ID = 0x11E8_1234
_SOURCE, _TARGET, _COUNT, _COMMAND = 0x80, 0x88, 0x90, 0x98
_RAISE, _LOWER = 0x60, 0x64
_AT_ONCE = 100  # lines in flight: what both pipes hold


def find_qemu() -> str | None:
    """The path of the emulator, or None."""
    return shutil.which(BINARY)


def find_newer_qemu() -> str | None:
    """The path of a newer emulator, which `VTD_NEWER_QEMU` names (.ci/newer-qemu unpacks one), or None."""
    return os.environ.get("VTD_NEWER_QEMU") or None


def qemu_version(binary: str = BINARY) -> str:
    """Such as `7.2.22`."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return text.split()[3]


class QemuDied(Exception):
    """The emulator ended, or refused a command."""


class Qemu:
    """A q35 machine with intel-iommu (`options`) and edu at 00:01.0; `more` arguments as its command line has them."""

    def __init__(self, options: str = "", megabytes: int = 64, more: Sequence[str] = (), binary: str = BINARY) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vtd-qemu-")
        firmware = Path(self._folder.name) / "halt.bin"
        firmware.write_bytes(b"\xf4" * 0xFFF0 + b"\xfa\xf4\xeb\xfd" + b"\xf4" * 12)
        unit = "intel-iommu" + ("," + options if options else "")
        command = [binary, "-machine", _MACHINE, "-m", str(megabytes), "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-bios", str(firmware)]
        command += ["-device", unit, "-device", "edu,addr=1,dma_mask=0xffffffffffffffff"]
        command += ["-qtest", "stdio", "-qtest-log", "none", *more]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, bufsize=1
        )
        self._enable_edu()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process this client started."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()
        self._folder.cleanup()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        word, _, rest = answer.strip().partition(" ")
        if word != "OK":
            self._errors.seek(0)
            raise QemuDied(f"{line}: {answer.strip() or self._errors.read().decode(errors='replace').strip()}")
        return rest

    def ask_all(self, lines: Sequence[str]) -> Iterator[str]:
        """The answers to many lines, sent at once."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for start in range(0, len(lines), _AT_ONCE):
            some = lines[start : start + _AT_ONCE]
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write("".join(line + "\n" for line in some))
                self._process.stdin.flush()
            for line in some:
                word, _, rest = self._process.stdout.readline().strip().partition(" ")
                if word != "OK":
                    self._errors.seek(0)
                    raise QemuDied(f"{line}: {word} {rest} {self._errors.read().decode(errors='replace').strip()}")
                yield rest

    # -- memory and registers

    def read_memory(self, address: int, size: int) -> bytes:
        """Bytes of RAM."""
        return bytes.fromhex(self._ask(f"read {address:#x} {size:#x}")[2:])

    def write_memory(self, address: int, data: bytes) -> None:
        """Bytes into RAM."""
        self._ask(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def read(self, offset: int, size: int) -> int:
        """A register of the unit."""
        return int(self._ask(f"read{'?bw?l???q'[size]} {UNIT_BASE + offset:#x}"), 16)

    def write(self, offset: int, size: int, value: int) -> None:
        """Write a register of the unit."""
        self._ask(f"write{'?bw?l???q'[size]} {UNIT_BASE + offset:#x} {value:#x}")

    # -- the device

    def _config(self, register: int, value: int | None = None) -> int:
        self._ask(f"outl 0xcf8 {0x8000_0000 | EDU_SOURCE << 8 | register:#x}")
        if value is None:
            return int(self._ask("inl 0xcfc"), 16)
        self._ask(f"outl 0xcfc {value:#x}")
        return value

    def _enable_edu(self) -> None:
        if self._config(0) != _EDU_ID:
            raise QemuDied(f"edu is not at 00:01.0: found {self._config(0):#x}")
        self._config(0x10, EDU_BAR)
        self._config(4, 6)  # memory space and bus master

    def dma(self, source: int, target: int, size: int, to_memory: bool) -> None:
        """One transfer between memory and the device's buffer, which lies at EDU_BUFFER."""
        for register, value in (
            (_SOURCE, source),
            (_TARGET, target),
            (_COUNT, size),
            (_COMMAND, 3 if to_memory else 1),
        ):
            self._ask(f"writeq {EDU_BAR + register:#x} {value:#x}")
        deadline = time.monotonic() + 30
        while int(self._ask(f"readq {EDU_BAR + _COMMAND:#x}"), 16) & 1:
            if time.monotonic() > deadline:
                raise QemuDied("edu's DMA does not end")

    def send(self, address: int, data: int) -> None:
        """The device raises its interrupt: a message-signalled one, with this address and data."""
        for register, value in ((0x44, address & 0xFFFF_FFFF), (0x48, address >> 32), (0x4C, data)):
            self._config(register, value)
        self._config(0x40, self._config(0x40) | 1 << 16)  # MSI enable
        self._ask(f"writel {EDU_BAR + _RAISE:#x} 1")
        self._ask(f"writel {EDU_BAR + _LOWER:#x} 1")

    def pull(self, iova: int, size: int) -> None:
        """The device reads memory into its buffer."""
        self.dma(iova, EDU_BUFFER, size, to_memory=False)

    def push(self, iova: int, size: int) -> None:
        """The device writes its buffer to memory."""
        self.dma(EDU_BUFFER, iova, size, to_memory=True)
