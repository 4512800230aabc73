"""Small policies whose networks NumPy can run, and the same ones as torch runs them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_stable_ppo import (
    StableMlpPolicy,
    StableMultiInputPolicy,
)
from sb3_stable_ppo.policies.lean import LeanActor

VECTOR = spaces.Box(-1, 1, (4,))
ACTIONS: dict[str, spaces.Space[Any]] = {
    "Discrete": spaces.Discrete(5),
    "Box": spaces.Box(-1, 1, (3,)),
    "Box of a matrix": spaces.Box(-1, 1, (2, 3)),
    "MultiDiscrete": spaces.MultiDiscrete([2, 5, 3]),
    "MultiBinary": spaces.MultiBinary(4),
}
OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "Box": VECTOR,
    "Box of a matrix": spaces.Box(-1, 1, (3, 2)),
    "Box of doubles": spaces.Box(-1, 1, (4,), np.float64),
    "Discrete": spaces.Discrete(7),
    "MultiDiscrete": spaces.MultiDiscrete([3, 4]),
    "MultiBinary": spaces.MultiBinary(6),
    "Dict": spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "gear": spaces.Discrete(3)}),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"norm": "batch"},
    {"norm": "none", "activation": "tanh", "net_arch": [32]},
    {"activation": "elu", "norm_position": "after"},
    {"activation": "silu", "net_arch": {"pi": [16, 8, 4], "vf": []}},
    {"activation": "relu", "norm_input": "running", "norm_value": "running"},
    {"norm_input": "running", "share_features_extractor": False},
    {"norm_statistics": "batch", "norm": "batch"},
    {"activation": "crelu"},
    {"activation": "crelu", "norm": "batch", "net_arch": {"pi": [16, 8], "vf": [8]}},
    {"activation": "crelu", "norm": "none", "net_arch": {"pi": [], "vf": [8]}},
]


def policy_of(
    observations: spaces.Space[Any] = VECTOR, actions: spaces.Space[Any] = ACTIONS["Discrete"], **options: Any
) -> Any:
    """One whose outputs differ from row to row, past its first rollout."""
    cls = StableMultiInputPolicy if isinstance(observations, spaces.Dict) else StableMlpPolicy
    th.manual_seed(0)
    policy = cls(observations, actions, lambda _: 1e-3, **options)
    return grown(policy)


def grown(policy: Any) -> Any:
    """Weights, biases and statistics away from where they are born."""
    generator = th.Generator().manual_seed(1)
    with th.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * th.randn(parameter.shape, generator=generator))
        for name, buffer in policy.named_buffers():
            if name.endswith(("running_mean", "return_mean")):
                buffer.copy_(th.randn(buffer.shape, generator=generator))
            elif name.endswith(("running_var", "return_var")):
                buffer.copy_(th.rand(buffer.shape, generator=generator) + 0.5)
    policy._has_acted = True
    policy.set_training_mode(True)  # an update has begun, so the statistics stand
    policy.set_training_mode(False)
    return policy


def rows_of(policy: Any, count: int = 6) -> Any:
    """Observations as tensors, as the policy gets them."""
    space = policy.observation_space
    space.seed(3)
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return policy.obs_to_tensor({key: np.stack([sample[key] for sample in samples]) for key in space.spaces})[0]
    return policy.obs_to_tensor(np.stack(samples))[0]


def acted(policy: Any, obs: Any, seed: int = 7, **options: Any) -> tuple[th.Tensor, ...]:
    th.manual_seed(seed)
    with th.no_grad():
        actions, values, log_prob = policy(obs, **options)
    return actions, values, log_prob


def plain_of(policy: Any) -> Any:
    """The same policy as torch computes it."""
    found = copy.deepcopy(policy)
    found._lean_actor = None
    return found


def spied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each call, whether NumPy acted."""
    seen: list[bool] = []
    before: Callable[..., bool] = LeanActor.is_ready_for

    def look(self: LeanActor, obs: Any, learning: bool = False) -> bool:
        seen.append(before(self, obs, learning))
        return seen[-1]

    monkeypatch.setattr(LeanActor, "is_ready_for", look)
    return seen


def assert_acts_alike(policy: Any, obs: Any, **options: Any) -> None:
    plain = plain_of(policy)
    for deterministic in (False, True):
        theirs, ours = (acted(one, obs, deterministic=deterministic, **options) for one in (plain, policy))
        for a, b in zip(theirs, ours, strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            th.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        with th.no_grad():
            th.manual_seed(7)
            expected = plain._predict(obs, deterministic=deterministic, **options)
            th.manual_seed(7)
            found = policy._predict(obs, deterministic=deterministic, **options)
        assert expected.dtype == found.dtype
        th.testing.assert_close(expected, found.reshape(expected.shape), rtol=1e-4, atol=1e-5)
