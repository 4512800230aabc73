"""
One trial: for each seed a run of rl_zoo3, as ``train`` makes it. Optuna's pruner or a collapse may end it early.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import yaml
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.errors import CollapseError, UsageError, described, one_line
from sb3_stable_ppo.common.keywords import keywords_of
from sb3_stable_ppo.common.signals import was_interrupted
from sb3_stable_ppo.common.tensors import is_broken_distribution
from sb3_stable_ppo.health.alarms import Event
from sb3_stable_ppo.health.callback import HealthCallback
from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.series import least_live_share
from sb3_stable_ppo.studies.space import VERSION, Suggests, as_hyperparams, rollout_of, sample
from sb3_stable_ppo.zoo.configuration import entry_for
from sb3_stable_ppo.zoo.hyperparams import check_hyperparams, find_policy, with_numbers
from sb3_stable_ppo.zoo.manager import StableExperimentManager
from sb3_stable_ppo.zoo.masks import MaskedTrialEvalCallback
from sb3_stable_ppo.zoo.overrides import with_overrides

COLLAPSES = ("nonfinite", "inactive_layer", "dormant_layer", "low_rank", "one_action")
"""Alarms that end a trial. The others (a rank that falls, a norm that grows, a policy that jumps) are only recorded."""


BUDGET = 0.01
"""Share of the training time that a trial's HealthCallback may spend."""


class Plan(NamedTuple):
    """
    What all trials of a study have in common.

    :param algo: one of this package's algorithms
    :param env: id of the environment
    :param base: the entry of a YAML file that trials change
    :param n_timesteps: environment steps of each run
    :param seeds: of each trial's runs
    :param n_evaluations: of each run
    :param eval_episodes: episodes of each evaluation
    :param health: whether the network's health is a second objective
    :param folder: where the trials' run folders go
    :param held: of the rollout's hyperparameters those that are not searched
    :param search_space: version of the space that trials are drawn from
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

    @property
    def facts(self) -> dict[str, Any]:
        """What is kept with the study, in JSON's types; the first space held nothing."""
        left_out = ("folder", "held") if self.search_space == 1 else ("folder",)
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
        Train with each seed.

        :param trial: Optuna's
        :return: the mean over the seeds of the last evaluation's mean return; with ``health`` also the mean of
            :func:`least_live`
        :raises optuna.TrialPruned: if Optuna's pruner ends the trial, or training collapses
        """
        entry = self.sampled(trial)
        folder = self.folder / f"trial_{trial.number}"
        results = []
        for index, seed in enumerate(self.seeds):
            try:
                results.append(self._train(trial, index, seed, entry, folder))
            except optuna.TrialPruned:
                raise
            except Exception as error:
                trial.set_user_attr("error", described(error, 300))
                raise
        returns, health = zip(*results, strict=True)
        trial.set_user_attr("returns", list(returns))
        trial.set_user_attr("health", list(health))
        value = statistics.fmean(returns)
        return (value, statistics.fmean(health)) if self.health else value

    def _train(
        self, trial: optuna.Trial, index: int, seed: int, entry: Mapping[str, Any], folder: Path
    ) -> tuple[float, float]:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "config.yml"
        config.write_text(yaml.safe_dump({self.env: dict(entry)}, sort_keys=False))
        manager = TrialManager(
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
            config=str(config),
        )
        manager.report_to = _OfOneSeed(trial, index * self.n_evaluations, prunes=not self.health)
        try:
            results = manager.setup_experiment()
            assert results is not None
            manager.learn(results[0])
            if was_interrupted():
                raise KeyboardInterrupt
        except (ValueError, RuntimeError) as error:
            if not isinstance(error, CollapseError) and not is_broken_distribution(error):
                raise
            trial.set_user_attr("collapsed", f"seed {seed}: {one_line(error, 300)}")
            raise optuna.TrialPruned(str(error)) from error
        if manager.evaluation.is_pruned:
            raise optuna.TrialPruned
        manager.save_trained_model(results[0])
        return float(manager.evaluation.last_mean_reward), least_live(manager.save_path)


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
    if not isinstance(entry.get("policy_kwargs", {}), dict):
        raise UsageError(f"{found.source}: policy_kwargs must be a mapping, not {entry['policy_kwargs']!r}.")
    return entry


class TrialManager(StableExperimentManager):
    """A run that reports its evaluations to Optuna, and that a collapse of its network ends."""

    report_to: _OfOneSeed
    evaluation: TrialEvalCallback

    def create_callbacks(self) -> None:
        """
        In place of rl_zoo3's: an evaluation that reports to the trial, and one HealthCallback instead of the file's
        callbacks that write to a run folder.
        """
        masked = issubclass(ALGOS[self.algo], MaskablePPO)
        self.evaluation = (MaskedTrialEvalCallback if masked else TrialEvalCallback)(
            self.create_envs(self.n_eval_envs, eval_env=True),
            self.report_to,  # type: ignore[arg-type]  # which has what is used of a trial
            n_eval_episodes=self.n_eval_episodes,
            eval_freq=max(self.eval_freq // self.n_envs, 1),
            deterministic=self.deterministic_eval,
            best_model_save_path=self.save_path,
            log_path=self.save_path,
        )
        waiting = [each for each in self.callbacks if isinstance(each, Intervention) and each.trigger.alarms]
        # who waits for an alarm needs measurements at fixed updates
        health = HealthCallback(on_alarm=raise_on_collapse, budget=None if waiting else BUDGET)
        own = [each for each in self.callbacks if not isinstance(each, RunCallback)]
        self.callbacks = [health, *own, self.evaluation]


class _OfOneSeed:
    """
    What rl_zoo3's ``TrialEvalCallback`` uses of a trial. The steps of a later seed's reports follow those of the seeds
    before, as Optuna takes one report for a step.
    """

    def __init__(self, trial: optuna.Trial, offset: int, prunes: bool) -> None:
        self._trial, self._offset, self._prunes = trial, offset, prunes

    def report(self, value: float, step: int) -> None:
        if self._prunes:  # with two objectives Optuna takes no reports
            self._trial.report(value, self._offset + step)

    def should_prune(self) -> bool:
        return self._prunes and self._trial.should_prune()


def raise_on_collapse(event: Event, model: BaseAlgorithm) -> None:  # noqa: ARG001  # HealthCallback's signature
    """
    End training at an alarm that stands for a collapse; a HealthCallback's ``on_alarm``.

    :param event: an alarm that was raised
    :param model: that is trained
    :raises CollapseError: if the alarm is one of ``COLLAPSES``
    """
    if event.name in COLLAPSES:
        raise CollapseError(event.text)


def least_live(folder: str) -> float:
    """
    The share of live units at the end of a run, of the actor's layer with the smallest share.

    :param folder: of the run
    :return: from 0 to 1; 0 if nothing was measured
    """
    return least_live_share(list(RunReader(folder).health())) or 0.0
