"""What software commands of a unit, and what the unit keeps because of it.

Programmed values are in the registers; what is active was copied by a command (`root`, the queue's base,
`interrupt_table`), and nothing else writes those.
"""

from __future__ import annotations

from collections.abc import Callable

from emulator.clock import Clock, Timer
from emulator.engine import Engine, Iotlb, QueueState
from emulator.profile import Profile
from emulator.unit.auxiliary import AuxiliaryRegisters
from emulator.unit.descriptors import Descriptors
from emulator.unit.device_invalidations import DeviceInvalidations
from emulator.unit.events import EventInterrupt
from emulator.unit.faults import FaultRecorder
from emulator.unit.hooks import Hooks
from emulator.unit.interrupts import InterruptRemapper
from emulator.unit.invalidation import Granularity, Invalidator
from emulator.unit.latency import Latency
from emulator.unit.not_present import NotPresentCache
from emulator.unit.page_requests import PageRequestQueue
from emulator.unit.qemu import QemuIotlb, QemuTranslator
from emulator.unit.queue import InvalidationQueue
from emulator.unit.register_file import on_write
from emulator.unit.registers import UnitRegisters
from emulator.unit.source_caches import SourceCaches
from pagetables.address import PAGE_SIZE, Gpa
from pagetables.layouts.registers import (
    ContextCommand,
    FaultEventControl,
    FaultRecord,
    FaultStatus,
    GlobalCommand,
    InterruptRemappingTableAddress,
    InvalidateAddress,
    InvalidationCompletionStatus,
    InvalidationQueueAddress,
    InvalidationQueueTail,
    IotlbCommand,
    PageRequestStatus,
    RootTableAddress,
)
from pagetables.layouts.values import TableMode
from pagetables.memory import PhysicalMemory

__all__ = ["DEFAULT_BASE", "CommandedUnit"]

DEFAULT_BASE = Gpa(0xFED9_0000)


