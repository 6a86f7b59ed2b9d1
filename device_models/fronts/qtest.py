"""qtest, the line protocol by which test programs drive QEMU, spoken for a machine.

A test can hold both ends:

    server = QtestServer(machine)
    server.ask("writel 0xfed90018 0x40000000")      # -> "OK"

or serve a client on a socket from a thread, and touch the machine while it holds `server.lock`. Whatever a line says,
the answer is one line; a line that makes no sense is answered with FAIL (where QEMU would end).

Commands and answers follow QEMU's own description of the protocol (system/qtest.c) and what 10.0.2 answers.
"""

from __future__ import annotations

import binascii
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from device_models.c_numbers import NotANumber, parse_c_number
from device_models.fronts.interception import Interception, InterceptionError
from pagetables.errors import VtdError

if TYPE_CHECKING:
    import socket

    from device_models.machine import SystemMachine

__all__ = ["LONGEST_TRANSFER", "QtestServer"]

LONGEST_TRANSFER = 1 << 28  # bytes that one command reads or writes
_LONGEST_LINE = 2 * LONGEST_TRANSFER + 4096
_WIDTHS = {b"b": 1, b"w": 2, b"l": 4, b"q": 8}
_CHUNK = 1 << 16

Words = Sequence[bytes]
Command = Callable[[Words], str]


