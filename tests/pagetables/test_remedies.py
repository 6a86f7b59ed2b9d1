"""Every fault a walk can end in says what would have to change."""

from __future__ import annotations

import pytest

from pagetables.fault import Fault, FaultReason
from pagetables.remedies import REMEDIES, remedy
from pagetables.request import Access, Request

# Those of interrupts and page requests, and names of which nobody knows the condition.
ELSEWHERE = {reason for reason in FaultReason if 0x20 <= reason < 0x30} | {
    FaultReason.PAGE_REQUEST_IN_LEGACY_MODE,
    FaultReason.PAGE_REQUEST_DISABLED,
    FaultReason.RTA_4,
    FaultReason.SGN_9,
    FaultReason.SGN_10,
}


def test_every_reason_a_walk_ends_in_has_a_remedy():
    assert set(REMEDIES) == set(FaultReason) - ELSEWHERE


@pytest.mark.parametrize("reason", FaultReason, ids=lambda reason: reason.name)
def test_a_remedy_is_a_sentence_without_gaps(reason):
    request = Request(0x28, 0x1234000, Access.WRITE)
    for at in (None, 0x5000):
        text = remedy(Fault(reason, request, at), entry=1)
        assert (text is None) == (reason in ELSEWHERE)
        assert text is None or ("{" not in text and "None" not in text)


def test_a_refusal_by_an_empty_entry_is_a_missing_mapping():
    fault = Fault(FaultReason.READ_DENIED, Request(0x28, 0x1234000), 0x5000, 1)
    assert remedy(fault, entry=0) == "0x1234000 must be mapped: the entry at 0x5000 is empty"
    assert remedy(fault, entry=2).startswith("read permission must be granted")
