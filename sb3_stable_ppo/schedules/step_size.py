"""
How long the steps of a decay must be for the run to end at a tenth of its start.
"""

from __future__ import annotations

import math

END = 0.1
"""Where the run ends, as a share of the start."""


def step_to_a_tenth(counts: int, gamma: float) -> int:
    """
    The whole step with which ``gamma ** (count // step)`` comes nearest to a tenth at the last of the counts, and has
    steps as equal as can be.

    >>> step_to_a_tenth(9766, 0.9), 0.9 ** (9765 // 425)  # 22 decays, one each 425 updates
    (425, 0.09847709021836118)

    :param counts: how many counts the run has after its warm-up: the first is 0, the last ``counts - 1``
    :param gamma: factor of each decay, between 0 and 1
    :return: the step, at least 1
    """

    def miss(decays: int) -> float:
        return abs(gamma**decays - END)

    few = math.floor(math.log(END) / math.log(gamma))
    decays = min(few, few + 1, key=miss)
    longest = max(math.ceil(counts / (decays + 1)), 1)  # so many decays, or, where the counts are few, fewer
    steps = [longest, max(longest - 1, 1)]
    return min(steps, key=lambda step: miss(max(counts - 1, 0) // step))
