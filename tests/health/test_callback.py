"""What HealthCallback measures and writes, and that training stays as it was."""

import math
from pathlib import Path
from typing import Any

import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize

from helpers.envs import SceneEnv, make_cartpole
from helpers.health import SMALL, cartpole_model, lines_of, pong_model
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, HealthCallback, StableMultiInputPolicy, StablePPO

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_there_is_a_line_per_rollout_with_the_figures_of_each_layer(algorithm: Any, tmp_path: Path) -> None:
    options = {"n_steps": 32, "seed": 0} if algorithm is A2C else SMALL
    algorithm("MlpPolicy", make_cartpole(), **options).learn(128, callback=HealthCallback(folder=tmp_path))
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [64, 128]
    figures = {"units", "live", "dormant_fraction", "fault", "fault_fraction", "sparsity", "norm"}
    assert lines[0]["layers"]["pi.fc1"].keys() == figures | {"srank"}  # the first measurement is thorough
    assert lines[1]["layers"]["pi.fc1"].keys() == figures
    assert lines[0]["layers"]["pi.fc2"]["srank"] == lines[0]["features"]["srank"]
    assert lines[0]["layers"]["vf.fc2"]["units"] == 64
    assert lines[0]["layers"]["vf.fc2"]["fault"] == "saturated"
    assert lines[0]["features"]["layer"] == "pi.fc2"
    assert 0 < lines[0]["policy"]["entropy_share"] <= 1
    assert lines[0]["nonfinite"] is None


def test_a_thorough_line_has_ranks_update_weights_and_gradients(tmp_path: Path) -> None:
    model = pong_model()
    before = {name: value.clone() for name, value in model.policy.named_parameters()}
    model.learn(64, callback=HealthCallback(folder=tmp_path, budget=None))
    (line,) = lines_of(tmp_path)
    assert line["features"]["layer"] == "pi.fc1"
    assert 2 < line["features"]["srank"] <= line["features"]["rows"] == 64
    assert line["update"]["kl"] == pytest.approx(line["train"]["kl"], rel=0.05)  # 64 rows are the whole rollout
    assert line["update"]["ratio_excess"] >= 1.1 / 0.9 or line["train"]["clip_fraction"] == 0
    assert line["gradients"].keys() == line["layers"].keys()
    assert all(layer["gradient_norm"] > 0 for layer in line["gradients"].values())
    moved = math.sqrt(sum(float((p - before[n]).square().sum()) for n, p in model.policy.named_parameters()))
    assert line["weights"]["distance_from_start"] == pytest.approx(moved, rel=1e-4)
    assert line["weights"]["update_ratio"] == pytest.approx(
        moved / math.sqrt(sum(float(value.square().sum()) for value in before.values())), rel=1e-4
    )
    assert set(line["norms"]) == {f"features_extractor.cnn.norm{number}" for number in (1, 2, 3)}


def test_units_that_were_killed_are_counted(tmp_path: Path) -> None:
    model = pong_model()
    model.policy.features_extractor.cnn.conv1.bias.data[:7] = -1e3
    model.learn(64, callback=HealthCallback(folder=tmp_path))
    conv1 = lines_of(tmp_path)[0]["layers"]["conv1"]
    alive = pong_model()
    alive.learn(64, callback=HealthCallback(folder=tmp_path / "alive"))
    before = lines_of(tmp_path / "alive")[0]["layers"]["conv1"]
    assert conv1["units"] == 32
    assert before["live"] - 7 <= conv1["live"] <= 25
    assert conv1["fault"] == "linear"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DQN", "SAC", "TD3", "QRDQN", "TQC"])
def test_off_policy_networks_are_read_every_so_many_steps(name: str, tmp_path: Path) -> None:
    cls = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    env = "CartPole-v1" if "DQN" in name else "Pendulum-v1"
    model = cls("MlpPolicy", env, learning_starts=50, seed=0, policy_kwargs={"net_arch": [16, 16]})
    model.learn(250, callback=HealthCallback(folder=tmp_path, every=100))
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [100, 200]
    assert all(line["layers"] and line["policy"] for line in lines)
    assert lines[0]["features"]["srank"] > 0, "the first measurement is thorough"


@pytest.mark.parametrize("n_envs", [1, 2])
def test_before_there_is_anything_in_the_replay_buffer_no_measurement_is_due(n_envs: int, tmp_path: Path) -> None:
    model = stable_baselines3.DQN("MlpPolicy", make_cartpole(n_envs), learning_starts=10, buffer_size=100)
    model.learn(4 * n_envs, callback=HealthCallback(folder=tmp_path, every=1))
    assert [line["step"] for line in lines_of(tmp_path)] == [2 * n_envs, 3 * n_envs, 4 * n_envs]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PPO", "A2C", "TRPO", "MaskablePPO", "RecurrentPPO", "DQN", "SAC", "TD3"])
