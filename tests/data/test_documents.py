"""Keys that stand twice, and what YAML takes for true and false."""

from __future__ import annotations

import pytest

from kiago_ray.data.documents import DoubledKeyError, read_json_text, read_yaml_text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seeds: [0]\nalpha: 4\nseeds: [1, 2]\n",
            "the key 'seeds' is given twice, in lines 1 and 3; give it once",
        ),
        (
            "limits: {a: 1}\n'limits':\n  b: 2\n",
            "the key 'limits' is given twice, in lines 1 and 2; give it once",
        ),
        ("a:\n  - {b: 1,\n     b: 1}\n", "the key 'b' is given twice, in lines 2 and 3; give it once"),
        ("{a: 1, a: 2}", "the key 'a' is given twice; give it once"),
    ],
)
def test_a_key_of_yaml_that_stands_twice(text: str, message: str) -> None:
    with pytest.raises(DoubledKeyError) as caught:
        read_yaml_text(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"seed": 1,\n "alpha": 2,\n "seed": 3}',
            "the key 'seed' is given twice, in lines 1 and 3; give it once",
        ),
        (b'{"start": {"kind": 1, "kind": 2}}', "the key 'kind' is given twice; give it once"),
    ],
)
def test_a_key_of_json_that_stands_twice(text: str | bytes, message: str) -> None:
    with pytest.raises(DoubledKeyError) as caught:
        read_json_text(text)
    assert str(caught.value) == message


def test_the_same_key_of_two_mappings_is_none_twice() -> None:
    assert read_json_text('[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]
    assert read_yaml_text("[{a: 1}, {a: {a: 2}}]") == [{"a": 1}, {"a": {"a": 2}}]


def test_no_is_nobelium_and_only_true_and_false_are_true_and_false() -> None:
    found = read_yaml_text("{forbid: [No, Y, N, On], a: true, b: False, c: TRUE, d: null, e: 0.5, yes: no}")
    assert found["forbid"] == ["No", "Y", "N", "On"]
    assert (found["a"], found["b"], found["c"], found["yes"]) == (True, False, True, "no")
    assert (found["d"], found["e"]) == (None, 0.5)
