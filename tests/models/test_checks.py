import pytest

from seqtrack_lit.models.checks import flag, number, whole


@pytest.mark.parametrize("value", ["abc", 2.5, True, None, 0])
def test_whole_names_the_key(value):
    with pytest.raises(ValueError, match=rf"model\.decoder\.heads must be a whole number >= 1, got {value!r}"):
        whole("model.decoder", 1, width=16, heads=value)


@pytest.mark.parametrize("value", ["abc", True, None, -0.1, float("nan")])
def test_number_names_the_key(value):
    with pytest.raises(ValueError, match=r"model\.decoder\.dropout must be a number from 0 to 1, got"):
        number("model.decoder", 0, 1, dropout=value)


@pytest.mark.parametrize("value", ["no", None, 1])
def test_flag_names_the_key(value):
    with pytest.raises(ValueError, match=rf"model\.decoder\.pre_norm must be true or false, got {value!r}"):
        flag("model.decoder", bidirectional=True, pre_norm=value)


def test_right_values_pass():
    flag("model", dense_head=False, xavier=True)
    whole("model.encoder", 1, width=1, heads=8)
    number("model.decoder", 0, 1, dropout=0)
