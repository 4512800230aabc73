"""
Health while a run goes on: figures after each update, alarms, and the last healthy model kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EventCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.common.checks import number, unknown, whole_number
from sb3_stable_ppo.common.errors import CollapseError
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.common.tensors import copied
from sb3_stable_ppo.health.alarms import Alarms, Event
from sb3_stable_ppo.health.budget import Budget
from sb3_stable_ppo.health.figures import Figures, NotFinite, health_figures, inspect_policy
from sb3_stable_ppo.health.interval import health_intervals, warn_of_short_interval
from sb3_stable_ppo.health.last_healthy import LastHealthy
from sb3_stable_ppo.health.learning import rollout_figures
from sb3_stable_ppo.health.logger import log_figures, train_figures
from sb3_stable_ppo.health.measurement import Measurement
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.rows import (
    concat_batches,
    recent_observations,
    rows_of,
    strided_actions,
    strided_masks,
    strided_observations,
)
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.runs.interval import UpdateCounter

ON_ALARM = ("warn", "stop", "raise")
MOST_POOLED = 32
"""Rollouts of fewer rows are looked at several at a time."""


@public
class HealthCallback(RunCallback):
    """
    After each update (off-policy: every 1000 steps), how alive the networks are, on 64 observations of the rollout:
    logged under ``health/``, a line of ``health.jsonl`` in the run folder, and judged by :mod:`alarms`.

    What takes long (ranks, the KL of the update, churn, gradients, weights; on 512 observations) is measured as rarely
    as ``budget`` asks. At an alarm, the model as it was when a thorough measurement last found nothing wrong is
    saved as ``last_healthy.zip``. docs/health.md has figures, alarms and thresholds.

    :param every: environment steps between two measurements, at least: on-policy, it measures after the first update
        that comes so many steps after the last one measured. None: see above
    :param rows: observations of a measurement, spread evenly over steps and envs
    :param thorough_rows: observations of a thorough one; as many as the features are wide at least, or they bound the
        rank
    :param budget: share of the training time that may be spent; None: every measurement is thorough
    :param on_alarm: ``warn``; ``stop`` the run in the next step; ``raise`` CollapseError; or a function of the
        :class:`~sb3_stable_ppo.health.alarms.Event` and the model. All but the function warn too
    :param every_steps: the old name of ``every``
    :param folder: see :class:`RunCallback`; without any, the figures are logged alone, and no model is kept
    :param verbose: SB3's verbosity
    :param every_updates: updates between two measurements, in place of ``every``; an update is one ``train()``
    :raises ValueError: for a number out of range, an unknown ``on_alarm``, or both intervals
    :raises CollapseError: on an alarm, with ``on_alarm="raise"``
    """

    parts: ClassVar[tuple[str, ...]] = ("health.jsonl", "last_healthy.zip")

    def __init__(
        self,
        every: int | None = None,
        rows: int = 64,
        folder: str | Path | None = None,
        thorough_rows: int = 512,
        budget: float | None = 0.01,
        on_alarm: str | Callable[[Event, BaseAlgorithm], None] = "warn",
        every_steps: int | None = None,
        verbose: int = 0,
        *,
        every_updates: int | None = None,
    ) -> None:
        super().__init__(folder, verbose=verbose)
        if budget is not None:
            budget = number(budget, "budget", high=1.0)
            if budget == 0:
                raise ValueError("budget is a share of the training time, in (0, 1], or None, not 0.")
        if not callable(on_alarm) and on_alarm not in ON_ALARM:
            raise ValueError(unknown("on_alarm", on_alarm, ON_ALARM, also=", or give a function"))
        self.on_policy_interval, self.off_policy_interval = health_intervals(every, every_updates, every_steps)
        self.rows, self.thorough_rows = whole_number(rows, "rows", 1), whole_number(thorough_rows, "thorough_rows", 1)
        self.budget, self.on_alarm = budget, on_alarm
        self._marks: list[dict[str, Any]] = []
        self._watched: object = None
        """The policy of the run that it has begun to watch."""
        self._pending: Measurement | None = None
        """Begun before an update, to be ended after it."""
        self._updates = UpdateCounter()

    @property
    def spent_seconds(self) -> float:
        """Seconds that this run has spent on health: in the callback, and in its hooks while ``train()`` runs."""
        return self._budget.spent

    def mark(self, name: str, text: str) -> None:
        """
        Put something that was done to the network on record, for the report's time axis: the next line of
        ``health.jsonl`` has it under ``interventions``, with the step at which it was done.

        :param name: of what did it
        :param text: what it did
        """
        self._marks.append({"name": name, "step": self.num_timesteps, "text": text})

    def _on_training_start(self) -> None:
        super()._on_training_start()
        goes_on = (
            not self.locals.get("reset_num_timesteps", True)
            and self._watched is self.model.policy
            and self._last_healthy.folder == self.writer.folder
        )
        if not goes_on:
            self._budget = Budget(self.budget)
        with self._budget.clocked():
            if not goes_on:
                self._begin()
            self._updates.begin(self.model, self._updates.count if goes_on else 0)
            if self._pending is not None:  # the update that it was to watch has failed
                self._pending.close()
            self._pending, self._asked_to_stop = None, False

    def _without_folder(self) -> str:
        return "its figures and alarms are logged, and last_healthy.zip is not saved"

    def _begin(self) -> None:
        """A run, or what is new to this callback of one that goes on."""
        self._watched = self.model.policy
        self.alarms = Alarms()
        for line in self.writer.reader.health():  # of a run that goes on, else there are none
            if line["step"] <= self.num_timesteps:  # later ones stay only where they could not be set aside
                self.alarms.update(int(line["step"]), line)
        self.probe = ActivationProbe(self.model.policy)
        self.n_measured = self.n_rollouts = 0
        self._on_policy = isinstance(self.model, OnPolicyAlgorithm)
        self._warn_within_event()
        if not self._on_policy and not hasattr(self.model, "replay_buffer"):
            name = type(self.model).__name__
            raise ValueError(f"HealthCallback reads a rollout or replay buffer; {name} has neither. Use diagnose().")
        self._interval = self.on_policy_interval if self._on_policy else self.off_policy_interval
        self._updates.begin(self.model)
        self._measured_at: int | None = None if self._on_policy else self._now()
        if isinstance(self.model, OnPolicyAlgorithm):
            warn_of_short_interval(self._interval, self.model.n_steps * self.model.n_envs)
        self._pool: list[Any] = []
        self._initial = copied(dict(self.model.policy.named_parameters()))
        self._last_healthy = LastHealthy(self.writer.folder)

    def _warn_within_event(self) -> None:
        if self._on_policy and isinstance(self.parent, EventCallback):
            name = type(self.parent).__name__
            warnings.warn(
                f"HealthCallback measures nothing within {name}, which tells it of steps alone, not of rollouts and "
                "updates. Give it to learn() beside the other callbacks; its every= says how often it measures.",
                stacklevel=2,
            )

    def _now(self) -> int:
        """In the unit of the interval."""
        if self._interval.unit == "steps":
            return self.num_timesteps
        return self.n_rollouts if self._on_policy else self._updates.count

    def _is_due(self) -> bool:
        return self._measured_at is None or self._now() - self._measured_at >= self._interval.number

    def _on_step(self) -> bool:
        if self._interval.unit == "steps":
            self._replay_if_due()
        return not self._asked_to_stop

    def _replay_if_due(self) -> None:
        """Off-policy."""
        if not self._on_policy and self._is_due() and self.model.replay_buffer.size():  # type: ignore[attr-defined]
            self._measured_at = self._now()
            thorough = self._budget.allows_thorough()
            with self._budget.clocked():
                self._measure_replayed(thorough)
            self._budget.end_measurement(thorough)

    def _measure_replayed(self, thorough: bool) -> None:
        observations = recent_observations(
            self.model.replay_buffer,  # type: ignore[attr-defined]
            self.thorough_rows if thorough else self.rows,
        )
        normalizer = self.model.get_vec_normalize_env()
        seen = observations if normalizer is None else normalizer.normalize_obs(observations)  # stored as they came
        self._measure(Measurement(self._tensor(seen), thorough))

    def _on_rollout_end(self) -> None:
        """The rows are taken now: ``train()`` flattens the buffer. They are looked at when it is done."""
        self.n_rollouts += 1
        if self._on_policy and self._is_due():
            with self._budget.clocked():
                self._look_before_update(self._budget.allows_thorough())

    def _look_before_update(self, thorough: bool) -> None:
        rows, buffer = self.thorough_rows if thorough else self.rows, self.model.rollout_buffer  # type: ignore[attr-defined]
        self._pool.append((strided_observations(buffer, rows), strided_masks(buffer, rows)))
        if len(self._pool) * buffer.buffer_size * buffer.n_envs < min(self.rows, MOST_POOLED):
            return  # a rollout of few steps, such as A2C's five, tells little: it is looked at with the next ones
        self._measured_at = self._now()
        observations, masks = (concat_batches(list(parts)) for parts in zip(*self._pool, strict=True))
        self._pool = []
        self._pending = measurement = Measurement(self._tensor(observations), thorough, masks)
        if thorough:
            actions = strided_actions(buffer, rows)
            known = len(actions) == rows_of(observations)
            measurement.look_before_update(
                self.model, self.probe, th.as_tensor(actions, device=self.model.device) if known else None
            )
            if measurement.before is not None and self._last_healthy.is_missing:
                with suppress(NotFinite):
                    figures = health_figures(self.model.policy, self.probe, measurement.before, True, self.rows)
                    self._keep_if_healthy(figures)

    def _on_rollout_start(self) -> None:
        self._after_update()

    def _on_training_end(self) -> None:
        self._after_update()

    def _after_update(self) -> None:
        measurement, self._pending = self._pending, None
        if measurement is not None:
            with self._budget.clocked():
                self._budget.spent += measurement.close()
                self._measure(measurement)
            self._budget.end_measurement(measurement.thorough)
        if self._updates.look() and self._interval.unit == "updates":
            self._replay_if_due()

    def _tensor(self, observations: Any) -> Any:
        return obs_as_tensor(observations, self.model.device)

    def _measure(self, measurement: Measurement) -> None:
        policy = self.model.policy
        figures: Figures = {
            "layers": {},
            "nonfinite": None,
            "train": train_figures(self.logger, self._on_policy),
            "rollout": rollout_figures(self.model),
        }
        try:
            rows, thorough = measurement.observations, measurement.thorough
            seen = inspect_policy(policy, self.probe, rows, thorough, measurement.action_masks)
            figures.update(health_figures(policy, self.probe, seen, thorough, self.rows))
            if thorough:
                figures.update(measurement.thorough_figures(self.model, seen, self._initial))
        except NotFinite as error:
            figures["nonfinite"] = str(error)
        if not figures["layers"] and figures["nonfinite"] is None and self.n_measured == 0:
            warnings.warn(
                f"HealthCallback finds no layer with an activation in {type(policy).__name__} that it can read.",
                stacklevel=2,
            )
        self.n_measured += 1
        events = self.alarms.update(self.num_timesteps, figures)
        if features := figures.get("features"):
            features.update(self.alarms.comparisons)
        figures["events"] = [event._asdict() for event in events]
        if self._marks:
            figures["interventions"], self._marks = self._marks, []
        log_figures(self.logger, figures, len(self.alarms.active))
        self.writer.health(self.num_timesteps, figures)
        if measurement.thorough and self.alarms.is_quiet:
            self._last_healthy.keep(self.model)
        for event in events:
            self._act(event)

    def _keep_if_healthy(self, figures: Figures) -> None:
        """Before the first update: it may be the one that breaks it all."""
        newborn = Alarms()
        newborn.update(self.num_timesteps, figures)
        if newborn.is_quiet:
            self._last_healthy.keep(self.model, before_update=True)

    def _act(self, event: Event) -> None:
        if not event.raised:
            warnings.warn(f"HealthCallback: {event.text}.", stacklevel=2)
            return
        text = f"{event.text}. {self._last_healthy.save(self.model)}"
        if callable(self.on_alarm):
            self.on_alarm(event, self.model)
        elif self.on_alarm == "raise":
            raise CollapseError(text)
        else:
            warnings.warn(f"HealthCallback: {text}", stacklevel=2)
            self._asked_to_stop |= self.on_alarm == "stop"
