"""HealthCallback: what it measures, when it raises an alarm, what it then does; and that it changes nothing."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from helpers.envs import SceneEnv, make_cartpole, make_pong
from helpers.weights import assert_same_weights
from sb3_stable_ppo import CollapseError, HealthCallback, StableMultiInputPolicy, StablePongPolicy, StablePPO
from sb3_stable_ppo.health.alarms import RULES, Alarms
from sb3_stable_ppo.probes.rows import recent_observations, strided_observations
from sb3_stable_ppo.runs.folder import RunReader

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 64, "n_epochs": 1, "seed": 0}


def cartpole_model(cls: Any = PPO, **options: Any) -> Any:
    return cls("MlpPolicy", make_cartpole(), **{**SMALL, **options})


def pong_model(**options: Any) -> StablePPO:
    return StablePPO(StablePongPolicy, make_pong(), **{**SMALL, **options})


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return list(RunReader(folder).health())


class Break(BaseCallback):
    """From a step on, a layer puts out one value whatever it sees: what an update gone wrong would leave."""

    def __init__(self, layer: str, at: int, value: float) -> None:
        super().__init__()
        self.layer, self.at, self.value = layer, at, value

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.at:
            layer: Any = self.model.policy.get_submodule(self.layer)
            layer.weight.data.fill_(0 * self.value)
            layer.bias.data.fill_(self.value)


# -- figures -----------------------------------------------------------------------------------------------------------


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
        options = {"n_steps": 32} if name == "A2C" else {"n_steps": 32, "batch_size": 64}
        masks = {"use_masking": False} if name == "MaskablePPO" else {}
        return cls(policy, make_cartpole(), seed=0, **options).learn(192, callback=callback, **masks)

    watched = trained(HealthCallback(folder=tmp_path, budget=None, every=30))
    assert len(lines_of(tmp_path)) >= 3
    without = trained(None)
    assert_same_weights(watched, without)
    with pytest.warns(UserWarning, match="HealthCallback has no folder"):
        assert_same_weights(trained(HealthCallback(budget=None, every_updates=2)), without)


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


def test_rows_are_spread_evenly_over_steps_and_envs() -> None:
    buffer = PPO("MlpPolicy", make_cartpole(4), n_steps=8, batch_size=8).rollout_buffer
    buffer.observations = np.arange(32, dtype=np.float32).reshape(8, 4, 1).repeat(4, axis=2)
    assert strided_observations(buffer, 4)[:, 0].tolist() == [0, 10, 20, 31]
    assert len(strided_observations(buffer, 64)) == 32


def test_rows_of_a_replay_buffer_are_recent_and_never_unwritten() -> None:
    buffer = DQN("MlpPolicy", make_cartpole(2), buffer_size=40).replay_buffer
    assert len(recent_observations(buffer, 4)) == 0
    for step in range(25):  # 20 fit, two envs each
        row = np.full((2, 4), step, dtype=np.float32)
        buffer.add(row, row, np.zeros((2, 1)), np.zeros(2), np.zeros(2), [{}, {}])
        rows = recent_observations(buffer, 4)
        assert rows[:, 0].max() == step
        assert rows[:, 0].min() >= max(step - 19, 0)


def test_thorough_measurements_keep_to_the_budget_and_are_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sb3_stable_ppo.health.budget.RARELY", 5)
    cartpole_model().learn(64 * 12, callback=HealthCallback(folder=tmp_path, budget=1e-9))
    assert [line["step"] // 64 for line in lines_of(tmp_path) if "update" in line] == [1, 7]


# -- alarms ------------------------------------------------------------------------------------------------------------


def line_with(**values: Any) -> dict[str, Any]:
    layers = {
        name: {"fault_fraction": value, "dormant_fraction": 0.1, "fault": "dead"} for name, value in values.items()
    }
    return {"layers": layers, "nonfinite": None}


def test_an_alarm_is_raised_after_three_in_a_row_and_names_the_first_layer_and_the_first_step() -> None:
    alarms = Alarms()
    assert alarms.update(100, line_with(conv1=0.95, conv2=0.2)) == []
    assert alarms.update(200, line_with(conv1=0.2, conv2=0.2)) == []  # the row is broken
    assert alarms.update(300, line_with(conv1=0.5, conv2=0.95, conv3=1.0)) == []
    assert alarms.update(400, line_with(conv1=0.5, conv2=0.96, conv3=1.0)) == []
    (event,) = alarms.update(500, line_with(conv1=0.5, conv2=0.97, conv3=1.0))
    assert (event.name, event.raised, event.step, event.where, event.value) == (
        "inactive_layer",
        True,
        300,
        "conv2",
        0.97,
    )
    assert event.text == "97% of the units of conv2 are dead (since step 300)"


def test_an_alarm_is_cleared_only_well_below_its_threshold_and_can_be_raised_again() -> None:
    alarms = Alarms()
    values = [0.95, 0.95, 0.95, 0.85, 0.95, 0.79, 0.95, 0.95, 0.95]
    found = [alarms.update(step, line_with(conv1=value)) for step, value in enumerate(values)]
    assert [(step, event.raised) for step, events in enumerate(found) for event in events] == [
        (2, True),
        (5, False),
        (8, True),
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_clears_on_the_healthy_side_of_where_it_is_raised(rule: Any) -> None:
    assert rule.raise_at != rule.clear_at
    assert rule.is_beyond(rule.raise_at, rule.raise_at)
    assert not rule.is_beyond(rule.clear_at, rule.raise_at)
    assert rule.is_beyond(math.nan, rule.raise_at)


def test_ranks_are_compared_with_their_peak_and_norms_with_the_first_five() -> None:
    alarms, found = Alarms(), []
    for step, (srank, norm) in enumerate([(100, 2), (200, 2), *[(150, 3)] * 3, *[(40, 30)] * 3]):
        found += alarms.update(step, {"features": {"layer": "fc1", "srank": srank, "norm": norm}})
    assert [(event.name, event.step, event.where) for event in found] == [
        ("falling_rank", 5, "fc1"),
        ("growing_norm", 5, "fc1"),
    ]


@pytest.mark.slow
def test_a_network_that_breaks_is_said_with_its_layer_and_its_last_healthy_model_is_kept(tmp_path: Path) -> None:
    callbacks = [Break("features_extractor.cnn.conv2", 128, -10.0), HealthCallback(folder=tmp_path, budget=None)]
    with pytest.warns(UserWarning, match="HealthCallback: 100% of the units of conv2 are linear") as warned:
        model = pong_model(guards=None).learn(64 * 5, callback=callbacks)
    assert any(f"step 64 is in {tmp_path / 'last_healthy.zip'}" in str(warning.message) for warning in warned)
    kept = StablePPO.load(tmp_path / "last_healthy.zip")
    assert kept.num_timesteps == 64
    assert_same_weights(kept, pong_model(guards=None).learn(64))
    assert float(model.policy.features_extractor.cnn.conv2.bias.mean()) == pytest.approx(-10.0, abs=0.1)
    raised = [event for line in lines_of(tmp_path) for event in line["events"]]
    assert ("inactive_layer", 128, "conv2") in [(event["name"], event["step"], event["where"]) for event in raised]


def test_the_model_before_a_first_update_that_breaks_it_is_kept(tmp_path: Path) -> None:
    callbacks = [Break("action_net", 64, math.nan), HealthCallback(folder=tmp_path)]
    model = cartpole_model()
    with (
        pytest.warns(UserWarning, match=r"weight action_net\.weight: 128 of 128 values are not finite"),
        pytest.raises(ValueError, match="constraint"),
    ):
        model.learn(64 * 3, callback=callbacks)
    assert PPO.load(tmp_path / "last_healthy.zip").num_timesteps == 64
    assert_same_weights(PPO.load(tmp_path / "last_healthy.zip"), cartpole_model())
    line = json.loads((tmp_path / "health.jsonl").read_text().splitlines()[0])
    assert line["nonfinite"].startswith("weight action_net.weight")


def test_a_run_that_goes_on_remembers_its_alarms_and_a_new_one_does_not(tmp_path: Path) -> None:
    model = cartpole_model(policy_kwargs={"activation_fn": th.nn.ReLU})
    with pytest.warns(UserWarning, match="are dead"):
        model.learn(256, callback=[Break("mlp_extractor.policy_net.0", 64, -10.0), HealthCallback(folder=tmp_path)])
    going_on = HealthCallback(folder=tmp_path)
    model.learn(64, callback=going_on, reset_num_timesteps=False)
    assert "inactive_layer" in going_on.alarms.active
    assert len(lines_of(tmp_path)) == 5
    anew = HealthCallback(folder=tmp_path)
    cartpole_model().learn(64, callback=anew)
    assert anew.alarms.active == {}
    assert len(lines_of(tmp_path)) == 1
    assert (tmp_path / "last_healthy.zip.1").is_file()


@pytest.mark.filterwarnings("ignore:.*has no folder")
@pytest.mark.parametrize("has_folder", [True, False])
@pytest.mark.parametrize("on_alarm", ["stop", "raise", "function"])
def test_an_alarm_stops_or_raises_or_calls(on_alarm: str, has_folder: bool, tmp_path: Path) -> None:
    folder = tmp_path if has_folder else None
    model_kept = "The model as it was at step" if has_folder else "not kept, as there is no folder to save it in"
    heard: list[Any] = []
    action: Any = (
        (lambda event, model: heard.append((event.name, model.num_timesteps))) if on_alarm == "function" else on_alarm
    )
    model = cartpole_model(policy_kwargs={"activation_fn": th.nn.ReLU})
    callbacks = [Break("mlp_extractor.policy_net.0", 64, -10.0), HealthCallback(folder=folder, on_alarm=action)]
    if on_alarm == "raise":
        with pytest.raises(CollapseError, match=rf"of the units of pi\.fc\d are dead .* {model_kept}"):
            model.learn(640, callback=callbacks)
        assert model.num_timesteps == 192
    elif on_alarm == "stop":
        with pytest.warns(UserWarning, match=f"are dead .* {model_kept}"):
            model.learn(640, callback=callbacks)
        assert 192 < model.num_timesteps < 256
    else:
        model.learn(640, callback=callbacks)
        assert ("inactive_layer", 192) in heard
        assert model.num_timesteps == 640


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


def test_alarms_leave_the_figures_as_they_are_and_return_the_comparisons_beside_them() -> None:
    alarms = Alarms()
    alarms.update(0, {"features": {"layer": "fc1", "srank": 100, "norm": 2.0}})
    line = {"features": {"layer": "fc1", "srank": 50, "norm": 4.0}}
    alarms.update(1, line)
    assert line == {"features": {"layer": "fc1", "srank": 50, "norm": 4.0}}
    assert alarms.comparisons == {"norm_growth": 4.0 / 3.0, "srank_share": 0.5}


def test_comparisons_with_earlier_lines_are_in_health_jsonl(tmp_path: Path) -> None:
    cartpole_model().learn(64, callback=HealthCallback(folder=tmp_path))
    features = lines_of(tmp_path)[0]["features"]
    assert (features["norm_growth"], features["srank_share"]) == (1.0, 1.0)
