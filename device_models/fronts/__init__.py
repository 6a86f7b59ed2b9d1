"""Doors to a machine: qtest, QMP and the monitor as QEMU has them, and the program that stands in for QEMU."""
