"""
When ``compile: auto`` is tried out in the life of a policy: minibatch by minibatch, from the first update on.
"""

from __future__ import annotations

from typing import Any

from sb3_stable_ppo.fast.compile_trial import CompileTrial
from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.fast.execution import FastModule
from sb3_stable_ppo.policies.actor_critic import ActorCritic


class TriesCompiling(ActorCritic):
    """Mixin for a policy: one trial for all its networks. :meth:`_begin_trial` is called when they have been built."""

    fast_path_config: FastPathConfig
    _compile_trial: CompileTrial | None = None

    def _begin_trial(self) -> None:
        if self.fast_path_config.compile != "auto":
            return
        self._compile_trial = CompileTrial()
        for module in self.modules():
            if isinstance(module, FastModule) and module._fast_path is not None:
                module._fast_path.trial = self._compile_trial

    def evaluate_actions(self, obs: Any, actions: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``evaluate_actions``, which its algorithms call once for each minibatch."""
        if self._compile_trial is not None and self.training:
            self._compile_trial.next_minibatch(len(actions))
        return super().evaluate_actions(obs, actions, *args, **kwargs)

    def set_training_mode(self, mode: bool) -> None:
        """SB3 calls it where an update begins and where it has ended."""
        if self._compile_trial is not None:
            self._compile_trial.pause()
        super().set_training_mode(mode)
