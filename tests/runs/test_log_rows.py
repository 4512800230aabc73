"""Evaluations in mid-rollout leave the other curves of a log as they would be without them."""

from pathlib import Path

import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure

from helpers.envs import make_cartpole
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.log_rows import Row, curves_of
from sb3_stable_ppo.runs.series import Series

pytestmark = pytest.mark.slow(seconds=1)


def points(series: Series) -> list[tuple[float, float]]:
    return list(zip(series.steps.tolist(), series.values.tolist(), strict=True))


def own(step: float, **figures: float) -> Row:
    """A row that the algorithm wrote."""
    return Row(step, {"time/fps": 9.0, **{name.replace("_", "/", 1): value for name, value in figures.items()}})


def evaluated(step: float, **figures: float) -> Row:
    return Row(step, {"eval/mean_reward": step, **{name.replace("_", "/", 1): v for name, v in figures.items()}})


def test_figures_in_a_row_of_an_evaluation_go_to_the_next_row_of_the_algorithm() -> None:
    curves = curves_of([own(64, train_kl=0.1), evaluated(100, train_kl=0.2), own(128), own(192, train_kl=0.3)])
    assert points(curves["train/kl"]) == [(64, 0.1), (128, 0.2), (192, 0.3)]
    assert points(curves["eval/mean_reward"]) == [(100, 100)]
    assert points(curves["time/fps"]) == [(64, 9), (128, 9), (192, 9)]


def test_a_newer_value_stands() -> None:
    curves = curves_of([evaluated(10, train_kl=0.1), evaluated(20, train_kl=0.2), own(64, train_kl=0.3), own(128)])
    assert points(curves["train/kl"]) == [(64, 0.3)]
    assert points(curves_of([evaluated(10, train_kl=0.1), evaluated(20, train_kl=0.2), own(64)])["train/kl"]) == [
        (64, 0.2)
    ]


def test_figures_that_no_row_of_the_algorithm_follows_stay_where_they_are() -> None:
    curves = curves_of([own(64, train_kl=0.1), evaluated(100, train_kl=0.2), evaluated(120, train_kl=0.3)])
    assert points(curves["train/kl"]) == [(64, 0.1), (100, 0.2), (120, 0.3)]


def test_an_algorithms_own_row_may_hold_an_evaluation() -> None:
    curves = curves_of([Row(64, {"time/fps": 9.0, "eval/mean_reward": 5.0, "train/kl": 0.1})])
    assert points(curves["train/kl"]) == [(64, 0.1)]
    assert points(curves["eval/mean_reward"]) == [(64, 5.0)]


@pytest.mark.parametrize("form", ["csv", "tensorboard"])
@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_a_run_with_evaluations_has_the_curves_of_a_run_without(
    algorithm: type[PPO] | type[DQN], form: str, tmp_path: Path
) -> None:
    options = {PPO: {"n_steps": 64, "batch_size": 32, "n_epochs": 1}, DQN: {"learning_starts": 50}}[algorithm]
    for name, evaluate in (("without", False), ("with", True)):
        model = algorithm("MlpPolicy", make_cartpole(), seed=0, **options)
        model.set_logger(configure(str(tmp_path / name), [form]))
        evaluation = EvalCallback(make_cartpole(), eval_freq=23, n_eval_episodes=1, verbose=0)
        model.learn(1024, callback=evaluation if evaluate else None)
    without, found = (read_run(tmp_path / name).curves for name in ("without", "with"))
    names = [name for name in without if name.startswith(("rollout/", "train/"))]
    assert len(names) >= 5
    assert len(found["eval/mean_reward"].steps) > 20
    last = without["rollout/ep_rew_mean"].steps[-1]  # what an evaluation took after that stays at its step
    for name in names:
        assert [point for point in points(found[name]) if point[0] <= last] == points(without[name]), name
