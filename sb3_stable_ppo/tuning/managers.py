"""
The run of a trial: it reports its evaluations to Optuna, a collapse of its network ends it, and it may go on from a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import optuna
from rl_zoo3.callbacks import TrialEvalCallback
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.errors import CollapseError
from sb3_stable_ppo.health.alarms import Event
from sb3_stable_ppo.health.callback import HealthCallback
from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.tuning.checkpoints import TrialCheckpoint
from sb3_stable_ppo.zoo.learning import ModelInTraining
from sb3_stable_ppo.zoo.manager import StableExperimentManager
from sb3_stable_ppo.zoo.masks import MaskedTrialEvalCallback
from sb3_stable_ppo.zoo.resumed_manager import ResumedManager

COLLAPSES = ("nonfinite", "inactive_layer", "dormant_layer", "low_rank", "one_action")
"""Alarms that end a trial. The others (a rank that falls, a norm that grows, a policy that jumps) are only recorded."""

BUDGET = 0.01
"""Share of the training time that a trial's HealthCallback may spend."""


class TrialManager(StableExperimentManager):
    """A run that reports its evaluations to Optuna, and that a collapse of its network ends."""

    report_to: ReportsOfOneSeed
    evaluation: TrialEvalCallback
    training: ModelInTraining

    def begin(self) -> BaseAlgorithm:
        """
        :return: the model, ready to be trained
        :raises UsageError: for whatever keeps the run from being set up
        """
        try:
            results = self.setup_experiment()
        except BaseException:
            self.close()
            raise
        assert results is not None
        return results[0]

    def close(self) -> None:
        """Close the env of evaluations; rl_zoo3 leaves it to the end of the process, and a worker does many trials."""
        if hasattr(self, "evaluation"):
            with suppress(Exception):  # its processes may have died; a trial is not lost over it
                self.evaluation.eval_env.close()

    def create_callbacks(self) -> None:
        """
        In place of rl_zoo3's: an evaluation that reports to the trial, and one HealthCallback and one RunCheckpoint
        instead of the file's callbacks that write to a run folder.
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
        if not self.checkpoints.are_off:
            checkpoint = self.checkpoints.callback(TrialCheckpoint, self.save_path)
            checkpoint.when_continued = self._report_again
            self.callbacks.append(checkpoint)

    @property
    def evaluated(self) -> list[float]:
        """The mean return of each evaluation so far."""
        return [float(np.mean(returns)) for returns in self.evaluation.evaluations_results]

    def _report_again(self) -> None:
        """Optuna's trial is a new one, which knows nothing of the evaluations before the checkpoint."""
        self.report_to.repeat(self.evaluated)

    def _save_model(self, model: BaseAlgorithm) -> None:
        """Not of a pruned trial, of which there are many; that of its best evaluation is there."""
        if not self.evaluation.is_pruned:
            super()._save_model(model)

    def _in_training(self, model: BaseAlgorithm) -> ModelInTraining:
        self.training = super()._in_training(model)
        return self.training


class ResumedTrialManager(TrialManager, ResumedManager):
    """A run of a trial that goes on from a checkpoint."""


class ReportsOfOneSeed:
    """
    What rl_zoo3's ``TrialEvalCallback`` uses of a trial. The steps of a later seed's reports follow those of the seeds
    before, as Optuna takes one report for a step. So that they are the same in all trials, whatever their rollouts,
    what a run evaluates beyond its number is not reported.

    :param trial: Optuna's
    :param index: of the seed
    :param count: reports of each seed
    :param prunes: whether Optuna's pruners apply
    """

    def __init__(self, trial: optuna.Trial, index: int, count: int, prunes: bool) -> None:
        self._trial, self._offset, self._count, self._prunes = trial, index * count, count, prunes

    def report(self, value: float, step: int) -> None:
        if self._prunes and step <= self._count:  # with two objectives Optuna takes no reports
            self._trial.report(value, self._offset + step)

    def should_prune(self) -> bool:
        return self._prunes and self._trial.should_prune()

    def repeat(self, values: Sequence[float]) -> None:
        """
        Report what an earlier try of the trial has reported.

        :param values: from the first evaluation on
        """
        for step, value in enumerate(values, 1):
            self.report(value, step)


def raise_on_collapse(event: Event, model: BaseAlgorithm) -> None:  # noqa: ARG001  # HealthCallback's signature
    """
    End training at an alarm that stands for a collapse; a HealthCallback's ``on_alarm``.

    :param event: an alarm that was raised
    :param model: that is trained
    :raises CollapseError: if the alarm is one of ``COLLAPSES``
    """
    if event.name in COLLAPSES:
        raise CollapseError(event.text)
