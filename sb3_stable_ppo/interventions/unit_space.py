"""
Base of the interventions that reset units.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, ClassVar
from weakref import ReferenceType, ref

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch.utils.hooks import RemovableHandle

from sb3_stable_ppo.guards.one_learn import OneLearn
from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.interventions.fresh import fresh_draw
from sb3_stable_ppo.interventions.triggers import Trigger
from sb3_stable_ppo.interventions.unit_graph import UnitGraph, UnitLayer, unit_graph
from sb3_stable_ppo.interventions.unit_resets import UnitResets
from sb3_stable_ppo.interventions.unit_sharing import without_shared

ON_POLICY, OFF_POLICY = 10, 1000
"""Updates from one time to the next, where the user does not say."""
WHOLE = "reset_as_a_whole"
"""In the memory: the layers of which all units were reset the last time."""


class UnitIntervention(Intervention):
    """
    Resets units of hidden layers; see :class:`~sb3_stable_ppo.interventions.unit_resets.UnitResets`. Layers of which it
    cannot tell who reads their units are left alone, and named in a warning.

    Target networks are not reset themselves: DQN and QR-DQN copy what was done at the next copy of the target, SAC, TD3
    and TQC follow at their ``tau``.

    :param when: see :class:`Intervention`
    :param verbose: SB3's verbosity
    :raises ValueError: when training starts, if there is no layer whose units can be reset, or if the policy cannot be
        made a second time
    """

    def __init__(self, when: Any = "always", verbose: int = 0) -> None:
        super().__init__(when, verbose)
        self._handles: list[RemovableHandle] = []
        self._ended: tuple[ReferenceType[BaseAlgorithm], int] | None = None
        """The model whose training ended with this callback, and its updates at that time."""

    def check(self) -> None:
        policy = self.model.policy
        self.graph = self._readable(without_shared(policy, unit_graph(policy, self.learners)))
        if not self.graph.layers:
            told = "; ".join(f"{path} {reason}" for path, reason in self.graph.left_alone.items())
            raise ValueError(
                f"{type(self).__name__} resets units of hidden layers, and {type(self.model.policy).__name__} has none "
                f"that it can reset{': ' + told if told else ''}. Give the network hidden layers (net_arch), or leave "
                f"{type(self).__name__} out."
            )
        fresh_draw(self.model, 0)

    def _readable(self, graph: UnitGraph) -> UnitGraph:
        """The layers that can be judged too."""
        return graph

    def begin(self) -> None:
        self.listen([])
        self.run = OneLearn(self.model)
        self.resets = UnitResets(self.learners)
        if self.graph.left_alone:
            told = "; ".join(f"{path} {reason}" for path, reason in self.graph.left_alone.items())
            warnings.warn(f"{type(self).__name__} leaves some layers alone: {told}.", stacklevel=2)

    @property
    def goes_on(self) -> bool:
        """Whether this callback has seen the model's last update, so that what it gathered is still of use."""
        return self._ended is not None and (self._ended[0](), self._ended[1]) == (self.model, self.model._n_updates)

    def listen(self, handles: Iterable[RemovableHandle]) -> None:
        """
        Keep hooks until the next rollout starts, which may come without an update: off-policy, before
        ``learning_starts``. What hangs on them looks at ``self.run``, as a run that breaks off leaves them there.

        :param handles: of the hooks, in place of those before
        """
        for handle in self._handles:
            handle.remove()
        self._handles = list(handles)

    def _on_rollout_start(self) -> None:
        self.listen([])
        super()._on_rollout_start()

    def _on_training_end(self) -> None:
        self.listen([])
        super()._on_training_end()
        self._ended = ref(self.model), self.model._n_updates

    def count(self, layer: UnitLayer, units: th.Tensor) -> None:
        """For the log."""
        counts = self.memory.setdefault("units", {})
        counts[layer.path] = counts.get(layer.path, 0) + len(units)

    def figures(self) -> dict[str, float]:
        counts: dict[str, int] = self.memory.get("units", {})
        return {"units": float(sum(counts.values())), **{f"units.{path}": float(n) for path, n in counts.items()}}


def shares(values: th.Tensor, least: float) -> th.Tensor:
    """
    >>> shares(th.tensor([1.0, 3.0]), least=0.0).tolist(), shares(th.tensor([1.0, 3.0]), least=98.0).tolist()
    ([0.5, 1.5], [0.009999999776482582, 0.029999999329447746])

    :param values: of the units of a layer, none below 0
    :param least: is added to their mean: a layer whose mean is far smaller has no unit that counts
    :return: each as a share of the mean; of a layer of zeros 0
    """
    return values / (values.mean() + least).clamp(min=th.finfo(values.dtype).tiny)


class ScoredReset(UnitIntervention):
    """
    Resets the units whose score is at most a threshold, each time that it acts. What falls due at the end of training
    is judged there, and reset when the run goes on: what units are judged by is then gone.

    :param threshold: of the scores, whose mean over a layer is 1
    :param when: ``{"every_updates": N}`` or ``{"on_alarm": name}``; None: every 10 updates, off-policy every 1000
    :param verbose: SB3's verbosity
    """

    kinds: ClassVar[tuple[str, ...]] = ("every_updates", "on_alarm")

    def __init__(self, threshold: float, when: Any = None, verbose: int = 0) -> None:
        super().__init__({"every_updates": ON_POLICY} if when is None else when, verbose)
        self._threshold, self._by_default = threshold, when is None

    def check(self) -> None:
        super().check()
        if self._by_default:
            is_off_policy = isinstance(self.model, OffPolicyAlgorithm)
            self.trigger = Trigger.of({"every_updates": OFF_POLICY if is_off_policy else ON_POLICY})

    def begin(self) -> None:
        super().begin()
        if self.memory.get("chosen_at") != self.model._n_updates:  # trained without it since then
            self._take_chosen()

    def can_judge(self) -> bool:
        """Whether there is what :meth:`scores` needs."""
        raise NotImplementedError

    def scores(self) -> list[tuple[UnitLayer, th.Tensor]]:
        """The layers that can be judged now, each with a score for each unit, shape (units,)."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        return "chosen" in self.memory or self.can_judge()

    def postpone(self) -> None:
        if "chosen" not in self.memory:  # rl_zoo3 tells of the end a second time
            self.memory.update(chosen=self._choose(), chosen_at=self.model._n_updates)

    def _take_chosen(self) -> dict[str, th.Tensor] | None:
        """What was chosen at the end of the last training, if anything was due there."""
        self.memory.pop("chosen_at", None)
        found: dict[str, th.Tensor] | None = self.memory.pop("chosen", None)
        return found

    def _choose(self) -> dict[str, th.Tensor]:
        """The numbers of the units to be reset, by the path of their layer; on the CPU, as a zip holds them."""
        units = {layer.path: (score <= self._threshold).nonzero().flatten().cpu() for layer, score in self.scores()}
        return {path: numbers for path, numbers in units.items() if len(numbers)}

    def act(self) -> bool:
        kept = self._take_chosen()
        chosen = self._choose() if kept is None else kept
        self.memory[WHOLE] = [
            layer.path for layer in self.graph.layers if len(chosen.get(layer.path, ())) == layer.units
        ]
        if not chosen:
            return False
        draw = self.memory["draws"] = self.memory.get("draws", 0) + 1
        fresh = fresh_draw(self.model, draw)
        for layer in self.graph.layers:
            if layer.path in chosen:
                units = chosen[layer.path].to(self.model.device)
                self.resets(layer, units, fresh)
                self.count(layer, units)
        return True
