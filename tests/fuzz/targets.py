"""What is fuzzed: each target gives some bytes to a parser, and goes on as a command would. Only VtdError may escape.

A target also says what it was fed: seeds, true inputs that a campaign starts from.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import lzma
import os
import struct
from collections.abc import Callable, Iterator

import zstandard

from device_models.fronts.host import Host
from device_models.fronts.invocation import CommandLineError, parse_arguments
from device_models.fronts.monitor import Monitor
from device_models.fronts.qmp import QmpSession
from device_models.fronts.qtest import QtestServer
from device_models.machine import SystemMachine
from device_models.machine_file import parse_machine
from pagetables import dmesg
from pagetables.audit import audit
from pagetables.audit.regions import parse_hints, parse_symbols
from pagetables.errors import VtdError
from pagetables.images.acpi import find_dmar
from pagetables.images.dmar_file import parse_acpidump
from pagetables.images.find_root import find_roots
from pagetables.images.image import Image, Segment
from pagetables.images.inspection import answer, inspect_unit
from pagetables.images.opening import open_image
from pagetables.images.registers import RegisterPage, load_units
from pagetables.layouts import dmar
from pagetables.request import Access, Request
from tests.conftest import FIXTURES
from tests.fuzz.trace_targets import TRACE_FEEDS
from tests.pagetables.images.elf_bytes import Core, Load, note
from tests.pagetables.images.kdump_bytes import PACKERS, flatten, kdump

__all__ = ["TARGETS", "Target"]

PAGE = 4096
PAGES = 16
FLATTENED = b"makedumpfile".ljust(16, b"\0")
LONGEST = 1 << 16  # bytes of one input


class Target:
    """A parser, the inputs that a campaign starts from, and the name of both."""

    def __init__(self, name: str, feed: Callable[[bytes], None], seeds: Callable[[], Iterator[bytes]]) -> None:
        self.name = name
        self.feed = feed
        self.seeds = seeds

    def __call__(self, data: bytes) -> None:
        """Feeds `data` to the parser. What escapes is a bug."""
        with contextlib.suppress(VtdError):
            self.feed(data)


class _File:
    # A file without a name that is written over and over: parsers take paths.
    def __init__(self) -> None:
        self._descriptor = -1

    def holding(self, data: bytes) -> str:
        if self._descriptor < 0:
            self._descriptor = os.memfd_create("fuzz")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)
        return f"/proc/self/fd/{self._descriptor}"


_file = _File()


def _read_through(image: Image) -> None:
    # What every command does with an image: its edges, its holes, its notes.
    for start, size in image.regions[:64]:
        for at in (start, start + size - 8 & ~7, start + size):
            image.load(at & ~7)
        for at in range(start, min(start + size, start + 8 * PAGE), PAGE):
            with contextlib.suppress(VtdError):
                image.read(at, min(start + size - at, PAGE))
    list(itertools.islice(image.touched(), 1000))
    RegisterPage.from_notes(image.notes)


def _image(data: bytes) -> None:
    with open_image(_file.holding(data)) as image:
        _read_through(image)


def _as(magic: bytes) -> Callable[[bytes], None]:
    # Most inputs would fail at the first bytes, which nothing can be wrong with.
    return lambda data: _image(magic + data)


def _registers(data: bytes) -> None:
    for page in load_units(_file.holding(data)):
        with contextlib.suppress(VtdError):
            list(page.pending_faults())
            page.capabilities()
        page.as_text()


def _dmar(data: bytes) -> None:
    # Length and checksum are put right: what is behind them is the point.
    if len(data) >= 48:
        body = b"DMAR" + struct.pack("<I", len(data)) + data[8:9] + b"\0" + data[10:]
        data = body[:9] + bytes([-sum(body) & 0xFF]) + body[10:]
    table = dmar.parse(data)
    assert dmar.parse(dmar.build(table)) == table
    find_dmar(Image("fuzz", "raw memory", data, [Segment(0xE0000, len(data), 0, len(data))]))


def _trace(data: bytes) -> None:
    from emulator.trace import read_traces

    trace = read_traces([_file.holding(data)])
    list(itertools.islice(trace.columns.rows(), 1000))
    _ = trace.applied_counts, trace.skipped.groups()


def _json_lines(data: bytes) -> None:
    _trace(b'{"vtd-trace": 1}\n' + data if data[:1] != b"{" else data)


def _ftrace(data: bytes) -> None:
    _trace(b"# tracer: nop\n#\n" + data)


def _dmesg(data: bytes) -> None:
    lines = data.decode("utf-8", "replace").splitlines()
    log = dmesg.read_kernel_log(lines)
    list(dmesg.storms(log.faults))
    for line in lines[:16]:
        with contextlib.suppress(VtdError):
            dmesg.parse_fault_line(line)


def _memory(data: bytes) -> tuple[Image, RegisterPage]:
    # A few bytes say where a word stands and where it points, so that tables, loops and lies come about by chance.
    memory = bytearray(PAGE * PAGES)
    for slot, page, flags, high in struct.iter_unpack("<HBBI", data[: len(data) // 8 * 8]):
        where = slot * 8 % len(memory)
        word = (page % (PAGES + 2)) * PAGE | flags | (high & 0xFFF) << 52 | (high >> 12 & 0xF) << 8
        struct.pack_into("<Q", memory, where, word)
    mode = data[0] & 3 if data else 0
    image = Image("fuzz", "raw memory", bytes(memory), [Segment(0, len(memory), 0, len(memory))])
    return image, RegisterPage.of_root_table(mode << 10)


def _scan(data: bytes) -> None:
    image, page = _memory(data)
    report = inspect_unit(image, page)
    for space in report.spaces[:8]:
        pasid = space.pasid
        for iova in (0, *(one.iova for one in space.mappings[:4])):
            for access in Access:
                answer(image, (page,), Request(space.source_id, iova, access, pasid))


def _audit(data: bytes) -> None:
    image, page = _memory(data)
    audit(image, (page,))


def _find_root(data: bytes) -> None:
    find_roots(_memory(data)[0])


def _symbols(data: bytes) -> None:
    parse_symbols(data)


def _hints(data: bytes) -> None:
    parse_hints(data)


def _acpidump(data: bytes) -> None:
    table = parse_acpidump(data)
    if table is not None:
        dmar.parse(table)


def _machine() -> SystemMachine:
    machine = SystemMachine("qemu-11.1", 1 << 20, engine="python")
    machine.add_device("intel-iommu,scalable-mode=on")
    machine.add_device("edu,id=e0")
    machine.add_device("pcie-root-port,id=rp,chassis=1")
    return machine


def _qtest(data: bytes) -> None:
    server = QtestServer(_machine())
    half = len(data) // 2
    server.feed(data[:half])
    server.feed(data[half:] + b"\n")
    assert server.feed(b"\nendianness\n").endswith(b"OK little\n")


def _qmp(data: bytes) -> None:
    session = QmpSession(Host(_machine()))
    session.feed(b'{"execute": "qmp_capabilities"}')
    session.feed(data)
    answer = session.feed(b'\n\xff{"execute": "query-name"}\n')
    assert answer.endswith(b'{"return": {}}\r\n')


def _monitor(data: bytes) -> None:
    monitor = Monitor(Host(_machine()))
    for line in data.decode("utf-8", "replace").splitlines():
        monitor.execute(line)


def _command_line(data: bytes) -> None:
    with contextlib.suppress(CommandLineError):
        parse_arguments(data.decode("utf-8", "replace").split())


def _machine_file(data: bytes) -> None:
    parse_machine(data.decode("utf-8", "replace"))


def _elf_seeds() -> Iterator[bytes]:
    notes = note(b"VTD", 1, struct.pack("<Q", 0xFED90000) + bytes(PAGE)) + note(b"VTDCORPUS", 1, bytes(0x230))
    loads = [Load(0x1000, bytes(range(256)) * 16, size=2 * PAGE), Load(1 << 32, b"x" * 100)]
    yield bytes(Core(loads))
    yield bytes(Core([*loads, Load(0x1800, bytes(range(256)) * 4)], notes))
    yield bytes(Core(loads, notes, count=0xFFFF, section_info=3))


def _kdump_seeds() -> Iterator[bytes]:
    pages = {1: bytes(range(256)) * 16, 3: bytes(PAGE), 64: b"some text " * 409 + b"......"}
    for packer in PACKERS:
        yield kdump(pages, packer)
    yield kdump(pages, "plain", ram={1, 2, 3, 64}, version=5, level=1)


def _flattened_seeds() -> Iterator[bytes]:
    yield flatten(next(_elf_seeds()))
    yield flatten(next(_kdump_seeds()))


def _packed_seeds() -> Iterator[bytes]:
    for pack in (gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress):
        yield pack(next(_elf_seeds()))
        yield pack(next(_kdump_seeds()) + bytes(1 << 20))


def _fixture_registers() -> Iterator[bytes]:
    for path in sorted((FIXTURES / "images").glob("*/registers.json")):
        yield path.read_bytes()
        raw = bytes.fromhex(json.loads(path.read_text())["raw_hex"])
        yield raw
        yield RegisterPage(0xFED90000, raw).as_text().encode()


def _fixture_traces() -> Iterator[bytes]:
    for path in sorted((FIXTURES / "traces").glob("*.txt.xz")):
        lines = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
        yield b"".join(lines[:60])
        yield b"".join(lines[2000:2040])


def _json_seeds() -> Iterator[bytes]:
    yield b'{"event": "map", "device": "00:03.0", "iova": "0x1000", "gpa": "0x5000", "size": 4096}\n'
    yield b'{"event": "attach", "device": "00:03.0"}\n{"event": "unmap", "device": "00:03.0", "iova": "0x1000"}\n'


def _dmesg_seeds() -> Iterator[bytes]:
    fault = "[DMA Read] Request device [86:05.6] fault addr 0 [fault reason 06] PTE Read access is not set"
    yield f"DMAR: DRHD: handling fault status reg 2\nDMAR: {fault}\n".encode()
    yield b"[ 12.5] DMAR: [DMA Read PASID 0x12] Request device [00:02.0] fault addr 0x7cd80000 [fault reason 0x59] SM:"
    yield b"DMAR: [INTR-REMAP] Request device [f0:1f.7] fault index 0x2a [fault reason 0x25] Blocked a compatibility"


def _lime_seeds() -> Iterator[bytes]:
    yield struct.pack("<IQQQ", 1, 0, PAGE - 1, 0) + bytes(PAGE)


def _dmar_seeds() -> Iterator[bytes]:
    yield (FIXTURES / "dmar" / "qemu-7.2-q35.bin").read_bytes()


def _symbol_seeds() -> Iterator[bytes]:
    yield b"ffffffff81000000 T _text\nffffffff82000000 R _etext\nffffffff83000000 D _end\n"


def _hint_seeds() -> Iterator[bytes]:
    yield b'{"regions": [{"start": "0x1000", "size": "0x2000", "kind": "kernel-text", "name": "text"}]}'
    yield b"regions:\n- {start: 0x1000, size: 0x2000, kind: kernel-text, name: text}\nphys_base: 0x1000000\n"


def _acpidump_seeds() -> Iterator[bytes]:
    data = next(_dmar_seeds())
    rows = (data[at : at + 16] for at in range(0, len(data), 16))
    yield b"DMAR @ 0x0000000000000000\n" + b"".join(
        f"  {n * 16:04X}: {row.hex(' ').upper()}\n".encode() for n, row in enumerate(rows)
    )


def _memory_seeds() -> Iterator[bytes]:
    # Legacy: root entry 0 -> page 1; context entry 0 -> page 2; four levels down to a leaf.
    words = [(0, 1, 1, 0), (512, 2, 1, 0), (513, 2, 0, 0), (1024, 3, 3, 0), (1536, 4, 3, 0), (2048, 5, 3, 0)]
    yield b"".join(struct.pack("<HBBI", *word) for word in (*words, (2560, 6, 3, 0)))
    # Scalable: a PASID entry that is nested, its second stage at page 4, its first at guest page 5.
    words = [(1, 0, 0, 0), (0, 1, 1, 0), (512, 2, 1, 0), (1024, 3, 1, 0), (1536, 4, 0xC5, 0), (1537, 0, 7, 0)]
    words += [(1538, 5, 0, 0), (2048, 6, 3, 0), (3072, 7, 3, 0), *((3584 + n, n, 3, 0) for n in range(8, 16))]
    yield b"".join(struct.pack("<HBBI", *word) for word in words)
    yield b"".join(struct.pack("<HBBI", n * 7, n, 3 | n & 0x80, n) for n in range(200))


def _qtest_seeds() -> Iterator[bytes]:
    yield b"readl 0xfed90000\nwriteq 0xfed90020 0x1000\noutl 0xcf8 0x80000810\noutl 0xcfc 0xe0000000\nclock_step\n"
    yield b"write 0x1000 4 0x01020304\nb64read 4096 4\nb64write 0 4 AQIDBA==\nmemset 0 0x10 0xff\nread 0x0 16\n"
    yield b"irq_intercept_in ioapic\nset_irq_in ioapic unnamed-gpio-in 3 1\nclock_set 100\nmodule_load a b\n\nfoo\n"
    yield b"outb 0xcf9 6\nwritel 0xfed90018 0x40000000\nwritel 0xfee00000 0x41\nirq_intercept_out e0 gsi\n"


def _qmp_seeds() -> Iterator[bytes]:
    for name, arguments in (
        ("qom-get", b'{"path": "/machine/peripheral/e0", "property": "addr"}'),
        ("device_add", b'{"driver": "edu", "bus": "rp", "id": "x", "multifunction": true}'),
        ("device_add", b'{"driver": "{\\"driver\\": 3}"}'),
        ("qom-set", b'{"path": "e0", "property": "dma_mask", "value": 1}'),
        ("human-monitor-command", b'{"command-line": "xp/4xw 0xfed90000"}'),
        ("query-pci", b"{}"),
    ):
        yield b'{"execute": "%s", "arguments": %s, "id": 1}\n' % (name.encode(), arguments)
    yield b'{"execute": [{"a": "\\u1234"}]} [1, {"b": null}] "text" true\n\xff{"execute": "system_reset"}'


def _monitor_seeds() -> Iterator[bytes]:
    yield b"info iommu\nwalk 00:01.0 0x1000 w\nxp/4xw (0xfed90000+8)\nxp/3c 'a'|7\ninfo lapic 0\nhelp info pci\n"
    yield b"device_add edu,id=x,bus=rp\ninfo qtree\nqom-list /machine\nqom-get e0 addr\ndevice_del x\ninfo mtree -f\n"


def _command_line_seeds() -> Iterator[bytes]:
    yield b"-qtest unix:/a -chardev socket,path=/b,id=c -mon chardev=c,mode=control -M q35,accel=qtest -device edu"


def _machine_file_seeds() -> Iterator[bytes]:
    for path in sorted((FIXTURES / "machines").glob("*.yaml")):
        yield path.read_bytes()


def _without(magic: bytes, seeds: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
    return lambda: (seed.removeprefix(magic) for seed in seeds())


TARGETS = {
    target.name: target
    for target in (
        Target("elf", _as(b"\x7fELF"), _without(b"\x7fELF", _elf_seeds)),
        Target("lime", _as(b"EMiL"), _lime_seeds),
        Target("kdump", _as(b"KDUMP   "), _without(b"KDUMP   ", _kdump_seeds)),
        Target("flattened", _as(FLATTENED), _without(FLATTENED, _flattened_seeds)),
        Target("packed", _image, _packed_seeds),
        Target("registers", _registers, _fixture_registers),
        Target("dmar", _dmar, _dmar_seeds),
        Target("acpidump", _acpidump, _acpidump_seeds),
        Target("symbols", _symbols, _symbol_seeds),
        Target("hints", _hints, _hint_seeds),
        Target("jsonl", _json_lines, _json_seeds),
        Target("ftrace", _ftrace, _fixture_traces),
        Target("dmesg", _dmesg, _dmesg_seeds),
        Target("scan", _scan, _memory_seeds),
        Target("audit", _audit, _memory_seeds),
        Target("find-root", _find_root, _memory_seeds),
        Target("qtest", _qtest, _qtest_seeds),
        Target("qmp", _qmp, _qmp_seeds),
        Target("monitor", _monitor, _monitor_seeds),
        Target("command-line", _command_line, _command_line_seeds),
        Target("machine-file", _machine_file, _machine_file_seeds),
        *(Target(name, *pair) for name, pair in TRACE_FEEDS.items()),
    )
}
