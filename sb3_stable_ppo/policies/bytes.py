"""
Images reach the extractor as bytes, which divides them by 255 itself, in the first convolution's weights.
"""

from __future__ import annotations

from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.policies.extractors import StableCNN


class BytesToExtractor(BasePolicy):
    """
    Stands behind SB3's policy in the order of base classes. There all of its methods end that run an extractor, each
    by ``super().extract_features(obs, extractor)``: ``forward``, ``evaluate_actions``, ``get_distribution`` and
    ``predict_values``.
    """

    fast_path_config: FastPathConfig

    def extract_features(self, obs: Any, features_extractor: Any) -> Any:
        """SB3's, but on the fast path bytes come without ``preprocess_obs``, which makes them floats."""
        if isinstance(obs, th.Tensor) and obs.dtype == th.uint8 and self.gives_bytes_to(features_extractor):
            return features_extractor(obs)
        return super().extract_features(obs, features_extractor)

    def gives_bytes_to(self, features_extractor: Any) -> bool:
        """
        :param features_extractor: one of the policy's
        :return: whether it gets bytes as they are
        """
        return (
            not self.fast_path_config.is_plain
            and self.normalize_images
            and isinstance(features_extractor, StableCNN)
            and type(features_extractor).forward is StableCNN.forward  # a user's own expects floats
        )
