"""qtest line by line on a machine held by the test: every command, wrong ones, pieces of lines, interrupts between."""

from __future__ import annotations

import base64
import socket
import subprocess
import threading

import pytest

from device_models.c_numbers import NotANumber, parse_c_number
from device_models.fronts import qtest
from device_models.fronts.qtest import QtestServer
from device_models.machine import SystemMachine
from tests.required import need_qemu

BAR = 0xE000_0000


@pytest.fixture
def server() -> QtestServer:
    machine = SystemMachine("qemu-11.1", 64 << 20, engine="python")
    machine.add_device("intel-iommu")
    machine.add_device("edu,id=e0")
    return QtestServer(machine)


def place_edu(server: QtestServer) -> None:
    for line in ("outl 0xcf8 0x80000810", f"outl 0xcfc {BAR:#x}", "outl 0xcf8 0x80000804", "outl 0xcfc 7"):
        assert server.ask(line) == "OK"


# What QEMU answers, one after the other; where it would write other bytes than those that are named, ours refuses.
OURS = ("write 0x1000 4 01020304",)
CONVERSATION = [
    ("endianness", "OK little"),
    ("readb 0x10", "OK 0x0000000000000000"),
    ("readl 0xfed90000", "OK 0x0000000000000010"),
    ("readw 0xfed90000", "OK 0x0000000000000000"),
    ("inl 0xcf8", "OK 0x0000"),
    ("inw 0xcfc", "OK 0xffff"),
    ("outl 0xcf8 0x80000000", "OK"),
    ("inl 0xcfc", "OK 0x29c08086"),
    ("write 0x1000 4 0x01020304", "OK"),
    ("read 0x1000 4", "OK 0x01020304"),
    ("write 0x1000 4 0x0a0b", "OK"),  # what is not said is zero
    ("read 0x1000 4", "OK 0x0a0b0000"),
    ("write 0x1000 4 01020304", "FAIL invalid argument size"),
    ("memset 0x1000 4 0xaa", "OK"),
    ("memset 0x1000 0 0xbb", "OK"),
    ("b64read 0x1000 4", "OK qqqqqg=="),
    ("b64write 0x1000 4 AQIDBA==", "OK"),
    ("b64write 0x1004 2 AQIDBA==", "OK"),
    ("read 0x1000 8", "OK 0x0102030401020000"),
    ("writel 0x10 0x1122334455", "OK"),
    ("readl 0x10", "OK 0x0000000022334455"),
    ("writel 0x10 -1", "OK"),
    ("readq 16", "OK 0x00000000ffffffff"),
    ("readb 020", "OK 0x00000000000000ff"),
    ("read 0xfffffffffffffff0 4", "OK 0x00000000"),
    ("outb 0x80 0xfff", "OK"),
    ("inb 0x80", "OK 0x00ff"),
    ("readl 0x10 and more", "OK 0x00000000ffffffff"),
    ("rtas a 1 2 3 4", "FAIL Unknown command 'rtas'"),
    ("foo", "FAIL Unknown command 'foo'"),
]


def test_a_conversation_as_qemu_holds_it(server: QtestServer) -> None:
    assert [(line, server.ask(line)) for line, _ in CONVERSATION] == CONVERSATION


def test_qemu_holds_it_so() -> None:
    started = [need_qemu(), "-M", "q35", "-m", "64", "-nodefaults", "-display", "none", "-S", "-accel", "tcg"]
    started += ["-device", "intel-iommu", "-device", "edu,id=e0", "-qtest", "stdio", "-qtest-log", "none"]
    said = [case for case in CONVERSATION if case[0] not in OURS]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
        assert qemu.stdin is not None
        assert qemu.stdout is not None
        qemu.stdin.write("".join(f"{line}\n" for line, _ in said))
        qemu.stdin.flush()
        answers = [qemu.stdout.readline().strip() for _ in said]
        qemu.kill()
    assert list(zip((line for line, _ in said), answers, strict=True)) == said


def test_base64_that_is_too_short_writes_what_there_is(server: QtestServer) -> None:
    server.ask("memset 0x1000 8 0xee")
    assert server.ask("b64write 0x1000 8 AQIDBA==") == "OK"
    assert server.ask("read 0x1000 8") == "OK 0x01020304eeeeeeee"


