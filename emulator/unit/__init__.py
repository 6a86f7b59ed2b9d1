"""The remapping hardware: registers, latching, source lookup, caches, invalidation, faults."""

from emulator.unit.unit import RemappingUnit

__all__ = ["RemappingUnit"]
