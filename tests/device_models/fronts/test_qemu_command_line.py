"""Command lines: what is taken, what is refused in QEMU's words, which machine comes of it. With QEMU at hand its own
refusals are asked for and compared."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from device_models.fronts.building import build_machine, machine_lines
from device_models.fronts.character import Character, parse_character, parse_chardev
from device_models.fronts.invocation import CommandLineError, parse_arguments
from device_models.fronts.main import main
from device_models.fronts.standing_in import stand_in
from device_models.fronts.version import QemuVersion
from device_models.machine import SystemMachine
from device_models.options import OptionError
from emulator.profile import load_profile
from tests.required import need_newer_qemu, need_qemu

LIBQTEST = (
    "-qtest unix:/nowhere/a.sock -qtest-log /dev/null -chardev socket,path=/nowhere/a.qmp,id=char0 "
    "-mon chardev=char0,mode=control -display none -audio none -run-with exit-with-parent=on -machine none -accel qtest"
)


def built(text: str, profile: str = "qemu-11.1") -> SystemMachine:
    return build_machine(parse_arguments(text.split()), load_profile(profile))


def refused(text: str, profile: str = "qemu-7.2") -> str:
    with pytest.raises((CommandLineError, OptionError)) as error:
        stand_in(text.split(), profile, wake=0)
    return str(error.value)


def test_libqtests_line_is_taken_whole() -> None:
    found = parse_arguments(LIBQTEST.split())
    assert found.last("qtest") == "unix:/nowhere/a.sock"
    assert found.all("machine", "M") == ["none"]
    assert found.last("run-with") == "exit-with-parent=on"
    assert found.warnings == []
    assert found.last("monitor") is None


def test_two_dashes_are_one() -> None:
    assert parse_arguments(["--m", "64", "--nodefaults"]).last("m") == "64"
    assert parse_arguments(["--version"]).ask == "version"


def test_what_nothing_is_there_for_is_told_and_the_rest_is_silent() -> None:
    found = parse_arguments(["-bios", "x", "-cpu", "max", "-net", "none", "-drive", "file=x", "-vga", "none", "-S"])
    assert found.warnings == ["-drive file=x: warning: there is nothing here that it could be for"]
    assert found.flags == {"S"}


# Each refusal as QEMU 10.0.2 words it; 7.2.22 has other words for a few.
NEWER = ("-M foo", "-M q35 -smp 0", "-run-with foo=on")
REFUSALS = [
    ("-foo", "-foo: invalid option"),
    ("--foo", "--foo: invalid option"),
    ("-machine", "-machine: requires an argument"),
    ("-device", "-device: requires an argument"),
    ("-M foo", 'unsupported machine type: "foo"\nUse -machine help to list supported machines'),
    ("-accel foo", "-accel foo: invalid accelerator foo"),
    ("-M q35 -device edu,foo=1", "-device edu,foo=1: Property 'edu.foo' not found"),
    ("-M q35 -device edo", "-device edo: 'edo' is not a valid device model name"),
    ("-M q35 -device edu,addr=40", "-device edu,addr=40: Property 'edu.addr' doesn't take value '40'"),
    ("-M q35 -device intel-iommu,bus=pcie.0", "-device intel-iommu,bus=pcie.0: Device 'intel-iommu' can't go on PCIE"),
    ('-device {"driver":"edu"', '-device {"driver":"edu": JSON parse error'),
    ("-M q35 -device edu,dma_mask=1_0", "-device edu,dma_mask=1_0: Parameter 'dma_mask' expects integer"),
    ("-M q35 -device edu,rombar=-0x100000001", "-device edu,rombar=-0x100000001: Parameter 'rombar' expects "),
    (
        "-M q35 -device pcie-root-port -device pcie-root-port,addr=7",
        "-device pcie-root-port,addr=7: Can't add chassis slot, error -16",
    ),
    (
        "-M q35 -device intel-iommu,intremap=off,eim=on",
        "-device intel-iommu,intremap=off,eim=on: eim=on cannot be selected without intremap=on",
    ),
    ("-M q35 -device edu,dma_mask=zz", "-device edu,dma_mask=zz: Parameter 'dma_mask' expects integer"),
    ("-M q35 -device edu,id=a -device edu,id=a", "-device edu,id=a: Duplicate ID 'a' for device"),
    ("-M q35 -device intel-iommu,intremap=3", "-device intel-iommu,intremap=3: Parameter 'intremap' does not accept"),
    (
        "-M q35 -device intel-iommu,aw-bits=57",
        "-device intel-iommu,aw-bits=57: Supported values for aw-bits are: 39, 48",
    ),
    ("-m 1x", "-m 1x: Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or E"),
    ("-M q35 -smp 0", "Invalid CPU topology: CPU topology parameters must be greater than zero"),
    ("-M q35 -smp x", "Parameter 'smp.cpus' expects integer"),
    ("-monitor foo", "-monitor foo: 'foo' is not a valid char driver"),
    ("-mon chardev=nope", '-mon chardev=nope: chardev "nope" not found'),
    ("-object foo,id=x", "-object foo,id=x: Parameter 'qom-type' does not accept value 'foo'"),
    ("-run-with foo=on", "-run-with foo=on: Invalid parameter 'foo'"),
    (
        "-qmp unix:/nonexistent/y",
        "-qmp unix:/nonexistent/y: Failed to connect to '/nonexistent/y': No such file or directory",
    ),
]


@pytest.mark.parametrize("text, words", REFUSALS)
def test_what_is_wrong_is_refused_in_qemus_words(text: str, words: str) -> None:
    assert refused(text).startswith(words)


@pytest.mark.parametrize("text, words", [case for case in REFUSALS if case[0] not in NEWER])
def test_qemu_has_these_words(text: str, words: str) -> None:
    binary = need_qemu()
    done = subprocess.run(
        [binary, "-display", "none", "-nodefaults", *text.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"qemu-system-x86_64: {words}")


@pytest.mark.parametrize(
    "text, words",
    [
        ("disk.img", "disk.img: Could not open 'disk.img': this machine has no disks"),
        ("-daemonize", "-daemonize: this program stays in the foreground"),
        ("-enable-kvm", "-enable-kvm: there is no processor here; use -accel qtest or -accel tcg"),
        ("-M q35,foo=on", "Property 'pc-q35-7.2-machine.foo' not found"),
        ("-M q35 -smp 999", "Invalid SMP CPUs 999. The max CPUs supported by machine 'q35' is 288"),
        ("-M q35 -m 32T", "-m 32T: at most 16 TiB"),
        (
            "-qtest pty",
            "-qtest pty: 'pty' is not a valid char driver; known: unix:PATH, tcp:127.0.0.1:PORT, stdio, null",
        ),
        ("-qtest tcp:8.8.8.8:1", "-qtest tcp:8.8.8.8:1: '8.8.8.8' is not this machine: only Unix sockets and loopback"),
        ("-qtest tcp:example.org:1", "-qtest tcp:example.org:1: 'example.org' is not this machine"),
        ("-qtest tcp:127.0.0.1:x", "-qtest tcp:127.0.0.1:x: Parameter 'port' expects a number below 65536, not 'x'"),
        ("-qtest unix:", "-qtest unix:: expected a path, or a host and a port"),
        ("-qtest unix:a,server=3", "-qtest unix:a,server=3: Parameter 'server' expects 'on' or 'off'"),
        ("-chardev socket,path=x", "-chardev socket,path=x: Parameter 'id' is missing"),
        ("-chardev pty,id=x", "-chardev pty,id=x: 'pty' is not a valid char driver; known: socket, stdio, null"),
        ("-chardev null,id=x -mon chardev=x,mode=y", "Invalid monitor mode 'y'"),
        ("-M none -device edu", "-device edu: No 'PCI' bus found for device 'edu'"),
        (
            "-M none -device intel-iommu",
            "-device intel-iommu: Parameter 'driver' expects a dynamic sysbus device type for the machine",
        ),
        ("-device edo,help", "-device edo,help: 'edo' is not a valid device model name; did you mean edu?"),
        (
            "-chardev socket,id=m,fd=99 -mon chardev=m",
            "-mon chardev=m: file descriptor 99 is no socket: Bad file descriptor",
        ),
        ("-qtest null -qtest-log /nonexistent/x -M none", "-qtest-log /nonexistent/x: No such file or directory"),
    ],
)
def test_what_is_not_here_is_refused_with_the_reason(text: str, words: str) -> None:
    assert refused(text).startswith(words)


def test_a_refusal_is_one_word_of_stderr_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-foo"]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.split(": ", 1)[1]) == ("", "-foo: invalid option\n")


@pytest.mark.parametrize(
    "text, printed",
    [
        ("-help", "usage: vtd-system-x86_64 [options]"),
        ("-machine help", "Supported machines are:"),
        ("-accel help", "Accelerators supported in QEMU binary:\nqtest\ntcg\n"),
        ("-device help", 'name "edu", bus PCI, desc "educational device: factorial, interrupts, DMA"'),
        ("-device edu,help", "edu options:\n"),
    ],
)
def test_questions_are_answered_and_nothing_starts(text: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stand_in(text.split(), "qemu-11.1", wake=0) == 0
    assert printed in capsys.readouterr().out


@pytest.mark.parametrize(
    "profile, line",
    [
        ("qemu-7.2", "  caching-mode=<bool>    -  (default: false)"),
        ("qemu-10.0", "  caching-mode=<bool>    - on/off (default: off)"),
        ("qemu-10.0", "  eim=<OnOffAuto>        - on/off/auto (default: auto)"),
        ("qemu-11.1", "  dma-translation=<bool> - on/off (default: on)"),
        ("qemu-11.1", "  aw-bits=<uint8>        -  (default: 48)"),
    ],
)
def test_help_is_worded_as_that_version_words_it(profile: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stand_in(["-device", "intel-iommu,help"], profile, wake=0) == 0
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("newer", [False, True])
def test_the_units_help_is_qemus(newer: bool, capsys: pytest.CaptureFixture[str]) -> None:
    binary, profile = (need_newer_qemu(), "qemu-10.0") if newer else (need_qemu("7.2"), "qemu-7.2")
    done = subprocess.run([binary, "-device", "intel-iommu,help"], capture_output=True, text=True, check=True)
    stand_in(["-device", "intel-iommu,help"], profile, wake=0)
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(done.stdout.splitlines())


def test_the_version_is_read_from_the_profile() -> None:
    versions = {
        name: QemuVersion.of(load_profile(name)).text for name in ("qemu-7.2", "qemu-10.0", "qemu-11.1", "spec")
    }
    assert versions == {"qemu-7.2": "7.2.22", "qemu-10.0": "10.0.2", "qemu-11.1": "11.1.3", "spec": "11.1.3"}
    assert machine_lines(QemuVersion(9, 1, 0))[-1].startswith("pc-q35-9.1 ")


# -- the machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, size",
    [("", 128 << 20), ("-m 64", 64 << 20), ("-m 1G", 1 << 30), ("-m size=32M", 32 << 20), ("-m 0", 128 << 20)],
)
def test_memory_is_in_mib_unless_it_says_otherwise(text: str, size: int) -> None:
    assert sum(part for _, part in built(text).memory.regions) == size


@pytest.mark.parametrize("text, count", [("", 1), ("-smp 4", 4), ("-smp cpus=2", 2), ("-smp sockets=2,cores=3", 6)])
def test_processors_are_counted(text: str, count: int) -> None:
    assert len(built(text).apics.apics) == count


def test_defaults_have_a_display_and_nodefaults_has_none() -> None:
    display = 0x1111_1234
    for text, there in (("", True), ("-vga none", False), ("-nodefaults", False), ("-nodefaults -vga std", True)):
        found = {function.config.get(0, 4) for function in built(text).root_bus.functions.values()}
        assert (display in found) is there


def test_chipset_devices_can_be_left_out() -> None:
    machine = built("-nodefaults -M q35,sata=off,smbus=off,hpet=off")
    assert sorted(machine.root_bus.functions) == [0x00, 0xF8]


def test_globals_are_defaults_of_devices() -> None:
    text = "-nodefaults -global edu.dma_mask=255 -device edu,id=a -device edu,id=b,dma_mask=7"
    machine = built(f"{text} -global driver=edu,property=multifunction,value=on")
    assert [machine.device(name).get_property("dma_mask") for name in "ab"] == [255, 7]
    assert machine.device("b").get_property("multifunction") is True


def test_an_accelerator_may_stand_with_the_machine() -> None:
    assert stand_in(["-M", "none,accel=qtest", "-qtest", "null"], "qemu-11.1", wake=_readable()) == 0


def _readable() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()  # the end of the other side can be read at once: the loop ends
    return ours.detach()


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, place",
    [
        ("unix:/a/b", Character("socket", path="/a/b")),
        ("unix:path=/a,server=on,wait=off", Character("socket", path="/a", server=True, wait=False)),
        ("unix:/a,server,nowait", Character("socket", path="/a", server=True, wait=False)),
        ("unix:/a,,b", Character("socket", path="/a,b")),
        ("tcp:127.0.0.1:80", Character("socket", host="127.0.0.1", port=80)),
        ("tcp:localhost:80,server=on", Character("socket", host="localhost", port=80, server=True)),
        ("tcp:[::1]:80", Character("socket", host="::1", port=80)),
        ("tcp::80", Character("socket", port=80)),
        ("stdio", Character("stdio")),
        ("none", Character("null")),
    ],
)
def test_places_are_read_as_qemu_reads_them(text: str, place: Character) -> None:
    assert parse_character(text) == place


def test_character_devices_have_an_id() -> None:
    assert parse_chardev("socket,id=a,host=127.0.0.1,port=5,server=on") == (
        "a",
        Character("socket", host="127.0.0.1", port=5, server=True),
    )
    assert parse_chardev("socket,id=a,fd=3") == ("a", Character("socket", descriptor=3))
    assert parse_chardev("stdio,id=s") == ("s", Character("stdio"))


def test_places_are_named_as_query_chardev_names_them(tmp_path: Path) -> None:
    texts = [parse_character(text).text for text in ("unix:/a", "unix:/a,server=on", "tcp:127.0.0.1:5", "stdio")]
    assert [*texts, Character("socket", descriptor=3).text] == [
        "unix:/a",
        "unix:/a,server=on",
        "tcp:127.0.0.1:5",
        "stdio",
        "fd:3",
    ]
    missing = parse_character(f"unix:{tmp_path}/none/x,server=on")
    with pytest.raises(CommandLineError, match="Failed to bind socket to"):
        missing.listener()
