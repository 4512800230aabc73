"""
Who tells a critic that normalises its values (``norm_value="running"``) what the returns of a rollout were.

A policy never sees them. ``StablePPO`` and its siblings tell it at the start of each ``train()``; in SB3's own
algorithms :class:`ValueNormCallback` does, at the end of each rollout.
"""

from __future__ import annotations

import warnings
from typing import ClassVar

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.policies.value_norm import NormalizedValue, move_value_norm


class NormalizesValues(OnPolicyAlgorithm):
    """Mixin: an on-policy algorithm that tells its critic the returns before each update."""

    normalizes_values: ClassVar[bool] = True

    def train(self) -> None:
        move_value_norm(self)
        super().train()


@public
class ValueNormCallback(BaseCallback):
    """
    Tells the critic of one of our policies the returns of each rollout, in the on-policy algorithms of SB3 and
    sb3-contrib. ``StablePPO`` and its siblings need no such callback, and it does nothing there.

    >>> model = PPO(StableMlpPolicy, "Pendulum-v1", policy_kwargs={"norm_value": "running"})  # doctest: +SKIP
    >>> model.learn(10_000, callback=ValueNormCallback())  # doctest: +SKIP

    Relies on SB3 to call ``_on_rollout_end`` when the returns have been computed.

    :param verbose: SB3's verbosity
    :raises ValueError: when training starts, if the policy does not normalise values
    """

    def _on_training_start(self) -> None:
        layer = getattr(self.model.policy, "value_net", None)
        if not isinstance(layer, NormalizedValue):
            raise ValueError(
                f"ValueNormCallback needs a policy that normalises values, and {type(self.model.policy).__name__} here "
                "does not: use one of ours with policy_kwargs={'norm_value': 'running'}."
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if not getattr(self.model, "normalizes_values", False):
            move_value_norm(self.model)


def warn_if_untold(layer: NormalizedValue) -> None:
    """
    To be called when an update begins.

    :param layer: the critic's last; nobody may have told it the returns, in a new model or in one that was loaded
    """
    if layer.is_told or layer.is_warned:
        return
    layer.is_warned = True
    stands = "does nothing" if int(layer.rollouts) == 0 else "stands still since the model was loaded"
    warnings.warn(
        f"norm_value='running' {stands}: nobody tells the critic the returns. Train with StablePPO, or with "
        "ValueNormCallback() in learn(), on the command line callback: sb3_stable_ppo.ValueNormCallback.",
        stacklevel=2,
    )
