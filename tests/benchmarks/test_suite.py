"""The suite trains what its settings say, and records it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch as th
import yaml
from stable_baselines3.common.vec_env import VecEnv

from helpers.benchmarks import load
from helpers.processes import ROOT
from sb3_stable_ppo import LRSchedulerCallback, StablePPO

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.slow
def test_every_settings_of_the_suite_makes_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load("suite")
    monkeypatch.setattr(th.nn.init, "orthogonal_", lambda tensor, **_: tensor)  # most of the time, with 3,136 inputs
    for name, settings in suite["SETTINGS"].items():
        chosen = (", stock", "layer leaky_relu", *(("MlpPolicy", "silu, input") if name.startswith("CartPole") else ()))
        chosen += (", ours",) if name.startswith("Breakout") else ()
        if settings.bins and not name.endswith(chosen):
            continue  # the other networks differ in words alone
        model = suite["build"](replace(settings, n_envs=1), 0)  # a game's emulators take a second to begin
        model.env.close()
        assert model.n_envs == 1, name


@pytest.mark.usefixtures("results")
def test_a_run_on_vectors_is_recorded_as_a_curve_and_a_final_score() -> None:
    suite = load("suite")
    found = suite["run"]("Pendulum-v1, zoo, layer leaky_relu, input", 0, 4096)
    assert "games" not in found
    assert [step for step, _, _ in found["curve"]] == sorted({step for step, _, _ in found["curve"]})
    assert sum(count for *_, count in found["curve"]) == 20  # four envs, episodes of 200 steps
    assert -2000 < found["final"] < 0


@pytest.mark.slow(seconds=10)
@pytest.mark.usefixtures("results")
def test_a_run_of_another_game_is_recorded_as_a_curve_and_a_score_in_sb3s_own_env(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = load("suite")
    name, played = "Breakout, Pong's, stock", []
    quick = suite["SETTINGS"][name].changed(n_epochs=1, batch_size=512)
    monkeypatch.setitem(suite["SETTINGS"], name, quick)

    def evaluate(_: StablePPO, env: VecEnv, episodes: int, deterministic: bool) -> tuple[float, float]:
        played.append((type(env).__name__, episodes, deterministic))
        return 1.5, 0.0

    monkeypatch.setitem(suite["play_final"].__globals__, "evaluate_policy", evaluate)
    found = suite["run"](name, 0, 2048)
    assert played == [("VecFrameStack", 20, False)]
    assert found["final"] == 1.5
    assert all(0 <= value <= 20 and step <= 2048 for step, value, _ in found["curve"])
    assert sum(count for *_, count in found["curve"]) > 0


def test_pongs_settings_of_a_game_are_those_of_the_entry_for_atari() -> None:
    numbers = yaml.safe_load((ROOT / "zoo_configs/stable_ppo.yml").read_text())["atari"]
    settings = load("game_settings")["SETTINGS"]["Qbert, Pong's, ours without norm_input"]
    for name in ("n_steps", "n_epochs", "batch_size", "clip_range", "ent_coef", "vf_coef"):
        assert settings.options[name] == numbers[name], name
    schedule = numbers["learning_rate"]
    assert settings.options["learning_rate"].initial == float(schedule["initial"])
    assert settings.options["learning_rate"].target == schedule["target"]
    assert settings.policy_kwargs["norm"] == numbers["policy_kwargs"]["norm"]
    assert settings.policy_kwargs["norm_input"] == numbers["policy_kwargs"].get("norm_input", "none")
    assert (settings.env_id, settings.n_envs) == ("QbertNoFrameskip-v4", numbers["n_envs"])


@pytest.mark.usefixtures("results")
def test_a_run_of_the_suite_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load("suite")
    name, steps = "Pendulum-v1, zoo, layer leaky_relu", 8192
    unbroken = suite["run"](name, 0, steps)
    monkeypatch.setenv(suite["CHECKPOINTS"], str(tmp_path))
    model, watch = suite["build"](suite["SETTINGS"][name], 0), suite["Watch"](0, checks=False)
    suite["learn"](model, steps // 2, [watch], suite["checkpoint_folder"](name, 0, steps))
    gone_on = suite["run"](name, 0, steps)
    assert gone_on.pop("resumed_at") == [steps // 2]
    assert gone_on["minutes"] > 0
    assert {**gone_on, "minutes": 0} == {**unbroken, "minutes": 0}


@pytest.mark.slow(seconds=20)
def test_without_a_choice_by_the_clock_pongs_runs_with_and_without_guards_are_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = load("suite")

    def trained(name: str) -> dict[str, th.Tensor]:
        settings = suite["SETTINGS"][name]
        policy_kwargs = {**settings.policy_kwargs, "compile": False}
        shorter = replace(settings, policy_kwargs=policy_kwargs, options={**settings.options, "n_steps": 32})
        monkeypatch.setitem(suite["SETTINGS"], name, shorter)
        model = suite["build"](suite["SETTINGS"][name], 11)
        callbacks = [] if isinstance(model, StablePPO) else [LRSchedulerCallback()]
        parameters = dict(model.learn(3 * 256, callbacks).policy.named_parameters())
        model.env.close()
        return parameters

    guarded, stock = trained(load("suite_settings")["SHIPPED_NAME"]), trained("shipped, PPO")
    assert guarded.keys() == stock.keys()
    for name, parameter in guarded.items():
        assert th.equal(parameter, stock[name]), name


def test_every_network_of_the_vector_settings_has_another_name_and_other_options() -> None:
    found = load("vector_settings")
    networks = list(found["networks"]())
    assert len({name for name, _ in networks}) == len({repr(sorted(options.items())) for _, options in networks}) == 32
    assert len(found["SETTINGS"]) == 8 * 2 * (2 + 32)
    hopper = found["SETTINGS"]["Hopper-v5, zoo, layer leaky_relu"]
    assert hopper.policy_kwargs["net_arch"] == {"pi": [256, 256], "vf": [256, 256]}
    assert "activation_fn" not in hopper.policy_kwargs
    assert found["SETTINGS"]["Hopper-v5, zoo, stock"].policy_kwargs["ortho_init"] is False


def test_what_the_suite_calls_shipped_is_what_the_configuration_has() -> None:
    from sb3_stable_ppo.schedules.learning_rate import make_schedule
    from sb3_stable_ppo.zoo.hyperparams import with_numbers

    shipped = load("suite_settings")["SHIPPED"]
    entries = with_numbers(yaml.safe_load((ROOT / "zoo_configs/stable_ppo.yml").read_text()))
    entry = entries["PongNoFrameskip-v4"]
    assert repr(make_schedule(**entry["learning_rate"])) == repr(shipped.options["learning_rate"])
    for name in ("n_steps", "batch_size", "n_epochs", "clip_range", "ent_coef", "vf_coef", "rollout_buffer_kwargs"):
        assert entry[name] == shipped.options[name], name
    assert (entry["n_envs"], entry["policy"]) == (shipped.n_envs, shipped.policy)
    assert {**entry["policy_kwargs"], "compile": "auto"} == shipped.policy_kwargs
