"""The guards amid what users do: callbacks that save and copy, Ctrl-C, new runs, bugs."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch.distributions import Bernoulli, Categorical

from helpers.envs import make_cartpole
from helpers.guard_callback import When
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, StablePPO, StableRecurrentPPO
from sb3_stable_ppo.metrics.kl import mean_kl

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}


def weights(model: Any) -> dict[str, th.Tensor]:
    """A copy."""
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def test_a_callback_may_save_the_normaliser_in_the_middle_of_a_rollout(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", VecNormalize(make_cartpole()), **SMALL)
    model.learn(128, callback=CheckpointCallback(25, str(tmp_path), save_vecnormalize=True))
    loaded = VecNormalize.load(str(next(tmp_path.glob("*vecnormalize*.pkl"))), make_cartpole())
    assert loaded.obs_rms.count > 1  # type: ignore[union-attr]


def test_a_copy_made_in_the_middle_of_a_rollout_trains_on_its_own_data() -> None:
    copies: list[Any] = []
    StablePPO("MlpPolicy", make_cartpole(), **SMALL).learn(
        128, callback=When(90, lambda model: copies.append(copy.deepcopy(model)))
    )
    (twin,) = copies
    before = weights(twin)
    twin.learn(64)
    assert twin.rollout_buffer.advantages.std() > 0
    assert any(not th.equal(before[name], value) for name, value in twin.policy.state_dict().items())


def test_the_kl_of_confident_policies_is_finite_and_small() -> None:
    logits = th.full((1, 1), 16.0, dtype=th.float32)
    assert 0 <= mean_kl([Bernoulli(logits=logits)], [Bernoulli(logits=logits + 2)]) < 1e-6
    far = th.tensor([[0.0, -102.0]])
    assert mean_kl([Categorical(logits=far)], [Categorical(logits=far - th.tensor([[0.0, 3.0]]))]) < 1e-40
    masked = th.tensor([[0.0, 1.0, -1e8]])
    assert mean_kl([Categorical(logits=masked)], [Categorical(logits=masked)]) == 0.0
    p, q = Categorical(logits=th.tensor([[0.0, 1.0]])), Categorical(logits=th.tensor([[1.0, -1.0]]))
    assert mean_kl([p], [q]) == pytest.approx(float(th.distributions.kl_divergence(p, q)), rel=1e-5)


class WithMask(FlattenExtractor):
    """An attention mask: not finite, and meant to be so."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.register_buffer("mask", th.full((4, 4), -th.inf).triu(1))


def test_a_buffer_that_is_meant_to_be_infinite_is_no_collapse() -> None:
    model = StablePPO(
        "MlpPolicy", make_cartpole(), policy_kwargs={"features_extractor_class": WithMask}, **SMALL
    ).learn(64)
    assert model._undone_updates == 0


def test_an_update_that_was_dropped_is_not_counted_as_one_in_the_log() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_kl": 1e-9, "max_retries": 0}, **SMALL)
    with pytest.warns(UserWarning, match="was undone"):
        model.learn(64)
    assert model.logger.name_to_value["train/n_updates"] == model._n_updates == 0


def test_a_new_run_of_a_model_that_came_to_nothing_has_all_its_tries_again() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_retries": 0, "max_consecutive_skips": 2}, **SMALL)
    handle = model.policy.value_net.weight.register_hook(lambda gradient: gradient * np.nan)
    with pytest.warns(UserWarning, match="gradient of"), pytest.raises(CollapseError, match="Lower the learning rate"):
        model.learn(640)
    handle.remove()
    once = model.policy.value_net.weight.register_hook(lambda gradient: gradient * np.nan)
    model.learn(192, callback=When(66, lambda _: once.remove()))
    assert model.num_timesteps == 192


def test_without_guards_at_load_the_learning_rate_is_the_users(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_kl": 1e-9, "max_retries": 1}, **SMALL)
    with pytest.warns(UserWarning, match="was undone"):
        model.learn(64)
    assert model._lr_scale < 1
    model.save(tmp_path / "model")
    for guards in (None, {"undo": False}):
        loaded = StablePPO.load(tmp_path / "model", env=make_cartpole(), guards=guards).learn(64)
        assert loaded.policy.optimizer.param_groups[0]["lr"] == 3e-4


def test_padding_of_a_recurrent_rollout_counts_for_nothing() -> None:
    """sb3-contrib pads sequences with zeros; their log-ratios are no one's."""
    model = StableRecurrentPPO("MlpLstmPolicy", make_cartpole(), **SMALL).learn(192)
    assert model.logger.name_to_value["norm/first_ratio_error"] < 1e-4


def test_a_bad_gradient_is_named_where_it_arose_not_where_clipping_spread_it() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), guards={"max_consecutive_skips": 1}, **SMALL)
    model.policy.value_net.weight.register_hook(lambda gradient: gradient * np.nan)
    with (
        pytest.warns(UserWarning, match="gradient of value_net.weight: 64 of 64"),
        pytest.raises(CollapseError, match=r"gradient of value_net\.weight"),
    ):
        model.learn(64)


@pytest.mark.parametrize("error", [ValueError("a bug of the user's"), KeyboardInterrupt()])
def test_an_interrupt_or_a_bug_in_an_update_leaves_the_weights_from_before_it(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), **SMALL)
    before, evaluate, calls = weights(model), model.policy.evaluate_actions, []

    def failing(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise error
        return evaluate(*args)

    monkeypatch.setattr(model.policy, "evaluate_actions", failing)
    with pytest.raises(type(error)):
        model.learn(64)
    assert len(calls) == 5
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())
    assert model._undone_updates == 0


@pytest.mark.parametrize(
    ("guards", "complaint"),
    [
        ({"max_retries": float("inf")}, "max_retries must be a whole number of at least 0, not inf"),
        ({"probe_rows": 2.7}, "probe_rows must be a whole number of at least 2, not 2.7"),
        ({"undo": "false"}, "undo must be true or false, not 'false'"),
        ({"straight_through": None}, "straight_through must be true or false, not None"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(guards: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StablePPO("MlpPolicy", "CartPole-v1", guards=guards)


def test_a_log_folder_that_cannot_be_written_does_not_hide_the_collapse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    from sb3_stable_ppo.guards.reading import dump_minibatch

    assert "could not be kept" in dump_minibatch((th.zeros(2),), tmp_path / "file")


def test_a_model_that_has_trained_can_be_pickled_with_its_env_and_goes_on() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0).learn(32)
    copied = pickle.loads(pickle.dumps(model))
    assert_same_weights(model, copied)
    copied.learn(32, reset_num_timesteps=False)
    assert copied.num_timesteps == 64


def test_a_policy_that_the_user_has_compiled_is_guarded_as_it_is() -> None:
    plain = StablePPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0).learn(64)
    compiled = StablePPO("MlpPolicy", make_cartpole(), n_steps=16, batch_size=16, seed=0)
    compiled.policy = th.compile(compiled.policy, backend="eager")
    compiled.learn(64)
    assert compiled.logger.name_to_value["guards/update_kl"] == plain.logger.name_to_value["guards/update_kl"] > 0
    for found, expected in zip(compiled.policy.parameters(), plain.policy.parameters(), strict=True):
        assert th.equal(found, expected)
