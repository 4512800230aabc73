"""The fast path: the same mathematics, in rollout and update, under probes, and in saved models."""

import logging
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from torch._inductor.exc import InductorError
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_pre_hook

from helpers.weights import assert_same_weights
from sb3_stable_ppo import StableCnnPolicy, StablePongPolicy, StablePPO
from sb3_stable_ppo.fast import compiling, config, execution, threads
from sb3_stable_ppo.fast.threads import single_threaded_inference
from sb3_stable_ppo.policies.calibration import untracked
from sb3_stable_ppo.policies.extractors import StableCNN
from sb3_stable_ppo.probes.activations import ActivationProbe

IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
OPTIONS: dict[str, dict[str, Any]] = {
    "channels_last": {"memory_format": "channels_last"},
    "bf16": {"precision": "bf16"},
    "compile": {"compile": True},
    "all": {"memory_format": "channels_last", "precision": "bf16", "compile": True},
}
TOLERANCE = {"channels_last": 1e-5, "bf16": 2e-2, "compile": 1e-5, "all": 2e-2}
"""Of log-probabilities and values, whose size is about 1."""
CAN_COMPILE = pytest.mark.skipif(
    compiling.why_no_compile(th.device("cpu")) is not None, reason="there is no C++ compiler"
)
ON = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=CAN_COMPILE if "compile" in OPTIONS[name] else ()) for name in OPTIONS]
)


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is right everywhere, if slow where it is emulated: these tests are of what it computes."""
    monkeypatch.setattr(config, "why_no_bf16", lambda _: None)


def policy_with(cls: Any = StableCnnPolicy, **options: Any) -> Any:
    """A policy; the same seed gives the same weights whatever the options."""
    th.manual_seed(0)
    return cls(IMAGE, spaces.Discrete(6), lambda _: 1e-3, norm="batch", **options)


def settled(policy: Any) -> Any:
    """In eval mode, past the first rollout, in which BatchNorm is calibrated layer by layer."""
    policy.set_training_mode(True)
    policy.set_training_mode(False)
    return policy


def images(rows: int, seed: int = 0) -> th.Tensor:
    """Random bytes."""
    return th.from_numpy(np.random.default_rng(seed).integers(0, 256, (rows, *IMAGE.shape), dtype=np.uint8))


class Noise:
    """An env of random images; the reward is whether action 1 was taken."""

    def __new__(cls) -> Any:
        import gymnasium as gym

        class Env(gym.Env[np.ndarray, int]):
            observation_space, action_space = IMAGE, spaces.Discrete(6)

            def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
                super().reset(seed=seed)
                self.t = 0
                return self._image(), {}

            def step(self, action: int) -> Any:
                self.t += 1
                return self._image(), float(action == 1), self.t >= 20, False, {}

            def _image(self) -> np.ndarray:
                return self.np_random.integers(0, 256, IMAGE.shape, dtype=np.uint8)

        return Env()


def model_with(algorithm: Any, policy: str = "StableCnnPolicy", **policy_kwargs: Any) -> Any:
    """A small model on random images."""
    classes = StablePPO.policy_aliases
    return algorithm(
        classes[policy],
        DummyVecEnv([Noise, Noise]),
        n_steps=8,
        batch_size=8,
        n_epochs=2,
        seed=0,
        policy_kwargs=policy_kwargs or None,
    )


@ON
@pytest.mark.parametrize("cls", [StableCnnPolicy, StablePongPolicy])
def test_each_option_computes_the_same_within_its_tolerance(name: str, cls: Any) -> None:
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


@ON
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


@ON
def test_floats_and_bytes_give_the_same(name: str) -> None:
    """SB3 gives ``predict_values`` and ``get_distribution`` floats, and the rollout's ``forward`` bytes."""
    policy = settled(policy_with(**OPTIONS[name]))
    observations = images(8)
    with th.no_grad():
        _, values, _ = policy(observations)
        assert float((policy.predict_values(observations) - values).abs().max()) <= 2 * TOLERANCE[name]