class CommandedUnit(AuxiliaryRegisters):
    """The half of a unit that software meets: commands, latched pointers, caches, the queue, faults and events."""

    def __init__(
        self,
        memory: PhysicalMemory,
        profile: Profile,
        engine: Engine,
        base: Gpa = DEFAULT_BASE,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(profile)
        self.memory = memory
        self.engine = engine
        self.base = base
        self.clock = clock or Clock()
        self.root = RootTableAddress(0)
        self.iotlb: Iotlb = engine.iotlb(profile.iotlb)
        self._enabled = False
        keeps_absent = self.cap.cm and profile.behaves("cache_not_present")
        self._absent = NotPresentCache(memory, profile.context_cache if keeps_absent else 0)
        self._sources = SourceCaches(
            memory, self.capabilities, profile.context_cache, profile.pasid_cache, self._absent
        )
        self._qemu: QemuTranslator | None = None
        if profile.behaves("walk_as_qemu"):
            self.iotlb = known = QemuIotlb(profile.iotlb)
            self._sources = self._qemu = QemuTranslator(memory, profile, known, lambda: self.root)
        self._invalidator = Invalidator(profile, self._sources, self.iotlb, self._absent)
        self._interrupts = InterruptRemapper(self, memory)
        self._fault_event, self._completion_event, self._page_request_event = self._events()
        self._faults = FaultRecorder(self, self._fault_event)
        self.hooks = Hooks()
        self.timing = Latency(self.clock, profile.latency)
        self._devices = DeviceInvalidations(self, self._faults, self.timing)
        self._page_requests = PageRequestQueue(self, memory, self._page_request_event, self._invalidator)
        self._descriptors = Descriptors(
            self,
            memory,
            self._invalidator,
            self._completion_event,
            self._devices,
            self._page_requests,
            self._interrupts,
        )
        self._queue = InvalidationQueue(
            self, memory, engine, self.iotlb, self._faults, self._descriptors, self._devices, self.hooks, self.timing
        )
        self._commanding: dict[str, Timer] = {}

    def _events(self) -> tuple[EventInterrupt, EventInterrupt, EventInterrupt]:
        own = UnitRegisters
        send = self._send
        return (
            EventInterrupt(self, own.fectl, own.fedata, own.feaddr, own.feuaddr, send),
            EventInterrupt(self, own.iectl, own.iedata, own.ieaddr, own.ieuaddr, send),
            EventInterrupt(self, own.pectl, own.pedata, own.peaddr, own.peuaddr, send),
        )

    def reset(self, warm: bool = False) -> None:
        """Registers, latched pointers and caches as after power-on; a warm reset leaves sticky register fields."""
        self._queue.abandon()
        for timer in self._commanding.values():
            timer.cancel()
        self._commanding.clear()
        self._queue.use_tables(TableMode.LEGACY)
        self._restart(warm)
        self.root = RootTableAddress(0)
        self._interrupts.power_on()
        self._enabled = False
        self._invalidator.everything()
        if not warm:
            self._faults.power_on()

    @on_write(UnitRegisters.gcmd)
    def _commanded(self, command: GlobalCommand, old: GlobalCommand) -> None:
        # Each write repeats the persistent bits; equal to the status is no change. Software changes one bit at a time;
        # several are taken in this order (as QEMU does).
        self.gcmd = GlobalCommand(0)
        if command.te != self.gsts.tes:
            self._enable_translation(bool(command.te))
        if command.srtp:
            self._set_root_table()
        if command.qie != self.gsts.qies and self.ecap.qi:
            self._enable_queue(bool(command.qie))
        if self.ecap.ir or self.profile.behaves("latch_without_remapping"):
            self._interrupts.commanded(command)

    def _enable_translation(self, enabled: bool) -> None:
        self._enabled = enabled
        self.gsts = self.gsts.replace(tes=int(enabled))
        if (not enabled and self.ecap.smts) or self.profile.behaves("flush_on_commands"):
            self._invalidator.everything()

    def _set_root_table(self) -> None:
        self.root = self.rtaddr
        self._queue.use_tables(self.root.ttm)
        self._sources.root_changed()
        if self.cap.esrtps or self.profile.behaves("flush_on_commands"):
            self._invalidator.everything()
        self.gsts = self.gsts.replace(rtps=1)

    def _enable_queue(self, enabled: bool) -> None:
        if not enabled and self.profile.behaves("keep_queue_enabled") and not self._queue.ended_in_wait:
            return
        self.gsts = self.gsts.replace(qies=int(enabled))
        if enabled:
            self._queue.enable()
        else:
            self._queue.disable()

    def read(self, offset: int, size: int) -> int:
        """What software reads; of some registers a profile shows what is in force."""
        value = super().read(offset, size)
        start = self.offset_of(UnitRegisters.iqa)
        if start is None or not start <= offset < start + 8 or not self.profile.behaves("show_latched_queue"):
            return value
        queue = InvalidationQueueAddress
        hidden = queue.dw.mask if self.profile.behaves("hide_queue_width") else 0
        shown = self._queue.latched | self.iqa & ~queue.iqa.mask & ~hidden
        return shown >> 8 * (offset - start) & (1 << 8 * size) - 1 if size in (4, 8) and not offset % size else value

    @on_write(UnitRegisters.iqt, "qt")
    def _tail_written(self, new: InvalidationQueueTail, old: InvalidationQueueTail) -> None:
        self._queue.tail_moved()

    @on_write(UnitRegisters.ccmd)
    def _context_command(self, command: ContextCommand, old: ContextCommand) -> None:
        if "ccmd" in self._commanding:  # the register is read-only until the command is done
            self.ccmd = old
        elif command.icc and not self._hangs:
            self._command_after("ccmd", lambda: self._invalidate_contexts(command))

    @on_write(UnitRegisters.iotlb_command)
    def _iotlb_command(self, command: IotlbCommand, old: IotlbCommand) -> None:
        if "iotlb" in self._commanding:
            self.iotlb_command = old
        elif command.ivt and not self._hangs:
            page = self.iva  # as it is now: software may write the next one meanwhile
            self._command_after("iotlb", lambda: self._invalidate_translations(command, page))

    @property
    def _hangs(self) -> bool:
        return bool(self.gsts.qies) and self.profile.behaves("hang_register_commands")

    def _command_after(self, name: str, action: Callable[[], None]) -> None:
        def due() -> None:
            self._commanding.pop(name, None)
            action()

        timer = self.timing.after(self.timing.descriptor, due)
        if timer is not None:
            self._commanding[name] = timer

    # While the queue is on these registers must not be used: the request ends with granularity 0.

    def _invalidate_contexts(self, command: ContextCommand) -> None:
        done = Granularity.NONE
        if not self.gsts.qies:
            scalable = self.root.ttm == TableMode.SCALABLE
            done = self._invalidator.contexts(command.cirg, command.did, command.sid, command.fm, scalable)
        self.ccmd = command.replace(icc=0, caig=done)

    def _invalidate_translations(self, command: IotlbCommand, page: InvalidateAddress) -> None:
        done = Granularity.NONE
        if not self.gsts.qies:
            address = page.addr * PAGE_SIZE & (1 << self.capabilities.mgaw) - 1
            done = self._invalidator.iotlb(command.iirg, command.did, address, page.am, bool(page.ih))
        self.iotlb_command = command.replace(ivt=0, iaig=done)

    @on_write(UnitRegisters.fsts)
    def _fault_status_cleared(self, new: FaultStatus, old: FaultStatus) -> None:
        self._faults.cleared()
        if (old.iqe and not new.iqe) or (old.ite and not new.ite):
            self._queue.resume()

    @on_write(UnitRegisters.frcd, "f")
    def _fault_record_cleared(self, new: FaultRecord, old: FaultRecord) -> None:
        self._faults.cleared(withdraw=not self.profile.behaves("withdraw_on_status_write"))

    @on_write(UnitRegisters.fectl, "im")
    def _fault_event_masked(self, new: FaultEventControl, old: FaultEventControl) -> None:
        self._fault_event.unmasked()

    @on_write(UnitRegisters.iectl, "im")
    def _completion_event_masked(self, new: FaultEventControl, old: FaultEventControl) -> None:
        self._completion_event.unmasked()

    @on_write(UnitRegisters.pectl, "im")
    def _page_request_event_masked(self, new: FaultEventControl, old: FaultEventControl) -> None:
        self._page_request_event.unmasked()

    @on_write(UnitRegisters.prs)
    def _page_request_status_cleared(self, new: PageRequestStatus, old: PageRequestStatus) -> None:
        self._page_requests.cleared()

    @on_write(UnitRegisters.ics)
    def _completion_cleared(self, new: InvalidationCompletionStatus, old: InvalidationCompletionStatus) -> None:
        if not new.iwc:
            self._completion_event.withdrawn()

    @property
    def interrupt_table(self) -> InterruptRemappingTableAddress:
        """The interrupt remapping table in force: IRTA as the last SIRTP latched it."""
        return self._interrupts.table

    @property
    def queue_state(self) -> QueueState | None:
        """What executing the invalidation queue takes, for who does it in native code; None while the queue is off, and
        while descriptors take time or hooks decide about them."""
        return self._queue.state if self._queue.instant else None

    @property
    def latency(self) -> int:
        """Nanoseconds that each descriptor and each register-based invalidation takes; 0: done at once."""
        return self.timing.descriptor

    @latency.setter
    def latency(self, nanoseconds: int) -> None:
        self.timing.descriptor = nanoseconds
