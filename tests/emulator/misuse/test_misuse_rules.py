"""Each rule has a minimal trace that breaks exactly it; the clean one breaks none, and neither do real kernels."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from emulator.misuse.judging import Watch, judge, verdict_document
from emulator.misuse.verdict import RULES
from emulator.trace import read_traces
from emulator.trace.descriptors import Descriptors
from emulator.trace.event import Kind
from tests.conftest import FIXTURES

CASES = FIXTURES / "misuse"
RECORDINGS = ("a-legacy-strict", "c-scalable", "f-intremap", "h-fault", "i-firststage-k72", "t-vfio-superpages")
OTHERWISE_NAMED = {"use-in-stale-window": "use-after-unmap", "leak-at-release": "leak"}
EXPOSURE = {"shared-page"}


def case(name):
    (path,) = CASES.glob(f"{name}.*")
    return path


def judged(path, change=lambda trace: trace):
    watch = Watch()
    trace = change(read_traces([path], watch=watch.see))
    return trace, judge(trace, watch)


def numbers(text: str) -> set[int]:
    """Numbers and ranges in a text: `7, 11 to 13`."""
    ranges = re.findall(r"\b(\d+)(?: to (\d+))?", text)
    return {number for first, last in ranges for number in range(int(first), int(last or first) + 1)}


def test_every_rule_of_both_lists_is_judged_or_the_document_says_why_not():
    text = (FIXTURES.parent / "docs/misuse.md").read_text()
    also = ", ".join(rule.also for rule in RULES.values())
    own = {int(number) for number in re.findall(r"\bO(\d+)", also)}
    assert own | {12, 13, 14, 15} == set(range(1, 17))
    for number in (12, 13, 14, 15):
        assert re.search(rf"\|.*\(O{number}\)|\|.*\(O14, O15\)", text)
    linux = set().union(*(numbers(part) for part in re.findall(r"dma-debug ([\d, to]+)", also)))
    assert not linux & {16}, "the numbers of O16 are none of these"
    why_not = set().union(
        *map(numbers, re.findall(r"\(([\d, to]+)\)", text.partition("The rest need")[2].partition("##")[0]))
    )
    assert linux | why_not == set(range(1, 25))
    assert linux & why_not == set()


def test_the_document_lists_every_rule_as_it_is():
    rows = re.findall(
        r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", (FIXTURES.parent / "docs/misuse.md").read_text(), re.MULTILINE
    )
    assert rows == [tuple(rule) for rule in RULES.values()]


def test_every_rule_has_a_case():
    cases = {OTHERWISE_NAMED.get(path.stem, path.stem) for path in CASES.iterdir()}
    assert cases == {*RULES, "clean"}


@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.iterdir() if path.stem != "clean"))
def test_a_case_breaks_exactly_its_rule_and_names_the_events(name):
    trace, found = judged(case(name))
    rule = OTHERWISE_NAMED.get(name, name)
    ours, others = (found.exposed, found.misuse) if rule in EXPOSURE else (found.misuse, found.exposed)
    (verdict,) = ours
    assert (verdict.rule, others) == (rule, ())
    shown = verdict_document(trace, verdict)
    assert shown["says"]
    lines = case(name).read_text().splitlines()
    for event in shown["events"]:
        assert event["file"] == str(case(name))
        assert lines[event["line"] - 1].lstrip("# "), "the line named is one of the case"
    assert [event["event"] for event in shown["events"]] == sorted(event["event"] for event in shown["events"])


def test_what_is_done_right_breaks_no_rule():
    _, found = judged(case("clean"))
    assert (found.misuse, found.exposed) == ((), ())
    assert found.exposure.as_dict() == {"mapped_bytes": 64, "exposed_bytes": 4032, "shared_pages": 0}


def test_use_after_unmap_says_whether_the_window_was_open():
    assert "after its invalidation" in judged(case("use-after-unmap"))[1].misuse[0].says
    (inside,) = judged(case("use-in-stale-window"))[1].misuse
    assert "100 us after it was unmapped, inside the stale window" in inside.says
    assert [place.role for place in inside.places] == ["mapped", "unmapped", "accessed"]


def test_a_narrow_invalidation_names_the_pages_it_left():
    (verdict,) = judged(case("narrow-invalidation"))[1].misuse
    assert verdict.says.startswith("0x180000-0x181fff was not covered")
    assert [place.role for place in verdict.places] == ["mapped", "unmapped", "invalidated", "mapped"]


def test_what_lies_behind_the_cut_is_not_judged():
    _, found = judged(case("double-unmap"), lambda trace: trace.until("2ms"))
    assert found.misuse == ()


@pytest.mark.parametrize("variant", RECORDINGS)
def test_real_kernels_break_no_rule(corpus, variant):
    trace, found = judged(corpus / variant / "trace.txt.gz")
    assert found.misuse == ()
    assert len(trace.descriptors) > 3000
    assert found.exposure.exposed > 1 << 20, "buffers are smaller than their pages"


def test_two_network_cards_of_a_real_guest_share_pages(corpus):
    _, found = judged(corpus / "a-legacy-strict/trace.txt.gz")
    assert {verdict.rule for verdict in found.exposed} == {"shared-page"}
    assert [(verdict.owner, verdict.places[1].line) for verdict in found.exposed][:2] == [
        ("03:01.0", 2595),
        ("04:00.0", 2739),
    ]
    assert found.exposure.shared_pages == 5


def without(trace, every):
    """The trace with every so-manieth invalidation descriptor lost."""
    keep = [n for n in range(len(trace.descriptors)) if n % every]
    lost = Descriptors()
    for name in ("event", "low", "high"):
        getattr(lost, name).extend(getattr(trace.descriptors, name)[n] for n in keep)
    return replace(trace, descriptors=lost)


def test_a_kernel_that_forgets_some_invalidations_is_found_out(corpus):
    trace, found = judged(corpus / "a-legacy-strict/trace.txt.gz", lambda trace: without(trace, 7))
    assert {verdict.rule for verdict in found.misuse} == {"reuse-before-flush"}
    assert len(found.misuse) > 300
    events = set(trace.columns.event[trace.columns.kind == Kind.MAP].tolist())
    assert all(verdict.at.event in events for verdict in found.misuse)


def narrowed(trace):
    """The trace with the mask of every page-selective descriptor cut to one page."""
    cut = Descriptors()
    cut.event.extend(trace.descriptors.event)
    cut.low.extend(trace.descriptors.low)
    cut.high.extend(high & ~0x3F for high in trace.descriptors.high)
    return replace(trace, descriptors=cut)


def test_a_kernel_with_too_small_masks_is_found_out(corpus):
    _, found = judged(corpus / "a-legacy-strict/trace.txt.gz", narrowed)
    assert {verdict.rule for verdict in found.misuse} == {"narrow-invalidation"}
    assert all(verdict.size > 4096 for verdict in found.misuse)


def test_a_trace_without_descriptors_is_not_judged_by_them(corpus):
    _, found = judged(corpus / "a-legacy-strict/trace.txt.gz", lambda trace: replace(trace, descriptors=Descriptors()))
    assert found.misuse == ()


def test_accesses_of_unmapped_ranges_are_found_wherever_they_are_put(corpus):
    trace, _ = judged(corpus / "a-legacy-strict/trace.txt.gz")
    unmaps = np.flatnonzero(trace.columns.kind == Kind.UNMAP)[::97]
    columns = trace.columns.take(np.insert(np.arange(len(trace.columns)), unmaps + 1, unmaps))
    doubled = np.flatnonzero(np.diff(columns.event) == 0) + 1
    columns.kind[doubled], columns.access[doubled] = Kind.ACCESS, 1
    found = judge(replace(trace, columns=columns), Watch())
    assert len(found.misuse) == len(unmaps)
    assert {verdict.rule for verdict in found.misuse} == {"use-after-unmap"}


def test_the_page_about_misuse_lists_every_rule():
    page = (FIXTURES.parent / "docs/misuse.md").read_text()
    for rule in RULES.values():
        assert f"| `{rule.name}` | {rule.explains} | {rule.also} |" in page
