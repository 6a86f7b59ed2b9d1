"""A monitor that drives: its own commands and qtest's, in one script."""

from __future__ import annotations

import pytest

from device_models.fronts.host import Host
from device_models.fronts.script import DrivingMonitor
from device_models.machine import SystemMachine


@pytest.fixture
def monitor() -> DrivingMonitor:
    return DrivingMonitor(Host(SystemMachine("spec", memory_size=16 << 20, engine="python")))


def test_commands_of_qtest_drive_the_machine(monitor: DrivingMonitor) -> None:
    assert monitor.execute("writel 0x5000 0x12345678") == "OK\n"
    assert monitor.execute("readw 0x5000") == "OK 0x0000000000005678\n"
    assert monitor.execute("clock_step 1000") == "OK 1000\n"
    assert monitor.execute("inw 0xcf8").startswith("OK 0x")
    assert monitor.host.machine.memory.read(0x5000, 4) == bytes.fromhex("78563412")


def test_a_command_of_qtest_that_makes_no_sense_fails_and_goes_on(monitor: DrivingMonitor) -> None:
    assert monitor.execute("writel nowhere").startswith("FAIL")
    assert monitor.execute("readl 0x5000") == "OK 0x0000000000000000\n"


def test_everything_else_is_the_monitors(monitor: DrivingMonitor) -> None:
    assert monitor.execute("xp /1xw 0x5000") == "0000000000005000: 0x00000000\n"
    assert "unknown command: 'wrtel 1'" in monitor.execute("wrtel 1")
    assert monitor.execute("") == ""
    assert monitor.execute("   ") == ""