class QtestServer:
    """The protocol's state for one machine. `accelerated` as QEMU's `-accel qtest`: time passes by command only."""

    def __init__(self, machine: SystemMachine, accelerated: bool = True) -> None:
        self.machine = machine
        self.accelerated = accelerated
        self.lock = threading.RLock()
        self.interception = Interception(machine, self._interrupt)
        self._output = bytearray()
        self._partial = bytearray()
        self._discarding = False
        self._commands = self._table()

    # -- lines --------------------------------------------------------------------------------------------------------

    def ask(self, line: str) -> str:
        """The answer to one command, without a newline; `IRQ` lines that it caused wait for `take`."""
        with self.lock:
            return self._answer(line.encode("utf-8", "replace").split())

    def feed(self, data: bytes) -> bytes:
        """What to send after `data` arrived: an answer for each complete line, with `IRQ` lines before it."""
        with self.lock:
            if b"\n" not in data:
                self._keep(data)
                return self.take()
            if self._partial:
                data = bytes(self._partial + data)
                self._partial.clear()
            *lines, rest = data.split(b"\n")
            for line in lines:
                self._line(line)
            self._keep(rest)
            return self.take()

    def take(self) -> bytes:
        """What is to be sent and was not yet: interrupts may come between commands too."""
        sent = bytes(self._output)
        self._output.clear()
        return sent

    def serve(self, connection: socket.socket) -> None:
        """Serve a client until it leaves."""
        while True:
            try:
                data = connection.recv(_CHUNK)
                if data:
                    connection.sendall(self.feed(data))
            except (BrokenPipeError, ConnectionResetError):
                return
            if not data:
                return

    def _line(self, line: bytes) -> None:
        if self._discarding:  # the end of a line whose beginning was answered
            self._discarding = False
            return
        words = line.split()
        if words:
            self._output += self._answer(words).encode() + b"\n"

    def _keep(self, rest: bytes) -> None:
        if self._discarding:
            return
        self._partial += rest
        if len(self._partial) > _LONGEST_LINE:
            self._output += b"FAIL line too long\n"
            self._discarding = True
            self._partial.clear()

    def _interrupt(self, number: int, level: int) -> None:
        self._output += b"IRQ %s %d\n" % (b"raise" if level else b"lower", number)

    def _answer(self, words: Words) -> str:
        command = self._commands.get(words[0])
        if command is None:
            return f"FAIL Unknown command '{words[0].decode('ascii', 'backslashreplace')}'"
        try:
            return command(words)
        except IndexError:
            return "FAIL missing argument"
        except (NotANumber, InterceptionError, VtdError) as error:
            return f"FAIL {' '.join(str(error).split())}"

    # -- commands -----------------------------------------------------------------------------------------------------

    def _table(self) -> dict[bytes, Command]:
        table: dict[bytes, Command] = {
            b"endianness": lambda words: "OK little",
            b"read": self._read,
            b"write": self._write,
            b"memset": self._memset,
            b"b64read": self._read_base64,
            b"b64write": self._write_base64,
            b"irq_intercept_in": self._intercept_in,
            b"irq_intercept_out": self._intercept_out,
            b"set_irq_in": self._set_input,
            b"module_load": self._module_load,
        }
        for suffix, size in _WIDTHS.items():
            table[b"read" + suffix] = self._reader(size)
            table[b"write" + suffix] = self._writer(size)
            if size < 8:
                table[b"in" + suffix] = self._port_reader(size)
                table[b"out" + suffix] = self._port_writer(size)
        if self.accelerated:
            table |= {b"clock_step": self._clock_step, b"clock_set": self._clock_set}
        return table

    def _reader(self, size: int) -> Command:
        read = self.machine.space.read_number
        return lambda words: f"OK 0x{read(parse_c_number(words[1]), size):016x}"

    def _writer(self, size: int) -> Command:
        write = self.machine.space.write_number

        def command(words: Words) -> str:
            write(parse_c_number(words[1]), size, parse_c_number(words[2]))
            return "OK"

        return command

    def _port_reader(self, size: int) -> Command:
        read = self.machine.ports.read_number
        return lambda words: f"OK 0x{read(parse_c_number(words[1]) & 0xFFFF, size):04x}"

    def _port_writer(self, size: int) -> Command:
        write = self.machine.ports.write_number

        def command(words: Words) -> str:
            write(parse_c_number(words[1]) & 0xFFFF, size, parse_c_number(words[2]))
            return "OK"

        return command

    def _read(self, words: Words) -> str:
        return f"OK 0x{self._bytes(words).hex()}"

    def _read_base64(self, words: Words) -> str:
        return f"OK {binascii.b2a_base64(self._bytes(words), newline=False).decode()}"

    def _bytes(self, words: Words) -> bytes:
        size = _size(words[2])
        if not size:
            raise NotANumber("a read of 0 bytes")
        return self.machine.space.read(parse_c_number(words[1]), size)

    def _write(self, words: Words) -> str:
        address, size, digits = parse_c_number(words[1]), _size(words[2]), words[3]
        if digits[:2] != b"0x" or len(digits) < 3:
            return "FAIL invalid argument size"
        digits = digits[2 : 2 + 2 * size]
        try:
            data = binascii.unhexlify(digits[: len(digits) & ~1])
        except binascii.Error:
            raise NotANumber("expected hexadecimal digits after 0x") from None
        self.machine.space.write(address, data.ljust(size, b"\0"))
        return "OK"

    def _write_base64(self, words: Words) -> str:
        address, size = parse_c_number(words[1]), _size(words[2])
        try:
            data = binascii.a2b_base64(words[3], strict_mode=True)
        except binascii.Error as error:
            raise NotANumber(f"base64: {error}") from None
        self.machine.space.write(address, data[:size])
        return "OK"

    def _memset(self, words: Words) -> str:
        address, size = parse_c_number(words[1]), _size(words[2])
        self.machine.space.write(address, bytes([parse_c_number(words[3]) & 0xFF]) * size)
        return "OK"

    def _clock_step(self, words: Words) -> str:
        old = self.machine.clock.now
        if len(words) == 1:
            return f"OK {self.machine.clock_step()}"
        new = self.machine.clock_step(parse_c_number(words[1]))
        return f"{'OK' if new > old else 'FAIL'} {new}"

    def _clock_set(self, words: Words) -> str:
        wanted, clock = parse_c_number(words[1]), self.machine.clock
        clock.advance_to(wanted)
        return f"{'OK' if clock.now == wanted else 'FAIL'} {clock.now}"

    # -- interrupt lines ----------------------------------------------------------------------------------------------

    def _intercept_in(self, words: Words) -> str:
        if len(words) > 2:
            return "FAIL Interception of named in-GPIOs not yet supported"
        self.interception.watch_inputs(_text(words[1]))
        return "OK"

    def _intercept_out(self, words: Words) -> str:
        self.interception.watch_outputs(_text(words[1]), _text(words[2]) if len(words) > 2 else "")
        return "OK"

    def _set_input(self, words: Words) -> str:
        path, name, line, level = words[1], words[2], words[3], words[4]
        self.interception.set_input(_text(path), _text(name), parse_c_number(line), parse_c_number(level))
        return "OK"

    def _module_load(self, words: Words) -> str:
        return f"FAIL no modules here: {_text(words[1])} {_text(words[2])}"


def _size(word: bytes) -> int:
    size = parse_c_number(word)
    if size > LONGEST_TRANSFER:
        raise NotANumber(f"{size:#x} bytes: at most {LONGEST_TRANSFER:#x} at a time")
    return size


def _text(word: bytes) -> str:
    return word.decode("ascii", "backslashreplace")
