"""The device that docs/devices.md shows is one: it is added by its entry point and does what its text says."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from device_models import registry
from device_models.machine import SystemMachine
from device_models.registry import GROUP, device_types

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text()


@pytest.fixture
def ticker(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of the document, installed as its distribution would install it."""
    (source,) = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    ((name, target),) = re.findall(
        r'^\[project\.entry-points\."vtd\.devices"\]\n(\w+) = "(.*)"$', DOCUMENT, re.MULTILINE
    )
    module = ModuleType(target.split(":")[0])
    exec(compile(source, "docs/devices.md", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint(name, target, GROUP)])
    return source


def test_the_example_is_short(ticker: str) -> None:
    assert len([line for line in ticker.splitlines() if line.strip()]) <= 40


def test_the_example_writes_the_time_and_interrupts(ticker: str) -> None:
    machine = SystemMachine(memory_size=16 << 20, engine="python")
    device = machine.add_device("ticker,id=t,addr=3,period=500")
    for offset, size, value in ((0x10, 4, 0xE000_0000), (4, 2, 6)):
        device.config_write(offset, size, value)
    at = device.msi.offset
    for offset, size, value in ((4, 4, 0xFEE0_0000), (8, 4, 0), (12, 2, 0x44), (2, 2, 1)):
        device.config_write(at + offset, size, value)
    machine.space.write_number(0xE000_0000, 8, 0x5000)
    machine.clock_step(1200)
    assert machine.space.read_number(0x5000, 8) == 1000
    assert machine.space.read_number(0xE000_0008, 8) == 3  # at once, and twice in 1200 ns
    assert machine.apics.vectors() == [0x44]
    machine.space.write_number(0xE000_0000, 8, 0)
    machine.clock_step(5000)
    assert machine.space.read_number(0x5000, 8) == 1000
    assert machine.clock.next_due is None


def test_a_unit_blocks_the_example_like_any_other(ticker: str) -> None:
    machine = SystemMachine(memory_size=16 << 20, engine="python")
    unit = machine.add_device("intel-iommu").unit
    device = machine.add_device("ticker,addr=3")
    device.config_write(0x10, 4, 0xE000_0000)
    device.config_write(4, 2, 6)
    for register, size, value in ((0x20, 8, 0x10_0000), (0x18, 4, 1 << 30), (0x18, 4, 1 << 31)):
        unit.write(register, size, value)
    machine.space.write_number(0xE000_0000, 8, 0x5000)
    machine.clock_step(3_000_000)
    assert machine.space.read_number(0xE000_0008, 8) == 0
    assert unit.read(0x34, 4) & 2


def test_every_type_is_named_in_the_document() -> None:
    missing = [name for name in device_types() if f"`{name}`" not in DOCUMENT]
    assert not missing


def test_every_scene_is_short() -> None:
    scenes = re.split(r"^\*\*", DOCUMENT.partition("## Scenes")[2], flags=re.MULTILINE)[1:]
    lengths = [len(re.findall(r"^(?:>>>|\.\.\.) ", scene, re.MULTILINE)) for scene in scenes]
    assert len(lengths) == 6
    assert max(lengths) <= 15
