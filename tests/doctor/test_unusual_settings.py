"""diagnose: settings that make steps far larger than usual are named, with what is usual."""

from typing import Any

import pytest
from stable_baselines3 import DQN, PPO

from helpers.diagnosis import names, observations_of
from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import LinearLR, StablePPO, diagnose
from sb3_stable_ppo.doctor import unusual_settings as rule
from sb3_stable_ppo.doctor.unusual_settings import unusual_settings


def told(model: Any) -> list[str]:
    return [evidence for evidence, _ in unusual_settings(model)]


def cartpole(algorithm: Any = PPO, **settings: Any) -> Any:
    return algorithm("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0, **settings)


def test_a_learning_rate_for_pong_is_compared_with_rl_zoo3s_entry_for_atari_and_with_the_default() -> None:
    ((evidence, remedy),) = unusual_settings(PPO("CnnPolicy", make_pong(1), learning_rate=5e-3, n_epochs=10))
    assert (
        evidence == "The learning rate is 0.005; rl_zoo3 has 0.00025 for PongNoFrameskip-v4, PPO's default is 0.0003."
    )
    assert remedy.endswith("cause: start again with learning rate 0.00025.")


@pytest.mark.parametrize("algorithm", [PPO, StablePPO])
def test_a_model_without_an_env_is_compared_with_the_default(algorithm: Any) -> None:
    model = cartpole(algorithm, learning_rate=5e-3)
    model.env = None
    assert told(model) == ["The learning rate is 0.005; PPO's default is 0.0003."]


def test_three_times_the_larger_of_the_usual_values_is_far_and_less_is_not() -> None:
    assert told(cartpole(learning_rate=2.9e-3)) == [], "rl_zoo3 has lin_0.001 for CartPole-v1"
    assert told(cartpole(learning_rate=3e-3)) == [
        "The learning rate is 0.003; rl_zoo3 has 0.001 for CartPole-v1, PPO's default is 0.0003."
    ]
    assert told(cartpole(n_epochs=59)) == []
    assert told(cartpole(learning_rate=1e-6, n_epochs=1, clip_range=0.01)) == [], "small steps kill no unit"


def test_all_settings_that_are_far_are_in_one_finding() -> None:
    ((evidence, remedy),) = unusual_settings(cartpole(n_epochs=60, clip_range=0.8))
    assert evidence == (
        "The number of epochs is 60; rl_zoo3 has 20 for CartPole-v1, PPO's default is 10. "
        "The clip range is 0.8; rl_zoo3 has 0.2 for CartPole-v1, PPO's default is 0.2."
    )
    assert remedy.endswith("cause: start again with number of epochs 20, clip range 0.2.")


@pytest.mark.parametrize("schedule", [lambda progress: 0.5 * progress, LinearLR(0.5)])
def test_a_schedule_counts_by_its_first_value(schedule: Any) -> None:
    assert told(cartpole(StablePPO, learning_rate=schedule))[0].startswith(
        "The learning rate is 0.5; rl_zoo3 has 0.001"
    )


def test_other_algorithms_have_entries_and_defaults_of_their_own() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", learning_rate=0.01, buffer_size=100)
    assert told(model) == ["The learning rate is 0.01; rl_zoo3 has 0.0023 for CartPole-v1, DQN's default is 0.0001."]


def test_without_rl_zoo3_the_default_is_what_is_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "find_spec", lambda _: None)
    assert told(cartpole(learning_rate=1e-3)) == ["The learning rate is 0.001; PPO's default is 0.0003."]


def test_the_finding_is_a_warning_that_changes_no_verdict() -> None:
    model = cartpole(learning_rate=0.1)
    diagnosis = diagnose(model, observations_of(model))
    assert diagnosis.verdict == "early training"
    (finding,) = [finding for finding in diagnosis.findings if finding.name == "unusual_settings"]
    assert finding.severity == "warning"
    assert "unusual_settings" not in names(diagnose(cartpole(), observations_of(model)))
