"""Which seeds a user means."""

from typing import Any

import pytest

from sb3_stable_ppo import UsageError
from sb3_stable_ppo.common.seeds import parse_seeds


@pytest.mark.parametrize(
    ("seeds", "first", "found"),
    [
        ("0-3,7, 9", 0, [0, 1, 2, 3, 7, 9]),
        ("1,3,5", 0, [1, 3, 5]),
        ("5", 0, [0, 1, 2, 3, 4]),
        (" 2 ", 7, [7, 8]),
        (3, 0, [0, 1, 2]),
        ("5-5", 0, [5]),
        ([5], 0, [5]),
        (range(2, 4), 0, [2, 3]),
        ((0, 9), 0, [0, 9]),
    ],
)
def test_a_number_says_how_many_seeds_and_everything_else_says_which(seeds: Any, first: int, found: list[int]) -> None:
    assert parse_seeds(seeds, first) == found


@pytest.mark.parametrize("seeds", ["", "a", "3-1", "1,,2", "-1", "1-2-3", -1, 0, "0", True, [], [1.5], ["a"]])
def test_what_names_no_seeds_is_told_the_forms(seeds: Any) -> None:
    with pytest.raises(UsageError, match=r"^seeds \(--seeds\) .*: give a number of seeds such as 5, .* such as 0-9"):
        parse_seeds(seeds)


@pytest.mark.parametrize(
    ("seeds", "first", "complaint"),
    [
        ("0-3,2", 0, "a seed stands there twice"),
        ("0-1000", 0, "no more than 1000 at once"),
        (1001, 0, "no more than 1000 at once"),
        ("0-9", 3, r"seed \(--seed\) 3 is the first of a number of seeds, such as 5; seeds \(--seeds\) '0-9' names"),
        (0, 0, "0-0 is the seed 0 alone"),
    ],
)
def test_seeds_that_cannot_be_meant_are_refused(seeds: Any, first: int, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_seeds(seeds, first)
