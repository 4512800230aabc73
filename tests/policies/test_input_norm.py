"""Observations normalised within the policy: the arithmetic, when it moves, and which observations it takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.weights import assert_same
from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMaskableMlpPolicy,
    StableMaskablePPO,
    StableMlpPolicy,
    StableMultiInputPolicy,
    StablePongPolicy,
    StablePPO,
    StableRecurrentMlpPolicy,
    StableRecurrentPPO,
)
from sb3_stable_ppo.policies.input_norm import CLIP, RunningInputNorm
from sb3_stable_ppo.policies.running_norm import gathering
from sb3_stable_ppo.policies.statistics import GATHER_EVERY

RUNNING: dict[str, Any] = {"norm_input": "running"}
VECTOR, ACTIONS = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
IMAGE = spaces.Box(0, 255, (3, 40, 40), np.uint8)


def model_of(algorithm: Any = StablePPO, policy: Any = StableMlpPolicy, env: Any = None, **options: Any) -> Any:
    small = {} if algorithm is A2C else {"batch_size": 8, "n_epochs": 2}
    # a copy: A2C writes its optimizer into the dict it is given
    options = {"n_steps": 16, "seed": 0, "policy_kwargs": {**RUNNING}, **small, **options}
    return algorithm(policy, make_cartpole() if env is None else env, **options)


def input_norm(policy: Any) -> RunningInputNorm:
    (found,) = {module for module in policy.modules() if isinstance(module, RunningInputNorm)}
    return found


def test_every_rollout_counts_the_same_and_the_moments_are_those_of_all_rows() -> None:
    norm = RunningInputNorm(3)
    rollouts = th.randn(4, 5, 6, 3, generator=th.Generator().manual_seed(1)) * 3 + 50
    norm.running_mean.copy_(rollouts[0].flatten(0, 1).mean(0))  # as the calibration leaves them
    norm.running_var.copy_(rollouts[0].flatten(0, 1).var(0, correction=0))
    for rollout in rollouts[1:]:
        with gathering([norm]):
            for batch in rollout:
                norm(batch)
        norm.train(True)
        norm.move()
    rows = rollouts.flatten(0, 2).double()
    th.testing.assert_close(norm.running_mean.double(), rows.mean(0), rtol=1e-6, atol=0)
    th.testing.assert_close(norm.running_var.double(), rows.var(0, correction=0), rtol=1e-4, atol=0)


def test_the_guards_may_halve_a_move_or_leave_it_out() -> None:
    for scale, expected in ((1.0, 5.0), (0.5, 2.5), (0.0, 0.0)):
        norm = RunningInputNorm(1)  # its first rollout, of the calibration, has a mean of 0
        with gathering([norm]):
            norm(th.full((4, 1), 10.0))
        norm.move(scale)
        assert float(norm.running_mean) == pytest.approx(expected)
        assert not norm.gathered_batches


def test_what_comes_out_is_normalised_and_bounded() -> None:
    norm = RunningInputNorm(2)
    norm.running_mean.copy_(th.tensor([1.0, -2.0]))
    norm.running_var.copy_(th.tensor([4.0, 0.0]))  # the second never varied
    out = norm(th.tensor([[5.0, -2.0], [1000.0, 7.0], [-1000.0, -7.0]]))
    assert out.tolist() == [[2.0, 0.0], [CLIP, CLIP], [-CLIP, -CLIP]]


@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        (PPO, StableMlpPolicy),
        (A2C, StableMlpPolicy),
        (StablePPO, StableMlpPolicy),
        (MaskablePPO, StableMaskableMlpPolicy),
        (StableMaskablePPO, StableMlpPolicy),
        (RecurrentPPO, StableRecurrentMlpPolicy),
        (StableRecurrentPPO, StableMlpPolicy),
    ],
)
def test_under_every_algorithm_the_statistics_are_those_of_what_the_policy_acted_on(
    algorithm: Any, policy: Any
) -> None:
    model = model_of(algorithm, policy)
    norm, seen = input_norm(model.policy), []
    forward = model.policy.forward

    def watched(obs: th.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(obs.clone())
        return forward(obs, *args, **kwargs)

    model.policy.forward = watched
    model.learn(2 * 32, **({"use_masking": False} if issubclass(algorithm, MaskablePPO) else {}))
    model.policy.set_training_mode(False)  # a stock algorithm leaves the last move to what acts next
    first, second = th.cat(seen[:16]), th.cat(seen[16:][::GATHER_EVERY])
    expected = (first.mean(0) + second.mean(0)) / 2
    th.testing.assert_close(norm.running_mean, expected)
    assert int(norm.rollouts) == 2


def test_a_rollout_and_its_update_see_the_same_numbers() -> None:
    model = model_of(n_steps=64, batch_size=32).learn(3 * 128)
    assert 0 <= model.logger.name_to_value["norm/first_ratio_error"] < 1e-5  # 0 where the processor rounds both alike
    assert model.logger.name_to_value["norm/commit_kl"] > 0


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("algorithm", [PPO, StablePPO])
def test_a_policy_that_was_cloned_from_data_keeps_the_numbers_it_learnt_with(algorithm: Any, trains: bool) -> None:
    model = model_of(algorithm, learning_rate=0.0)
    policy, rows = model.policy, th.randn(640, 4, generator=th.Generator().manual_seed(2)) * 3 + 50
    policy.set_training_mode(trains)
    for batch in rows.split(64):
        policy.evaluate_actions(batch, th.zeros(64))
    norm = input_norm(policy)
    th.testing.assert_close(norm.running_mean, rows.mean(0))
    th.testing.assert_close(norm.running_var, rows.var(0, correction=0))
    model.learn(32)  # one rollout of CartPole's numbers, near 0: it counts as one more batch
    policy.set_training_mode(False)  # as at the next rollout, in which stock PPO's statistics move
    assert int(norm.rollouts) == 11
    assert bool((norm.running_mean > rows.mean(0) * 0.9).all())


def test_a_loaded_model_acts_as_the_saved_one_without_a_second_file(tmp_path: Path) -> None:
    model = model_of().learn(96)
    model.save(tmp_path / "model")
    loaded = StablePPO.load(tmp_path / "model")
    assert_same(loaded.policy.state_dict(), model.policy.state_dict(), "policy")
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert np.array_equal(model.predict(rows, deterministic=True)[0], loaded.predict(rows, deterministic=True)[0])
    model.policy.save(str(tmp_path / "policy.pth"))
    alone = StableMlpPolicy.load(str(tmp_path / "policy.pth"))
    assert_same(alone.state_dict(), model.policy.state_dict(), "policy")


def test_of_a_dict_vectors_are_normalised_number_by_number_and_images_channel_by_channel() -> None:
    from stable_baselines3.common.env_util import make_vec_env

    model = model_of(PPO, StableMultiInputPolicy, make_vec_env(SceneEnv, 2, seed=0)).learn(64)
    extractors = model.policy.features_extractor.extractors
    assert isinstance(extractors["speed"][1], RunningInputNorm)
    assert extractors["speed"][1].running_var.shape == (2,)
    assert extractors["camera"].input_norm.running_var.shape == (3,)
    noise = extractors["camera"].input_norm  # uniform in [0, 1]
    th.testing.assert_close(noise.running_mean, th.full((3,), 0.5), atol=0.01, rtol=0)
    th.testing.assert_close(noise.running_var, th.full((3,), 1 / 12), atol=0.01, rtol=0)


def test_a_dark_first_scene_does_not_blow_up_the_images_that_come_later() -> None:
    policy = StablePongPolicy(IMAGE, ACTIONS, lambda _: 1e-3, **RUNNING)
    policy.set_training_mode(False)
    with th.no_grad():
        policy(th.zeros(8, 3, 40, 40, dtype=th.uint8))
        norm = input_norm(policy)
        assert norm(th.ones(1, 3, 40, 40)).amax() == pytest.approx(50, rel=1e-3)
        assert norm(th.ones(1, 3, 40, 40) / 255).amax() == pytest.approx(50 / 255, rel=1e-3)


FAST: dict[str, Any] = {"memory_format": "channels_last", "optimizer_kwargs": {"fused": True}}


def test_the_fast_path_takes_the_normalisation_into_the_first_convolution() -> None:
    model = model_of(StablePPO, StablePongPolicy, make_pong(), policy_kwargs={**RUNNING, **FAST}).learn(64)
    extractor, images = model.policy.features_extractor, th.as_tensor(model._last_obs)
    assert int(extractor.input_norm.rollouts) == 2
    with th.no_grad():
        fused, plain = extractor.run_fused_layers(images), extractor.run_layers(images)
        first = extractor.cnn.conv1(extractor.input_norm(images / 255.0))
    th.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-3)
    frames = images[:, 0].float() / 255
    expected = (frames - extractor.input_norm.running_mean[0]) / extractor.input_norm.running_var[0].sqrt()
    th.testing.assert_close(extractor.input_norm(images / 255.0)[:, 0], expected, rtol=1e-4, atol=1e-4)
    assert (first.amax((0, 2, 3)) > 0).all(), "no unit of the first convolution is dead at birth"


def test_extractors_of_their_own_for_actor_and_critic_are_both_normalised() -> None:
    model = model_of(policy_kwargs={**RUNNING, "share_features_extractor": False}).learn(64)
    actor, critic = model.policy.pi_features_extractor.norm, model.policy.vf_features_extractor.norm
    assert actor is not critic
    assert_same(actor.state_dict(), critic.state_dict(), "norm")


def test_by_default_nothing_is_normalised_and_the_extractor_is_sb3s_own() -> None:
    policy = model_of(policy_kwargs={}).policy
    assert type(policy.features_extractor) is FlattenExtractor
    assert not [name for name in policy.state_dict() if "running_mean" in name]


class Own(FlattenExtractor):
    pass


@pytest.mark.parametrize(
    ("policy", "space", "options", "complaint"),
    [
        (StableMlpPolicy, VECTOR, {"norm_input": "batch"}, "Unknown norm_input 'batch': choose one of none, running"),
        (StableMlpPolicy, spaces.Discrete(5), RUNNING, r"there is none in Discrete\(5\)\. Leave norm_input out"),
        (
            StableMlpPolicy,
            VECTOR,
            {**RUNNING, "features_extractor_class": Own},
            "our own extractors, and Own is another",
        ),
        (StableCnnPolicy, IMAGE, {"norm_input": "batch"}, "Unknown norm_input 'batch': choose one of none, running"),
        (StableMultiInputPolicy, spaces.Dict(a=spaces.Discrete(3)), RUNNING, "there is none in Dict"),
    ],
)
def test_what_cannot_be_normalised_is_one_clear_error(
    policy: Any, space: spaces.Space[Any], options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        policy(space, ACTIONS, lambda _: 1e-4, **options)


def test_a_key_that_is_no_box_comes_as_it_is() -> None:
    space = spaces.Dict(place=spaces.Discrete(3), speed=VECTOR)
    policy = StableMultiInputPolicy(space, ACTIONS, lambda _: 1e-4, **RUNNING)
    assert isinstance(policy.features_extractor.extractors["place"], nn.Flatten)
