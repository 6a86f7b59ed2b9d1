"""Logs of QEMU while real guests ran: every translation and every fault of them, asked of our unit in step.

The guest's trace is replayed on a machine with the profile of the QEMU that it ran on; each access of the log is made
where it happened, and must lead to the same address, through a page of the same size and with the same rights, or end
in the same reason.
"""

from __future__ import annotations

import gzip
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from emulator.replay import Replay, Row
from emulator.settings import Settings
from emulator.trace import read_traces
from emulator.trace.alignment import merge_accesses
from pagetables.address import PAGE_SHIFT
from pagetables.fault import Fault
from pagetables.request import Permissions, Request, Translation
from tests.differential.counts import COUNTS
from tests.differential.scene import Scene

pytestmark = pytest.mark.qemu

GUESTS = {
    "a-legacy-strict": ("7.2", "aw-bits=39,intremap=off", {"levels": "3"}),
    "c-scalable": ("7.2", "aw-bits=48,x-scalable-mode=on", {"mode": "scalable"}),
    "h-fault": ("7.2", "aw-bits=39", {"levels": "3"}),
    "i-firststage-k72": ("11.1", "aw-bits=48,scalable-mode=on,fsts=on", {"mode": "scalable", "stage": "first"}),
    "t-vfio-superpages": ("7.2", "aw-bits=48", {}),
}
LOGGED = {  # translations, faults
    "a-legacy-strict": (65391, 0),
    "c-scalable": (63451, 4),
    "h-fault": (43233, 131),
    "i-firststage-k72": (65508, 4),
    "t-vfio-superpages": (31348, 20),
}
UNTOLD = "rights that the trace does not tell"
EXCUSED: dict[str, dict[str, int]] = {
    "a-legacy-strict": {},
    "c-scalable": {"fault 6 for 0": 1},  # one more access, after tracing stopped
    "h-fault": {},
    "i-firststage-k72": {UNTOLD: 5665},  # maps of NVMe, of which no event tells who may write
    "t-vfio-superpages": {UNTOLD: 1},
}
_PAGE = re.compile(r"IOTLB page (?:hit|update) +sid 0x\w+ iova 0x\w+ slpte 0x(\w+)")
_TRANSLATE = re.compile(r"vtd_dmar_translate dev .* -> gpa 0x(\w+) mask 0x(\w+)")
_FAULT = re.compile(r"vtd_dmar_fault sid 0x\w+ fault (\d+)")


@dataclass(frozen=True)
class Logged:
    """What a line of the log says: where it led, the page's mask and the entry, or the reason."""

    gpa: int = 0
    mask: int = 0
    entry: int = 0
    reason: int = 0


def read_log(path: Path) -> dict[int, Logged]:
    """By line number."""
    found: dict[int, Logged] = {}
    entry = 0
    with gzip.open(path, "rt", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if page := _PAGE.search(line):
                entry = int(page[1], 16)
            elif to := _TRANSLATE.search(line):
                found[number] = Logged(int(to[1], 16), int(to[2], 16), entry)
            elif fault := _FAULT.search(line):
                found[number] = Logged(reason=int(fault[1]))
    return found


class Asking(Replay):
    """A replay that keeps the unit's answers to the accesses of file `log`, by line."""

    log = -1

    def ask(self) -> dict[int, tuple[Translation | Fault, bool]]:
        """The answers, each with whether the trace told the rights of its mapping; else it is read-write."""
        self.log, self.untold = len(self.trace.files) - 1, set[int]()
        self.answers: dict[int, tuple[Translation | Fault, bool]] = {}
        self.run()
        return self.answers

    def _map(self, row: Row) -> None:
        pages = range(row.iova >> PAGE_SHIFT, (row.iova + row.size - 1 >> PAGE_SHIFT) + 1)
        if row.access:
            self.untold.difference_update(pages)
        else:
            self.untold.update(pages)
        super()._map(row)

    def _request(self, row: Row, request: Request) -> Translation | Fault:
        answer = super()._request(row, request)
        if row.file == self.log:
            self.answers[row.line] = answer, request.iova >> PAGE_SHIFT not in self.untold
        return answer


def verdict(logged: Logged, answer: Translation | Fault, told: bool) -> str:
    """`same`, or in what the two differ."""
    if isinstance(answer, Fault):
        return "same" if int(answer.reason) == logged.reason else f"fault {int(answer.reason)} for {logged.reason}"
    if logged.reason:
        return f"no fault for {logged.reason}"
    if answer.gpa & ~logged.mask != logged.gpa & ~logged.mask:
        return "another address"
    if (1 << answer.page_shift) - 1 != logged.mask:
        return "another page size"
    rights = answer.permissions & (Permissions.R | Permissions.W)
    if int(rights) == logged.entry & 3:
        return "same"
    return f"rights {rights} for {logged.entry & 3}" if told else "rights that the trace does not tell"


@pytest.mark.parametrize("guest", GUESTS)
def test_each_translation_and_fault_of_a_guest_is_ours_too(
    guest: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, options, settings = GUESTS[guest]
    profile = Scene(version, options).profile()
    monkeypatch.setattr("emulator.machine.load_profile", lambda name: profile)
    folder = corpus / guest
    trace, _ = merge_accesses(read_traces([folder / "trace.txt.gz"]), folder / "qemu-vtd.log.gz")
    answers = Asking(trace, Settings.of({**settings, "profile": profile.name}), fast=False).ask()
    log = read_log(folder / "qemu-vtd.log.gz")
    assert answers.keys() == log.keys()
    verdicts = Counter(verdict(one, *answers[line]) for line, one in log.items())
    assert verdicts.keys() <= {"same", *EXCUSED[guest]}, verdicts
    for words, number in EXCUSED[guest].items():
        assert verdicts[words] == number
    translations = sum(not one.reason for one in log.values())
    assert (translations, len(log) - translations) == LOGGED[guest]
    COUNTS.update({"translations of guests": translations, "faults of guests": len(log) - translations})
