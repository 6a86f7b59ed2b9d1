"""Why the invalidation queue stops (VT-d, invalidation queue error record)."""

from __future__ import annotations

import enum

__all__ = ["QueueError"]


class QueueError(enum.IntEnum):
    """Why the queue stopped: IQERCD.IQEI."""

    TAIL_BEYOND_QUEUE = 1
    FETCH_FAILED = 2
    UNKNOWN_TYPE = 3
    BAD_DESCRIPTOR = 4  # a reserved field or a value that means nothing
    WRONG_WIDTH = 5
    TAIL_MISALIGNED = 6
    INVALID_TABLE_MODE = 7
