"""The fast path on a GPU, where CUDA graphs replay what was compiled. Skipped where there is none, as in CI."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_stable_ppo import StableCnnPolicy, StablePongPolicy, StablePPO, TorchRolloutBuffer
from sb3_stable_ppo.envs.atari import make_atari_vec_env

pytestmark = pytest.mark.skipif(not th.cuda.is_available(), reason="torch sees no GPU")
IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
COMPILED: dict[str, Any] = {"memory_format": "channels_last", "precision": "fp32", "compile": True}


def policy_with(cls: Any, **options: Any) -> Any:
    th.manual_seed(0)
    policy = cls(IMAGE, spaces.Discrete(6), lambda _: 1e-3, norm="batch", **options).cuda()
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    return policy


def images(rows: int, seed: int) -> th.Tensor:
    return th.from_numpy(np.random.default_rng(seed).integers(0, 256, (rows, *IMAGE.shape), np.uint8)).cuda()


def pong(n_envs: int = 2) -> VecEnv:
    return make_atari_vec_env("PongNoFrameskip-v4", n_envs, seed=0)


@pytest.mark.parametrize("cls", [StableCnnPolicy, StablePongPolicy])
def test_replayed_graphs_act_as_the_plain_policy_and_leave_earlier_results_alone(cls: Any) -> None:
    plain, fast = policy_with(cls), policy_with(cls, **COMPILED)
    with th.no_grad():
        kept = [fast.forward(images(8, seed), deterministic=True) for seed in range(6)]
        for seed, (_, values, log_probs) in enumerate(kept):
            expected = plain.forward(images(8, seed), deterministic=True)
            th.testing.assert_close(values, expected[1], atol=1e-3, rtol=0)
            th.testing.assert_close(log_probs, expected[2], atol=1e-3, rtol=0)


def test_gradients_are_those_of_the_plain_policy_though_a_backward_was_left_out() -> None:
    plain, fast = policy_with(StablePongPolicy), policy_with(StablePongPolicy, **COMPILED)
    actions = th.zeros(32, dtype=th.long, device="cuda")
    for seed in range(6):
        for policy in (plain, fast):
            policy.zero_grad()
            values, log_probs, _ = policy.evaluate_actions(images(32, seed), actions)
            if seed != 3:  # where target_kl ends an update
                (values.mean() + log_probs.mean()).backward()
        if seed != 3:
            for expected, found in zip(plain.parameters(), fast.parameters(), strict=True):
                similar = th.cosine_similarity(expected.grad.flatten(), found.grad.flatten(), dim=0)
                assert similar > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["StableCnnPolicy", "StablePongPolicy"])
def test_pong_trains_and_its_zip_loads_on_a_cpu(policy: str, tmp_path: Any) -> None:
    model = StablePPO(
        policy,
        pong(),
        n_steps=64,
        batch_size=32,
        target_kl=0.01,
        seed=0,
        device="cuda",
        rollout_buffer_class=TorchRolloutBuffer,
        policy_kwargs={**COMPILED, "precision": "auto", "optimizer_kwargs": {"fused": True}},
    )
    model.learn(512).save(tmp_path / "model")
    loaded = StablePPO.load(tmp_path / "model", device="cpu")
    for name, value in model.policy.state_dict().items():
        th.testing.assert_close(loaded.policy.state_dict()[name], value.cpu(), atol=0, rtol=0)
