"""CUDA graphs are told where each pass through the networks begins."""

from typing import Any

import pytest
import torch as th

from helpers.fast_path import images, policy_with
from sb3_stable_ppo import StablePongPolicy
from sb3_stable_ppo.policies.cuda_graphs import ReplaysGraphs

ACTIONS = th.zeros(4, dtype=th.long)
PASSES: dict[str, Any] = {
    "forward": lambda policy: policy.forward(images(4)),
    "evaluate_actions": lambda policy: policy.evaluate_actions(images(4), ACTIONS),
    "get_distribution": lambda policy: policy.get_distribution(images(4)),
    "predict_values": lambda policy: policy.predict_values(images(4)),
    "predict": lambda policy: policy.predict(images(4).numpy()),
}


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(th.compiler, "cudagraph_mark_step_begin", lambda: found.append(1))
    return found


@pytest.mark.parametrize("name", PASSES)
def test_each_method_that_runs_the_networks_marks_one_pass(
    name: str, marks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplaysGraphs, "replays_graphs", True)
    PASSES[name](policy_with(cls=StablePongPolicy))
    assert marks == [1]


@pytest.mark.parametrize("name", PASSES)
def test_on_a_cpu_none_is_marked(name: str, marks: list[int]) -> None:
    policy = policy_with(cls=StablePongPolicy, compile=False)
    assert not policy.replays_graphs
    PASSES[name](policy)
    assert marks == []


@pytest.mark.parametrize(("compile", "expected"), [(True, True), ("auto", True), (False, False)])
def test_graphs_are_replayed_where_layers_are_compiled_on_a_gpu(
    compile: bool | str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_with(cls=StablePongPolicy, compile=compile)
    monkeypatch.setattr(type(policy), "device", th.device("cuda"))
    assert policy.replays_graphs is expected
