"""
BatchNorm's running statistics move after an update: how far that moves the policy, bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch as th

from sb3_stable_ppo.common.tensors import copied

HALVINGS = 5


def move_statistics(policy: Any, kl_now: Callable[[], float], max_kl: float) -> float | None:
    """
    Move the statistics of a policy whose update has been accepted (``StablePolicyMixin.move_statistics``). Where that
    would move the policy further than ``max_kl``, they move half as far, or half of that, and so on.

    :param policy: any; others than ours have no statistics to move
    :param kl_now: the KL from the policy before the move to the one now, on some observations
    :param max_kl: the bound
    :return: the KL of the move; 0 if even the smallest was too large and none was made; None if none was due
    """
    if not getattr(policy, "statistics_are_due", False):
        return None
    norms = policy.running_norms
    before = [copied(dict(norm.named_buffers())) for norm in norms]
    for halvings in range(HALVINGS + 1):
        policy.move_statistics(0.5**halvings)
        kl = kl_now()
        if kl <= max_kl:
            return kl
        with th.no_grad():
            for norm, buffers in zip(norms, before, strict=True):
                for name, buffer in norm.named_buffers():
                    buffer.copy_(buffers[name])
    policy.move_statistics(0.0)
    return 0.0
