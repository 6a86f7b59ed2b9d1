"""The software side: domains, table pages, invalidation policies and the driver that works a unit.

It touches physical memory and MMIO only; it never imports the unit. Five independent axes make a system: where table
pages come from (`supply`, `pools`), addresses (`iova`, `addresses`), bouncing (`bounce`), invalidation (`flush`) and
what a driver does when a map fails (`reactions`).
"""

__all__: list[str] = []
