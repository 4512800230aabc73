"""
What rl_zoo3 and SB3 print in every run, and what tells a reader nothing.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

HEADING = "Default hyperparameters for environment"
OTHER_TYPES = "Training and eval env are not of the same type"


@contextmanager
def without_hyperparameters(verbose: int) -> Iterator[None]:
    """
    Leaves out the hyperparameters that rl_zoo3's ``read_hyperparameters`` prints last, whatever ``--verbose`` says.
    They stand in ``config.yml`` of the run folder.

    :param verbose: SB3's verbosity; from 2 on nothing is left out
    """
    if verbose > 1:
        yield
        return
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        print(printed.getvalue().partition(HEADING)[0], end="")


@contextmanager
def without_other_types() -> Iterator[None]:
    """
    Leaves out EvalCallback's warning that training and evaluation have envs of different classes. With ``vec_env: ale``
    and ``envpool`` they have: scores are those of SB3's own env.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=OTHER_TYPES)
        yield
