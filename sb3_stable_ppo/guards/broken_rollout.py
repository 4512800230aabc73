"""
Why a policy has put out NaN while it acted, in words: torch names a tensor of its own, and not the cause.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.common.tensors import first_nonfinite


def why_outputs_are_not_finite(policy: BasePolicy, observations: Any, step: int) -> str:
    """
    :param policy: that has acted
    :param observations: on which it did: an array of shape (n_envs, ...), or for Dict spaces one per key
    :param step: timesteps so far
    :return: what is wrong, and what helps
    """
    told = f"The policy cannot act at step {step}: its outputs are not finite."
    weights = first_nonfinite(dict(policy.named_parameters()))
    if weights is not None:
        return f"{told} The cause is the network itself ({weights}). Load a model from before."
    fields = observations if isinstance(observations, dict) else {"observation": observations}
    largest = {name: np.abs(array.astype(float)).reshape(len(array), -1).max(axis=1) for name, array in fields.items()}
    name = max(largest, key=lambda field: largest[field].max())
    env = int(largest[name].argmax())
    return (
        f"{told} The weights are finite. The largest value they were given is {largest[name][env]:.3g}, in {name} of "
        f"env {env}. Networks compute in float32, in which the square of 1e20 is infinite. Mend the env, or clip what "
        "it gives, by gymnasium's TransformObservation."
    )
