"""The software side: domains, table pages, invalidation policies and the driver that works a unit.

It touches physical memory and MMIO only; it never imports the unit. Five independent axes make a system: where table
pages come from (`supply`, `pools`), addresses, bouncing, invalidation (`invalidation`) and what a driver does when a
map fails.
"""

__all__: list[str] = []
