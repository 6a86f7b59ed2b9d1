"""The monitor: what QEMU's commands print, expressions, and the two commands that are ours. With QEMU at hand, its own
words are asked for and compared."""

from __future__ import annotations

import json
import struct
import subprocess

import pytest

from device_models.fronts.expressions import ExpressionError, evaluate
from device_models.fronts.host import Host
from device_models.fronts.monitor import Monitor, MonitorSession
from device_models.machine import SystemMachine
from device_models.pci.function import PciFunction
from pagetables.layouts.values import TriggerMode
from tests.required import need_qemu

MACHINE = ["-device", "intel-iommu", "-device", "edu,id=e0", "-device", "pcie-root-port,id=rp,chassis=1"]


@pytest.fixture
def monitor() -> Monitor:
    machine = SystemMachine("qemu-7.2", 64 << 20, engine="python")
    for text in MACHINE[1::2]:
        machine.add_device(text)
    return Monitor(Host(machine))


def lines(monitor: Monitor, text: str) -> list[str]:
    return monitor.execute(text).splitlines()


# -- expressions and xp -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [
        ("0x10", 16),
        ("010", 8),
        ("4096+8", 4104),
        ("1+2*3", 7),
        ("(1+2)*3", 9),
        ("1|6&3+1", 4),  # left to right: | and & are alike, and tighter than +
        ("~0", (1 << 64) - 1),
        ("-1+2", 1),
        ("+5", 5),
        ("0-1", (1 << 64) - 1),
        ("17/5*10+17%5", 32),
        ("5^1", 4),
        ("'a'", 97),
        (" 1 + 1 ", 2),
    ],
)
def test_expressions_have_values(text: str, value: int) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "unexpected end of expression"),
        ("1+", "unexpected end of expression"),
        ("foo", "invalid char 'f' in expression"),
        ("1 1", "invalid char '1' in expression"),
        ("*", "invalid char '*' in expression"),
        ("(1", "')' expected"),
        ("1/0", "division by zero"),
        ("1%0", "division by zero"),
        ("08", "invalid char '8' in expression"),
        ("0x10000000000000000", "number too large"),
        ("(" * 60, "too many brackets and signs"),
        ("-" * 60 + "1", "too many brackets and signs"),
    ],
)
def test_what_is_no_expression_says_why(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        evaluate(text)
    assert str(refused.value) == complaint


@pytest.mark.parametrize(
    "command, printed",
    [
        ("xp/4x 0x1000", "0000000000001000: 0x03020100 0x07060504 0x0b0a0908 0x0f0e0d0c"),
        ("xp/2gx 0x1000", "0000000000001000: 0x0706050403020100 0x0f0e0d0c0b0a0908"),
        ("xp /3xb 4096", "0000000000001000: 0x00 0x01 0x02"),
        ("xp/2dh 0x10fe", "00000000000010fe:    -2     0"),
        ("xp/2uh 0x10fe", "00000000000010fe: 65534     0"),
        ("xp/2oh 0x1000+2", "0000000000001002:  01402  02404"),
        ("xp/3c 0x1027", "0000000000001027: '\\'' '(' ')'"),
        ("xp/2c 0x105b", "000000000000105b: '[' '\\\\'"),
        ("xp/2c 0x1009", "0000000000001009: '\\x09' '\\n'"),
        ("xp/1x 0xfed90000", "00000000fed90000: 0x00000010"),
        ("xp/2xb 0xfed90000", "00000000fed90000: Cannot access memory"),
    ],
)
def test_memory_is_printed_as_qemu_prints_it(monitor: Monitor, command: str, printed: str) -> None:
    monitor.host.machine.space.write(0x1000, bytes(range(256)))
    assert lines(monitor, command) == [printed]


def test_a_dump_goes_over_lines_and_ends_where_nothing_is(monitor: Monitor) -> None:
    assert lines(monitor, "xp/6xw 0") == [
        "0000000000000000: 0x00000000 0x00000000 0x00000000 0x00000000",
        "0000000000000010: 0x00000000 0x00000000",
    ]
    assert [line.split(":")[0] for line in lines(monitor, "xp/9xb 0")] == ["0000000000000000", "0000000000000008"]
    assert lines(monitor, "xp/8xw 0x3fffff0")[1:] == ["0000000004000000: Cannot access memory"]


def test_format_and_size_stay_as_they_were(monitor: Monitor) -> None:
    lines(monitor, "xp/2xb 0")
    assert lines(monitor, "xp 0") == ["0000000000000000: 0x00"]
    assert lines(monitor, "xp/2 0") == ["0000000000000000: 0x00 0x00"]


@pytest.mark.parametrize(
    "command, complaint",
    [
        ("xp/1s 0", "invalid char in format: 's'"),
        ("xp", "unexpected end of expression"),
        ("xp/4x foo", "invalid char 'f' in expression"),
        ("xp/9999999x 0", "9999999 items: at most 1048576 at a time"),
        ("xp/5i 0", "no disassembler here: use x, d, u, o or c"),
    ],
)
def test_a_wrong_dump_says_where_help_is(monitor: Monitor, command: str, complaint: str) -> None:
    assert lines(monitor, command) == [complaint, 'Try "help xp" for more information']


# -- info -------------------------------------------------------------------------------------------------------------


def test_interrupts_show_in_the_local_apic(monitor: Monitor) -> None:
    apics = monitor.host.machine.apics
    assert "IRR\t (none)" in lines(monitor, "info lapic")
    apics.write_message(0xFEE0_0000, 0x41)
    apics.write_message(0xFEE0_0000, 0x8030)
    assert apics.events[1].interrupt.trigger is TriggerMode.LEVEL
    assert "IRR\t 48(level) 65" in lines(monitor, "info lapic 0")
    assert lines(monitor, "info interrupts")[0] == "2 interrupt messages arrived"


def test_the_tree_shows_devices_with_properties_and_bars(monitor: Monitor) -> None:
    machine = monitor.host.machine
    machine.host.config_write(0, 8, 0x10, 4, 0xE000_0000)
    machine.host.config_write(0, 8, 4, 2, 2)
    tree = lines(monitor, "info qtree")
    assert tree[:3] == ["bus: main-system-bus", "  type System", '  dev: intel-iommu, id ""']
    at = tree.index('      dev: edu, id "e0"')
    assert "        dma_mask = 268435455 (0xfffffff)" in tree[at:]
    assert "        class Class 00ff, addr 00:01.0, pci id 1234:11e8 (sub 1af4:1100)" in tree[at:]
    assert "        bar 0: mem at 0xe0000000 [0xe00fffff]" in tree[at:]
    assert tree[tree.index("        bus: rp") + 1] == "          type PCIE"


def test_memory_maps_show_units_and_ports(monitor: Monitor) -> None:
    tree, flat = lines(monitor, "info mtree"), lines(monitor, "info mtree -f")
    assert "    00000000fed90000-00000000fed9022f (prio 0, i/o): intel_iommu" in tree
    assert "    0000000000000cf8-0000000000000cfb (prio 0, i/o): pci-conf-idx" in tree
    assert "  00000000fed90000-00000000fed9022f (prio 0, i/o): intel_iommu" in flat


def test_small_questions_have_small_answers(monitor: Monitor) -> None:
    assert lines(monitor, "info status") == ["VM status: running"]
    assert lines(monitor, "info version")[0].startswith("7.2.22 (vtd-emulator")
    assert lines(monitor, "info profile")[0].startswith("qemu-7.2: ")
    assert "no processor" in lines(monitor, "info registers")[0]
    monitor.host.machine.inputs.set(17, True)
    assert lines(monitor, "info irq") == ["/machine/q35/ioapic: 24 inputs, raised: 17"]


def test_help_lists_what_there_is(monitor: Monitor) -> None:
    assert "xp /fmt addr -- physical memory dump starting at 'addr'" in lines(monitor, "help")
    assert lines(monitor, "help device_del") == ["device_del device -- remove device"]
    assert lines(monitor, "?") == lines(monitor, "help")
    assert lines(monitor, "info") == lines(monitor, "help info")
    assert lines(monitor, "help info pci") == ["info pci -- show PCI info"]
    assert lines(monitor, "help nope") == ["unknown command: 'nope'"]


def test_unknown_commands_are_told_with_what_is_near(monitor: Monitor) -> None:
    assert lines(monitor, "foo bar") == ["unknown command: 'foo bar'"]
    assert lines(monitor, "device-add x") == ["unknown command: 'device-add x'; did you mean device_add or device_del?"]
    assert lines(monitor, "info pcii") == ["unknown command: 'info pcii'; did you mean pci?"]
    assert lines(monitor, "   ") == []


def test_devices_objects_and_state_can_be_changed(monitor: Monitor) -> None:
    assert lines(monitor, "device_add edu") == ["Error: Bus 'pcie.0' does not support hotplugging"]
    assert lines(monitor, "device_add") == ["Error: Parameter 'driver' is missing"]
    assert lines(monitor, "device_add edu,id=x,bus=rp") == []
    assert lines(monitor, "qom-get /machine/peripheral/x type") == ['"edu"']
    assert "x (child<edu>)" in lines(monitor, "qom-list /machine/peripheral")
    assert lines(monitor, "qom-list") == ["/"]
    assert lines(monitor, "device_del x") == []
    assert lines(monitor, "device_del x")[0].startswith("Error: Device 'x' not found")
    assert lines(monitor, "device_del") == ["device_del: string expected", 'Try "help device_del" for more information']
    monitor.host.machine.ports.write_number(0xCF8, 4, 0x8000_0000)
    assert lines(monitor, "system_reset") == []
    assert monitor.host.machine.ports.read_number(0xCF8, 4) == 0
    assert lines(monitor, "stop") == []
    assert lines(monitor, "info status") == ["VM status: paused"]
    assert lines(monitor, "c") == []
    assert lines(monitor, "q") == []
    assert monitor.host.leaving


# -- ours -------------------------------------------------------------------------------------------------------------


def _map_one_page(monitor: Monitor) -> None:
    # 00:01.0: IOVA 5000h of a 3-level table leads to 9000h, read-only.
    memory, unit = monitor.host.machine.memory, monitor.host.machine.units[0]
    memory.write(0x10000, struct.pack("<QQ", 0x11001, 0))
    memory.write(0x11080, struct.pack("<QQ", 0x12001, 7 << 8 | 1))
    for at, entry in ((0x12000, 0x13003), (0x13000, 0x14003), (0x14028, 0x9001)):
        memory.write(at, struct.pack("<Q", entry))
    unit.write(0x20, 8, 0x10000)
    unit.write(0x18, 4, 1 << 30)
    unit.write(0x18, 4, 1 << 31)


def test_a_walk_shows_each_step_and_where_it_leads(monitor: Monitor) -> None:
    _map_one_page(monitor)
    assert lines(monitor, "walk 00:01.0 0x5123") == [
        "read of 0x5123 by 00:01.0",
        "  1. legacy-root-entry at 0x10000, index 0x0: 0x11001",
        f"  2. legacy-context-entry at 0x11080, index 0x8: {(7 << 8 | 1) << 64 | 0x12001:#x}",
        "  3. ss-pdpe-table (level 3) at 0x12000, index 0x0: 0x13003",
        "  4. ss-pde-table (level 2) at 0x13000, index 0x0: 0x14003",
        "  5. ss-pte (level 1) at 0x14028, index 0x5: 0x9001",
        "  -> 0x9123 (r, page of 0x1000 bytes)",
    ]
    assert lines(monitor, "walk 00:01.0 0x5123 w")[-1].startswith("  -> fault 05h LGN.2")
    assert lines(monitor, "walk 00:03.0 0")[-1].startswith("  -> fault 02h LCT.")


def test_a_walk_tells_what_the_iotlb_holds_and_that_it_is_stale(monitor: Monitor) -> None:
    _map_one_page(monitor)
    machine = monitor.host.machine
    machine.host.config_write(0, 8, 4, 2, 6)
    machine.device("e0").dma_read(0x5000, 4)  # type: ignore[attr-defined]
    assert lines(monitor, "walk 00:01.0 0x5123")[-1] == "  the IOTLB has 0x9123 (r)"
    machine.memory.write(0x14028, bytes(8))
    assert lines(monitor, "walk 00:01.0 0x5123")[-1] == "  the IOTLB has 0x9123 (r): stale"


@pytest.mark.parametrize(
    "command, complaint",
    [
        ("walk", "expected BDF IOVA [r|w|x]"),
        ("walk 00:01.0 0 q", "access 'q': expected r, w or x"),
        ("walk 00:01.0 -1", "-0x1 is no address of 64 bits"),
        ("walk zz 0", "'zz'"),
    ],
)
def test_a_wrong_walk_says_what_is_wrong(monitor: Monitor, command: str, complaint: str) -> None:
    assert complaint in lines(monitor, command)[0]


def test_a_unit_tells_registers_caches_and_devices(monitor: Monitor) -> None:
    _map_one_page(monitor)
    machine = monitor.host.machine
    machine.host.config_write(0, 8, 4, 2, 6)
    machine.device("e0").dma_read(0x5000, 4)  # type: ignore[attr-defined]
    machine.device("e0").dma_read(0x6000, 4)  # type: ignore[attr-defined]
    told = lines(monitor, "info iommu")
    assert told[0] == "unit 0 at 0xfed90000, profile qemu-7.2"
    assert "  translation on, legacy mode, root table 0x10000" in told
    assert "    GSTS        0xc0000000  rtps=1 tes=1" in told
    assert any(line.startswith("    FRCD ") for line in told)
    assert "    IOTLB: 1" in told
    assert "      0x5000 -> 0x9000 (r, 0x1000 bytes), domain 7, 00:01.0" in told
    assert '    00:01.0 edu "e0"' in told
    assert max(map(len, told)) <= 80


def test_a_machine_without_a_unit_says_so() -> None:
    monitor = Monitor(Host(SystemMachine("spec", 64 << 20, engine="python")))
    assert lines(monitor, "info iommu")[0] == "no remapping unit: -device intel-iommu adds one"
    assert "  00:00.0 mch" in lines(monitor, "info iommu")
    assert lines(monitor, "walk 00:01.0 0x40")[1] == "no unit remaps 00:01.0: the address is 0x40"


def test_a_session_prompts_and_takes_lines_in_pieces(monitor: Monitor) -> None:
    session = MonitorSession(monitor.host)
    assert session.greeting().startswith(b"QEMU 7.2.22 monitor - type 'help'")
    assert session.feed(b"info sta") == b""
    assert session.feed(b"tus\r\n\n") == b"VM status: running\r\n(qemu) (qemu) "
    assert session.feed(b"quit\ninfo status\n") == b""


# -- QEMU's own words -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> dict[str, str]:
    """What the installed QEMU's monitor answers, by command."""
    binary = need_qemu()
    commands = ("info pci", "info lapic", "info status", "xp/6xw 0xfed90000", "xp/3z 0", "xp", "xp/2dh 0", "info foo")
    requests = [{"execute": "qmp_capabilities"}]
    requests += [{"execute": "human-monitor-command", "arguments": {"command-line": text}} for text in commands]
    started = [binary, "-M", "q35", "-m", "64", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio", *MACHINE]
    done = subprocess.run(
        started,
        input="".join(json.dumps(request) + "\n" for request in (*requests, {"execute": "quit"})),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    texts = [answer["return"] for answer in answers if isinstance(answer.get("return"), str)]
    assert len(texts) == len(commands)
    return dict(zip(commands, texts, strict=True))


@pytest.mark.parametrize(
    "command", ["info pci", "info lapic", "xp/6xw 0xfed90000", "xp/3z 0", "xp", "xp/2dh 0", "info foo"]
)
def test_the_monitor_answers_in_qemus_own_words(monitor: Monitor, theirs: dict[str, str], command: str) -> None:
    said = theirs[command]
    assert [line.rstrip() for line in lines(monitor, command)] == [line.rstrip() for line in said.splitlines()]


# -- what is too much, or nowhere -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, answer",
    [
        ("system_reset now", ["system_reset: extraneous characters at the end of line"]),
        ("info status x", ["status: extraneous characters at the end of line"]),
        ("info lapic x", ["invalid char 'x' in expression"]),
        ("info lapic 1e", ["invalid char 'e' in expression"]),
    ],
)
def test_what_stands_behind_a_command_that_takes_nothing_is_refused(
    monitor: Monitor, text: str, answer: list[str]
) -> None:
    told: list[dict[str, object]] = []
    monitor.host.listeners.append(told.append)
    help_of = " ".join(text.split()[:2]) if text.startswith("info") else text.split()[0]
    assert lines(monitor, text) == [*answer, f'Try "help {help_of}" for more information']
    assert told == []


def test_an_apic_that_does_not_exist_is_no_processor(monitor: Monitor) -> None:
    assert lines(monitor, "info lapic 1") == ["No CPU available"]
    assert lines(monitor, "info lapic 0x0")[0] == "dumping local APIC state for CPU 0 "


def test_every_monitor_of_a_machine_remembers_how_memory_was_printed_last(monitor: Monitor) -> None:
    monitor.execute("xp /2xb 0")
    assert lines(Monitor(monitor.host), "xp 0x10") == ["0000000000000010: 0x00"]


@pytest.mark.parametrize(
    "profile, nowhere, somewhere",
    [
        ("qemu-7.2", "at 0xffffffffffffffff [0x000ffffe].", "at 0xe0000000 [0xe00fffff]."),
        ("qemu-10.0", "(not mapped)", "at 0xe0000000 [0xe00fffff]"),
    ],
)
def test_a_bar_at_zero_is_nowhere_and_each_version_says_it_in_its_way(
    profile: str, nowhere: str, somewhere: str
) -> None:
    machine = SystemMachine(profile, 64 << 20, engine="python")
    edu = machine.add_device("edu,addr=2")
    assert isinstance(edu, PciFunction)
    monitor = Monitor(Host(machine))
    edu.config_write(4, 2, 2)  # memory space on, the address still 0
    assert f"      BAR0: 32 bit memory {nowhere}" in lines(monitor, "info pci")
    assert "edu-mmio" not in monitor.execute("info mtree")
    edu.config_write(0x10, 4, 0xE000_0000)
    assert f"      BAR0: 32 bit memory {somewhere}" in lines(monitor, "info pci")


def test_an_identity_that_is_taken_is_a_duplicate_on_a_running_machine(monitor: Monitor) -> None:
    assert lines(monitor, "device_add edu,bus=rp,id=e0") == ["Error: Duplicate device ID 'e0'"]
