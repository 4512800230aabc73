"""
Health while a run goes on: figures after each update, alarms, and the last healthy model kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.common.checks import number, unknown, whole_number
from sb3_stable_ppo.common.errors import CollapseError
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.common.tensors import copied
from sb3_stable_ppo.health.alarms import Alarms, Event
from sb3_stable_ppo.health.budget import Budget
from sb3_stable_ppo.health.figures import (
    Figures,
    NotFinite,
    PolicyReading,
    health_figures,
    inspect_policy,
    update_figures,
)
from sb3_stable_ppo.metrics.weights import distance, update_ratio, weight_norm
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.gradients import GradientRecorder
from sb3_stable_ppo.probes.rows import (
    concat_batches,
    recent_observations,
    rows_of,
    strided_actions,
    strided_observations,
)
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.runs.folder import RunReader

ON_ALARM = ("warn", "stop", "raise")
TRAIN = ("approx_kl", "clip_fraction", "entropy_loss", "explained_variance", "loss", "value_loss", "learning_rate")
MOST_POOLED = 32
"""Rollouts of fewer rows are looked at several at a time."""


@public
class HealthCallback(RunCallback):
    """
    After each update (off-policy: every ``every_steps`` steps), how alive the networks are, on 64 observations of the
    rollout: logged under ``health/``, a line of ``health.jsonl`` in the run folder, and judged by :mod:`alarms`.

    What takes long (ranks, the KL of the update, churn, gradients, weights; on 512 observations) is measured as rarely
    as ``budget`` asks. At an alarm, the model as it was when a thorough measurement last found nothing wrong is
    saved as ``last_healthy.zip``. docs/health.md has figures, alarms and thresholds.

    :param every: rollouts between two measurements
    :param rows: observations of a measurement, spread evenly over steps and envs
    :param thorough_rows: observations of a thorough one; as many as the features are wide at least, or they bound the
        rank
    :param budget: share of the training time that may be spent; None: every measurement is thorough
    :param on_alarm: ``warn``; ``stop`` the run after this rollout; ``raise`` CollapseError; or a function of the
        :class:`~sb3_stable_ppo.health.alarms.Event` and the model. All but the function warn too
    :param every_steps: off-policy: environment steps between two measurements
    :param folder: see :class:`RunCallback`
    :param verbose: SB3's verbosity
    :raises ValueError: for a number out of range, or an unknown ``on_alarm``
    :raises CollapseError: on an alarm, with ``on_alarm="raise"``
    """

    parts: ClassVar[tuple[str, ...]] = ("health.jsonl", "last_healthy.zip")

    def __init__(
        self,
        every: int = 1,
        rows: int = 64,
        folder: str | Path | None = None,
        thorough_rows: int = 512,
        budget: float | None = 0.01,
        on_alarm: str | Callable[[Event, BaseAlgorithm], None] = "warn",
        every_steps: int = 1000,
        verbose: int = 0,
    ) -> None:
        super().__init__(folder, verbose=verbose)
        if budget is not None:
            budget = number(budget, "budget", high=1.0)
            if budget == 0:
                raise ValueError("budget is a share of the training time, in (0, 1], or None, not 0.")
        if not callable(on_alarm) and on_alarm not in ON_ALARM:
            raise ValueError(unknown("on_alarm", on_alarm, ON_ALARM, also=", or give a function"))
        self.every, self.every_steps = whole_number(every, "every", 1), whole_number(every_steps, "every_steps", 1)
        self.rows, self.thorough_rows = whole_number(rows, "rows", 1), whole_number(thorough_rows, "thorough_rows", 1)
        self.budget, self.on_alarm = budget, on_alarm
        self._rollout: _Rollout | None = None

    @property
    def spent_seconds(self) -> float:
        """Seconds that this run has spent on health: in the callback, and in its hooks while ``train()`` runs."""
        return self._budget.spent

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._budget = Budget(self.budget)
        with self._budget.clocked():
            self._begin()

    def _begin(self) -> None:
        self.alarms = Alarms()
        for line in RunReader(self.writer.folder).health():  # of a run that goes on, else there are none
            self.alarms.update(int(line["step"]), line)
        self.probe = ActivationProbe(self.model.policy)
        self.n_measured = self.n_rollouts = 0
        self._on_policy = isinstance(self.model, OnPolicyAlgorithm)
        if not self._on_policy and not hasattr(self.model, "replay_buffer"):
            name = type(self.model).__name__
            raise ValueError(f"HealthCallback reads a rollout or replay buffer; {name} has neither. Use diagnose().")
        self._pool: list[Any] = []
        self._next_step = self.num_timesteps + self.every_steps
        if (
            self._rollout is not None and self._rollout.recorder is not None
        ):  # the update that it was to watch has failed
            self._rollout.recorder.close()
        self._rollout = None
        self._initial = copied(dict(self.model.policy.named_parameters()))
        self._healthy: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._saved_step: int | None = None
        self._asked_to_stop = False

    def _on_step(self) -> bool:
        if not self._on_policy and self.num_timesteps >= self._next_step:
            self._next_step = self.num_timesteps + self.every_steps
            thorough = self._budget.allows_thorough()
            with self._budget.clocked():
                self._measure_replayed(thorough)
            self._budget.end_measurement(thorough)
        return not self._asked_to_stop

    def _measure_replayed(self, thorough: bool) -> None:
        observations = recent_observations(
            self.model.replay_buffer,  # type: ignore[attr-defined]
            self.thorough_rows if thorough else self.rows,
        )
        normalizer = self.model.get_vec_normalize_env()
        seen = observations if normalizer is None else normalizer.normalize_obs(observations)  # stored as they came
        self._measure(_Rollout(self._tensor(seen), thorough))

    def _on_rollout_end(self) -> None:
        """The rows are taken now: ``train()`` flattens the buffer. They are looked at when it is done."""
        self.n_rollouts += 1
        if self._on_policy and (self.n_rollouts - 1) % self.every == 0:
            with self._budget.clocked():
                self._look_before_update(self._budget.allows_thorough())

    def _look_before_update(self, thorough: bool) -> None:
        rows, buffer = self.thorough_rows if thorough else self.rows, self.model.rollout_buffer  # type: ignore[attr-defined]
        self._pool.append(strided_observations(buffer, rows))
        if len(self._pool) * buffer.buffer_size * buffer.n_envs < min(self.rows, MOST_POOLED):
            return  # a rollout of few steps, such as A2C's five, tells little: it is looked at with the next ones
        observations, self._pool = concat_batches(self._pool), []
        self._rollout = rollout = _Rollout(self._tensor(observations), thorough)
        if thorough:
            with suppress(NotFinite):  # it is found again, and said, after the update
                rollout.before = inspect_policy(self.model.policy, self.probe, rollout.observations)
                if self._healthy is None:
                    self._keep_if_healthy(health_figures(self.model.policy, self.probe, rollout.before, thorough=True))
            if len(actions := strided_actions(buffer, rows)) == rows_of(observations):
                rollout.actions = th.as_tensor(actions, device=self.model.device)
            rollout.weights = copied(dict(self.model.policy.named_parameters()))
            rollout.recorder = GradientRecorder(self.probe.all_layers)

    def _on_rollout_start(self) -> None:
        self._after_update()

    def _on_training_end(self) -> None:
        self._after_update()

    def _after_update(self) -> None:
        rollout, self._rollout = self._rollout, None
        if rollout is not None:
            with self._budget.clocked():
                if rollout.recorder is not None:
                    rollout.recorder.close()
                    self._budget.spent += rollout.recorder.seconds
                self._measure(rollout)
            self._budget.end_measurement(rollout.thorough)

    def _tensor(self, observations: Any) -> Any:
        return obs_as_tensor(observations, self.model.device)

    def _measure(self, rollout: _Rollout) -> None:
        policy = self.model.policy
        figures: Figures = {"layers": {}, "nonfinite": None, "train": self._train_figures()}
        try:
            seen = inspect_policy(policy, self.probe, rollout.observations, drift=rollout.thorough)
            figures.update(health_figures(policy, self.probe, seen, rollout.thorough))
            if rollout.thorough:
                figures.update(self._thorough_figures(rollout, seen))
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
        self._log(figures)
        self.writer.health(self.num_timesteps, figures)
        if rollout.thorough and self.alarms.is_quiet:
            self._keep()
        for event in events:
            self._act(event)

    def _keep_if_healthy(self, figures: Figures) -> None:
        """Before the first update: it may be the one that breaks it all."""
        newborn = Alarms()
        newborn.update(self.num_timesteps, figures)
        if newborn.is_quiet:
            self._keep()

    def _keep(self) -> None:
        attributes, parameters = self._healthy or ({}, None)
        variables = self.model._get_torch_save_params()[1]  # beside the state dicts, such as SAC's log_ent_coef
        names = ["num_timesteps", "_n_updates", *variables]
        found = {name: getattr(self.model, name) for name in names if hasattr(self.model, name)}
        self._healthy = copied(found, attributes), copied(self.model.get_parameters(), parameters)

    def _thorough_figures(self, rollout: _Rollout, seen: PolicyReading) -> Figures:
        weights = dict(self.model.policy.named_parameters())
        figures: Figures = {"norms": seen.drift, "weights": {"norm": weight_norm(weights)}}
        figures["weights"]["distance_from_start"] = distance(weights, self._initial)
        if rollout.weights is not None:
            figures["weights"]["update_ratio"] = update_ratio(rollout.weights, weights)
        if rollout.before is not None:
            clip_range = getattr(self.model, "clip_range", None)
            clip = None if clip_range is None else float(clip_range(self.model._current_progress_remaining))
            figures["update"] = update_figures(rollout.before, seen, rollout.actions, clip)
        if rollout.recorder is not None:
            figures["gradients"] = rollout.recorder.figures()
        return figures

    def _train_figures(self) -> Figures:
        """What SB3's ``train()`` has just logged, and as ``kl`` the guards' unclamped one, or SB3's estimate."""
        logged = self.logger.name_to_value
        found = {name: logged[f"train/{name}"] for name in TRAIN if f"train/{name}" in logged}
        kl = logged.get("guards/update_kl", found.get("approx_kl"))
        return found if kl is None or not self._on_policy else {**found, "kl": kl}

    def _log(self, figures: Figures) -> None:
        record = self.logger.record
        for layer, values in figures["layers"].items():
            record(f"health/{layer}/live_fraction", values["live"] / values["units"])
            record(f"health/{layer}/{values['fault']}_fraction", values["fault_fraction"])
            record(f"health/{layer}/dormant_fraction", values["dormant_fraction"])
        for part in ("features", "policy", "update", "weights", "norms"):
            for name, value in figures.get(part, {}).items():
                if not isinstance(value, str):
                    record(f"health/{part}/{name}", value)
        for layer, values in figures.get("gradients", {}).items():
            for name, value in values.items():
                record(f"health/{layer}/{name}", value)
        record("health/alarms", len(self.alarms.active))

    def _act(self, event: Event) -> None:
        if not event.raised:
            warnings.warn(f"HealthCallback: {event.text}.", stacklevel=2)
            return
        text = f"{event.text}. {self._save_last_healthy()}"
        if callable(self.on_alarm):
            self.on_alarm(event, self.model)
        elif self.on_alarm == "raise":
            raise CollapseError(text)
        else:
            warnings.warn(f"HealthCallback: {text}", stacklevel=2)
            self._asked_to_stop |= self.on_alarm == "stop"

    def _save_last_healthy(self) -> str:
        """The model as it was, with the weights of then; its own are not touched."""
        if self._healthy is None:
            return "No healthy model was seen before."
        path = self.writer.folder / "last_healthy.zip"
        attributes, parameters = self._healthy
        step = attributes["num_timesteps"]
        if step != self._saved_step:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                for name, value in {"get_parameters": lambda: parameters, **attributes}.items():
                    stack.enter_context(patched(self.model, name, value))
                self.model.save(path, exclude=["get_parameters"])
            self._saved_step = step
        return f"The model as it was at step {step:,} is in {path}."


class _Rollout:
    """What is looked at after the update, and how things were before it."""

    def __init__(self, observations: Any, thorough: bool) -> None:
        self.observations, self.thorough = observations, thorough
        self.before: PolicyReading | None = None
        self.actions: th.Tensor | None = None
        self.weights: dict[str, th.Tensor] | None = None
        self.recorder: GradientRecorder | None = None
