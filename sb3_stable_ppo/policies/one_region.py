"""
Extractor and hidden layers of a policy of images are compiled as one region, although SB3 calls them one by one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch as th

from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.fast.execution import FastPath
from sb3_stable_ppo.fast.region import Region, Step
from sb3_stable_ppo.policies.actor_critic import ActorCritic
from sb3_stable_ppo.policies.bytes import BytesToExtractor
from sb3_stable_ppo.policies.extractors import StableMlpExtractor


class CompilesOneRegion(ActorCritic):
    """
    Mixin for a policy, in ``forward`` and ``evaluate_actions``, which run all its networks. ``get_distribution`` and
    ``predict_values`` run a part of them, each by itself. Action and value layer are left out: they compute in fp32,
    and the value layer may scale its gradient, which is a hook.
    """

    fast_path_config: FastPathConfig
    _region: Region | None = None

    def _find_region(self) -> None:
        """To be called when the networks have been built and ``compile: auto`` has its trial."""
        if not self.fast_path_config.compile or not isinstance(self, BytesToExtractor):
            return
        if hasattr(self, "lstm_output_dim"):  # an LSTM lies between extractor and hidden layers
            return
        is_upstreams = type(self).extract_features.__module__.startswith(("stable_baselines3.", "sb3_contrib."))
        if not is_upstreams or type(self.mlp_extractor) is not StableMlpExtractor:  # who knows what else is done there
            return
        pair = (self.pi_features_extractor, self.vf_features_extractor)
        extractors = list(dict.fromkeys(pair))  # one, or one each
        if not all(self.gives_bytes_to(extractor) for extractor in extractors):
            return
        steps = [Step(path, None) for extractor in extractors if (path := _path_of(extractor))]
        if len(steps) < len(extractors):
            return
        for extractor, hidden in zip(pair, (self.mlp_extractor.policy_net, self.mlp_extractor.value_net), strict=True):
            if path := _path_of(hidden):
                steps.append(Step(path, extractors.index(extractor)))
        if len(steps) > 1:
            self._region = Region(steps, self.fast_path_config)
            self._region.trial = steps[0].path.trial

    def _ahead(self, obs: Any) -> AbstractContextManager[None]:
        if self._region is None or not isinstance(obs, th.Tensor) or obs.dtype != th.uint8:
            return nullcontext()
        return self._region.ahead(obs)

    def forward(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``forward``, with which algorithms collect rollouts."""
        with self._ahead(obs):
            return super().forward(obs, *args, **kwargs)

    def evaluate_actions(self, obs: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's ``evaluate_actions``, from which algorithms learn."""
        with self._ahead(obs):
            return super().evaluate_actions(obs, *args, **kwargs)


def _path_of(module: Any) -> FastPath | None:
    """None of what is not ours, and of hidden layers where there are none."""
    return getattr(module, "_fast_path", None)
