"""Two sequences of descriptors, aligned: what agrees finds its partner, whatever one side lacks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from emulator.trace.descriptors import Descriptors, align
from emulator.trace.event import Descriptor


def keys(*numbers: int) -> list[tuple[int, int]]:
    """Keys that differ where the numbers do."""
    return [(number, 0) for number in numbers]


def test_equal_sequences_are_partners_one_by_one() -> None:
    assert align(keys(1, 2, 2, 3), keys(1, 2, 2, 3)).tolist() == [0, 1, 2, 3]


def test_what_one_side_lacks_has_no_partner() -> None:
    assert align(keys(1, 2, 3, 4, 5), keys(1, 3, 4, 5)).tolist() == [0, 2, 3, 4]
    assert align(keys(1, 3, 4, 5), keys(1, 9, 3, 4, 5)).tolist() == [0, -1, 1, 2, 3]
    assert align(keys(1, 7, 3, 4, 5), keys(1, 9, 3, 4, 5)).tolist() == [0, -1, 2, 3, 4]


def test_nothing_in_common_is_no_partner() -> None:
    assert align(keys(1, 2), keys(3, 4, 5)).tolist() == [-1, -1, -1]
    assert align([], keys(3)).tolist() == [-1]
    assert align(keys(3), []).tolist() == []


@given(st.lists(st.integers(0, 1 << 60), unique=True, max_size=60), st.data())
def test_partners_are_equal_and_in_order(whole: list[int], data: st.DataObject) -> None:
    one = keys(*(n for n in whole if data.draw(st.integers(0, 9))))
    other = keys(*(n for n in whole if data.draw(st.integers(0, 9))))
    partner = align(one, other).tolist()
    found = [index for index in partner if index >= 0]
    assert found == sorted(set(found))
    assert all(one[index] == other[j] for j, index in enumerate(partner) if index >= 0)


def test_first_two_words_are_the_key() -> None:
    found = Descriptors()
    found.add(7, Descriptor("dmar0", (0x100E2, 0x1000, 5, 6)))
    assert (len(found), found.event.tolist(), found.keys()) == (1, [7], [(0x100E2, 0x1000)])
