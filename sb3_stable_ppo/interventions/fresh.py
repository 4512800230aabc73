"""
Weights of a network that has just been made: what a policy's own constructor draws, whatever its init is.
"""

from __future__ import annotations

import os
from typing import Any

import torch as th

from sb3_stable_ppo.common.errors import one_line
from sb3_stable_ppo.interventions.memory import memory_of


def fresh_draw(model: Any, number_of_draw: int) -> dict[str, th.Tensor]:
    """
    Weights of a new policy, by the seed of the run and the number of the draw, so that a run that is resumed draws what
    it would have. A run without a seed has one for this alone.

    :param model: any
    :param number_of_draw: each has other weights
    :raises ValueError: if the policy cannot be made a second time
    """
    seed = model.seed
    if seed is None:
        seed = memory_of(model, "fresh_weights").setdefault("seed", int.from_bytes(os.urandom(4), "little"))
    return fresh_weights(model, hash((seed, number_of_draw)) % 2**31)


def fresh_weights(model: Any, seed: int) -> dict[str, th.Tensor]:
    """
    The weights of a second policy with the same arguments, by their names. No random state but its own is moved.

    Relies on SB3's ``_get_constructor_parameters``, with which a policy is saved; what sb3-contrib's recurrent policies
    leave out there is in the model's ``policy_kwargs``.

    :param model: any of SB3
    :param seed: of the draw
    :raises ValueError: if the policy does not tell its arguments, so that the second one is another
    """
    policy = model.policy
    name = type(policy).__name__
    devices = [policy.device] if policy.device.type == "cuda" else []
    with th.random.fork_rng(devices):
        th.default_generator.manual_seed(seed)  # th.manual_seed seeds all devices, whose state nobody puts back
        for device in devices:
            th.cuda.default_generators[device.index].manual_seed(seed)
        try:
            second = type(policy)(**{**model.policy_kwargs, **policy._get_constructor_parameters()})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} cannot be made a second time, for fresh weights: {one_line(error)}") from error
    fresh = {key: parameter.detach().to(policy.device) for key, parameter in second.named_parameters()}
    for key, parameter in policy.named_parameters():
        if key not in fresh or fresh[key].shape != parameter.shape:
            raise ValueError(
                f"{name} cannot be made a second time, for fresh weights: the second one has another {key}. Let its "
                "_get_constructor_parameters tell all arguments of its constructor."
            )
    return fresh
