"""Programs that drive the stand-in: the qtest words in any transport, and a process started as libqtest starts QEMU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60  # seconds until a silent process counts as hung
LIBQTEST_FORMS = {
    "mon": ("-mon", "chardev=char0,mode=control"),
    "object": ("-object", "monitor-qmp,id=qmp0,chardev=char0"),
}


def command(program: Path | None = None) -> list[str]:
    """What starts the stand-in of this checkout."""
    return [str(program)] if program else [sys.executable, "-m", "device_models.fronts.main"]


def environment(profile: str | None = None) -> dict[str, str]:
    """The environment for it; `profile` as VTD_PROFILE."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | ({} if profile is None else {"VTD_PROFILE": profile})


class Words:
    """qtest's words over `ask`, which takes a command and returns the answer's line."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        self.ask = ask

    def ok(self, line: str) -> list[str]:
        first, *rest = self.ask(line).split()
        assert first == "OK", f"{line}: {first} {' '.join(rest)}"
        return rest

    def get(self, name: str, address: int) -> int:
        return int(self.ok(f"{name} {address:#x}")[0], 16)

    def put(self, name: str, address: int, value: int) -> None:
        self.ok(f"{name} {address:#x} {value:#x}")

    def read(self, address: int, size: int) -> bytes:
        return bytes.fromhex(self.ok(f"read {address:#x} {size:#x}")[0][2:])

    def write(self, address: int, data: bytes) -> None:
        self.ok(f"write {address:#x} {len(data):#x} 0x{data.hex()}")

    def config(self, devfn: int, register: int) -> int:
        self.put("outl", 0xCF8, 1 << 31 | devfn << 8 | register)
        return self.get("inl", 0xCFC)

    def set_config(self, devfn: int, register: int, value: int) -> None:
        self.put("outl", 0xCF8, 1 << 31 | devfn << 8 | register)
        self.put("outl", 0xCFC, value)

    def find(self, identity: int) -> int:
        """devfn of the function on bus 0 whose first dword is `identity`."""
        return next(devfn for devfn in range(256) if self.config(devfn, 0) == identity)

    def enable(self, devfn: int, bar: int) -> None:
        """BAR 0 at `bar`; memory and bus master on, as they must read back."""
        self.set_config(devfn, 0x10, bar)
        self.set_config(devfn, 4, 7)
        assert self.config(devfn, 4) & 7 == 7


class Line:
    """Lines of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.connection.settimeout(PATIENCE)
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def line(self) -> str:
        while b"\n" not in self._buffer:
            data = self.connection.recv(1 << 16)
            if not data:
                raise EOFError("the program closed the connection")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode().rstrip("\r")


class Driven(Words):
    """A process started with libqtest's command line, and both of its sockets."""

    def __init__(self, extra: Sequence[str], profile: str | None = None, form: str = "mon") -> None:
        super().__init__(self._ask)
        self._folder = tempfile.TemporaryDirectory(prefix="vtd-qtest-")
        paths = [os.path.join(self._folder.name, name) for name in ("qtest.sock", "qtest.qmp")]
        listeners = [_listening(path) for path in paths]
        arguments = ["-qtest", f"unix:{paths[0]}", "-qtest-log", "/dev/null"]
        arguments += ["-chardev", f"socket,path={paths[1]},id=char0", *LIBQTEST_FORMS[form]]
        arguments += ["-display", "none", "-audio", "none", "-run-with", "exit-with-parent=on"]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self.process = subprocess.Popen(
            [*command(), *arguments, *extra, "-accel", "qtest"],
            env=environment(profile),
            stdin=subprocess.DEVNULL,
            stdout=self.errors,
            stderr=self.errors,
        )
        self.interrupts: deque[str] = deque()
        self.events: deque[dict[str, Any]] = deque()
        try:
            self._qtest, self._qmp = (Line(listener.accept()[0]) for listener in listeners)
            self.greeting = json.loads(self._qmp.line())
        except (OSError, EOFError):
            self.close()
            raise
        finally:
            for listener in listeners:
                listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> int:
        """End it as libqtest does; the status."""
        self.process.terminate()
        status = self.process.wait(PATIENCE)
        for line in ("_qtest", "_qmp"):
            if hasattr(self, line):
                getattr(self, line).connection.close()
        self.errors.close()
        self._folder.cleanup()
        return status

    def said(self) -> str:
        """What it wrote to stderr so far."""
        self.errors.seek(0)
        return self.errors.read().decode()

    def leave(self) -> None:
        """The qtest client disconnects."""
        self._qtest.connection.close()

    def send_bytes(self, data: bytes) -> None:
        """Bytes into the qtest connection, as they are."""
        self._qtest.send(data)

    def answer(self) -> str:
        """The next answer of the qtest connection."""
        while (line := self._qtest.line()).startswith("IRQ"):
            self.interrupts.append(line)
        return line

    def _ask(self, line: str) -> str:
        self._qtest.send(line.encode() + b"\n")
        return self.answer()

    def qmp(self, execute: str, **arguments: Any) -> Any:
        """What a QMP command returns; its events are kept."""
        request = {"execute": execute} | ({"arguments": arguments} if arguments else {})
        self._qmp.send(json.dumps(request).encode() + b"\n")
        while "event" in (message := json.loads(self._qmp.line())):
            self.events.append(message)
        assert "return" in message, message
        return message["return"]

    def hmp(self, line: str) -> str:
        """What a monitor command prints."""
        return self.qmp("human-monitor-command", **{"command-line": line})


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)
    listener.settimeout(PATIENCE)
    return listener
