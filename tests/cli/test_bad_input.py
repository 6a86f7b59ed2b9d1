"""Bad input: one line on stderr, the right status, never a traceback, never a half-written file."""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
import subprocess
import sys

import pytest

from cli.__main__ import main
from pagetables.images.elf import write_elf
from pagetables.memory import PhysicalMemory
from tests.conftest import FIXTURES

IMAGES = FIXTURES / "images"
IMAGE = IMAGES / "a-legacy-strict/image.elf.gz"
WALK = ("00:04.0", "0x1000")


@pytest.fixture
def refused(capsys):
    """Runs `vtd`, which must refuse in one line with status 2; the line."""

    def run(*arguments):
        assert main([*map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("vtd: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err

    return run


@pytest.fixture
def file(tmp_path):
    """Writes a file with these bytes; its path."""

    def write(data):
        path = tmp_path / "input"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def elf():
    """A real image, unpacked."""
    return gzip.decompress(IMAGE.read_bytes())


BOTH = pytest.mark.parametrize("command", ["inspect", "walk"])


def asked(command, image, *more):
    return (command, image, *(WALK if command == "walk" else ()), *more)


@BOTH
def test_a_missing_file(refused, command, tmp_path):
    assert refused(*asked(command, tmp_path / "no.elf")) == f"vtd: {tmp_path}/no.elf: No such file or directory\n"


@BOTH
def test_a_directory(refused, command, tmp_path):
    assert refused(*asked(command, tmp_path)) == f"vtd: {tmp_path}: Is a directory\n"


@BOTH
def test_an_empty_file(refused, command, file):
    assert "empty; expected" in refused(*asked(command, file(b"")))


@BOTH
@pytest.mark.parametrize("size", [10, 63, 64, 500, 2000, 50_000, 200_000])
def test_a_truncated_image(refused, command, file, elf, size):
    assert "cut short" in refused(*asked(command, file(elf[:size])))


@BOTH
def test_a_truncated_compressed_image(refused, command, file):
    assert "damaged gzip data" in refused(*asked(command, file(IMAGE.read_bytes()[:-100])))


@BOTH
def test_an_image_of_another_kind(refused, command, file, elf):
    assert "expected 2 (64 bits)" in refused(*asked(command, file(elf[:4] + b"\1" + elf[5:])))
    assert "expected 4 (a core)" in refused(*asked(command, sys.executable))


@BOTH
def test_an_image_without_registers(refused, command, file):
    assert "give --registers FILE or --rtaddr ADDR" in refused(*asked(command, file(bytes(8192))))


@BOTH
def test_registers_and_root_table_address_exclude_each_other(refused, command):
    registers = IMAGES / "a-legacy-strict/registers.json"
    assert "exclude each other" in refused(*asked(command, IMAGE, "--registers", registers, "--rtaddr", "0x1000"))


@BOTH
@pytest.mark.parametrize("name", ["image.elf.gz", "truth.json.gz"])
def test_registers_of_the_wrong_kind(refused, command, name):
    line = refused(*asked(command, IMAGE, "--registers", IMAGES / "a-legacy-strict" / name))
    assert name in line
    assert "expected registers.json" in line


@BOTH
def test_registers_that_are_empty_or_missing(refused, command, file, tmp_path):
    assert "empty" in refused(*asked(command, IMAGE, "--registers", file(b"")))
    assert "No such file" in refused(*asked(command, IMAGE, "--registers", tmp_path / "none"))
    assert "Is a directory" in refused(*asked(command, IMAGE, "--registers", tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["walk", IMAGE], "Missing argument 'BDF'"),
        (["walk", IMAGE, "00:04.0"], "Missing argument 'IOVA'"),
        (["walk", IMAGE, "00:20.0", "0"], "expected BUS:DEVICE.FUNCTION"),
        (["walk", IMAGE, "nic", "0"], "'nic' is not a device"),
        (["walk", IMAGE, "00:04.0", "abc"], "'abc' is not a number"),
        (["walk", IMAGE, "00:04.0", "0x1" + "0" * 16], "more than 64 bits"),
        (["walk", IMAGE, "00:04.0", "0", "--access", "x"], "--access"),
        (["walk", IMAGE, "00:04.0", "0", "--pasid", "0x100000"], "PASID"),
        (["inspect"], "Missing argument 'IMAGE'"),
        (["inspect", IMAGE, "--source", "1"], "'1' is not a device"),
        (["inspect", IMAGE, "--pasid", "-1"], "negative"),
        (["inspect", IMAGE, "--pasid", "0x100000"], "PASID"),
        (["inspect", IMAGE, "--rtaddr", "0x1" + "0" * 16], "64 bits"),
        (["inspect", IMAGE, "--nonsense"], "--nonsense"),
    ],
    ids=lambda value: " ".join(map(str, value[1:]))[-40:] if isinstance(value, list) else "",
)
def test_wrong_usage(refused, arguments, message):
    assert message in refused(*arguments)


def test_a_number_of_a_million_digits_is_refused(refused):
    refused("walk", IMAGE, "00:04.0", "9" * 10_000)


def test_raw_memory_that_is_none_is_a_finding_or_a_fault_not_a_crash(capsys, file):
    noise = file(random.Random(1).randbytes(1 << 16))
    assert main(["inspect", str(noise), "--rtaddr", "0x1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"][0]["findings"]
    assert main(["walk", str(noise), "00:04.0", "0x1000", "--rtaddr", "0x1000", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "fault"


def image_of(tmp_path, writes, size=1 << 16):
    memory = PhysicalMemory([(0, size)])
    for address, qword in writes.items():
        memory.store(address, qword)
    write_elf(tmp_path / "made.elf", memory)
    return str(tmp_path / "made.elf")


def test_tables_that_lead_back_to_themselves_end(capsys, tmp_path):
    cyclic = {0x1000: 0x2001, 0x2000 + 16 * 0x20: 0x3001, 0x2008 + 16 * 0x20: 0x0102}
    cyclic |= {0x3000 + 8 * index: 0x3003 for index in range(512)}
    image = image_of(tmp_path, cyclic)
    assert main(["inspect", image, "--rtaddr", "0x1000", "--json"]) == 0
    (unit,) = json.loads(capsys.readouterr().out)["units"]
    assert "loop" in {finding["kind"] for finding in unit["findings"]}
    assert main(["walk", image, "00:04.0", "0x1000", "--rtaddr", "0x1000", "--json"]) == 0  # a page, for the walk
    assert main(["inspect", image, "--rtaddr", "0x1000"]) == 0
    assert "finding: " in capsys.readouterr().out


def test_a_root_table_outside_memory_is_said(capsys, tmp_path):
    image = image_of(tmp_path, {})
    assert main(["inspect", image, "--rtaddr", "0x100000000", "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)["units"][0]["findings"]
    assert (finding["kind"], finding["at"]) == ("missing-table", "0x100000000")
    assert main(["walk", image, *WALK, "--rtaddr", "0x100000000", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == 8


@pytest.mark.parametrize("ttm", [0x800, 0xC00])
def test_reserved_and_abort_mode(capsys, tmp_path, ttm):
    image = image_of(tmp_path, {})
    assert main(["inspect", image, "--rtaddr", hex(0x1000 | ttm), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"][0]["mode"] == {0x800: "reserved", 0xC00: "abort"}[ttm]
    assert main(["walk", image, *WALK, "--rtaddr", hex(0x1000 | ttm)]) == 1


@pytest.mark.parametrize("variant", ["a-legacy-strict", "c-scalable", "i-firststage-k72"])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_tables_never_end_in_a_traceback(capsys, file, variant, seed):
    chance = random.Random(seed)
    data = bytearray(gzip.decompress((IMAGES / variant / "image.elf.gz").read_bytes()))
    headers = 64 + 56 * struct.unpack_from("<H", data, 56)[0]
    pages = range(-(-headers // 8) * 8, len(data) - 8, 8)
    full = [at for at in pages if data[at : at + 8] != bytes(8)]
    for at in chance.sample(full, 60):
        old = struct.unpack_from("<Q", data, at)[0]
        struct.pack_into("<Q", data, at, chance.choice([old ^ 1 << chance.randrange(64), chance.getrandbits(64), 0]))
    image = str(file(data))
    registers = str(IMAGES / variant / "registers.json")
    assert main(["inspect", image, "--registers", registers, "--json"]) == 0
    json.loads(capsys.readouterr().out)
    assert main(["inspect", image, "--registers", registers]) == 0
    for _ in range(5):
        device = f"{chance.randrange(5):02x}:{chance.randrange(32):02x}.{chance.randrange(8)}"
        assert main(["walk", image, device, hex(chance.getrandbits(40)), "--registers", registers]) in (0, 1)


@pytest.mark.parametrize(
    "arguments", [["inspect", IMAGE, "--all"], ["inspect", IMAGE, "--json"], ["walk", IMAGE, *WALK]]
)
def test_a_reader_that_leaves_early(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_head_gets_its_line(start):
    process = start("inspect", IMAGE, "--all")
    assert "unit at 0xfed90000" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=30) in (0, 141)
    assert process.stderr.read() == ""


def test_an_image_from_a_pipe(vtd):
    with open(IMAGE, "rb") as image:
        done = vtd("inspect", "-", "--json", stdin=image)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["units"][0]["spaces"]) == 18
    assert done.stderr == ""


def test_standard_input_that_is_no_image(vtd):
    done = vtd("inspect", "-", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vtd: standard input: empty; expected")
