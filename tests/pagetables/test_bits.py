"""Words and fields: first what must be refused, then what they do."""

from __future__ import annotations

import enum
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagetables.bits import HW, RO, RW1C, Access, Bits, Ignored, Reserved, Word
from pagetables.errors import LayoutError, UnknownField


class Colour(enum.IntEnum):
    RED = 0
    BLUE = 2


class Small(Word, width=32):
    """A word for these tests."""

    p = Bits(0, about="present")
    a = HW(1)
    rsvd_3_2 = Reserved(3, 2)
    colour = Bits(5, 4, "colour", values=Colour)
    ign_7_6 = Ignored(7, 6)
    addr = Bits(31, 8)


class Wide(Word, width=128):
    """A word of two qwords."""

    lo = Bits(63, 0)
    if_ = Bits(64)
    hi = Bits(127, 65)


# -- What a declaration may not say


def test_a_hole_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"Holed\.b: starts at bit 5, expected 4"):

        class Holed(Word, width=8):
            a = Bits(3, 0)
            b = Bits(7, 5)


def test_an_overlap_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"Overlapping\.b: starts at bit 3, expected 4"):

        class Overlapping(Word, width=8):
            a = Bits(3, 0)
            b = Bits(7, 3)


def test_a_word_must_be_declared_to_its_last_bit() -> None:
    with pytest.raises(LayoutError, match="declared up to bit 3, but the word has 8 bits"):

        class Short(Word, width=8):
            a = Bits(3, 0)


def test_a_word_may_not_be_declared_beyond_its_last_bit() -> None:
    with pytest.raises(LayoutError, match="declared up to bit 8, but the word has 8 bits"):

        class Long(Word, width=8):
            a = Bits(8, 0)


def test_fields_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(LayoutError, match="starts at bit 4, expected 0"):

        class Backwards(Word, width=8):
            b = Bits(7, 4)
            a = Bits(3, 0)


@pytest.mark.parametrize("hi, lo", [(3, 4), (0, -1)])
def test_bits_that_run_backwards_are_refused(hi: int, lo: int) -> None:
    with pytest.raises(LayoutError, match=f"bits {hi}:{lo}: expected high bit, then low bit"):
        Bits(hi, lo)


def test_a_field_may_not_hide_what_every_word_has() -> None:
    with pytest.raises(LayoutError, match=r"Hiding\.pack: hides .* append a _"):

        class Hiding(Word, width=8):
            pack = Bits(7, 0)


def test_own_fields_and_inherited_ones_do_not_mix() -> None:
    with pytest.raises(LayoutError, match="declares fields of its own and inherits others"):

        class Mixed(Small, width=8):
            b = Bits(7, 0)


# -- What a value may not be


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_a_value_wider_than_its_word_is_refused(value: int) -> None:
    with pytest.raises(LayoutError, match="does not fit 32 bits"):
        Small(value)


@pytest.mark.parametrize("value", [-1, 4])
def test_a_value_wider_than_its_field_is_refused(value: int) -> None:
    with pytest.raises(LayoutError, match=r"colour=-?0x\d does not fit bits 5:4 \(at most 0x3\)"):
        Small.of(colour=value)


def test_a_misspelt_field_is_refused_with_what_is_near() -> None:
    with pytest.raises(UnknownField, match=r"Small has no field 'adr'; did you mean addr\?"):
        Small.of(adr=1)


def test_a_strange_field_is_refused_with_all_there_are() -> None:
    with pytest.raises(UnknownField, match="known: a, addr, colour, ign_7_6, p, rsvd_3_2"):
        Small(0).replace(zzzzz=1)


@pytest.mark.parametrize("data", [b"", b"123", b"12345"])
def test_bytes_of_the_wrong_length_are_refused(data: bytes) -> None:
    with pytest.raises(LayoutError, match=f"Small is 4 bytes, got {len(data)}"):
        Small.from_bytes(data)


@pytest.mark.parametrize("qwords", [(), (1,), (1, 2, 3), (1 << 64, 0), (-1, 0)])
def test_qwords_of_the_wrong_number_or_size_are_refused(qwords: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="Wide is made of 2 words of 64 bits"):
        Wide.from_qwords(*qwords)


