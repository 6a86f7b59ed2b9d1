"""A trace asked about the past: lifetimes, who was attached, who mapped; and what is left at its end."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.trace import read_traces
from emulator.trace.end_state import end_state
from emulator.trace.history import TraceHistory
from pagetables.address import parse_source_id
from pagetables.diff import diff, image_side
from pagetables.diff.sides import Key
from pagetables.images.inspection import register_pages
from pagetables.images.opening import open_image
from pagetables.request import Permissions
from tests.conftest import FIXTURES
from tests.traces import PAGE, Script, live_pages
from tests.truth import VARIANTS

NIC, DISK = parse_source_id("00:03.0"), parse_source_id("00:04.0")
NOBODY = frozenset()
SECOND = 1_000_000_000
START = SECOND + 1000  # the time of a script's first line; each further one comes a microsecond later


def both(script: Script) -> Script:
    """The NIC in domain 1, the disk in domain 2: four lines."""
    return script.attach("00:03.0", 1).attach("00:04.0", 2)


def history(script: Script, folder: Path) -> TraceHistory:
    return TraceHistory(script.read(folder))


def at(line: int) -> int:
    """The time of the script's n-th line (from 1)."""
    return START + (line - 1) * 1000


def mapped(script: Script, device: str, iova: int, gpa: int, size: int = PAGE, **who) -> Script:
    return script.map(iova, gpa, size, **who).dma_map(device, iova, gpa, size, "BIDIRECTIONAL", **who)


def test_mapping_lives_from_map_to_unmap(tmp_path: Path) -> None:
    script = mapped(both(Script()), "00:03.0", 0x5000, 0x9000).unmap(0x5000).dma_unmap("00:03.0", 0x5000)
    told = history(script, tmp_path)
    nic = frozenset({NIC})
    assert told.mappings(nic, at(4)).holding(0x5000) is None
    assert told.mappings(nic, at(5)).holding(0x5000) is not None
    live = told.mappings(nic, at(6)).holding(0x5FFF)
    assert (live.iova, live.size, live.gpa, live.owners) == (0x5000, PAGE, 0x9000, (NIC,))
    assert told.mappings(nic, at(7)).holding(0x5000) is None
    assert told.freed(nic, 0x5000, at(6)) is None
    freed = told.freed(nic, 0x5000, at(7))
    assert (freed.mapped.time_ns, freed.unmapped.time_ns) == (at(5), at(7))
    assert told.later(nic, 0x5000, at(4)) == freed
    assert told.later(nic, 0x5000, at(5)) is None
    assert told.later(nic, 0x5000, None) is None


def test_moment_names_task_cpu_and_line(tmp_path: Path) -> None:
    script = mapped(both(Script()), "00:03.0", 0x5000, 0x9000, task="kworker/u8:1-34", cpu=3)
    moment = history(script, tmp_path).mappings(frozenset({NIC}), None).holding(0x5000).mapped
    assert (moment.task, moment.cpu, moment.line) == ("kworker/u8:1-34", 3, 6)
    assert moment.file.endswith("trace.txt")


def test_mapping_that_is_unmapped_in_pieces_has_a_lifetime_for_each(tmp_path: Path) -> None:
    script = mapped(both(Script()), "00:03.0", 0x10000, 0x90000, 4 * PAGE)
    script.unmap(0x11000).dma_unmap("00:03.0", 0x11000)
    told = history(script, tmp_path)
    piece = told.freed(frozenset({NIC}), 0x11000, None)
    assert (piece.iova, piece.size, piece.gpa) == (0x11000, PAGE, 0x91000)
    mappings = told.mappings(frozenset({NIC}), None)
    assert [mappings.holding(page).size for page in (0x10000, 0x12000)] == [PAGE, 2 * PAGE]
    assert mappings.holding(0x12000).gpa == 0x92000


def test_neighbours_are_the_nearest_that_live(tmp_path: Path) -> None:
    script = both(Script())
    for iova in (0x5000, 0x9000, 0xB000, 0xF000):
        mapped(script, "00:03.0", iova, 0x100000 + iova)
    mapped(script, "00:04.0", 0xA000, 0x200000)
    script.unmap(0x9000).dma_unmap("00:03.0", 0x9000)
    mappings = history(script, tmp_path).mappings(frozenset({NIC}), None)
    assert mappings.below(0xA000).iova == 0x5000
    assert mappings.above(0xA000).iova == 0xB000
    assert (mappings.below(0x5000), mappings.above(0xF000)) == (None, None)
    assert [region.owners for region in mappings.of_others(0xA000)] == [(DISK,)]
    assert not mappings.is_empty
    assert history(script, tmp_path).mappings(NOBODY, None).is_empty


