"""The program as libqtest starts it: its command line, both sockets, signals, and upstream's VT-d tests in short."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from device_models.fronts.main import DEFAULT_PROFILE
from tests.device_models.fronts.driven import PATIENCE, ROOT, Driven, Line, command, environment
from tests.qemu import Qemu

UNIT, BAR = 0xFED9_0000, 0xE000_0000
TESTDEV = 0x0005_1B36
IN, OUT = 0x20_0000, 0x1020_0567  # where the device's data lies, what it calls it
TABLES, CONTEXT, DIRECTORY, PASIDS = 0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000
VALUE = bytes.fromhex("78563412")


def run(*arguments: str, profile: str | None = None, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), *arguments],
        env=environment(profile),
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_its_number_is_in_the_file_that_was_asked_for_as_long_as_it_lives(tmp_path: Path) -> None:
    file = tmp_path / "its.pid"
    arguments = ["-M", "none", "-nodefaults", "-qtest", "stdio", "-qtest-log", "none", "-pidfile", str(file)]
    with subprocess.Popen(
        [*command(), *arguments], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"endianness\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"OK little\n"
        assert int(file.read_text()) == process.pid
        process.terminate()
        assert process.wait(PATIENCE) == 0
    assert not file.exists()
    refused = run(*arguments[:-1], str(tmp_path / "no" / "folder"))
    assert refused.returncode == 1
    assert refused.stderr.endswith("No such file or directory\n")
    assert "cannot create PID file: Could not create" in refused.stderr


# -- upstream's tests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "profile, options", [("qemu-10.0", "x-scalable-mode=on,x-flts=on"), ("qemu-11.1", "scalable-mode=on,fsts=on")]
)
@pytest.mark.parametrize("form", ["mon", "object"])
def test_capabilities_are_what_they_promise_and_registers_survive_a_reset(
    profile: str, options: str, form: str
) -> None:
    with Driven(["-M", "q35", "-device", f"intel-iommu,{options}"], profile, form) as driven:
        assert driven.ok("endianness") == ["little"]
        driven.qmp("qmp_capabilities")
        cap, ecap = driven.get("readq", UNIT + 8), driven.get("readq", UNIT + 0x10)
        assert (cap >> 24 & 0x3FF, cap >> 40 & 0xFF, cap & 7, cap >> 48 & 0x3F) == (0x22, 0, 6, 18)
        assert cap >> 39 & 1 == 1  # page-selective invalidation
        assert (cap >> 34 & 0xF, cap >> 8 & 0x1F, cap >> 16 & 0x3F) == (3, 0b00110, 47)
        assert ecap & 0b1010 == 0b1010  # queued invalidation, interrupt remapping
        assert (ecap >> 8 & 0x3FF, ecap >> 20 & 0xF, ecap >> 43 & 1, ecap >> 47 & 1) == (0xF, 0xF, 1, 1)
        before = driven.read(UNIT, 0x230)
        driven.put("writeq", UNIT + 0x20, 0x1234_5000)
        assert driven.read(UNIT, 0x230) != before
        driven.qmp("system_reset")
        assert driven.events[-1]["event"] == "RESET"
        assert driven.events[-1]["data"] == {"guest": False, "reason": "host-qmp-system-reset"}
        assert driven.read(UNIT, 0x230) == before


def _leaf(driven: Driven, top: int, iova: int, table_bits: int, leaf: int) -> None:
    for level in (4, 3, 2):
        driven.put("writeq", top + 8 * (iova >> 9 * level + 3 & 511), (top + 0x1000) | table_bits)
        top += 0x1000
    driven.put("writeq", top + 8 * (iova >> 12 & 511), leaf)


def _legacy(driven: Driven, devfn: int, low: int) -> int:
    driven.write(TABLES, struct.pack("<QQ", CONTEXT | 1, 0))
    driven.write(CONTEXT + 16 * devfn, struct.pack("<QQ", low, 1 << 8 | 2))
    return 0


def _scalable(driven: Driven, devfn: int, *entry: int) -> int:
    driven.write(TABLES, struct.pack("<QQ", CONTEXT | 1, 0))
    driven.write(CONTEXT + 32 * devfn, struct.pack("<QQQQ", DIRECTORY | 1, 0, 0, 0))
    driven.put("writeq", DIRECTORY, PASIDS | 1)
    driven.write(PASIDS, struct.pack(f"<{len(entry)}Q", *entry))
    return 1 << 10


TOP = 0x11_0000
SCENES = {
    "legacy-pt": ("", lambda d, f: _legacy(d, f, 2 << 2 | 1), None),
    "legacy-trans": ("", lambda d, f: _legacy(d, f, TOP | 1), (3, 3)),
    "scalable-pt": (",scalable-mode=on", lambda d, f: _scalable(d, f, 4 << 6 | 2 << 2 | 1, 1), None),
    "scalable-slt": (",scalable-mode=on", lambda d, f: _scalable(d, f, TOP | 2 << 6 | 2 << 2 | 1, 1), (3, 3)),
    # AW of the entry is 0, as upstream leaves it.
    "scalable-flt": (",scalable-mode=on,fsts=on", lambda d, f: _scalable(d, f, 1 << 6 | 1, 1, TOP), (7, 7)),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_test_device_writes_where_the_tables_lead(name: str) -> None:
    options, fill, bits = SCENES[name]
    extra = ["-machine", "q35", "-smp", "1", "-m", "512", "-net", "none", "-device", f"intel-iommu{options}"]
    with Driven([*extra, "-device", "iommu-testdev"]) as driven:
        driven.qmp("qmp_capabilities")
        devfn = driven.find(TESTDEV)
        driven.enable(devfn, BAR)
        mode = fill(driven, devfn)
        if bits is not None:
            _leaf(driven, TOP, OUT, bits[0], IN | bits[1])
        gpa = OUT if bits is None else IN | OUT & 0xFFF
        for offset, value, command_bit in ((0x20, TABLES | mode, 30), (0x90, 0x10_4000, 26), (None, 0, 31)):
            if offset is not None:
                driven.put("writeq", UNIT + offset, value)
            driven.put("writel", UNIT + 0x18, driven.get("readl", UNIT + 0x1C) & 0x96FF_FFFF | 1 << command_bit)
            assert driven.get("readl", UNIT + 0x1C) >> command_bit & 1
        driven.ok(f"memset {gpa:#x} 4 0")
        for offset, value in ((0x04, OUT), (0x08, 0), (0x1C, gpa), (0x20, 0), (0x0C, 4), (0x18, 0), (0x14, 1)):
            driven.put("writel", BAR + offset, value)
        driven.get("readl", BAR)  # runs it
        assert driven.get("readl", BAR + 0x10) == 0
        assert driven.read(gpa, 4) == VALUE
        assert driven.get("readl", UNIT + 0x34) == 0
        assert driven.close() == 0


def test_a_process_without_a_machine_answers_for_the_binary() -> None:
    with Driven(["-machine", "none"], form="object") as driven:
        assert driven.qmp("qmp_capabilities") == {}
        names = {machine["name"]: machine.get("alias") for machine in driven.qmp("query-machines")}
        assert names == {"pc-q35-11.1": "q35", "none": None}
        assert (driven.get("readq", 0x1000), driven.get("inl", 0xCFC)) == (0, 0xFFFF_FFFF)
        assert driven.qmp("query-pci") == [{"bus": 0, "devices": []}]


# -- how it is started and how it ends --------------------------------------------------------------------------------


def test_its_name_is_one_that_libqtest_takes() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (name,) = [name for name, target in scripts.items() if target == "device_models.fronts.main:main"]
    assert "-system-" in name
    assert name.endswith("-x86_64")


@pytest.mark.parametrize("profile, version", [(None, "11.1.3"), ("qemu-7.2", "7.2.22"), ("spec", "11.1.3")])
def test_the_version_is_that_of_the_profile(profile: str | None, version: str) -> None:
    done = run("--version", profile=profile)
    assert done.stdout.startswith(f"QEMU emulator version {version} (vtd-emulator ")
    assert f"profile {profile or DEFAULT_PROFILE}\n" in done.stdout


def test_options_of_a_device_follow_the_profile() -> None:
    for profile, name in (("qemu-7.2", "x-scalable-mode"), ("qemu-11.1", "scalable-mode")):
        done = run("-device", "intel-iommu,help", profile=profile)
        assert f"\n  {name}=<bool>" in done.stdout
        assert done.returncode == 0


def test_an_unknown_profile_is_told_with_what_is_near() -> None:
    done = run("-M", "none", profile="qemu-11.2")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no profile is called 'qemu-11.2'; did you mean qemu-11.1" in done.stderr


def test_it_ends_with_status_0_on_sigterm() -> None:
    driven = Driven(["-M", "q35"])
    assert driven.ok("endianness") == ["little"]
    assert driven.close() == 0


def test_it_ends_with_status_0_when_its_client_disconnects() -> None:
    with Driven(["-M", "q35"]) as driven:
        driven.ok("endianness")
        driven.leave()
        assert driven.process.wait(PATIENCE) == 0


def test_it_ends_with_status_0_after_quit() -> None:
    with Driven(["-M", "q35"]) as driven:
        driven.qmp("qmp_capabilities")
        assert driven.qmp("quit") == {}
        assert driven.events[-1]["event"] == "SHUTDOWN"
        assert driven.process.wait(PATIENCE) == 0


def test_it_ends_with_its_parent_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "s"
    script = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdin=-3).pid, flush=True); sys.stdin.read()"
    started = [*command(), "-M", "q35", "-qmp", f"unix:{path},server=on,wait=off", "-accel", "qtest"]
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *started, "-run-with", "exit-with-parent=on"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with _connected(path) as client:
            assert json.loads(client.line())["QMP"]
            parent.communicate("")
            with pytest.raises((EOFError, ConnectionResetError)):  # nothing but its end closes this
                client.line()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[Line]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        while True:
            try:
                client.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                pass
        yield Line(client)


@contextlib.contextmanager
def _process(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([*command(), *arguments], env=environment(), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_qemus_own_client_speaks_qmp_with_it(tmp_path: Path) -> None:
    qmp = pytest.importorskip("qemu.qmp", reason="NOT RUN: pip install qemu.qmp")
    path = tmp_path / "s"

    async def converse() -> tuple[object, object]:
        client = qmp.QMPClient("test")
        with client.listener("RESET") as events:
            await client.connect(str(path))
            status = await client.execute("query-status")
            await client.execute("system_reset")
            event = await events.get()
            with pytest.raises(qmp.ExecuteError, match="The command foo has not been found"):
                await client.execute("foo")
        await client.disconnect()
        return status, event["data"]

    with _process(["-M", "q35", "-qmp", f"unix:{path},server=on,wait=off", "-accel", "qtest"]):
        with _connected(path) as first:  # it listens by now
            first.line()
        assert asyncio.run(converse()) == (
            {"status": "running", "running": True},
            {"guest": False, "reason": "host-qmp-system-reset"},
        )


def test_answers_wait_for_a_client_that_reads_late() -> None:
    with Driven(["-M", "q35", "-m", "64"]) as driven:
        driven.send_bytes(b"read 0 0x10000\n" * 200)  # 26 MB of answers
        driven.qmp("qmp_capabilities")  # the others are served meanwhile
        assert {driven.answer() for _ in range(200)} == {"OK 0x" + "00" * 0x10000}
        assert driven.ok("endianness") == ["little"]


def test_a_bad_line_and_a_blank_one_do_not_end_it() -> None:
    with Driven(["-M", "q35"]) as driven:
        driven.send_bytes(b"\n\0\xff\n   \nread 0 0xffffffffffffffff\nfoo\n")
        assert [driven.answer().split()[0] for _ in range(3)] == ["FAIL"] * 3
        assert driven.ok("endianness") == ["little"]


def test_a_listening_socket_serves_one_client_after_the_other() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        place = f"unix:path={path},server=on,wait=off"
        with _process(["-M", "q35", "-qtest", place, "-qtest-log", "none", "-accel", "qtest"]):
            for value, before in ((7, 0), (8, 7)):
                with _connected(path) as client:
                    client.send(b"readl 0x1000\nwritel 0x1000 %d\n" % value)
                    assert [client.line(), client.line()] == [f"OK {before:#018x}", "OK"]


def test_a_loopback_port_and_an_inherited_socket_serve_too() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        listener.settimeout(PATIENCE)
        port = listener.getsockname()[1]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            arguments = ["-qtest", f"tcp:127.0.0.1:{port}", "-qtest-log", "none", "-accel", "qtest"]
            arguments += ["-chardev", f"socket,id=m,fd={theirs.fileno()}", "-mon", "chardev=m,mode=control"]
            process = subprocess.Popen(
                [*command(), *arguments], env=environment(), pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
            connection = listener.accept()[0]
            line, monitor = Line(connection), Line(ours)
            line.send(b"endianness\n")
            assert line.line() == "OK little"
            assert "QMP" in json.loads(monitor.line())
            connection.close()
            assert process.wait(PATIENCE) == 0


def test_without_the_qtest_accelerator_time_is_the_hosts() -> None:
    with Driven(["-M", "q35", "-device", "edu", "-accel", "tcg"]) as driven:  # the first accelerator counts
        assert driven.ask("clock_step") == "FAIL Unknown command 'clock_step'"
        driven.enable(8, BAR)
        for offset, value in ((0x80, 0x1000), (0x88, 0x4_0000), (0x90, 4), (0x98, 1)):
            driven.put("writeq", BAR + offset, value)
        while driven.get("readq", BAR + 0x98) & 1:
            pass


def test_the_suites_own_qemu_client_drives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vtd-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m device_models.fronts.main "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Qemu(binary=str(program)) as qemu:
        assert qemu.read(0, 4) == 0x10
        qemu.write_memory(0x1000, b"a long way")
        qemu.pull(0x1000, 10)
        qemu.push(0x2000, 10)
        assert qemu.read_memory(0x2000, 10) == b"a long way"


def test_what_passes_is_logged_where_it_is_asked(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("-qtest", "stdio", "-qtest-log", str(log), "-accel", "qtest", typed="endianness\nfoo\n")
    assert done.stdout == "OK little\nFAIL Unknown command 'foo'\n"
    lines = [line.split("] ", 1) for line in log.read_text().splitlines()]
    assert [(mark[1], text) for mark, text in lines] == [
        ("R", "endianness"),
        ("R", "foo"),
        ("S", "OK little"),
        ("S", "FAIL Unknown command 'foo'"),
    ]
    assert "] endianness" in run("-qtest", "stdio", "-accel", "qtest", typed="endianness\n").stderr


def test_a_monitor_on_standard_input_prompts_and_quits() -> None:
    done = run("-M", "q35", "-m", "64", "-nographic", typed="info status\nquit\nnever read\n")
    assert done.returncode == 0
    assert done.stdout.replace("\r", "").splitlines()[1:] == ["(qemu) VM status: running", "(qemu) "]
