"""The fast path: the same mathematics, in rollout and update, under probes, and in saved models."""

import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch as th
from stable_baselines3 import PPO
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_pre_hook

from helpers.fast_path import (
    OPTIONS,
    TOLERANCE,
    images,
    model_with,
    needs_a_compiler,
    policy_with,
    settled,
    with_each_option,
)
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StableCnnPolicy, StablePongPolicy, StablePPO
from sb3_stable_ppo.fast import compiled_calls, config
from sb3_stable_ppo.policies.calibration import untracked
from sb3_stable_ppo.policies.extractors import StableCNN
from sb3_stable_ppo.probes.activations import ActivationProbe

pytestmark = pytest.mark.slow(seconds=1)


@pytest.mark.slow
@with_each_option
def test_each_option_computes_the_same_within_its_tolerance(name: str) -> None:
    cls = StablePongPolicy if name == "all" else StableCnnPolicy  # compiling takes seconds: each of them once
    plain, fast = policy_with(cls), policy_with(cls, **OPTIONS[name])
    actions = th.arange(6).repeat(6)[:32]
    for training in (False, True):
        outputs = []
        for policy in (plain, fast):
            policy.set_training_mode(training)
            values, log_prob, entropy = policy.evaluate_actions(images(32), actions)
            assert values.dtype == log_prob.dtype == th.float32
            outputs.append((values, log_prob, entropy))
        for mine, theirs in zip(*outputs, strict=True):
            assert float((mine - theirs).abs().max()) <= TOLERANCE[name]


@with_each_option
def test_gradients_are_the_same_in_direction(name: str) -> None:
    gradients = []
    for options in ({}, OPTIONS[name]):
        policy = policy_with(**options)
        policy.set_training_mode(True)
        values, log_prob, _ = policy.evaluate_actions(images(32), th.arange(32) % 6)
        (values.mean() + (log_prob * th.linspace(-1, 1, 32)).mean()).backward()
        gradients.append(th.cat([p.grad.flatten() for p in policy.parameters()]))
        assert all(p.dtype == p.grad.dtype == th.float32 for p in policy.parameters())
    assert float(th.cosine_similarity(*gradients, dim=0)) > (0.99 if "precision" in OPTIONS[name] else 0.99999)


@with_each_option
def test_floats_and_bytes_give_the_same(name: str) -> None:
    """SB3 gives ``predict_values`` and ``get_distribution`` floats, and the rollout's ``forward`` bytes."""
    policy = settled(policy_with(**OPTIONS[name]))
    observations = images(8)
    with th.no_grad():
        _, values, _ = policy(observations)
        assert float((policy.predict_values(observations) - values).abs().max()) <= 2 * TOLERANCE[name]


@with_each_option
def test_the_init_is_that_of_the_plain_policy(name: str) -> None:
    plain, fast = policy_with(), policy_with(**OPTIONS[name])
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert all(th.equal(value, fast.state_dict()[key]) for key, value in plain.state_dict().items())


@with_each_option
def test_a_fast_model_trains_and_its_zip_loads_as_a_plain_one(name: str, tmp_path: Path) -> None:
    algorithm: Any = StablePPO if name == "all" else PPO  # compiling takes seconds: each of them once
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_with(algorithm, **OPTIONS[name]).learn(32)
    model.save(tmp_path / "model.zip")
    with ZipFile(tmp_path / "model.zip") as archive, archive.open("policy.pth") as file:
        weights = th.load(file, weights_only=True)
    plain = model_with(PPO)
    assert list(weights) == list(plain.policy.state_dict())
    plain.policy.load_state_dict(weights)
    loaded = algorithm.load(tmp_path / "model.zip")
    assert_same_weights(loaded, model)
    observations = images(8)
    with th.no_grad():
        difference = loaded.policy.predict_values(observations) - plain.policy.predict_values(observations)
    scale = float(plain.policy.predict_values(observations).abs().max()) + 1.0
    assert float(difference.abs().max()) <= TOLERANCE[name] * scale


