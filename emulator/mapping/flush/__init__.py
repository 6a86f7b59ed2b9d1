"""Invalidation policies: when the unit is told that a range is gone, and when its table pages may be used again."""

__all__: list[str] = []
