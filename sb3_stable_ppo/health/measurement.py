"""
One measurement of a network's health, and how the network was before the update that it follows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.tensors import copied
from sb3_stable_ppo.health.figures import Figures, NotFinite, PolicyReading, inspect_policy, update_figures
from sb3_stable_ppo.metrics.weights import distance, update_ratio, weight_norm
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.gradients import GradientRecorder
from sb3_stable_ppo.probes.outputs import unsquashed


class Measurement:
    """
    What is measured. Of a thorough one, :meth:`look_before_update` adds what can be had only before and during the
    update.

    :param observations: the rows, as tensors
    :param thorough: whether ranks, the update, weights and gradients are measured too
    :param action_masks: of MaskablePPO, those of the rows
    """

    def __init__(self, observations: Any, thorough: bool, action_masks: Any = None) -> None:
        self.observations, self.thorough, self.action_masks = observations, thorough, action_masks
        self.before: PolicyReading | None = None
        self.actions: th.Tensor | None = None
        self.weights: dict[str, th.Tensor] | None = None
        self.recorder: GradientRecorder | None = None

    def look_before_update(self, model: BaseAlgorithm, probe: ActivationProbe, actions: th.Tensor | None) -> None:
        """
        Read the policy and its weights, and listen to gradients from now on.

        :param model: that is about to be updated
        :param probe: of its policy
        :param actions: taken at the observations; None where they are not known
        """
        with suppress(NotFinite):  # it is found again, and said, after the update
            self.before = inspect_policy(model.policy, probe, self.observations, action_masks=self.action_masks)
        self.actions = None if actions is None else unsquashed(model.policy, actions)
        self.weights = copied(dict(model.policy.named_parameters()))
        self.recorder = GradientRecorder(probe.all_layers)

    def close(self) -> float:
        """Listen no longer; the seconds that listening took."""
        if self.recorder is None:
            return 0.0
        self.recorder.close()
        return self.recorder.seconds

    def thorough_figures(self, model: BaseAlgorithm, seen: PolicyReading, initial: dict[str, th.Tensor]) -> Figures:
        """
        The figures that a thorough measurement has beside the others.

        :param model: after the update
        :param seen: the policy now, on the same observations
        :param initial: the weights at the start of the run
        """
        weights = dict(model.policy.named_parameters())
        figures: Figures = {"norms": seen.drift, "weights": {"norm": weight_norm(weights)}}
        figures["weights"]["distance_from_start"] = distance(weights, initial)
        if self.weights is not None:
            figures["weights"]["update_ratio"] = update_ratio(self.weights, weights)
        if self.before is not None:
            clip_range = getattr(model, "clip_range", None)
            clip = None if clip_range is None else float(clip_range(model._current_progress_remaining))
            figures["update"] = update_figures(self.before, seen, self.actions, clip)
        if self.recorder is not None:
            figures["gradients"] = self.recorder.figures()
        return figures