def test_physical_address_leads_back_to_its_mapping(tmp_path: Path) -> None:
    script = mapped(both(Script()), "00:03.0", 0x1_0000_5000, 0x80000, 2 * PAGE)
    mapped(script, "00:03.0", 0x70000, 0x70000)
    mappings = history(script, tmp_path).mappings(frozenset({NIC}), None)
    assert mappings.leading_to(0x81FFF).iova == 0x1_0000_5000
    assert mappings.leading_to(0x82000) is None
    assert mappings.leading_to(0x70000) is None  # an identity mapping is no mistake
    assert mappings.with_low_half(0x6000).iova == 0x1_0000_5000
    assert mappings.with_low_half(0x7000) is None
    assert mappings.with_low_half(0x70000) is None


def test_devices_are_those_attached_at_the_time(tmp_path: Path) -> None:
    told = history(both(Script()), tmp_path)
    assert told.devices(at(1)) == frozenset()
    assert told.devices(at(2)) == {NIC}
    assert told.devices(None) == {NIC, DISK}
    assert told.span == (at(2), at(4))


def test_device_owns_what_its_space_of_the_time_holds(tmp_path: Path) -> None:
    script = mapped(Script().attach("00:03.0", 1), "00:03.0", 0x5000, 0x9000).attach("00:03.0", 2)
    told, nic = history(script, tmp_path), frozenset({NIC})
    assert told.mappings(nic, at(4)).holding(0x5000) is not None
    assert told.mappings(nic, None).holding(0x5000) is None


def test_what_no_device_claims_is_kept_for_want_of_better(tmp_path: Path) -> None:
    script = both(Script()).map(0x5000, 0x9000).unmap(0x5000)
    freed = history(script, tmp_path).freed(frozenset({NIC}), 0x5000, None)
    assert freed.owners == ()


def test_access_follows_the_rule_of_the_kernel(tmp_path: Path) -> None:
    script = both(Script()).map(0x5000, 0x9000).dma_map("00:03.0", 0x5000, 0x9000, way="FROM_DEVICE")
    script.map(0x8000, 0xA000, task="other-7")
    told = history(script, tmp_path)
    asked = told.mappings(frozenset({NIC}), None).holding(0x5000).access
    assert asked == (Permissions.R | Permissions.W if told.trace.kernel_rule == "6.x" else Permissions.W)
    assert {told.access(number) for number in told.live()} == {asked, None}


def test_empty_trace_has_no_history(tmp_path: Path) -> None:
    told = history(Script().line("qi_submit: iec_inv dmar0: 0x4 0x0 0x0 0x0"), tmp_path)
    assert (told.span, told.devices(None)) == ((0, 0), frozenset())
    assert told.mappings(frozenset({NIC}), 5).is_empty
    assert told.freed(frozenset({NIC}), 0, None) is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["00:03.0", "00:04.0"]), st.integers(0, 8), st.integers(1, 3), st.booleans()), max_size=14
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(STEPS)
def test_end_is_what_the_most_obvious_reading_leaves(tmp_path: Path, steps) -> None:
    script = both(Script())
    held: set[tuple[str, int]] = set()
    for number, (device, page, count, is_map) in enumerate(steps):
        wanted = {(device, page + one) for one in range(count)}
        if is_map and not wanted & held:
            mapped(script, device, page * PAGE, (0x1000 + 16 * number) * PAGE, count * PAGE)
            held |= wanted
        elif not is_map and wanted <= held:
            script.unmap(page * PAGE, count * PAGE).dma_unmap(device, page * PAGE, count * PAGE)
            held -= wanted
    trace = script.read(tmp_path)
    side = end_state(trace)
    expected = live_pages(trace)
    for space in trace.spaces:
        for source in space.devices:
            runs = side.spaces[Key(0, source, None)].runs
            found = {run.iova + at: run.gpa + at for run in runs for at in range(0, run.size, PAGE)}
            assert found == expected[space.index]


# recordings


@pytest.mark.parametrize("variant", ["a-legacy-strict", "i-firststage-k72", "t-vfio-superpages"])
def test_recorded_tables_are_what_the_recorded_trace_leaves(variant: str) -> None:
    trace = read_traces([FIXTURES / "traces" / f"{variant}.txt.xz"])
    with open_image(FIXTURES / "images" / variant / "image.elf.gz") as memory:
        found = diff(image_side(variant, memory, register_pages(memory)), end_state(trace))
    assert found.spaces == ()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recording_ends_as_its_tables_are(corpus: Path, variant: str) -> None:
    trace = read_traces([corpus / variant / "trace.txt.gz"])
    with open_image(corpus / variant / "image.elf") as memory:
        found = diff(end_state(trace), image_side(variant, memory, register_pages(memory)))
    assert found.spaces == ()


def test_a_page_that_the_recording_lacks_is_a_difference(tmp_path: Path) -> None:
    text = lzma.decompress((FIXTURES / "traces/a-legacy-strict.txt.xz").read_bytes()).decode()
    short = tmp_path / "short.txt"
    short.write_text(text[: text.rindex(": unmap: IOMMU")].rsplit("\n", 1)[0] + "\n")
    with open_image(FIXTURES / "images/a-legacy-strict/image.elf.gz") as memory:
        side = image_side("a", memory, register_pages(memory))
    (space,) = diff(side, end_state(read_traces([short]))).spaces
    assert [one.kind for one in space.changes] == ["come"]
