"""Gauges over model time: peaks, means weighted by time, and a series of samples that never grows beyond a limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["Gauges"]


class Gauges:
    """Values that `read` gives, watched from one `tick` to the next.

    A value holds from the tick that reads it to the next one. The series has every n-th tick: when it is full, every
    second sample is dropped and n doubles, so that samples stay evenly spread over what happened.
    """

    def __init__(self, names: Sequence[str], read: Callable[[], tuple[int, ...]], limit: int = 512) -> None:
        limit += limit % 2
        self.names = tuple(names)
        self.peak = [0] * len(self.names)
        self.samples: list[tuple[int, ...]] = []
        self._read, self._limit = read, limit
        self._sums = [0] * len(self.names)
        self._values: tuple[int, ...] = (0,) * len(self.names)
        self._since: int | None = None
        self._total = 0
        self._stride, self._left = 1, 1

    def tick(self, now: int) -> None:
        """Something happened at `now`: the values until then are weighed, and read anew."""
        if self._since is not None and now > self._since:
            self._weigh(now - self._since)
        self._since = now
        values = self._values = self._read()
        for index, value in enumerate(values):
            if value > self.peak[index]:
                self.peak[index] = value
        self._left -= 1
        if not self._left:
            self._sample(now)

    def finish(self, now: int) -> None:
        """The end: the last values are weighed and sampled."""
        if self._since is not None and now > self._since:
            self._weigh(now - self._since)
        self._since, self._values = now, self._read()
        if not self.samples or self.samples[-1][0] != now:
            self.samples.append((now, *self._values))

    def mean(self, name: str) -> int:
        """The mean over time, rounded; the last value if no time passed."""
        index = self.names.index(name)
        return round(self._sums[index] / self._total) if self._total else self._values[index]

    def highest(self, name: str) -> int:
        """The highest value of any tick."""
        return self.peak[self.names.index(name)]

    def _weigh(self, passed: int) -> None:
        self._total += passed
        sums = self._sums
        for index, value in enumerate(self._values):
            sums[index] += value * passed

    def _sample(self, now: int) -> None:
        self._left = self._stride
        self.samples.append((now, *self._values))
        if len(self.samples) >= self._limit:
            del self.samples[1::2]  # the last one among them: the next to keep is as far away as it was
            self._stride *= 2
