"""
Why a policy has put out NaN while it acted, in words: torch names a tensor of its own, and not the cause.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.tensors import first_nonfinite

HUGE = 1e15
"""Beyond it, products of a few numbers overflow float32."""


def why_outputs_are_not_finite(policy: BasePolicy, observations: Any, step: int) -> str:
    """
    :param policy: that has acted
    :param observations: on which it did: an array of shape (n_envs, ...), or for Dict spaces one per key
    :param step: timesteps so far
    :return: what is wrong, and what helps
    """
    told = f"The policy cannot act at step {step}: its outputs are not finite."
    weights = dict(policy.named_parameters())
    not_numbers = {name: buffer for name, buffer in policy.named_buffers() if bool(th.isnan(buffer).any())}
    broken = first_nonfinite({**weights, **not_numbers})  # a buffer may be infinite, as a mask of -inf is
    if broken is not None:
        return f"{told} The cause is the network itself ({broken}). Load a model from before."
    fields = observations if isinstance(observations, dict) else {"observation": observations}
    largest = {name: np.abs(array.astype(float)).reshape(len(array), -1).max(axis=1) for name, array in fields.items()}
    name = max(largest, key=lambda field: largest[field].max())
    env = int(largest[name].argmax())
    given = f"The largest value they were given is {largest[name][env]:.3g}, in {name} of env {env}."
    if largest[name][env] > HUGE:
        return (
            f"{told} The weights are finite. {given} Networks compute in float32, in which the square of 1e20 is "
            "infinite. Mend the env, or clip what it gives, by gymnasium's TransformObservation."
        )
    size = {name: float(weight.detach().abs().max()) for name, weight in weights.items() if weight.numel()}
    heaviest = max(size, key=lambda weight: size[weight])
    if size[heaviest] > HUGE:
        return (
            f"{told} The weights are finite, but so large that what is computed with them is not: {heaviest} reaches "
            f"{size[heaviest]:.3g}. Load a model from before, and lower the learning rate."
        )
    return (
        f"{told} The weights are finite, and reach {size[heaviest]:.3g} in {heaviest}. {given} So it is a step within "
        "the network: look for a division by zero, or the logarithm or square root of zero, in a layer of your own."
    )
