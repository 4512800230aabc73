"""ContinualBackprop: the least useful units are replaced, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch as th
from torch import nn

from sb3_stable_ppo.common.checks import number, whole_number
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.interventions.fresh import fresh_draw
from sb3_stable_ppo.interventions.hooks import Hook
from sb3_stable_ppo.interventions.unit_graph import UnitLayer
from sb3_stable_ppo.interventions.unit_space import UnitIntervention
from sb3_stable_ppo.probes.learners import Learner

KEPT_DRAWS = 2
"""Networks to take new units from; units are rarely replaced a second time before all were a first time."""


@public
class ContinualBackprop(UnitIntervention):
    """
    Replaces the least useful units, behind each step of the optimizer, so that there are always some that are young
    (https://www.nature.com/articles/s41586-024-07711-7).

    A unit's utility is a running mean of ``mean|h| * mean|w_out|``: how active it is on the minibatches, times how much
    is made of it. Each step adds ``replacement_rate`` of the mature units of a layer to what is due, and whole units of
    it are replaced, those of the least utility: incoming weights are drawn as the policy's constructor draws them, what
    the unit contributed on average goes into the biases behind it, and its outgoing weights are set to 0. Until it is
    mature again it is not replaced.

    The paper trained MLPs with ReLU, and with Adam's betas at ``(0.99, 0.99)``, which may be half of its effect. Layers
    are listened to in updates, which then run without compiled or NumPy code. Target networks follow: DQN's at its next
    copy, those of SAC and TD3 at ``tau``.

    :param replacement_rate: share of a layer's mature units, at each step; from 0 (never) to 1
    :param maturity: steps of the optimizer before a unit can be replaced; the paper has 10,000 for PPO on MuJoCo, and
        1000 for convolutions with a rate of 1e-5
    :param decay: of the running means; from 0 to 1
    :param verbose: SB3's verbosity
    :raises ValueError: for a number out of range; when training starts, if there is no layer whose units can be reset
    """

    kinds: ClassVar[tuple[str, ...]] = ("always",)

    def __init__(
        self, replacement_rate: float = 1e-4, maturity: int = 10_000, decay: float = 0.99, verbose: int = 0
    ) -> None:
        super().__init__("always", verbose)
        self.replacement_rate = number(replacement_rate, "replacement_rate", high=1.0)
        self.maturity = whole_number(maturity, "maturity")
        self.decay = number(decay, "decay", high=0.999999)

    def begin(self) -> None:
        super().begin()
        self._layers = {
            learner.name: [
                layer for layer in self.graph.layers if any(layer.module is weight.module for weight in learner.weights)
            ]
            for learner in self.learners
        }
        self._inputs: dict[str, dict[int, tuple[th.Tensor, th.Tensor]]] = {}
        """Of each layer and each of its readers, the means of the inputs, and of each unit's absolute values."""
        self._sorters = {layer.path: [_sorter(each.columns) for each in layer.readers] for layer in self.graph.layers}
        self._draws: dict[int, dict[str, th.Tensor]] = {}

    def before_update(self) -> None:
        if self.replacement_rate:
            self.listen(
                reader.module.register_forward_pre_hook(Hook(self._listener(layer, index)))
                for layer in self.graph.layers
                for index, reader in enumerate(layer.readers)
            )

    def _listener(self, layer: UnitLayer, index: int) -> Callable[[nn.Module, Any], None]:
        by_unit = self._sorters[layer.path][index]

        def look(module: nn.Module, args: Any) -> None:
            if self.run.is_over():
                self.listen([])
            elif th.is_grad_enabled():  # guards, targets and probes run the networks without
                inputs = args[0].detach()
                axis = inputs.dim() - 1 if isinstance(module, nn.Linear) else 1
                others = [dim for dim in range(inputs.dim()) if dim != axis]
                sums = th.linalg.vector_norm(inputs, 1, dim=others, dtype=th.float32)  # they may be bfloat16
                sizes = sums * (inputs.shape[axis] / inputs.numel())
                means = by_unit(inputs.mean(dim=others, dtype=th.float32)), by_unit(sizes).mean(dim=1)
                self._inputs.setdefault(layer.path, {})[index] = means

        return look

    def after_step(self, learner: Learner) -> None:
        for layer in self._layers[learner.name]:
            seen = self._inputs.pop(layer.path, {})
            if len(seen) == len(layer.readers) and _has_gradients(layer):
                self._take(layer, seen)

    def after_update(self) -> None:
        for kept in self.memory.get("layers", {}).values():
            _move(kept, "cpu")  # a zip that is saved on a GPU can then be loaded without one

    def _remembered(self, layer: UnitLayer) -> dict[str, Any]:
        layers: dict[str, dict[str, Any]] = self.memory.setdefault("layers", {})
        weight = layer.module.weight
        if layer.path not in layers:
            layers[layer.path] = {
                "utility": weight.new_zeros(layer.units),
                "means": [weight.new_zeros(reader.columns.shape) for reader in layer.readers],
                "age": th.zeros(layer.units, dtype=th.long),  # on the CPU: whether one is due must be known each step
                "replaced": th.zeros(layer.units, dtype=th.long),
                "due": 0.0,
            }
        _move(layers[layer.path], weight.device)
        return layers[layer.path]

    def _take(self, layer: UnitLayer, seen: dict[int, tuple[th.Tensor, th.Tensor]]) -> None:
        """One step of a layer's running means; then those units are replaced that are due."""
        kept = self._remembered(layer)
        kept["age"] += 1
        kept["utility"].lerp_(seen[0][1] * _outgoing(layer, self._sorters[layer.path]), 1 - self.decay)
        for index, running in enumerate(kept["means"]):
            running.lerp_(seen[index][0], 1 - self.decay)
        mature = kept["age"] > self.maturity
        kept["due"] += self.replacement_rate * int(mature.sum())
        number_due = min(int(kept["due"]), int(mature.sum()))
        if number_due:
            kept["due"] -= number_due
            self._replace(layer, kept, mature, number_due)

    def _replace(self, layer: UnitLayer, kept: dict[str, Any], mature: th.Tensor, how_many: int) -> None:
        correction = (1 - self.decay ** kept["age"].double()).to(kept["utility"])  # the running means began at 0
        utility = (kept["utility"] / correction).cpu().masked_fill(~mature, th.inf)
        units = utility.argsort(stable=True)[:how_many]
        means = [running / correction[:, None] for running in kept["means"]]
        for count in kept["replaced"][units].unique().tolist():
            alike = units[kept["replaced"][units] == count]
            self.resets(layer, alike.to(correction.device), self._draw(count), means)
        kept["replaced"][units] += 1
        kept["age"][units] = 0
        for running in (kept["utility"], *kept["means"]):
            running[units.to(running.device)] = 0.0
        self.count(layer, units)

    def _draw(self, times: int) -> dict[str, th.Tensor]:
        """The new network that units take their weights from when they are replaced for the n-th time."""
        if times not in self._draws:
            while len(self._draws) >= KEPT_DRAWS:
                del self._draws[next(iter(self._draws))]
            self._draws[times] = fresh_draw(self.model, times + 1)
        return self._draws[times]


def _move(kept: dict[str, Any], device: th.device | str) -> None:
    """The running means, to where they are needed."""
    kept["utility"], kept["means"] = kept["utility"].to(device), [running.to(device) for running in kept["means"]]


def _has_gradients(layer: UnitLayer) -> bool:
    """Whether the step has moved all that a replacement would: guards may have skipped it."""
    return all(module.weight.grad is not None for module in (layer.module, *(each.module for each in layer.readers)))


def _sorter(columns: th.Tensor) -> Callable[[th.Tensor], th.Tensor]:
    """
    What takes values of a reader's inputs to those of each unit, shape (units, inputs of a unit): without copying them,
    where they are in order.

    :param columns: of the reader
    """
    first, size = int(columns[0, 0]), columns.numel()
    if columns.flatten().tolist() == list(range(first, first + size)):
        return lambda values: values[first : first + size].view(columns.shape)
    return lambda values: values[columns]


def _outgoing(layer: UnitLayer, sorters: list[Callable[[th.Tensor], th.Tensor]]) -> th.Tensor:
    """The mean absolute weight that each unit has in all its readers."""
    sums, count = [], 0
    for reader, by_unit in zip(layer.readers, sorters, strict=True):
        weight: Any = reader.module.weight
        others = [dim for dim in range(weight.dim()) if dim != 1]
        sums.append(by_unit(th.linalg.vector_norm(weight.detach(), 1, dim=others)).sum(dim=1))
        count += weight.numel() // weight.shape[1] * reader.columns.shape[1]
    return th.stack(sums).sum(dim=0) / count
