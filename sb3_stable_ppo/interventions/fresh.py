"""
Weights of a network that has just been made: what a policy's own constructor draws, whatever its init is.
"""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_stable_ppo.common.errors import one_line


def fresh_weights(policy: Any, seed: int) -> dict[str, th.Tensor]:
    """
    The weights of a second policy with the same arguments, by their names. No random state but its own is moved.

    Relies on SB3's ``_get_constructor_parameters``, with which a policy is saved.

    :param policy: any of SB3
    :param seed: of the draw
    :raises ValueError: if the policy does not tell its arguments, so that the second one is another
    """
    name = type(policy).__name__
    with th.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        th.manual_seed(seed)
        try:
            second = type(policy)(**policy._get_constructor_parameters())
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
