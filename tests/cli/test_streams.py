"""A tree and a JSON document that are printed while they are made."""

from __future__ import annotations

import json

import pytest

from cli.json_stream import write_json
from cli.outline import Node, lines

DOCUMENTS = [
    {},
    [],
    {"a": [], "b": {}, "c": [1, [2, {"d": None}]], "e": 'é\n"<'},
    [{"x": 1}, {"y": [True, False]}],
    "text",
    {"nested": {"deep": {"list": list(range(9000))}}},
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("document", DOCUMENTS, ids=repr)
def test_it_is_what_json_writes(document, indent):
    parts = []
    write_json(document, parts.append, indent)
    assert "".join(parts) == json.dumps(document, indent=indent)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 5000])
def test_iterators_are_lists(indent, count):
    elements = [{"n": number, "in": [number]} for number in range(count)]
    parts = []
    document = {"a": {"list": iter(elements)}, "b": iter([iter([]), iter([1])])}
    write_json(document, parts.append, indent)
    assert "".join(parts) == json.dumps({"a": {"list": elements}, "b": [[], [1]]}, indent=indent)


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        write_json({"a": float("nan")}, lambda text: None)


def test_a_list_is_made_while_it_is_written():
    written = []

    def numbers():
        for number in range(10_000):
            if number == 9_000:
                assert written
            yield number

    write_json(numbers(), written.append)


def test_branches_have_guides():
    tree = Node("top", "", [Node("one", "", iter([Node("under one")])), Node("two", "red", (Node("under two"),))])
    assert list(lines(tree)) == [
        ("top", ""),
        ("├── one", ""),
        ("│   └── under one", ""),
        ("└── two", "red"),
        ("    └── under two", ""),
    ]
