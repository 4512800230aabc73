"""Draws that depend on the study's seed, the trial's number and what the study knows, not on the worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from helpers.tuning import PLAN
from sb3_stable_ppo.studies.space import sample
from sb3_stable_ppo.studies.storage import open_storage
from sb3_stable_ppo.studies.study import open_study

Params = list[dict[str, Any]]


def drawn(folder: Path, kind: str, seed: int, worker_of: Callable[[int], int]) -> Params:
    """The parameters of eight trials, by workers who take turns as ``worker_of`` says."""
    where = str(folder / "journal.log")
    workers = [open_study(open_storage(where), "s", PLAN, "none", seed, 1, kind, 4) for _ in range(2)]
    for number in range(8):
        study: optuna.Study = workers[worker_of(number)]
        trial = study.ask()
        params = sample(trial, guarded=True)
        study.tell(trial, params["init_gain"])
    return [trial.params for trial in workers[0].trials]


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_study_that_is_begun_anew_draws_the_same_however_many_workers_it_has(kind: str, tmp_path: Path) -> None:
    first = drawn(tmp_path / "first", kind, 7, lambda _: 0)
    assert drawn(tmp_path / "second", kind, 7, lambda number: number % 2) == first
    assert drawn(tmp_path / "third", kind, 8, lambda _: 0) != first
    rates = [params["learning_rate"] for params in first]
    assert len(set(rates)) == len(rates)
