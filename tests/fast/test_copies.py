"""Policies on the fast path that are pickled, saved by ``torch.save`` or deep-copied compute as before, and as fast."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule

from helpers.envs import SceneEnv
from sb3_stable_ppo import StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy, StablePongPolicy
from sb3_stable_ppo.fast import config
from sb3_stable_ppo.fast.execution import FastModule

IMAGE = spaces.Box(0, 255, (4, 36, 36), np.uint8)
SPACES: dict[Any, spaces.Space[Any]] = {
    StableCnnPolicy: IMAGE,
    StablePongPolicy: IMAGE,
    StableMlpPolicy: spaces.Box(-1, 1, (4,)),
    StableMultiInputPolicy: SceneEnv().observation_space,
}
OPTIONS = {"memory_format": "channels_last", "precision": "bf16", "compile": "auto"}


def _through_torch_save(policy: Any) -> Any:
    file = io.BytesIO()
    th.save(policy, file)
    file.seek(0)
    return th.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda policy: pickle.loads(pickle.dumps(policy)),
    "torch.save": _through_torch_save,
    "deepcopy": copy.deepcopy,
}


def observations(policy: Any) -> Any:
    policy.observation_space.seed(0)
    samples = [policy.observation_space.sample() for _ in range(3)]
    if isinstance(samples[0], dict):
        return {key: th.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
    return th.from_numpy(np.stack(samples))


def fast_modules(policy: Any) -> list[str]:
    found = policy.named_modules()
    return [name for name, module in found if isinstance(module, FastModule) and module._fast_path is not None]


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("cls", SPACES)
@pytest.mark.parametrize("option", [*OPTIONS, "all"])
def test_a_copy_of_a_copy_gives_the_same_outputs_on_the_fast_path(
    cls: Any, option: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "why_no_bf16", lambda _: None)
    th.manual_seed(0)
    options = OPTIONS if option == "all" else {option: OPTIONS[option]}
    policy = cls(SPACES[cls], spaces.Discrete(3), ConstantSchedule(1e-3), norm="batch", **options)
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    with th.no_grad():
        values = policy.predict_values(observations(policy))
        twin = COPIES[way](COPIES[way](policy))
        assert fast_modules(twin) == fast_modules(policy) != []
        assert th.equal(twin.predict_values(observations(twin)), values)
        for name in fast_modules(twin):
            module = twin.get_submodule(name)
            assert module._fast_path.module is module
            watched = module._fast_path._hooks.modules
            assert {id(child) for child in watched} == {id(child) for child in module.modules()}