def test_a_word_never_changes() -> None:
    word = Small(1)
    with pytest.raises(AttributeError, match=r"use replace\(p=\.\.\.\)"):
        word.p = 0
    assert word == 1


# -- What words do


def test_a_word_is_its_integer() -> None:
    word = Small.of(p=1, addr=0x1234)
    assert word == 0x123401
    assert hash(word) == hash(0x123401)
    assert {word: "here"}[0x123401] == "here"
    assert type(word | 2) is int


def test_fields_are_read_by_name() -> None:
    word = Small(0xABCDEF_21)
    assert (word.p, word.a, word.colour, word.addr) == (1, 0, 2, 0xABCDEF)


def test_of_the_class_a_field_tells_where_it_lies() -> None:
    assert (Small.addr.hi, Small.addr.lo, Small.addr.width, Small.addr.mask) == (31, 8, 24, 0xFFFFFF00)
    assert (Small.p.hi, Small.p.lo, Small.p.about, Small.p.name) == (0, 0, "present", "p")


def test_reserved_and_ignored_bits_are_told_apart() -> None:
    assert Small.reserved_mask == 0b0000_1100
    assert Small.ignored_mask == 0b1100_0000


def test_access_is_the_fields_class() -> None:
    assert [field.access for field in Small.fields_by_name.values()] == [
        Access.SW,
        Access.HW,
        Access.RSVD,
        Access.SW,
        Access.IGN,
        Access.SW,
    ]
    assert (RO(0).access, RW1C(0).access) == (Access.RO, Access.RW1C)


def test_a_value_without_a_name_is_still_read() -> None:
    assert Small.of(colour=3).colour == 3
    assert Small.of(colour=Colour.BLUE).colour == Colour.BLUE
    assert Small.colour.values is Colour


def test_replace_leaves_the_other_bits_alone() -> None:
    assert Small(0xFFFF_FFFF).replace(addr=0, colour=1) == 0xDF
    assert type(Small(0).replace(p=1)) is Small


def test_fields_lists_what_has_a_meaning_in_bit_order() -> None:
    assert list(Small(0xFF).fields().items()) == [("p", 1), ("a", 1), ("colour", 3), ("addr", 0)]


def test_a_keyword_is_a_field_name_with_and_without_its_underscore() -> None:
    assert Wide.of(if_=1) == Wide.of(**{"if": 1}) == Wide.of(IF=1) == 1 << 64
    assert Wide(1 << 64).fields()["if"] == 1
    assert Wide.if_.label == "IF"


def test_memory_is_little_endian() -> None:
    assert Small(0x0403_0201).pack() == b"\1\2\3\4"
    assert Small.from_bytes(bytearray(b"\1\2\3\4")) == Small.from_bytes(memoryview(b"\1\2\3\4")) == 0x0403_0201


def test_qwords_are_lowest_first() -> None:
    assert Wide(5 << 64 | 7).qwords() == (7, 5)
    assert Wide.from_qwords(7, 5) == 5 << 64 | 7
    assert Small(7).qwords() == (7,)
    assert Small.from_qwords(7) == 7


def test_a_layout_inherits_its_fields_under_its_own_name() -> None:
    class Twin(Small, name="small_twin"):
        """Same bits, another name."""

    assert (Twin.name, Twin.width, Twin.of(p=1, addr=1)) == ("small_twin", 32, 0x101)
    assert Small.name == "small"


def test_repr_shows_the_fields_that_are_set() -> None:
    assert repr(Small(0x123401)) == "<Small 0x123401 p=0x1 addr=0x1234>"
    assert repr(Small(0)) == "<Small 0x0>"


def test_a_word_survives_pickling() -> None:
    assert type(pickle.loads(pickle.dumps(Small(0x101)))) is Small


@given(st.integers(0, (1 << 128) - 1))
def test_bytes_and_qwords_come_back(value: int) -> None:
    assert Wide.from_bytes(Wide(value).pack()) == Wide.from_qwords(*Wide(value).qwords()) == value


@given(st.integers(0, (1 << 128) - 1))
def test_the_fields_of_a_full_word_make_it_again(value: int) -> None:
    assert Wide.of(**Wide(value).fields()) == value
