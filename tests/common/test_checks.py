"""What users write is checked in one way: the option, the value and what is allowed."""

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from sb3_stable_ppo.common.checks import did_you_mean, number, one_of, unknown, whole_number


def test_a_value_of_many_characters_is_cut_off_in_an_error() -> None:
    """SB3 takes a class among the callbacks for a function, and calls it with all that it knows."""
    with pytest.raises(ValueError, match=r"^rate must be a number of at least 0, not \{'self': 'x+…\.$"):
        number({"self": 1000 * "x"}, "rate")


@pytest.mark.parametrize(("value", "expected"), [(0.5, 0.5), (1, 1.0), ("1e-4", 1e-4), ("2", 2.0)])
def test_a_number_may_be_written_as_yaml_reads_it(value: Any, expected: float) -> None:
    assert number(value, "rate") == expected


@pytest.mark.parametrize("value", [True, None, "fast", math.nan, -1e-9, [1], math.inf])
def test_what_is_no_number_of_the_range_is_named_with_the_range(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^rate must be a number of at least 0, not ") as error:
        number(value, "rate")
    assert repr(value) in str(error.value)


def test_bounds_are_included_and_infinity_is_a_number_only_where_asked_for() -> None:
    assert (number(0, "share", high=1.0), number(1, "share", high=1.0)) == (0.0, 1.0)
    with pytest.raises(ValueError, match=r"share must be a number from 0 to 1, not 1\.1"):
        number(1.1, "share", high=1.0)
    assert number("inf", "max_kl", may_be_infinite=True) == math.inf


@given(value=st.integers(1, 10**12))
def test_whole_numbers_in_every_notation_are_the_same(value: int) -> None:
    assert whole_number(value, "n") == whole_number(str(value), "n") == whole_number(float(value), "n") == value


@pytest.mark.parametrize("value", [0, 2.5, "2.5", True, None, math.inf, math.nan, "many"])
def test_what_is_no_whole_number_is_named_with_the_least(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^n_steps must be a whole number of at least 1, not "):
        whole_number(value, "n_steps", least=1)


def test_an_unknown_word_is_told_with_all_choices_and_what_else_can_be_given() -> None:
    assert one_of("batch", ("batch", "layer"), "norm") == "batch"
    with pytest.raises(ValueError, match=r"^Unknown norm 'bach': choose one of batch, layer, or give a module\.$"):
        one_of("bach", ("batch", "layer"), "norm", also=", or give a module")
    assert unknown("port", 3, range(2)) == "Unknown port 3: choose one of 0, 1."


def test_the_nearest_word_is_hinted_at_and_a_far_one_is_not() -> None:
    assert did_you_mean("StepLr", ["StepLR", "CosineLR"]) == " (did you mean StepLR?)"
    assert did_you_mean(7, ["StepLR"]) == ""
