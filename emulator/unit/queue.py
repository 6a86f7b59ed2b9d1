"""The invalidation queue: fetch, check, execute, in order (VT-d, "Queued Invalidation Interface").

The head moves past a descriptor when it is done; past a wait that still waits for devices, when it is fetched. A bad
descriptor stops the queue: IQE is set with the reason in IQERCD, the head stays on it, and when software has cleared
IQE the queue goes on from there without another tail write. A device that times out stops it with ITE: the waits
fetched by then never finish, and the queue goes on when ITE is cleared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from emulator.clock import Timer
from emulator.engine import Engine, Iotlb, QueueState
from emulator.unit.descriptors import Descriptors
from emulator.unit.device_invalidations import DeviceInvalidations
from emulator.unit.faults import FaultRecorder
from emulator.unit.hooks import Action, Delay, Drop, Fail, Hooks, NoAnswer, Reorder
from emulator.unit.latency import Latency
from emulator.unit.queue_errors import QueueError
from emulator.unit.registers import UnitRegisters
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.bits import Word
from pagetables.errors import NoMemory
from pagetables.layouts import DeviceTlbInvalidate, InvalidationWait, PasidDeviceTlbInvalidate
from pagetables.layouts.registers import FaultStatus
from pagetables.layouts.values import TableMode
from pagetables.memory import PhysicalMemory

__all__ = ["InvalidationQueue"]

_WIDE_SLOT = 32
_WAIT = 5  # its type
_STOPPED = FaultStatus.iqe.mask | FaultStatus.ite.mask


@dataclass(slots=True)
class _Turn:
    # The descriptor at the head, fetched, and not done yet. Without a timer it waits for room at its device.
    word: Word
    action: Action | None
    timer: Timer | None = None


@dataclass(slots=True)
class _Waiting:
    # A wait past the head, and the device-TLB invalidations that it waits for.
    word: InvalidationWait
    needs: frozenset[int]


@dataclass(slots=True)
class _Postponed:
    word: Word
    past: int


class InvalidationQueue:
    """The queue of one unit, between QIE being set and cleared."""

    def __init__(
        self,
        registers: UnitRegisters,
        memory: PhysicalMemory,
        engine: Engine,
        iotlb: Iotlb,
        faults: FaultRecorder,
        descriptors: Descriptors,
        devices: DeviceInvalidations,
        hooks: Hooks,
        latency: Latency,
    ) -> None:
        self._registers = registers
        self._memory = memory
        self._engine = engine
        self._iotlb = iotlb
        self._faults = faults
        self._descriptors = descriptors
        self._devices = devices
        self._hooks = hooks
        self._latency = latency
        self.state: QueueState | None = None  # while it is enabled
        self.latched = Gpa(0)  # where the queue is, or was when it was enabled last
        self.table_mode = int(TableMode.LEGACY)  # of the latched root table
        self._turn: _Turn | None = None
        self._working = False  # devices and interrupt handlers that a descriptor reaches may come back here
        self._waits: list[_Waiting] = []
        self._postponed: list[_Postponed] = []
        behaves = registers.profile.behaves
        self._resumes, self._names_errors = not behaves("resume_on_tail_write"), not behaves("no_queue_error_record")
        self._any_width = behaves("any_queue_width")
        self._overlooks_tail = behaves("overlook_misaligned_tail")
        self._overlooked = 0  # the tail in force while a misaligned one is overlooked
        self._last_type = 0  # of the descriptor fetched last
        self._remembers = behaves("keep_queue_enabled")
        devices.settled, devices.timed_out = self._settled, self._timed_out

    def use_tables(self, mode: int) -> None:
        """A root table of this mode was latched."""
        self.table_mode = mode
        self._descriptors.scalable = mode == TableMode.SCALABLE

    def enable(self) -> None:
        """Latch IQA and start at IQH=0. A tail written earlier was held, and is worked off now."""
        address = self._registers.iqa
        self.latched = Gpa(address.iqa * PAGE_SIZE & self._registers.capabilities.address_limit - 1)
        self.state = QueueState(
            memory=self._memory,
            registers=self._registers.registers,
            iotlb=self._iotlb,
            base=self.latched,
            size=PAGE_SIZE << address.qs,
            slot=32 if address.dw and (not self._any_width or self._registers.ecap.smts) else 16,
            capabilities=self._registers.capabilities,
        )
        self.run()

    def disable(self) -> None:
        """Stop, also in the middle of an error: what was fetched is done, but nothing waits for devices any more.

        IQH goes back to 0; IQT keeps what software wrote.
        """
        self._work(self._finish_fetched)
        self.abandon()

    def _finish_fetched(self) -> None:
        turn = self._turn
        if turn is not None and turn.timer is not None:
            turn.timer.cancel()
            self._finish(turn)
        for word in [postponed.word for postponed in self._postponed]:
            done = self._descriptors.execute(word)
            if done and isinstance(word, InvalidationWait) and not self._devices.busy:
                self._descriptors.finish_wait(word)

    def abandon(self) -> None:
        """Stop and forget what was fetched: the unit is reset."""
        if self._turn is not None and self._turn.timer is not None:
            self._turn.timer.cancel()
        self._turn = self.state = None
        self._overlooked = 0
        self._waits.clear()
        self._postponed.clear()
        self._devices.forget_all()
        self._registers.iqh = type(self._registers.iqh)(0)

    @property
    def instant(self) -> bool:
        """True if descriptors are done at once and as they should, so that native code may do them."""
        odd = self._latency.descriptor or self._hooks.on_queue or self._turn or self._waits or self._postponed
        odd = odd or self._remembers or not self._descriptors.plain
        return not (odd or self._devices.busy)

    def run(self) -> None:
        """Work from head to tail, or to the first error, or to what takes time. The engine takes the common
        descriptors by itself."""
        if not self._working:
            self._work(self._run)

    def _work(self, action: Callable[[], None]) -> None:
        self._working = True
        try:
            action()
        finally:
            self._working = False

    def _run(self) -> None:
        while self.state is not None and self._may_fetch():
            state = self.state
            error = self._setup_error(state)
            if error is None and self.instant:
                self._engine.run_queue(state)
                if self._head() == self._tail():
                    return
            word = self._fetch(state) if error is None else error
            if isinstance(word, QueueError):
                self._stop(word)
            else:
                self._begin(word)

    def resume(self) -> None:
        """Software cleared IQE or ITE."""
        if self._resumes:
            self.run()

    @property
    def ended_in_wait(self) -> bool:
        """True if the queue is empty and the descriptor fetched last, also before it was enabled, is a wait."""
        return self.state is not None and self._head() == self._tail() and self._last_type == _WAIT

    def _may_fetch(self) -> bool:
        if UnitRegisters.fsts.value(self._registers) & _STOPPED or self._turn is not None:
            return False
        return self._head() != self._tail() and not any(waiting.word.fn for waiting in self._waits)

    def _head(self) -> int:
        return UnitRegisters.iqh.value(self._registers)

    def _tail(self) -> int:
        tail = UnitRegisters.iqt.value(self._registers)
        if self._overlooks_tail and self.state is not None:
            self._overlooked = self._overlooked if tail % self.state.slot else tail
            return self._overlooked
        return tail

    def tail_moved(self) -> None:
        """Software wrote IQT. A tail outside the queue is an error also where it equals the head."""
        state = self.state
        if state is None and self._is_idly_wrong():
            self._stop(QueueError.TAIL_MISALIGNED)
        if state is None or UnitRegisters.fsts.value(self._registers) & _STOPPED:
            return
        error = self._tail_error(state)
        if error is not None:
            self._stop(error)
        self.run()

    def _is_idly_wrong(self) -> bool:
        wide = self._registers.iqa.dw and self._registers.ecap.smts
        return bool(wide and self._tail() % _WIDE_SLOT and self._registers.profile.behaves("check_idle_tail"))

    def _tail_error(self, state: QueueState) -> QueueError | None:
        tail = self._tail()
        if tail % state.slot:
            return QueueError.TAIL_MISALIGNED
        return QueueError.TAIL_BEYOND_QUEUE if tail >= state.size else None

    def _setup_error(self, state: QueueState) -> QueueError | None:
        ecap, mode = state.capabilities.ecap, self.table_mode
        if self._any_width:
            return self._tail_error(state)
        wide = state.slot == 32
        if (mode == TableMode.SCALABLE and not wide) or (wide and not (ecap.smts or ecap.adms)):
            return QueueError.WRONG_WIDTH
        if ecap.smts and mode not in (TableMode.LEGACY, TableMode.SCALABLE) and not (ecap.adms and mode == 3):
            return QueueError.INVALID_TABLE_MODE
        return self._tail_error(state)

    def _stop(self, error: QueueError) -> None:
        if self._names_errors:
            self._registers.iqercd = self._registers.iqercd.replace(iqei=error)
        self._faults.queue_error(iqe=1)

    def _fetch(self, state: QueueState) -> Word | QueueError:
        try:
            raw = int.from_bytes(self._memory.read(state.base + self._head(), state.slot), "little")
        except NoMemory:
            return QueueError.FETCH_FAILED
        self._last_type = raw & 0xF
        return self._descriptors.check(raw, state.slot)

    def _begin(self, word: Word) -> None:
        if self._is_full(word):
            self._hold(word)
            return
        action = self._hooks.descriptor_action(word)
        turn = _Turn(word, action)
        time = self._latency.descriptor + (action.nanoseconds if isinstance(action, Delay) else 0)
        if not time:
            self._finish(turn)
            return
        self._turn = turn
        turn.timer = self._latency.clock.after(time, lambda: self._due(turn))

    def _due(self, turn: _Turn) -> None:
        self._work(lambda: self._finish(turn))
        self.run()

    def _finish(self, turn: _Turn) -> None:
        self._turn, state = None, self.state
        if isinstance(turn.action, Fail):
            self._stop(turn.action.reason)
        elif self._execute(turn):
            if self.state is state is not None:  # no handler switched the queue off meanwhile
                self._advance(state)
        else:
            self._stop(QueueError.BAD_DESCRIPTOR)

    def _is_full(self, word: Word) -> bool:
        return isinstance(word, (DeviceTlbInvalidate, PasidDeviceTlbInvalidate)) and self._devices.full(word)

    def _hold(self, word: Word) -> None:
        # As many as may be are outstanding at the device. Without time to wait in they have timed out, and the
        # descriptor, at which the head still is, is fetched again when software has cleared ITE.
        if self._latency.device_answer:
            self._turn = _Turn(word, None)
        else:
            self._devices.give_up()

    def _execute(self, turn: _Turn) -> bool:
        word, action = turn.word, turn.action
        if isinstance(action, Drop):
            return True
        if isinstance(action, Reorder):
            self._postponed.append(_Postponed(word, action.past + 1))
            return True
        if isinstance(action, NoAnswer) and isinstance(word, (DeviceTlbInvalidate, PasidDeviceTlbInvalidate)):
            self._devices.send(word, delivered=False)
            return True
        done = self._descriptors.execute(word)
        if done and isinstance(word, InvalidationWait):
            self._wait(word)
        return done

    def _wait(self, word: InvalidationWait) -> None:
        needs = self._devices.numbers()
        if not (needs or self._waits):
            self._descriptors.finish_wait(word)
        elif self._latency.device_answer:
            self._waits.append(_Waiting(word, needs))
        else:
            self._devices.give_up()

    def _advance(self, state: QueueState) -> None:
        self._registers.iqh = type(self._registers.iqh)((self._head() + state.slot) % state.size)
        for postponed in self._postponed:
            postponed.past -= 1
        due = [postponed for postponed in self._postponed if not postponed.past]
        self._postponed = [postponed for postponed in self._postponed if postponed.past]
        for postponed in due:
            self._execute(_Turn(postponed.word, None))

    def _settled(self) -> None:
        # A device completed an invalidation: waits that waited for it finish, in order, and the queue goes on.
        while self._waits and not self._waits[0].needs & self._devices.numbers():
            self._descriptors.finish_wait(self._waits.pop(0).word)
        turn = self._turn
        if turn is not None and turn.timer is None:
            self._turn = None
            self._work(lambda: self._begin(turn.word))
        self.run()

    def _timed_out(self) -> None:
        # Waits that were fetched never finish, nor does one that takes its time now: the head moves past it.
        self._waits.clear()
        turn, state = self._turn, self.state
        if turn is None:
            return
        if turn.timer is None:
            self._turn = None
        elif isinstance(turn.word, InvalidationWait) and state is not None:
            turn.timer.cancel()
            self._turn = None
            self._work(lambda: self._advance(state))