@ON
def test_the_init_is_that_of_the_plain_policy(name: str) -> None:
    plain, fast = policy_with(), policy_with(**OPTIONS[name])
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert all(th.equal(value, fast.state_dict()[key]) for key, value in plain.state_dict().items())


@ON
@pytest.mark.parametrize("algorithm", [PPO, StablePPO])
def test_a_fast_model_trains_and_its_zip_loads_as_a_plain_one(name: str, algorithm: Any, tmp_path: Path) -> None:
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


@ON
def test_probes_hear_the_layers_of_a_fast_policy(name: str) -> None:
    plain, fast = settled(policy_with()), settled(policy_with(**OPTIONS[name]))
    with th.no_grad():
        fast(images(4))  # it is compiled before the probe comes
    heard, expected = ActivationProbe(fast)(images(4)), ActivationProbe(plain)(images(4))
    assert list(heard) == list(expected)
    for layer, activation in expected.items():
        scale = float(activation.abs().max())
        assert float((heard[layer].float() - activation).abs().max()) <= 2 * TOLERANCE[name] * scale


@ON
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


@ON
def test_batchnorm_is_calibrated_on_the_first_rollout_of_a_fast_policy(name: str) -> None:
    policy = policy_with(**OPTIONS[name])
    policy.set_training_mode(False)
    with th.no_grad():
        policy(images(8))
    assert not any(untracked(norm) for norm in policy._batch_norms)
    assert all(norm.running_mean.dtype == th.float32 for norm in policy._batch_norms)


@CAN_COMPILE
def test_a_truncated_minibatch_and_ever_new_sizes_do_not_compile_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "MAX_SHAPES", 2)
    policy = settled(policy_with(compile=True))
    with th.no_grad():
        policy(images(2))
    assert policy.features_extractor._fast_path._compiled is None, "acting is not worth compiling on a CPU"
    for rows in range(2, 6):
        policy.evaluate_actions(images(rows), th.zeros(rows))
    assert len(policy.features_extractor._fast_path._shapes) == 2


# -- acting --------------------------------------------------------------------------------------------------------


