"""diagnose on models that have trained: healthy ones raise no alarm, and stock PPO's collapse is told from ours."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import sb3_contrib
import stable_baselines3
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from helpers.diagnosis import observations_of
from sb3_stable_ppo import HealthCallback, StablePPO, diagnose
from sb3_stable_ppo.envs.atari import make_atari_vec_env as fast_atari_env
from sb3_stable_ppo.health.thresholds import verdict_of_alarm
from sb3_stable_ppo.runs.folder import RunReader


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        *((name, seed) for name in ("PPO", "A2C", "DQN", "TRPO", "QRDQN") for seed in range(3)),
        *((name, 0) for name in ("SAC", "TD3", "RecurrentPPO")),  # each takes 10 seconds
    ],
)
def test_a_healthy_model_raises_no_alarm(name: str, seed: int) -> None:
    cls = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    continuous = name in ("SAC", "TD3")
    env = make_vec_env("Pendulum-v1" if continuous else "CartPole-v1", 1 if continuous or "DQN" in name else 4, seed)
    options: dict[str, Any] = {"learning_starts": 200} if continuous or "DQN" in name else {}
    smaller = {"RecurrentPPO": {"lstm_hidden_size": 64}, "QRDQN": {"n_quantiles": 50}}  # than their slow defaults
    if name in smaller:
        options["policy_kwargs"] = smaller[name]
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    model = cls(policy, env, seed=seed, **options).learn(800 if continuous else 4_096 if name == "DQN" else 2_048)
    diagnosis = diagnose(model, observations_of(model, 512))
    # SAC and TD3 have ended four episodes by then
    assert diagnosis.verdict == ("early training" if continuous else "healthy"), str(diagnosis)
    known = {("early", "SAC"), ("early", "TD3"), ("one_action", "QRDQN")}
    found = [finding for finding in diagnosis.findings if (finding.name, name) not in known]
    assert [finding.name for finding in found] == ([] if continuous else ["unknown_floor"])  # a note on the return


STRESS: dict[str, Any] = {"learning_rate": 5e-3, "n_epochs": 10, "clip_range": 0.2, "n_steps": 64, "batch_size": 128}


@pytest.mark.slow
def test_stock_ppo_that_collapses_on_pong_is_told_from_ours_that_does_not_at_the_same_settings(tmp_path: Path) -> None:
    verdicts = {}
    for name, algorithm, policy in (("stock", PPO, "CnnPolicy"), ("ours", StablePPO, "StablePongPolicy")):
        model = algorithm(policy, fast_atari_env("PongNoFrameskip-v4", 4, seed=0), seed=0, ent_coef=0.01, **STRESS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.learn(768, callback=HealthCallback(folder=tmp_path / name, budget=None))
        events = [event for line in RunReader(tmp_path / name).health() for event in line["events"] if event["raised"]]
        verdicts[name] = diagnose(model, observations_of(model, 512)).verdict, [event["name"] for event in events]
    assert verdicts["stock"][0] == "collapsed activations"
    raised = {verdict_of_alarm(alarm) for alarm in verdicts["stock"][1]}  # which comes first depends on the processor
    assert "collapsed activations" in raised
    assert verdicts["ours"] == ("early training", [])
