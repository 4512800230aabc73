"""
What a study has found: a table of its best trials, and configurations that ``train`` runs as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from optuna.study import Study
from optuna.trial import TrialState

from sb3_stable_ppo.common.files import write_atomically
from sb3_stable_ppo.common.packages import command_line
from sb3_stable_ppo.studies.space import as_hyperparams, as_shown, rollout_of
from sb3_stable_ppo.studies.study import best_trials, effective_trials
from sb3_stable_ppo.tuning.trial import Plan

SHOWN = 10


def show(study: Study) -> None:
    """
    Print how many trials came to what end, and the best.

    :param study: the study
    """
    from rich.table import Table

    from sb3_stable_ppo.common.console import Console

    trials = list(effective_trials(study).values())
    states = Counter(trial.state.name.lower() for trial in trials)
    collapsed = sum("collapsed" in trial.user_attrs for trial in trials)
    console = Console()
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    if not trials:
        console.print("There are no trials yet.")
        return
    console.print(f"{len(trials)} trials: {told}; of the pruned ones {collapsed} collapsed.", highlight=False)
    errors = Counter(trial.user_attrs.get("error", "interrupted") for trial in trials if trial.state.name == "FAIL")
    for error, count in errors.most_common(3):
        console.print(f"{count} failed: {error}", highlight=False, markup=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]  # a pruned one has its last report
    if not complete:
        return
    complete.sort(key=lambda trial: trial.values, reverse=True)
    two = len(complete[0].values) > 1
    rollout = rollout_of(study.user_attrs.get("plan", {}).get("base", {}))
    table = Table("trial", "return", *(["health"] if two else []), "what", title="The best trials")
    for trial in complete[:SHOWN]:
        values = [f"{value:.4g}" for value in trial.values]
        what = ", ".join(f"{name} {_text(value)}" for name, value in as_shown(trial.params, *rollout).items())
        table.add_row(str(trial.number), *values, what)
    console.print(table)


def training_command(plan: Plan, config: Path, packages: Sequence[str] = ()) -> str:
    """
    The command that trains what :func:`write_best` has written.

    :param plan: of the study's trials
    :param config: one of its files
    :param packages: modules that register the environment
    """
    modules = ("--gym-packages", *packages) if packages else ()
    return command_line("train", "--algo", plan.algo, "--env", plan.env, *modules, "--conf-file", str(config))


def write_best(study: Study, plan: Plan, folder: Path, packages: Sequence[str] = ()) -> list[Path]:
    """
    Write the best trial, of two objectives each of the Pareto front, as a file for ``train --conf-file``.

    :param study: the study
    :param plan: of its trials
    :param folder: where to
    :param packages: modules that register the environment
    :return: the files; none while no trial is complete
    :raises UsageError: if no trial is complete
    """
    best = best_trials(study)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for trial in best if plan.health else best[:1]:
        path = folder / (f"pareto_{trial.number}.yml" if plan.health else "best.yml")
        entry = as_hyperparams(trial.params, plan.base, plan.n_timesteps)
        values = ", ".join(f"{value:.4g}" for value in trial.values or ())
        head = f"{_head(study, trial.number)}{values}:\n"
        head += f"# {training_command(plan, path, packages)}\n"
        write_atomically(path, (head + yaml.safe_dump({plan.env: entry}, sort_keys=False)).encode())
        paths.append(path)
    if plan.health:
        for path in {*folder.glob("pareto_*.yml")} - {*paths}:
            _remove_if_of(study, path)
    return paths


def _remove_if_of(study: Study, path: Path) -> None:
    """Of a trial that has left the front; a file that somebody has made from it, or that is another study's, stays."""
    number = path.stem.removeprefix("pareto_")
    if number.isdecimal() and path.read_text(encoding="utf-8").startswith(_head(study, number)):
        path.unlink()


def _head(study: Study, number: int | str) -> str:
    return f"# Trial {number} of the study {study.study_name}, "


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
