"""Work that waits: it goes on when it is answered, once, and never after it was abandoned."""

from __future__ import annotations

from device_models.process import Process, Work, pause
from emulator.clock import Clock


class Diary:
    """A process and what happened in it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.process = Process()
        self.lines: list[object] = []
        self.resumes: list = []

    def waits(self, times: tuple[int, ...]) -> Work[None]:
        for time in times:
            yield pause(self.clock, time)
            self.lines.append(self.clock.now)

    def listens(self, count: int) -> Work[None]:
        for _ in range(count):
            self.lines.append((yield self.resumes.append))


def test_pauses_follow_the_clock_and_no_time_is_none() -> None:
    diary = Diary()
    diary.process.start(diary.waits((0, 10, 0, 5)))
    assert (diary.lines, diary.process.running) == ([0], True)
    diary.clock.advance(10)
    assert diary.lines == [0, 10, 10]
    diary.clock.advance(100)
    assert (diary.lines, diary.process.running) == ([0, 10, 10, 15], False)


def test_answers_come_back_from_the_yield() -> None:
    diary = Diary()
    diary.process.start(diary.listens(2))
    diary.resumes.pop()("first")
    diary.resumes.pop()("second")
    assert diary.lines == ["first", "second"]


def test_what_is_under_way_is_not_replaced() -> None:
    diary = Diary()
    diary.process.start(diary.listens(1))
    diary.process.start(diary.waits((0,)))
    assert (len(diary.resumes), diary.lines) == (1, [])


def test_abandoned_work_is_not_resumed() -> None:
    diary = Diary()
    diary.process.start(diary.listens(1))
    diary.process.abandon()
    diary.resumes.pop()("too late")
    assert (diary.lines, diary.process.running) == ([], False)
    diary.process.start(diary.waits((0,)))
    assert diary.lines == [0]


def test_work_may_abandon_itself_or_begin_anew() -> None:
    diary = Diary()

    def gives_up() -> Work[None]:
        diary.process.abandon()
        yield diary.resumes.append

    def starts_over() -> Work[None]:
        diary.process.abandon()
        diary.process.start(diary.waits((0, 3)))
        diary.lines.append("old")
        return
        yield pause(diary.clock, 0)

    diary.process.start(gives_up())
    assert (diary.resumes, diary.process.running) == ([], False)
    diary.process.start(starts_over())
    diary.clock.advance(5)
    assert diary.lines == ["old", 0, 3]
    assert not diary.process.running


def test_many_answers_at_once_do_not_nest() -> None:
    diary = Diary()
    diary.process.start(diary.waits((0,) * 20_000))
    assert len(diary.lines) == 20_000
