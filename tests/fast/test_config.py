"""The options of the fast path: unknown ones, and those that a machine cannot do."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO
from torch._inductor.exc import InductorError

from helpers.fast_path import (
    images,
    model_with,
    policy_with,
    settled,
)
from sb3_stable_ppo.fast import compiling, config


def test_auto_never_fails_and_says_what_it_picked(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(config, "why_no_bf16", lambda _: "this processor is old")
    monkeypatch.setattr(config, "why_no_compile", lambda _: "no C++ compiler (g++) is installed")
    with caplog.at_level(logging.INFO, logger="sb3_stable_ppo.fast"):
        model_with(PPO, precision="auto", compile="auto").learn(16)
    assert "fast path: contiguous, fp32, not compiled, on cpu" in caplog.text


@pytest.mark.parametrize(
    ("compile", "told"), [(True, "compiled"), ("auto", "compiled where that is faster"), (False, "not compiled")]
)
def test_what_the_options_come_to_is_told_before_compiling_was_tried(
    compile: bool | str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    described = config.FastPathConfig("channels_last", "fp32", compile).describe(th.device("cpu"))
    assert described == f"channels_last, fp32, {told}, on cpu"


def test_auto_goes_on_where_compiling_fails_and_true_does_not(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def failing(*_: th.Tensor) -> th.Tensor:
        raise InductorError(RuntimeError("Python.h is missing"), None)

    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    monkeypatch.setattr(compiling.th, "compile", lambda *_, **__: failing)
    plain, fast = settled(policy_with()), settled(policy_with(compile="auto"))
    values = [policy.evaluate_actions(images(4), th.zeros(4))[0] for policy in (plain, fast)]
    assert th.allclose(*values, atol=1e-5)
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
