"""A grammar knows its texts, what may follow, and how soon it can end."""

import random

import pytest

from earthgpt.grammar import Coordinates, OneOf, Repeated, Text, either, letter, sequence, some

BOX = Coordinates()
BOXES = sequence("[", some(BOX, ";"), "]")


def random_text(grammar, rng, most=10_000):
    """A text of a grammar, byte by byte by chance; it ends where it may with a chance of one in four."""
    text, state = b"", grammar
    while not (state.ends and (not state.following or rng.random() < 0.25)):
        byte = rng.choice(state.following)
        text, state = text + bytes([byte]), state.after(byte)
        assert len(text) < most
    return text.decode()


def test_a_box_is_four_numbers_of_three_decimals_from_zero_to_one():
    assert BOX.matches("0.000,0.120,1.000,0.120")
    for wrong in ("0.12,0.1,0.5,0.5", "0.1234,0.100,0.500,0.500", "1.001,0.100,1.000,0.500", "-0.1,0.100,0.5,0.5"):
        assert not BOX.matches(wrong)
    assert Coordinates(2).matches("0.10,0.20,0.30,0.40") and not Coordinates(2).matches("0.100,0.200,0.300,0.400")


def test_right_is_no_smaller_than_left_and_bottom_than_top():
    assert BOX.matches("0.500,0.250,0.500,0.250")
    assert not BOX.matches("0.500,0.250,0.499,0.250")
    assert not BOX.matches("0.500,0.250,0.500,0.249")
    assert BOX.read(b"0.957,0.100,0.").following == b"9"
    assert BOX.read(b"0.957,0.100,0.9").following == b"56789"
    assert BOX.read(b"0.957,0.100,0.96").following == b"0123456789"
    assert BOX.read(b"1.000,0.100,").following == b"1"


def test_corners_of_a_turned_box_are_in_any_order():
    turned = Coordinates(count=8)
    assert turned.matches("0.900,0.100,0.100,0.000,0.500,0.500,0.200,0.100")
    assert not turned.matches("0.900,0.100,0.100,0.000")


def test_alternatives_repetition_and_sequences_are_read_with_what_they_share():
    grammar = sequence(either("one ship", "one shipyard", "two"), " [", some(OneOf(b"xy"), ";"), "]")
    assert all(grammar.matches(text) for text in ("one ship [x]", "one shipyard [x;y]", "two [y;y;x]"))
    assert not any(grammar.matches(text) for text in ("one shipy [x]", "two []", "two [x;]", "two [x", "[x]", ""))
    noun = sequence(OneOf(b"abc"), Repeated(OneOf(b"abc ")), " [")
    assert noun.matches("a b c [") and noun.matches("a  [") and not noun.matches("a[") and not noun.matches(" a [")


def test_what_reads_on_says_what_is_certain_likely_and_open():
    assert BOXES.likely == ord("[")
    assert BOXES.read(b"[").likely == ord("0"), "nearly every number begins so"
    assert BOXES.read(b"[0.12").likely is None
    assert BOXES.read(b"[0.123").likely == ord(",")
    assert BOXES.read(b"[0.123,0.456,0.789,0.900").likely == ord(";")
    assert Text(b"").likely is None and Text(b"").ends


def test_the_shortest_rest_is_as_long_as_it_is_said():
    for grammar in (BOX, BOXES, either("a", "bcd"), sequence("There is ", either("no", BOXES)), Coordinates(2, 8)):
        rng = random.Random(0)
        texts = [random_text(grammar, rng) for _ in range(200)]
        assert min(map(len, texts)) >= grammar.shortest
        for text in texts[:20]:
            state = grammar
            for byte in text.encode():
                longest, state = state.shortest, state.after(byte)
                assert state.shortest >= longest - 1
            assert state.shortest == 0
    assert BOX.shortest == 23 and BOX.read(b"0.5").shortest == 20
    assert BOXES.shortest == 25 and BOXES.read(b"[0.123,0.456,0.789,0.900;").shortest == 24


def test_equal_states_are_equal_values():
    assert BOXES.read(b"[0.123,") == sequence("[", some(Coordinates(), ";"), "]").read(b"[0.123,")
    assert len({BOXES.read(b"[0.123,"), BOXES.read(b"[0.123,"), BOXES.read(b"[0.124,")}) == 2


def test_a_grammar_without_options_is_refused():
    with pytest.raises(ValueError, match="option"):
        either()


def test_a_letter_is_of_one_byte_or_several():
    word = some(letter(b"ab"), "")
    assert all(word.matches(text) for text in ("ab", "é", "a船b", "，", "\ue000"))
    assert not word.matches("c") and not word.matches("😀")
    assert word.read("船".encode()[:2]).following == bytes(range(0x80, 0xC0)), "a letter is not left half written"
