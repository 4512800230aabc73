"""What is patched must exist upstream; it is given back whatever happens."""

import re
from types import ModuleType

import pytest
import rl_zoo3
import rl_zoo3.exp_manager
import stable_baselines3
from stable_baselines3 import PPO

from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.zoo.masks import masked_evaluation
from sb3_stable_ppo.zoo.registry import register


def test_an_attribute_of_a_module_is_given_back_after_an_error() -> None:
    module = ModuleType("upstream")
    module.helper = before = object()  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError), patched(module, "helper", 1):
        1 // (module.helper - 1)
    assert module.helper is before


def test_a_method_is_shadowed_on_the_instance_alone() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)
    with patched(model, "train", len):
        assert model.train is len
        assert PPO.train is not len
    assert "train" not in vars(model)


def test_a_missing_attribute_of_a_module_is_an_error_with_its_version() -> None:
    expected = f"rl_zoo3.exp_manager (rl_zoo3 {rl_zoo3.__version__}) has no attribute 'EvalCallbacks'"
    with pytest.raises(RuntimeError, match=re.escape(expected)), patched(rl_zoo3.exp_manager, "EvalCallbacks", 1):
        pass
    assert not hasattr(rl_zoo3.exp_manager, "EvalCallbacks")


def test_a_missing_attribute_of_an_instance_is_an_error_with_the_versions_of_its_classes() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8)
    expected = f"PPO (stable_baselines3 {stable_baselines3.__version__}) has no attribute 'normalise_advantage'"
    with pytest.raises(RuntimeError, match=re.escape(expected)), patched(model, "normalise_advantage", False):
        pass
    assert not hasattr(model, "normalise_advantage")


def test_masks_do_not_vanish_when_rl_zoo3_renames_its_import(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    monkeypatch.delattr(rl_zoo3.exp_manager, "EvalCallback")
    with pytest.raises(RuntimeError, match="has no attribute 'EvalCallback'"), masked_evaluation("stable_ppo_mask"):
        pass
