"""docs/tensorboard_tags.md and what runs log: each tag is explained, and each explained tag exists."""

import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import sb3_stable_ppo as stable
from helpers.processes import ROOT

PAGE = (ROOT / "docs" / "tensorboard_tags.md").read_text()
EXPLAINED = [
    tag for line in PAGE.splitlines() if line.startswith("| `") for tag in re.findall(r"`([^`]+)`", line.split("|")[1])
]
"""The tags of the first column, with placeholders such as <layer>."""


def pattern_of(tag: str) -> re.Pattern[str]:
    return re.compile("".join(".+" if part.startswith("<") else re.escape(part) for part in re.split(r"(<\w+>)", tag)))


class Tags(KVWriter):
    """Keeps the names of all that a run logs."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.seen |= set(key_values)

    def close(self) -> None:
        pass


def logged(model: Any, steps: int, callbacks: list[BaseCallback]) -> set[str]:
    tags = Tags()
    model.set_logger(Logger(None, [tags]))
    model.learn(steps, callback=callbacks)
    return tags.seen


SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 0}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The tags of four small runs that have all there is on between them."""
    folder = tmp_path_factory.mktemp("tags")
    every = {"every_updates": 1}
    health = [stable.HealthCallback(budget=None, folder=folder / str(run)) for run in range(3)]

    norms = {"norm": "batch", "norm_input": "running", "norm_value": "running"}
    vec_env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    weights = [
        stable.L2Init(),
        stable.WeightClip(),
        stable.WeightProjection(),
        stable.SpectralCap(),
        stable.AdamReset(),
    ]
    evaluation = EvalCallback(Monitor(gym.make("CartPole-v1")), eval_freq=64, n_eval_episodes=1, verbose=0)
    model = stable.StablePPO("StableMlpPolicy", vec_env, policy_kwargs=norms, **SMALL)
    tags = logged(model, 4 * 64, [evaluation, health[0], *weights])

    relu = {"activation_fn": nn.ReLU, "norm": "none"}
    units = [
        stable.ReDo(when=every),
        stable.ReGraMa(when=every),
        stable.ContinualBackprop(maturity=1, replacement_rate=0.1),
    ]
    terms = [stable.ChurnReduction(), stable.FeatureRegularization()]
    model = stable.StablePPO("StableMlpPolicy", "CartPole-v1", policy_kwargs=relu, **SMALL)
    tags |= logged(model, 5 * 32, [health[1], *units, *terms])

    model = PPO("MlpPolicy", "Pendulum-v1", clip_range_vf=0.2, **SMALL)
    tags |= logged(model, 3 * 32, [health[2], stable.GuardCallback()])

    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1)
    images = PPO("CnnPolicy", env, tensorboard_log=str(folder / "tensorboard"), **SMALL)
    images.learn(32, callback=stable.ActivationSnapshotCallback(every=16, folder=folder / "pictures"))
    events = EventAccumulator(str(folder / "tensorboard" / "PPO_1")).Reload()
    return tags | set(events.Tags()["images"])


@pytest.mark.slow
@pytest.mark.xdist_group("tags")
def test_each_tag_of_a_run_is_explained(seen: set[str]) -> None:
    patterns = [pattern_of(tag) for tag in EXPLAINED]
    assert sorted(tag for tag in seen if not any(pattern.fullmatch(tag) for pattern in patterns)) == []


@pytest.mark.slow
@pytest.mark.xdist_group("tags")
def test_each_explained_tag_is_logged_by_some_run(seen: set[str]) -> None:
    missing = [tag for tag in EXPLAINED if not any(pattern_of(tag).fullmatch(each) for each in seen)]
    assert missing == []


def test_each_tag_is_explained_once() -> None:
    assert len(EXPLAINED) == len(set(EXPLAINED)) >= 75


def test_each_place_that_logs_a_tag_of_its_own_is_on_the_page() -> None:
    """Also those that no small run reaches."""
    package = Path(stable.__file__).parent
    named = {
        tag
        for path in package.rglob("*.py")
        for tag in re.findall(r'record\(f?"((?:guards|norm|health|interventions)/[^"]*)"', path.read_text())
    }
    assert len(named) >= 12
    patterns = [pattern_of(tag) for tag in EXPLAINED]
    wild = [re.sub(r"\{[^}]*\}", "x", tag) for tag in named if "{name}" not in tag and "fault" not in tag]
    assert [tag for tag in wild if not any(pattern.fullmatch(tag) for pattern in patterns)] == []
