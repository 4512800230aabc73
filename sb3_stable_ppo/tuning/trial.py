"""
One trial: for each seed a run of rl_zoo3, as ``train`` makes it. Optuna's pruner or a collapse may end it early.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import optuna
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.checkpoints.folder import CHECKPOINTS
from sb3_stable_ppo.common.checks import whole_number
from sb3_stable_ppo.common.errors import CollapseError, UsageError, described, one_line
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.common.signals import was_interrupted
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import least_live_share
from sb3_stable_ppo.studies.space import ROLLOUT, VERSION, Suggests, as_hyperparams, rollout_of, sample
from sb3_stable_ppo.studies.storage import RUNS, TRIES
from sb3_stable_ppo.tuning.checkpoints import broken_off_runs, folder_of
from sb3_stable_ppo.tuning.managers import ReportsOfOneSeed, ResumedTrialManager, TrialManager
from sb3_stable_ppo.zoo.checkpointing import CheckpointOptions
from sb3_stable_ppo.zoo.configuration import entry_for
from sb3_stable_ppo.zoo.hyperparams import check_hyperparams, find_policy, with_numbers
from sb3_stable_ppo.zoo.overrides import with_overrides
from sb3_stable_ppo.zoo.places import FLAG

Manager = TypeVar("Manager", bound=TrialManager)

CONFIG = "config.yml"
RESUMED = "resumed"
"""User attribute of a trial that has gone on from a checkpoint: from which."""


class Plan(NamedTuple):
    """
    What all trials of a study have in common.

    :param algo: one of this package's algorithms
    :param env: id of the environment
    :param base: the entry of a YAML file that trials change
    :param n_timesteps: environment steps of each run
    :param seeds: of each trial's runs
    :param n_evaluations: of each run, at least: a run ends with its last rollout, and may have more
    :param eval_episodes: episodes of each evaluation
    :param health: whether the network's health is a second objective
    :param folder: where the trials' run folders go
    :param held: of the rollout's hyperparameters those that are not searched
    :param search_space: version of the space that trials are drawn from
    :param checkpoints: how often a run writes one; not kept with the study, as it changes no result
    """

    algo: str
    env: str
    base: dict[str, Any]
    n_timesteps: int
    seeds: tuple[int, ...]
    n_evaluations: int
    eval_episodes: int
    health: bool
    folder: Path
    held: tuple[str, ...] = ()
    search_space: int = VERSION
    checkpoints: CheckpointOptions = CheckpointOptions()

    @property
    def facts(self) -> dict[str, Any]:
        """What is kept with the study, in JSON's types; the first space held nothing."""
        left_out = ("folder", "checkpoints", *(("held",) if self.search_space == 1 else ()))
        return {name: value for name, value in self._asdict().items() if name not in left_out}

    @classmethod
    def of(cls, facts: Mapping[str, Any], folder: Path) -> Plan:
        """
        :param facts: as :attr:`facts` are, read from the study
        :param folder: as a plan has it
        """
        known: dict[str, Any] = {name: facts[name] for name in cls._fields if name in facts}
        lists = {name: tuple(known.get(name, ())) for name in ("seeds", "held")}
        return cls(**{**known, **lists}, folder=folder)

    def sampled(self, trial: Suggests) -> dict[str, Any]:
        """
        The configuration of a trial.

        :param trial: Optuna's
        :return: an entry of a YAML file
        """
        n_envs, _ = rollout_of(self.base)
        bounds: dict[str, Any] = {"n_timesteps": self.n_timesteps, "n_envs": n_envs, "held": self.held}
        params = sample(trial, guarded=True, version=self.search_space, **bounds)
        return as_hyperparams(params, self.base, self.n_timesteps)

    def objective(self, trial: optuna.Trial) -> float | tuple[float, float]:
        """
        Train with each seed. A trial whose worker died goes on: with the results of the runs that were finished, and in
        the run that was broken off, from its last checkpoint.

        :param trial: Optuna's
        :return: the mean over the seeds of the last evaluation's mean return; with ``health`` also the mean of
            :func:`least_live`
        :raises optuna.TrialPruned: if Optuna's pruner ends the trial, or training collapses
        """
        try:
            entry = self.sampled(trial)
        except Exception as error:
            trial.set_user_attr("error", described(error, 300))
            raise
        tries, runs = trial.user_attrs.get(TRIES, []), trial.user_attrs.get(RUNS, [])
        for index, run in enumerate(runs):
            self._reports(trial, index).repeat(run["evaluations"])
        folder = folder_of(self.folder, trial.number)
        for index in range(len(runs), len(self.seeds)):
            if was_interrupted():  # in the last update of the run before
                raise KeyboardInterrupt
            try:
                manager, model = self._begin(trial, index, entry, folder, tries)
                with closing(manager):
                    runs.append(self._train(trial, manager, model))
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr("error", described(error, 300))
                raise
            folder, tries = Path(manager.log_folder), []
            if len(runs) < len(self.seeds):
                trial.set_user_attr(RUNS, runs)
                shutil.rmtree(Path(manager.save_path, CHECKPOINTS), ignore_errors=True)
        returns, health = [run["return"] for run in runs], [run["health"] for run in runs]
        trial.set_user_attr("returns", returns)
        trial.set_user_attr("health", health)
        value = statistics.fmean(returns)
        return (value, statistics.fmean(health)) if self.health else value

    def _begin(
        self, trial: optuna.Trial, index: int, entry: Mapping[str, Any], folder: Path, tries: Sequence[int]
    ) -> tuple[TrialManager, BaseAlgorithm]:
        """
        Set a run up.

        :param trial: Optuna's
        :param index: of the seed
        :param entry: the trial's configuration
        :param folder: for a new run
        :param tries: the numbers of the earlier tries that may have begun this run
        :return: one that goes on where an earlier try has left a checkpoint that can be read, or else a new one
        """
        resumed = self._resumed(trial, index, tries) if tries else None
        if resumed is not None:
            return resumed
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(yaml.safe_dump({self.env: dict(entry)}, sort_keys=False))
        manager = self._manager(TrialManager, trial, index, folder)
        return manager, manager.begin()

    def _resumed(
        self, trial: optuna.Trial, index: int, tries: Sequence[int]
    ) -> tuple[TrialManager, BaseAlgorithm] | None:
        seed = self.seeds[index]
        what = f"Trial {trial.number}, after the tries {', '.join(map(str, tries))}, seed {seed}:"
        for run in () if self.checkpoints.are_off else broken_off_runs(self.folder, tries, seed):
            manager = self._manager(ResumedTrialManager, trial, index, run.folder.parent.parent)
            manager.goes_on = run
            try:
                model = manager.begin()
            except UsageError as error:
                print(f"{what} {one_line(error, 300)}", flush=True)
                continue
            told = f"went on from step {manager.resumed_at:,} in {run.folder}"
            trial.set_user_attr(RESUMED, f"seed {seed}: {told}")
            print(f"{what} {told}.", flush=True)
            return manager, model
        print(f"{what} begins anew, as there is no checkpoint that this worker can go on from.", flush=True)
        return None

    def _manager(self, kind: type[Manager], trial: optuna.Trial, index: int, folder: Path) -> Manager:
        seed = self.seeds[index]
        manager = kind(
            argparse.Namespace(algo=self.algo, env=self.env, seed=seed, trial=trial.number, env_kwargs=None),
            self.algo,
            self.env,
            str(folder),
            n_timesteps=self.n_timesteps,
            eval_freq=max(self.n_timesteps // self.n_evaluations, 1),
            n_eval_episodes=self.eval_episodes,
            seed=seed,
            log_interval=-1,
            verbose=0,
            config=str(folder / CONFIG),
        )
        manager.report_to, manager.checkpoints = self._reports(trial, index), self.checkpoints
        return manager

    def _reports(self, trial: optuna.Trial, index: int) -> ReportsOfOneSeed:
        return ReportsOfOneSeed(trial, index, self.n_evaluations, prunes=not self.health)

    def _train(self, trial: optuna.Trial, manager: TrialManager, model: BaseAlgorithm) -> dict[str, Any]:
        """:return: the run's results, in JSON's types"""
        try:
            manager.learn(model)
            if manager.training.interrupted_by is not None:
                raise KeyboardInterrupt
        except (ValueError, RuntimeError) as error:
            if not isinstance(error, CollapseError) and not is_broken_distribution(error):
                raise
            trial.set_user_attr("collapsed", f"seed {manager.seed}: {one_line(error, 300)}")
            raise optuna.TrialPruned(str(error)) from error
        if manager.evaluation.is_pruned:
            raise optuna.TrialPruned
        evaluated = manager.evaluated
        if not evaluated:
            raise ValueError(f"training ended at step {model.num_timesteps:,}, before its first evaluation")
        if not math.isfinite(evaluated[-1]):
            raise ValueError(
                f"the mean return of the last evaluation is {evaluated[-1]}: the env's rewards are not finite"
            )
        return {"return": evaluated[-1], "health": least_live(manager.save_path), "evaluations": evaluated}


def base_entry(
    config: Path, env: str, algorithm: type[BaseAlgorithm], overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """
    The entry of a YAML file that trials change.

    :param config: the file; ours has rl_zoo3's behind it (:func:`entry_for`)
    :param env: id
    :param algorithm: that is to be trained with it
    :param overrides: of ``--hyperparams``
    :raises UsageError: if there is no entry, or something in it is wrong, or its policy has no ``norm``
    """
    found = entry_for(config, env, algorithm)
    if found.note:
        print(found.note)
    entry: dict[str, Any] = with_numbers(with_overrides(found.hyperparams, overrides or {}, found.source))
    check_hyperparams(entry, algorithm, found.source, overrides)
    policy = find_policy(entry["policy"], algorithm, found.source)
    if "norm" not in keywords_of(policy):
        raise UsageError(f"{found.source}: tune chooses the norm of our policies; {policy.__name__} has none.")
    for name, value in entry.items():
        try:
            if name in ("n_envs", *ROLLOUT):
                entry[name] = whole_number(value, name, 1)
            json.dumps(value)
        except (TypeError, ValueError) as error:
            where = FLAG if name in (overrides or {}) else found.source
            hint = ": a study keeps numbers, words, lists and mappings" if isinstance(error, TypeError) else ""
            raise UsageError(f"{where}: {one_line(error).rstrip('.')}{hint}.") from None
    if not isinstance(entry.get("policy_kwargs", {}), dict):
        raise UsageError(f"{found.source}: policy_kwargs must be a mapping, not {entry['policy_kwargs']!r}.")
    return entry


def least_live(folder: str) -> float:
    """
    The share of live units at the end of a run, of the actor's layer with the smallest share.

    :param folder: of the run
    :return: from 0 to 1; 0 if nothing was measured
    """
    return least_live_share(list(RunReader(folder).health())) or 0.0
