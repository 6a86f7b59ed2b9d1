"""Names of devices from the texts that people have at hand."""

from __future__ import annotations

import pytest

from pagetables.errors import InputError
from pagetables.images.device_names import device_names, load_device_names

LSPCI = """\
00:02.0 VGA compatible controller: Intel Corporation UHD Graphics 620 (rev 07)
0000:03:01.0 Ethernet controller [0200]: Intel Corporation 82540EM [8086:100e]
0001:03:02.0 Ethernet controller: of another segment
\tSubsystem: QEMU Virtual Machine
"""
ATTRIBUTES = "0000:00:03.0 vendor=0x1b36 device=0x0010 class=0x010802 driver=nvme group=1\n"
MONITOR = """\
  Bus  0, device   3, function 0:
    Class 0264: PCI device 1b36:0010
      PCI subsystem 1af4:1100
      id "nvme0"
  Bus  0, device  99, function 0:
    Class 0264: PCI device 1b36:0010
  Bus  1, device   0, function 1:
    Ethernet controller: PCI device 8086:10d3
      id ""
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            LSPCI,
            {
                0x10: "VGA compatible controller: Intel Corporation UHD Graphics 620 (rev 07)",
                0x308: "Ethernet controller [0200]: Intel Corporation 82540EM [8086:100e]",
            },
        ),
        (ATTRIBUTES, {0x18: "NVMe storage [1b36:0010] nvme"}),
        (
            MONITOR,
            {0x18: "nvme0 (Class 0264: PCI device 1b36:0010)", 0x101: "Ethernet controller: PCI device 8086:10d3"},
        ),
        ("00:03.0 vendor=0x1 device=0x2 class=zz\n", {0x18: "[1:2]"}),
        ("", {}),
    ],
)
def test_names_are_read(text, names):
    assert device_names(text) == names


def test_a_name_cannot_steer_a_terminal():
    assert device_names("00:02.0 evil \x1b[31m\u202e device")[0x10] == "evil ?[31m? device"
    assert len(device_names("00:02.0 " + "x" * 1000)[0x10]) == 72


def test_a_file_that_names_no_device_is_refused(tmp_path):
    (tmp_path / "pci.txt").write_bytes(b"\xff\xfe nothing")
    with pytest.raises(InputError, match="names no device"):
        load_device_names(tmp_path / "pci.txt")