@pytest.mark.parametrize("suffix, size", [("b", 1), ("w", 2), ("l", 4), ("q", 8)])
def test_every_width_writes_its_own_bytes(server: QtestServer, suffix: str, size: int) -> None:
    server.ask("memset 0x2000 16 0xee")
    assert server.ask(f"write{suffix} 0x2001 0x8877665544332211") == "OK"
    written = bytes.fromhex("1122334455667788")[:size]
    assert server.machine.space.read(0x2000, 16) == b"\xee" + written + b"\xee" * (15 - size)
    assert int(server.ask(f"read{suffix} 0x2001").split()[1], 16) == int.from_bytes(written, "little")


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("readl", "missing argument"),
        ("writel 0x10", "missing argument"),
        ("outb 0x80", "missing argument"),
        ("read 0x10", "missing argument"),
        ("write 0x10 4", "missing argument"),
        ("memset 0 1", "missing argument"),
        ("b64write 0 1", "missing argument"),
        ("irq_intercept_in", "missing argument"),
        ("set_irq_in ioapic x 1", "missing argument"),
        ("module_load a", "missing argument"),
        ("clock_set", "missing argument"),
        ("readl zz", "'zz' is no number"),
        ("readl 0x", "'0x' is no number"),
        ("readl 1_0", "'1_0' is no number"),
        ("readl 0x10000000000000000", "'0x10000000000000000' is no number of 64 bits"),
        ("read 0 0", "a read of 0 bytes"),
        ("read 0 0x10000001", "0x10000001 bytes: at most 0x10000000 at a time"),
        ("memset 0 0xffffffffffffffff 1", "at most 0x10000000 at a time"),
        ("write 0 1 0xzz", "expected hexadecimal digits after 0x"),
        ("write 0 1 0x", "invalid argument size"),
        ("b64write 0 4 a", "base64: "),
        ("module_load hw- usb", "no modules here: hw- usb"),
        ("\x00\xff", "Unknown command"),
    ],
)
def test_a_bad_line_fails_and_the_next_one_is_answered(server: QtestServer, line: str, complaint: str) -> None:
    answer = server.ask(line)
    assert answer.startswith("FAIL ")
    assert complaint in answer
    assert "\n" not in answer
    assert server.ask("endianness") == "OK little"


def test_numbers_are_read_as_c_reads_them() -> None:
    words = {b"10": 10, b"0x1F": 31, b"010": 8, b"-1": (1 << 64) - 1, b"-010": (1 << 64) - 8, b"+5": 5, b"00": 0}
    assert {word: parse_c_number(word) for word in words} == words
    for word in (b"", b"08", b"-", b"abc", b"0b1", b"0o7", b"1_0", b"0x", b"1" * 21, b"1" * 5000, b"\xff"):
        with pytest.raises(NotANumber):
            parse_c_number(word)


def test_lines_arrive_in_any_pieces(server: QtestServer) -> None:
    assert server.feed(b"endia") == b""
    assert server.feed(b"nness") == b""
    assert server.feed(b"\nreadl 0xfed90000\n\n  \nendianness\r\nread") == (
        b"OK little\nOK 0x0000000000000010\nOK little\n"
    )
    assert server.feed(b"l 0x0\n") == b"OK 0x0000000000000000\n"


def test_a_line_without_end_is_given_up_and_the_next_one_is_answered(
    server: QtestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qtest, "_LONGEST_LINE", 100)
    assert server.feed(b"write 0 1 0x" + b"0" * 100) == b"FAIL line too long\n"
    assert server.feed(b"0" * 1000) == b""
    assert server.feed(b"0 foo\nendianness\n") == b"OK little\n"


def test_time_stands_until_it_is_moved(server: QtestServer) -> None:
    assert server.ask("clock_step 100") == "OK 100"
    assert server.ask("clock_step 0") == "FAIL 100"
    assert server.ask("clock_set 90") == "FAIL 100"
    assert server.ask("clock_set 150") == "OK 150"
    server.machine.clock.after(50, lambda: None)
    assert server.ask("clock_step") == "OK 200"
    assert server.ask("clock_step") == "OK 200"


def test_without_acceleration_there_is_no_clock_to_move(server: QtestServer) -> None:
    real_time = QtestServer(server.machine, accelerated=False)
    for line in ("clock_step", "clock_set 5"):
        assert real_time.ask(line) == f"FAIL Unknown command '{line.split()[0]}'"