def test_weights_cast_once_act_as_weights_cast_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, uncached = settled(policy_with(precision="bf16")), settled(policy_with(precision="bf16"))
    monkeypatch.setattr(uncached.features_extractor._fast_path._casts, "swapped_in", nullcontext)
    for _ in range(2):
        with th.no_grad():
            assert th.equal(cached.predict_values(images(4)), uncached.predict_values(images(4)))
            assert len(cached.features_extractor._fast_path._casts._casts) == 3  # conv2, conv3 and the linear layer
            for policy in (cached, uncached):
                policy.features_extractor.linear.fc.weight.mul_(0.5)
    assert all(isinstance(p, th.nn.Parameter) and p.dtype == th.float32 for p in cached.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_a_rollout_acts_with_the_weights_of_the_last_update(fused: bool) -> None:
    model = model_with(StablePPO, precision="bf16", optimizer_kwargs={"fused": fused}).learn(32)
    policy = settled(model.policy)
    with th.no_grad():
        policy(images(4))
    model.learn(16)
    settled_again = settled(model.policy)
    with th.no_grad():
        values = settled_again.predict_values(images(4))
        policy.features_extractor._fast_path.forget_weights()
        assert th.equal(values, policy.predict_values(images(4)))


def test_weights_written_past_torchs_count_are_seen_where_the_mode_is_set() -> None:
    policy = settled(policy_with(precision="bf16"))
    with th.no_grad():
        before = policy.predict_values(images(4))
    policy.features_extractor.linear.fc.weight.data.zero_()
    with th.no_grad():
        assert not th.equal(settled(policy).predict_values(images(4)), before)


def test_weights_are_put_back_where_a_layer_fails() -> None:
    policy = settled(policy_with(precision="bf16"))
    with th.no_grad(), pytest.raises(RuntimeError):
        policy.features_extractor(images(4)[:, :3])
    assert all(isinstance(p, th.nn.Parameter) for p in policy.parameters())


@pytest.mark.parametrize(
    ("count", "rows", "expected"), [(2, 8, 1), (4, threads.FEW_ROWS, 1), (2, 17, 2), (5, 8, 5), (1, 8, 1)]
)
def test_few_threads_act_on_few_rows_as_one(
    count: int, rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [count]
    monkeypatch.setattr(th, "get_num_threads", lambda: now[-1])
    monkeypatch.setattr(th, "set_num_threads", now.append)
    with single_threaded_inference(rows, th.device("cpu")):
        assert now[-1] == expected
    assert now[-1] == count


def test_a_plain_policy_acts_on_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(th, "set_num_threads", seen.append)
    settled(policy_with())(images(2))
    assert not seen


# -- what a machine has ------------------------------------------------------------------------------------------------


def test_auto_never_fails_and_says_what_it_picked(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(config, "why_no_bf16", lambda _: "this processor is old")
    monkeypatch.setattr(config, "why_no_compile", lambda _: "no C++ compiler (g++) is installed")
    with caplog.at_level(logging.INFO, logger="sb3_stable_ppo.fast"):
        model_with(PPO, precision="auto", compile="auto").learn(16)
    assert "fast path: contiguous, fp32, not compiled, on cpu" in caplog.text


def test_auto_goes_on_where_compiling_fails_and_true_does_not(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def failing(*_: th.Tensor) -> th.Tensor:
        raise InductorError(RuntimeError("Python.h is missing"), None)

    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    monkeypatch.setattr(compiling.th, "compile", lambda *_, **__: failing)
    plain, fast = settled(policy_with()), settled(policy_with(compile="auto"))
    assert th.allclose(fast(images(4))[1], plain(images(4))[1], atol=1e-5)
    assert "compile: auto goes on without compiling: RuntimeError: Python.h is missing" in caplog.text
    with pytest.raises(
        ValueError, match=r"compile: true cannot be done here: RuntimeError: Python.h is missing\. Choose false"
    ):
        settled(policy_with(compile=True))(images(4))


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_one_error_before_training_begins(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sb3_stable_ppo", "train", "--env", "PongNoFrameskip-v4", "-n", "64"]
    params = ["-params", "n_steps:16", "batch_size:32", "n_envs:2", "policy_kwargs:{'compile':True}"]
    broken = {**os.environ, "CXX": "/bin/false", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*command, "-f", str(tmp_path / "logs"), *params], capture_output=True, text=True, env=broken, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "compile: true cannot be done here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("logs/**/*.zip"))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"precision": "bf16"}, "precision: bf16 is not available on cpu: .* Choose fp32 or auto"),
        ({"compile": True}, "compile: true cannot be done here: no C\\+\\+ compiler .* Choose false or auto"),
    ],
)
def test_what_is_asked_for_by_name_and_is_not_there_is_an_error_where_training_begins(
    options: Any, complaint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = model_with(PPO, **options)
    model.save(tmp_path / "model.zip")
    monkeypatch.setattr(config, "why_no_bf16", lambda _: "this processor has neither AVX-512-BF16 nor AMX")
    monkeypatch.setattr(compiling.shutil, "which", lambda _: None)
    with pytest.raises(ValueError, match=complaint):
        model_with(PPO, **options).learn(16)
    loaded = PPO.load(tmp_path / "model.zip")  # but it can be used
    loaded.predict(images(1)[0].numpy())


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"memory_format": "nhwc"}, "Unknown memory_format 'nhwc': choose one of contiguous, channels_last"),
        ({"precision": "fp16"}, "Unknown precision 'fp16': choose one of fp32, bf16, auto"),
        ({"compile": "maybe"}, "Unknown compile 'maybe': choose one of true, false, auto"),
    ],
)
def test_an_unknown_word_is_an_error_with_the_choices(options: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        policy_with(**options)


def test_fused_adam_keeps_sb3s_eps() -> None:
    for options, eps in (({"fused": True}, 1e-5), ({"fused": True, "eps": 1e-8}, 1e-8), (None, 1e-5)):
        assert policy_with(optimizer_kwargs=options).optimizer.defaults["eps"] == eps
    sgd = policy_with(optimizer_class=th.optim.SGD, optimizer_kwargs={"momentum": 0.9})
    assert "eps" not in sgd.optimizer.defaults
