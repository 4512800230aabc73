"""
Concatenated ReLU: an activation with two outputs for each unit.
"""

from __future__ import annotations

from typing import ClassVar

import torch as th
from torch import nn

from sb3_stable_ppo.fast.numpy_activations import ConcatenatedReLU
from sb3_stable_ppo.fast.numpy_forms import NumpyLayer


class CReLU(nn.Module):
    """
    ``[relu(x), relu(-x)]`` (Shang et al., 2016, https://arxiv.org/abs/1603.05201): twice as many channels or features
    as go in. Unit ``i`` of ``n`` has the outputs ``i`` and ``n + i``. Its input has shape (batch, units, ...).

    A unit passes a gradient whatever its sign, so it cannot die as a ReLU unit does; it is linear where its sign never
    changes. In value-based RL it keeps plasticity (Abbas et al., 2023, https://arxiv.org/abs/2303.07507); PPO loses
    plasticity with it too (TRAC, https://arxiv.org/abs/2405.16642). The output has the norm of the input.
    """

    outputs_per_unit: ClassVar[int] = 2
    """The probes look for this name, so that they read units and not halves of them."""

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        return nn.functional.relu(th.cat((inputs, -inputs), dim=1))

    def numpy_layer(self) -> NumpyLayer:
        """The same in NumPy, for ``lean``."""
        return ConcatenatedReLU()