@pytest.mark.parametrize("where", ["ioapic", "/machine/q35/ioapic"])
def test_inputs_of_the_io_apic_are_told_before_the_answer(server: QtestServer, where: str) -> None:
    place_edu(server)
    assert server.ask(f"irq_intercept_in {where}") == "OK"
    assert server.ask(f"irq_intercept_in {where}") == "OK"
    assert server.feed(b"writel 0xe0000060 1\n") == b"IRQ raise 21\nOK\n"  # slot 1, INTA
    assert server.feed(b"writel 0xe0000064 1\n") == b"IRQ lower 21\nOK\n"


def test_interrupts_between_commands_are_told_too(server: QtestServer) -> None:
    assert server.ask("irq_intercept_out /machine/unattached/device[0] gsi") == "OK"
    server.machine.inputs.set(3, True, self_source := object())
    assert server.take() == b"IRQ raise 3\n"
    server.interception.forget()
    server.machine.inputs.set(3, False, self_source)
    assert server.take() == b""


def test_a_line_may_be_driven_from_outside(server: QtestServer) -> None:
    server.ask("irq_intercept_in ioapic")
    assert server.feed(b"set_irq_in ioapic unnamed-gpio-in 5 1\n") == b"IRQ raise 5\nOK\n"
    assert server.machine.inputs.levels[5] == 1
    assert server.feed(b"set_irq_in ioapic unnamed-gpio-in 5 0\n") == b"IRQ lower 5\nOK\n"


@pytest.mark.parametrize(
    "line, answer",
    [
        ("irq_intercept_in nope", "FAIL Unknown device"),
        ("irq_intercept_in e0", "FAIL No intercepts installed"),
        ("irq_intercept_out e0", "FAIL No intercepts installed"),
        ("irq_intercept_out /machine/unattached/device[0]", "FAIL No intercepts installed"),
        ("irq_intercept_in ioapic name", "FAIL Interception of named in-GPIOs not yet supported"),
        ("set_irq_in nope x 1 1", "FAIL Unknown device"),
        ("set_irq_in e0 unnamed-gpio-in 1 1", "FAIL no input lines called 'unnamed-gpio-in'"),
        ("set_irq_in ioapic gsi 1 1", "FAIL no input lines called 'gsi'"),
        ("set_irq_in ioapic unnamed-gpio-in 24 1", "FAIL line 24: ioapic has 24"),
    ],
)
def test_lines_that_are_not_there_cannot_be_watched(server: QtestServer, line: str, answer: str) -> None:
    assert server.ask(line) == answer


def test_only_one_device_is_watched(server: QtestServer) -> None:
    server.ask("irq_intercept_in ioapic")
    assert server.ask("irq_intercept_out /machine/unattached/device[0] gsi") == "FAIL IRQ intercept already enabled"


def test_a_client_on_a_socket_and_the_holder_of_the_machine_meet(server: QtestServer) -> None:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=server.serve, args=(theirs,))
    thread.start()
    with ours, theirs:
        ours.settimeout(30)
        ours.sendall(b"writel 0x3000 0x55\n")
        assert ours.recv(100) == b"OK\n"
        with server.lock:
            assert server.machine.space.read_number(0x3000, 4) == 0x55
            server.machine.space.write_number(0x3000, 4, 0x66)
        ours.sendall(b"readl 0x3000\n")
        assert ours.recv(100) == b"OK 0x0000000000000066\n"
        ours.shutdown(socket.SHUT_WR)
        thread.join(30)
    assert not thread.is_alive()


def test_a_client_that_is_gone_ends_the_service(server: QtestServer) -> None:
    ours, theirs = socket.socketpair()
    ours.sendall(b"endianness\n" * 10)
    ours.close()
    with theirs:
        server.serve(theirs)


def test_large_transfers_arrive_whole(server: QtestServer) -> None:
    data = bytes(range(256)) * 4096
    assert server.ask(f"write 0x100000 {len(data)} 0x{data.hex()}") == "OK"
    assert server.ask(f"read 0x100000 {len(data)}") == f"OK 0x{data.hex()}"
    assert server.ask(f"b64read 0x100000 {len(data)}") == f"OK {base64.b64encode(data).decode()}"
