"""Configured values that are refused by their key."""

import pytest

from seqtrack_lit.checks import flag, number, one_of, whole


@pytest.mark.parametrize("value", ["abc", 2.5, True, None, 0])
def test_whole_names_the_key(value: object) -> None:
    with pytest.raises(ValueError, match=rf"model\.decoder\.heads must be a whole number >= 1, got {value!r}"):
        whole("model.decoder", 1, width=16, heads=value)


@pytest.mark.parametrize("value", ["abc", True, None, -0.1, 2, float("nan"), float("inf")])
def test_number_names_the_key(value: object) -> None:
    with pytest.raises(ValueError, match=r"model\.decoder\.dropout must be a number >= 0 and <= 1, got"):
        number("model.decoder", high=1, dropout=value)


def test_a_number_above() -> None:
    with pytest.raises(ValueError, match=r"^factor must be a number > 0, got 0$"):
        number("", above=True, factor=0)


@pytest.mark.parametrize("value", ["no", None, 1])
def test_flag_names_the_key(value: object) -> None:
    with pytest.raises(ValueError, match=rf"model\.decoder\.pre_norm must be true or false, got {value!r}"):
        flag("model.decoder", bidirectional=True, pre_norm=value)


@pytest.mark.parametrize("value", [3, None, "C", ["a"]])
def test_one_of_names_the_key(value: object) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.order must be one of a, b, got"):
        one_of("tokenizer", ("a", "b"), order=value)


def test_right_values_pass() -> None:
    flag("model", dense_head=False, xavier=True)
    whole("model.encoder", 1, width=1, heads=8)
    number("model.decoder", 0, 1, dropout=0)
    one_of("tokenizer", ("a", "b"), order="b")
