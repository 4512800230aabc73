"""
The reset of units: they become as a new network would have them, and nobody who reads them notices them yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch as th
from torch import nn

from sb3_stable_ppo.interventions.unit_graph import Reader, UnitLayer
from sb3_stable_ppo.probes.learners import Learner

SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")
"""Mean squares of gradients, in the states of Adam and RMSprop."""
ZEROS = ("bias", "running_mean", "ra_mean", "gathered_mean")
ONES = ("weight", "scale", "running_var", "ra_var", "gathered_var")
"""What norms have for each unit: torch's, BatchRenorm's, and those of this package."""


class UnitResets:
    """
    Resets units of the layers of a policy, in place:

    - incoming weights and bias: those of a policy that has just been made;
    - outgoing weights: 0, in all layers that read the unit; if all units of the layer are reset, those of the new
      policy, since with 0 in all of them no gradient would reach the layer, and nothing that it sees the outputs;
    - norms behind the layer: gain 1, bias 0, and where there are statistics mean 0 and variance 1;
    - the optimizer's moments of all these: 0, the squared ones the median of those that stay. With 0 the first steps
      would be up to 3.16 times as long as the learning rate says, as Adam's step count, which the tensor's other units
      share, stays.

    Where no norm computes its statistics over all units of a layer, as LayerNorm and GroupNorm do, a reset changes the
    network's outputs by just what the units have contributed: a unit that is always 0 can be reset unseen.

    :param learners: the optimizers of the model
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        self._optimizers = {
            id(parameter): learner.optimizer
            for learner in learners
            for group in learner.optimizer.param_groups
            for parameter in group["params"]
        }

    def __call__(
        self,
        layer: UnitLayer,
        units: th.Tensor,
        fresh: Mapping[str, th.Tensor],
        means: Sequence[th.Tensor] | None = None,
    ) -> None:
        """
        To be called without gradients.

        :param layer: whose units they are
        :param units: their numbers
        :param fresh: weights of a new policy, by their names
        :param means: for each reader the mean of its inputs, shaped as its ``columns``. What the units have
            contributed on average is added to the reader's bias
        """
        for name, parameter in layer.module.named_parameters(recurse=False):
            parameter[units] = fresh[f"{layer.path}.{name}"][units]
            self._renew(parameter, parameter.shape, (units,))
        for norm in layer.norms:
            self._renew_norm(norm, norm.columns[units].flatten())
        for number, reader in enumerate(layer.readers):
            columns, weight = reader.columns[units].flatten(), reader.module.weight
            assert isinstance(weight, nn.Parameter)
            bias = reader.module.bias
            if means is not None and isinstance(bias, nn.Parameter):
                outgoing = weight[:, columns].reshape(len(weight), len(columns), -1).sum(dim=2)
                bias.add_(outgoing @ means[number][units].flatten())
            weight[:, columns] = fresh[f"{reader.path}.weight"][:, columns] if len(units) == layer.units else 0.0
            self._renew(weight, weight.shape, (slice(None), columns))

    def _renew_norm(self, norm: Reader, columns: th.Tensor) -> None:
        for names, value in ((ZEROS, 0.0), (ONES, 1.0)):
            for name in names:
                tensor = getattr(norm.module, name, None)
                if isinstance(tensor, th.Tensor):
                    tensor.view(-1)[columns] = value
                    self._renew(tensor, (-1,), (columns,))

    def _renew(self, parameter: th.Tensor, shape: Sequence[int], where: Any) -> None:
        """The moments of some values of a parameter; looked up, as an update that is undone replaces them."""
        optimizer = self._optimizers.get(id(parameter))
        if optimizer is None:
            return
        for name, state in optimizer.state.get(parameter, {}).items():
            if isinstance(state, th.Tensor) and state.shape == parameter.shape:
                state.view(shape)[where] = _median_of_others(state.view(shape), where) if name in SQUARES else 0.0


def _median_of_others(values: th.Tensor, where: Any) -> th.Tensor:
    others = th.ones_like(values, dtype=th.bool)
    others[where] = False
    return (values[others] if bool(others.any()) else values).median()