def test_a_run_with_health_ends_in_the_very_weights_of_a_run_without(name: str, tmp_path: Path) -> None:
    cls = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)

    def trained(callback: Any) -> Any:
        policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
        if name in ("DQN", "SAC", "TD3"):
            env = "CartPole-v1" if name == "DQN" else "Pendulum-v1"
            model = cls(policy, env, learning_starts=20, seed=0, policy_kwargs={"net_arch": [16]})
            return model.learn(120, callback=callback)
        options: dict[str, Any] = {"n_steps": 32} if name == "A2C" else {"n_steps": 32, "batch_size": 32}
        if name == "RecurrentPPO":
            options["policy_kwargs"] = {"lstm_hidden_size": 16}
        env = InvalidActionEnvDiscrete(4, n_invalid_actions=2) if name == "MaskablePPO" else make_cartpole()
        return cls(policy, env, seed=0, **options).learn(192, callback=callback)

    watched = trained(HealthCallback(folder=tmp_path, budget=None, every=30))
    assert len(lines_of(tmp_path)) >= 3
    without = trained(None)
    assert_same_weights(watched, without)
    with pytest.warns(UserWarning, match="HealthCallback has no folder"):
        assert_same_weights(trained(HealthCallback(budget=None, every_updates=2)), without)


@pytest.mark.parametrize("n_steps", [8, 64])  # a rollout of 8 rows is pooled with those that follow
def test_a_masked_policy_is_judged_with_the_masks_of_the_rollout(n_steps: int, tmp_path: Path) -> None:
    env = InvalidActionEnvDiscrete(dim=6, n_invalid_actions=4)
    options = {**SMALL, "n_steps": n_steps, "batch_size": n_steps}
    model = sb3_contrib.MaskablePPO("MlpPolicy", env, learning_rate=0.0, **options)
    model.learn(64, callback=HealthCallback(folder=tmp_path, budget=None))
    (line, *_) = lines_of(tmp_path)
    assert line["policy"]["entropy_share"] == pytest.approx(math.log(2) / math.log(6), abs=0.01), "2 of 6 are allowed"
    assert line["update"]["kl"] == 0


def test_dict_observations_and_several_parts_of_an_action_are_measured(tmp_path: Path) -> None:
    model = PPO(StableMultiInputPolicy, SceneEnv(), n_steps=32, batch_size=32, n_epochs=1, seed=0)
    model.learn(32, callback=HealthCallback(folder=tmp_path / "dict"))
    assert {"camera.conv1", "pi.fc1"} <= set(lines_of(tmp_path / "dict")[0]["layers"])
    from gymnasium import Env, spaces

    class Buttons(Env[Any, Any]):
        observation_space = spaces.Box(-1, 1, (3,))

        def __init__(self, action_space: Any) -> None:
            self.action_space = action_space

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action: Any) -> Any:
            return self.observation_space.sample(), 0.0, False, False, {}

    for number, space in enumerate([spaces.MultiDiscrete([3, 2]), spaces.MultiBinary(4), spaces.Box(-1, 1, (2,))]):
        folder = tmp_path / str(number)
        PPO("MlpPolicy", Buttons(space), n_steps=32, batch_size=32, n_epochs=1).learn(32, HealthCallback(folder=folder))
        figures = lines_of(folder)[0]
        assert figures["policy"]["policy_variance"] > 0
        assert figures["update"]["kl"] > 0
        assert figures["update"]["ratio_excess"] == pytest.approx(1.2 / 0.8, abs=0.5)
        assert ("entropy_share" in figures["policy"]) == (number < 2)


def test_a_policy_without_any_layer_that_can_be_read_is_said_so(tmp_path: Path) -> None:
    model = RecurrentPPO("MlpLstmPolicy", make_cartpole(), policy_kwargs={"net_arch": []}, **SMALL)
    with pytest.warns(UserWarning, match="HealthCallback finds no layer"):
        model.learn(64, callback=HealthCallback(folder=tmp_path))


def test_replayed_observations_are_normalised_as_the_policy_gets_them(tmp_path: Path) -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 1, 0, env_kwargs={"g": 9.0}), norm_reward=False)
    env.obs_rms.mean += 1000.0
    env.training = False
    model = stable_baselines3.SAC("MlpPolicy", env, learning_starts=50, seed=0, policy_kwargs={"net_arch": [16]})
    seen: list[Any] = []
    callback = HealthCallback(folder=tmp_path, every=100)
    callback._tensor = lambda rows: seen.append(rows) or th.as_tensor(rows)  # type: ignore[method-assign]
    model.learn(120, callback=callback)
    assert float(seen[0].max()) == -10.0, "clipped"


