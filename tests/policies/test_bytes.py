"""On the fast path the extractor gets bytes, whichever of SB3's methods runs it."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMaskableCnnPolicy,
    StableMaskablePongPolicy,
    StablePongPolicy,
    StableRecurrentCnnPolicy,
    StableRecurrentPongPolicy,
)
from sb3_stable_ppo.policies.extractors import StableCNN

IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
PLAIN = [StablePongPolicy, StableCnnPolicy, StableMaskablePongPolicy, StableMaskableCnnPolicy]
RECURRENT = [StableRecurrentPongPolicy, StableRecurrentCnnPolicy]


class OwnCNN(StableCNN):
    """A user's own ``forward``, written for SB3's floats."""

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        return super().forward(inputs)


def seen_by_extractors(cls: Any, **options: Any) -> set[th.dtype]:
    """What its extractors get from all of SB3's methods that run them."""
    policy = cls(IMAGE, spaces.Discrete(3), lambda _: 1e-3, **options)
    policy.set_training_mode(False)
    seen: set[th.dtype] = set()
    for extractor in {policy.pi_features_extractor, policy.vf_features_extractor}:
        extractor.register_forward_pre_hook(lambda _, args: seen.add(args[0].dtype))
    obs, actions = th.zeros((4, *IMAGE.shape), dtype=th.uint8), th.zeros(4, dtype=th.long)
    if cls in RECURRENT:
        state = th.zeros(1, 1, policy.lstm_actor.hidden_size)
        starts = th.zeros(4)
        pair = (state, state)
        policy.get_distribution(obs, pair, starts)
        policy.predict_values(obs, pair, starts)
    else:
        policy.forward(obs)
        policy.evaluate_actions(obs, actions)
        policy.get_distribution(obs)
        policy.predict_values(obs)
    return seen


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("cls", PLAIN)
def test_bytes_arrive_as_bytes(cls: Any, share: bool) -> None:
    options = {"memory_format": "channels_last", "share_features_extractor": share}
    assert seen_by_extractors(cls, **options) == {th.uint8}


@pytest.mark.parametrize("cls", RECURRENT)
def test_bytes_arrive_as_bytes_before_an_lstm(cls: Any) -> None:
    assert seen_by_extractors(cls, memory_format="channels_last") == {th.uint8}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"memory_format": "channels_last", "features_extractor_class": OwnCNN},
    ],
)
def test_floats_arrive_off_the_fast_path_and_at_an_extractor_of_the_users_own(options: dict[str, Any]) -> None:
    assert seen_by_extractors(StablePongPolicy, **options) == {th.float32}


def test_predict_acts_in_bfloat16_on_exact_bytes_as_forward_does() -> None:
    policy = StablePongPolicy(IMAGE, spaces.Discrete(3), lambda _: 1e-3, precision="bf16", norm="layer")
    policy._is_checked = True  # bfloat16 is emulated where the processor has none
    policy.set_training_mode(False)
    obs = th.from_numpy(np.random.default_rng(0).integers(0, 256, (8, *IMAGE.shape), np.uint8))
    with th.no_grad():
        _, values, _ = policy.forward(obs)
        assert th.equal(policy.predict_values(obs), values)


@pytest.mark.parametrize(
    "options", [{"memory_format": "channels_last"}, {"norm_input": "running", "precision": "auto"}]
)
def test_an_image_in_floats_is_divided_by_255_as_bytes_are(options: dict[str, Any]) -> None:
    policy = StablePongPolicy(IMAGE, spaces.Discrete(3), lambda _: 1e-3, **options)
    policy.set_training_mode(False)
    obs = th.from_numpy(np.random.default_rng(0).integers(0, 256, (8, *IMAGE.shape), np.uint8))
    with th.no_grad():
        policy(obs)  # which calibrates norm_input
        found, expected = policy.predict_values(obs.float()), policy.predict_values(obs)
    th.testing.assert_close(found, expected, atol=2e-2 if "precision" in options else 1e-5, rtol=0)