def test_the_options_are_saved_with_the_policy_as_plain_words(tmp_path: Path) -> None:
    policy = policy_with(**OPTIONS["channels_last"])
    policy.save(tmp_path / "policy.pth")
    saved = th.load(tmp_path / "policy.pth", weights_only=False)["data"]
    assert saved["memory_format"] == "channels_last"
    assert "fast_path_config" not in saved["features_extractor_kwargs"]
    assert StableCnnPolicy.load(tmp_path / "policy.pth").fast_path_config == policy.fast_path_config


def test_a_policy_that_version_0_1_0_saved_by_itself_is_loaded(tmp_path: Path) -> None:
    """Its features_extractor_kwargs hold the options as an object, under another name."""
    policy = policy_with(**OPTIONS["channels_last"])
    data = policy._get_constructor_parameters()
    data["features_extractor_kwargs"]["speed"] = config.FastPathConfig("channels_last")
    th.save({"state_dict": policy.state_dict(), "data": data}, tmp_path / "policy.pth")
    loaded = StableCnnPolicy.load(tmp_path / "policy.pth")
    assert th.equal(loaded.predict_values(images(2)), policy.predict_values(images(2)))


@with_each_option
def test_probes_hear_the_layers_of_a_fast_policy(name: str) -> None:
    plain, fast = settled(policy_with()), settled(policy_with(**OPTIONS[name]))
    with th.no_grad():
        fast(images(4))  # it is compiled before the probe comes
    heard, expected = ActivationProbe(fast)(images(4)), ActivationProbe(plain)(images(4))
    assert list(heard) == list(expected)
    for layer, activation in expected.items():
        scale = float(activation.abs().max())
        assert float((heard[layer].float() - activation).abs().max()) <= 2 * TOLERANCE[name] * scale


@with_each_option
@pytest.mark.parametrize(
    "where", ["features_extractor.cnn", "features_extractor.linear", "features_extractor.cnn.conv1"]
)
def test_hooks_of_a_users_own_are_heard(name: str, where: str) -> None:
    policy, heard = settled(policy_with(**OPTIONS[name])), []
    module = policy.get_submodule(where)
    handles = [
        module.register_forward_hook(lambda *_: heard.append("forward")),
        module.register_full_backward_hook(lambda *_: heard.append("backward")),
    ]
    values, _, _ = policy.evaluate_actions(images(4), th.zeros(4))
    values.sum().backward()
    assert heard == ["forward", "backward"]
    for handle in handles:
        handle.remove()
    for register in (register_module_forward_hook, register_module_full_backward_pre_hook):
        heard.clear()
        everywhere = register(lambda module, *_: heard.append(module))
        try:
            values, _, _ = policy.evaluate_actions(images(4), th.zeros(4))
            values.sum().backward()
        finally:
            everywhere.remove()
        assert module in heard, register.__name__


def test_an_extractor_with_a_forward_of_its_own_gets_floats_as_from_sb3() -> None:
    class Own(StableCNN):
        def forward(self, observations: th.Tensor) -> th.Tensor:
            assert observations.dtype == th.float32
            return self.linear(self.cnn(observations))

    own = policy_with(features_extractor_class=Own, memory_format="channels_last")
    assert th.allclose(own.predict_values(images(4)), policy_with().predict_values(images(4)), atol=1e-5)


@with_each_option
def test_batchnorm_is_calibrated_on_the_first_rollout_of_a_fast_policy(name: str) -> None:
    policy = policy_with(**OPTIONS[name])
    policy.set_training_mode(False)
    with th.no_grad():
        policy(images(8))
    assert policy.running_norms
    assert not any(untracked(norm) for norm in policy.running_norms)
    assert all(norm.running_mean.dtype == th.float32 for norm in policy.running_norms)


@needs_a_compiler
def test_a_truncated_minibatch_and_ever_new_sizes_do_not_compile_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_calls, "MAX_SHAPES", 2)
    policy = settled(policy_with(compile=True))
    with th.no_grad():
        policy(images(2))
    assert policy.features_extractor._fast_path._compiled is None, "acting is not worth compiling on a CPU"
    for rows in range(2, 6):
        policy.evaluate_actions(images(rows), th.zeros(rows))
    assert len(policy.features_extractor._fast_path._shapes) == 2
