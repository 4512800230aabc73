"""
Where one pass through a policy begins, for CUDA graphs: what earlier passes left on the GPU may be written over then.
"""

from __future__ import annotations

from typing import Any

import torch as th

from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.policies.actor_critic import ActorCritic


class ReplaysGraphs(ActorCritic):
    """
    Mixin for a policy whose layers ``torch.compile`` makes CUDA graphs of. Torch has to guess when a replay may write
    over what the last one returned, and does not dare to while a backward pass is outstanding, as after the minibatch
    with which ``target_kl`` ends an update. So each of SB3's methods that run the networks says it.
    """

    fast_path_config: FastPathConfig

    @property
    def replays_graphs(self) -> bool:
        """Whether layers run as CUDA graphs."""
        return self.fast_path_config.compile is not False and self.device.type == "cuda"

    def _begin_pass(self) -> None:
        if self.replays_graphs:
            th.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def forward(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``forward``, with which algorithms collect rollouts."""
        self._begin_pass()
        return super().forward(obs, *args, **kwargs)

    def evaluate_actions(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``evaluate_actions``, from which algorithms learn."""
        self._begin_pass()
        return super().evaluate_actions(obs, *args, **kwargs)

    def get_distribution(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``get_distribution``, of which ``predict`` is made."""
        self._begin_pass()
        return super().get_distribution(obs, *args, **kwargs)

    def predict_values(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``predict_values``, at the end of a rollout."""
        self._begin_pass()
        return super().predict_values(obs, *args, **kwargs)
