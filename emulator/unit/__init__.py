"""The remapping hardware: registers, latching, source lookup, caches, invalidation, faults."""