def test_rollouts_of_five_steps_are_looked_at_several_at_a_time(tmp_path: Path) -> None:
    A2C("MlpPolicy", "Pendulum-v1", seed=0).learn(100, callback=HealthCallback(folder=tmp_path))
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [35, 70]
    assert {line["features"]["rows"] for line in lines} == {35}


def test_an_algorithm_without_a_buffer_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ARS has neither\. Use diagnose\(\)"):
        sb3_contrib.ARS("LinearPolicy", "CartPole-v1").learn(10, callback=HealthCallback(folder=tmp_path))


@pytest.mark.parametrize("within", [lambda health: health, lambda health: CallbackList([health])])
def test_within_a_callback_of_events_it_says_that_it_measures_nothing(within: Any, tmp_path: Path) -> None:
    health = HealthCallback(folder=tmp_path)
    with pytest.warns(UserWarning, match=r"measures nothing within EveryNTimesteps.*Give it to learn\(\) beside"):
        cartpole_model().learn(64, callback=EveryNTimesteps(16, within(health)))
    assert lines_of(tmp_path) == []


def test_what_sac_keeps_beside_its_weights_is_of_the_healthy_moment_too(tmp_path: Path) -> None:
    class Poison(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 150:
                self.model.log_ent_coef.data.fill_(math.nan)  # type: ignore[attr-defined]
                next(self.model.policy.parameters()).data.fill_(math.nan)
            return self.num_timesteps < 201

    model = stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", learning_starts=500, seed=0)
    with pytest.warns(UserWarning, match="numerically broken"):
        model.learn(400, callback=[Poison(), HealthCallback(folder=tmp_path, every=100)])
    kept = stable_baselines3.SAC.load(tmp_path / "last_healthy.zip")
    assert kept.num_timesteps == 100
    assert math.isfinite(float(kept.log_ent_coef))
    assert math.isnan(float(model.log_ent_coef))


def test_thorough_measurements_keep_to_the_budget_and_are_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sb3_stable_ppo.health.budget.RARELY", 5)
    cartpole_model().learn(64 * 12, callback=HealthCallback(folder=tmp_path, budget=1e-9))
    assert [line["step"] // 64 for line in lines_of(tmp_path) if "update" in line] == [1, 7]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"rows": 0}, "rows must be a whole number of at least 1, not 0"),
        ({"every": 0}, "every must be a whole number of at least 1"),
        ({"every_updates": 0}, "every_updates must be a whole number of at least 1, not 0"),
        ({"every_steps": 0}, "every_steps must be a whole number of at least 1, not 0"),
        ({"every": 64, "every_updates": 2}, "every=64 counts environment steps, every_updates=2 counts updates"),
        ({"every_steps": 64, "every_updates": 2}, "every=64 counts environment steps, every_updates=2 counts updates"),
        ({"budget": 0}, r"share of the training time, in \(0, 1\], or None, not 0"),
        ({"on_alarm": "panic"}, "Unknown on_alarm 'panic': choose one of warn, stop, raise, or give a function"),
    ],
)
def test_an_option_out_of_range_is_an_error(options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        HealthCallback(**options)


def test_a_run_after_one_whose_update_failed_has_one_listener_on_each_weight(tmp_path: Path) -> None:
    model, callback = cartpole_model(StablePPO), HealthCallback(folder=tmp_path, budget=None)
    listeners: list[int] = []
    train = model.train

    def fail_at_first() -> None:
        listeners.append(max(len(weight._post_accumulate_grad_hooks or ()) for weight in model.policy.parameters()))
        if len(listeners) == 1:
            raise CollapseError("in the midst of an update")
        train()

    model.train = fail_at_first
    with pytest.raises(CollapseError, match="in the midst"):
        model.learn(64, callback=callback)
    model.learn(128, callback=callback)
    assert listeners == [1, 1, 1]
    assert not any(weight._post_accumulate_grad_hooks for weight in model.policy.parameters())


def test_comparisons_with_earlier_lines_are_in_health_jsonl(tmp_path: Path) -> None:
    cartpole_model().learn(64, callback=HealthCallback(folder=tmp_path))
    features = lines_of(tmp_path)[0]["features"]
    assert (features["norm_growth"], features["srank_share"]) == (1.0, 1.0)


class Noisy(FlattenExtractor):
    """Draws in eval mode too, as a latent code does."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        found: th.Tensor = super().forward(observations)
        return found + 0.01 * th.randn_like(found)


def test_a_network_that_draws_in_eval_mode_draws_the_same_when_it_is_watched(tmp_path: Path) -> None:
    options = {"policy_kwargs": {"features_extractor_class": Noisy}, **SMALL}
    alone = PPO("MlpPolicy", make_cartpole(), **options).learn(192)
    watched = PPO("MlpPolicy", make_cartpole(), **options).learn(192, callback=HealthCallback(folder=tmp_path))
    assert_same_weights(watched, alone)
