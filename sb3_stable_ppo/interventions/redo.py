"""ReDo: units that are hardly ever active are reset."""

from __future__ import annotations

import warnings
from typing import Any

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.common.checks import number, whole_number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.unit_graph import UnitGraph, UnitLayer, blank_observations
from sb3_stable_ppo.interventions.unit_space import ScoredReset, shares
from sb3_stable_ppo.metrics.layers import but_units
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.rows import concat_batches, recent_observations, rows_of, strided_observations

LEAST = 1e-9
"""A mean activation that is far smaller is that of a dead layer."""


@public
class ReDo(ScoredReset):
    """
    Resets dormant units, those that are active far less than the others of their layer: ``s_i <= tau`` with
    ``s_i = E|h_i| / mean_k E|h_k|``, over observations of the latest rollouts, or of the latest of the replay buffer
    (https://arxiv.org/abs/2302.12902).

    Made for ReLU. A unit of LeakyReLU that is always on its negative side has 1% of the others' activation and looks
    dormant while it learns: use :class:`ReGraMa` there, which judges by gradient. A warning says so.

    Incoming weights are drawn as the policy's constructor draws them, outgoing ones are set to 0, so that a unit that
    is always 0 is reset without a change of the outputs (with LayerNorm or GroupNorm behind it there is some). Target
    networks follow: DQN's at its next copy, those of SAC and TD3 at ``tau``.

    >>> model.learn(100_000, callback=ReDo(tau=0.025, when={"every_updates": 1000}))  # doctest: +SKIP

    :param tau: a unit with less than this share of its layer's mean activation is reset; 0: those that are always 0
    :param when: ``{"every_updates": N}`` or ``{"on_alarm": name}``; None: every 1000 updates off-policy, as published
        ports have it, else every 10
    :param rows: observations that units are judged by
    :param verbose: SB3's verbosity
    :raises ValueError: for a number out of range; when training starts, if there is no layer whose units can be reset
    """

    def __init__(self, tau: float = 0.025, when: Any = None, rows: int = 64, verbose: int = 0) -> None:
        self.tau, self.rows = number(tau, "tau"), whole_number(rows, "rows", 1)
        super().__init__(self.tau, when, verbose)

    def _readable(self, graph: UnitGraph) -> UnitGraph:
        self._probe = ActivationProbe(self.model.policy)
        read = self._probe(blank_observations(self.model.policy, 2))
        # not the output of a convolution whose activation is a function: it is large where the units are always 0
        known = self._probe.activations.keys() & read.keys()
        self._names = {layer.path: layer.name for layer in self._probe.all_layers if layer.name in known}
        unread = {
            layer.path: "has no activation that could be read"
            for layer in graph.layers
            if layer.path not in self._names
        }
        layers = tuple(layer for layer in graph.layers if layer.path in self._names)
        return UnitGraph(layers, {**graph.left_alone, **unread})

    def begin(self) -> None:
        super().begin()
        if not self.goes_on:
            self._batches: list[Any] = []
        if self._probe.leaky and self.tau > 0:
            warnings.warn(
                f"ReDo judges units by their activation, and those of {type(self.model.policy).__name__} are of "
                "LeakyReLU or its like, which look dormant on their negative side while they learn. Take ReGraMa, "
                "which judges by gradient.",
                stacklevel=2,
            )

    def before_update(self) -> None:
        """On-policy the rows are taken now: ``train()`` flattens the buffer, and a rollout begins with an empty one."""
        if isinstance(self.model, OffPolicyAlgorithm):
            return
        self._batches.append(strided_observations(self.model.rollout_buffer, self.rows))  # type: ignore[attr-defined]
        while sum(rows_of(batch) for batch in self._batches[1:]) >= self.rows:  # of short rollouts, several
            del self._batches[0]

    def can_judge(self) -> bool:
        if isinstance(self.model, OffPolicyAlgorithm):
            return self.model.replay_buffer is not None and self.model.replay_buffer.size() > 0
        return bool(self._batches)

    def _observations(self) -> Any:
        if not isinstance(self.model, OffPolicyAlgorithm):
            return concat_batches(self._batches)
        observations = recent_observations(self.model.replay_buffer, self.rows)  # type: ignore[arg-type]
        normalizer = self.model.get_vec_normalize_env()
        return observations if normalizer is None else normalizer.normalize_obs(observations)  # stored as they came

    def scores(self) -> list[tuple[UnitLayer, th.Tensor]]:
        activations = self._probe(obs_as_tensor(self._observations(), self.model.device))
        found = []
        for layer in self.graph.layers:
            name = self._names[layer.path]
            activation = activations[name]
            means = self._probe.by_unit(name, activation.abs().mean(dim=but_units(activation))).mean(dim=0)
            found.append((layer, shares(means, LEAST)))
        return found
