"""``torch.compile``: each policy of a process is compiled, and only its own failures are passed over."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode

from sb3_stable_ppo import StableMlpPolicy
from sb3_stable_ppo.fast import compiled_calls, compiling, config

CPU = th.device("cpu")
needs_a_compiler = pytest.mark.skipif(compiling.why_no_compile(CPU) is not None, reason="there is no C++ compiler")


def policy_with(**options: Any) -> Any:
    """An Mlp policy with one hidden layer for the actor and none for the critic, so that one thing is compiled."""
    th.manual_seed(0)
    space = spaces.Box(-1, 1, (4,), np.float32)
    return StableMlpPolicy(space, spaces.Discrete(2), lambda _: 1e-3, net_arch={"pi": [8], "vf": []}, **options)


@pytest.mark.slow
@needs_a_compiler
def test_the_ninth_policy_of_a_process_is_compiled_as_the_first() -> None:
    compiled = []
    for _ in range(9):
        policy, before = policy_with(compile=True), counters["stats"]["unique_graphs"]
        for rows in (2, 3):
            policy.evaluate_actions(th.zeros(rows, 4), th.zeros(rows))
        compiled.append(counters["stats"]["unique_graphs"] - before)
    assert compiled == [2] * 9


@needs_a_compiler
@pytest.mark.parametrize("compile", ["auto", True])
def test_an_error_of_the_layers_is_the_one_they_raise_uncompiled(compile: Any, caplog: Any) -> None:
    messages = []
    for option in (False, compile):
        layers = policy_with(compile=option, memory_format="channels_last").mlp_extractor.policy_net
        with pytest.raises(RuntimeError) as caught:
            layers(th.zeros(2, 3))
        messages.append((type(caught.value), str(caught.value)))
    assert messages[0] == messages[1]
    assert "goes on without compiling" not in caplog.text


def test_an_error_while_compiled_code_runs_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: th.Tensor) -> th.Tensor:
        raise th.OutOfMemoryError("no memory is left")

    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    monkeypatch.setattr(compiling.th, "compile", lambda *_, **__: out_of_memory)
    with pytest.raises(th.OutOfMemoryError, match="no memory is left"):
        policy_with(compile="auto").mlp_extractor.policy_net(th.zeros(2, 4))


def test_a_cache_that_cannot_be_written_is_a_failure_of_compiling(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def no_cache(*_: Any, **__: Any) -> Any:
        raise PermissionError("cannot write the cache")

    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    monkeypatch.setattr(compiling.th, "compile", no_cache)
    observations = th.ones(2, 4)
    expected = policy_with().mlp_extractor.policy_net(observations)
    assert th.equal(policy_with(compile="auto").mlp_extractor.policy_net(observations), expected)
    assert "compile: auto goes on without compiling: cannot write the cache" in caplog.text


def test_what_a_graph_of_a_gpu_returns_is_copied_before_the_next_replay() -> None:
    with FakeTensorMode():
        for dtype in (th.float32, th.bfloat16):
            output = th.empty(3, dtype=dtype, device="cuda")
            kept = compiled_calls.own_result(output)
            assert kept is not output
            assert kept.dtype == th.float32
    output = th.ones(3)
    assert compiled_calls.own_result(output) is output
