"""Extractor and hidden layers compiled as one region: the same results, and whoever listens hears the same."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch._dynamo.utils import counters

from helpers.compiled_calls import EACH, ONE, Calls, assert_same, direction
from helpers.fast_path import model_with, needs_a_compiler
from helpers.weights import assert_same_weights
from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMaskableCnnPolicy,
    StableMaskablePongPolicy,
    StableMlpPolicy,
    StableMultiInputPolicy,
    StablePongPolicy,
    StablePPO,
    StableRecurrentPongPolicy,
)
from sb3_stable_ppo.fast import compiled_calls, config
from sb3_stable_ppo.policies.extractors import StableCNN

IMAGE = spaces.Box(0, 255, (2, 36, 36), np.uint8)
APART = {"share_features_extractor": False}
REGIONS: list[tuple[Any, dict[str, Any], int]] = [
    (StablePongPolicy, {}, 3),
    (StablePongPolicy, APART, 4),
    (StablePongPolicy, {"net_arch": {"pi": [8], "vf": []}}, 2),
    (StableCnnPolicy, APART, 2),
    (StableCnnPolicy, {"net_arch": {"pi": [8], "vf": [8]}}, 3),
    (StableMaskablePongPolicy, {}, 3),
    (StableMaskableCnnPolicy, APART, 2),
]
"""Policies, options, and how many networks are compiled as one."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    monkeypatch.setattr(compiled_calls, "compile_layers", found.compile_layers)
    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    monkeypatch.setattr(config, "why_no_bf16", lambda _: None)
    return found


def policy_with(cls: Any = StablePongPolicy, space: Any = IMAGE, **options: Any) -> Any:
    th.manual_seed(0)
    return cls(space, spaces.Discrete(3), lambda _: 1e-3, **{"norm": "layer", **options})


def images(rows: int, seed: int = 0) -> th.Tensor:
    return th.from_numpy(np.random.default_rng(seed).integers(0, 256, (rows, *IMAGE.shape), np.uint8))


def minibatch(policy: Any, rows: int = 6) -> tuple[list[th.Tensor], dict[str, th.Tensor]]:
    """Values, log-probabilities and entropy, and all gradients."""
    if not policy.training:
        policy.set_training_mode(True)
    policy.zero_grad()
    outputs = policy.evaluate_actions(images(rows), th.arange(rows) % 3)
    (outputs[0].mean() + (outputs[1] * th.linspace(-1, 1, rows)).mean() + outputs[2].mean()).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}
    return [output.detach() for output in outputs], gradients


@pytest.mark.parametrize(("cls", "options", "networks"), REGIONS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_update_is_one_compiled_call_with_the_results_of_one_for_each_network(
    cls: Any, options: dict[str, Any], networks: int, precision: str, calls: Calls
) -> None:
    one, each = (policy_with(cls, compile=True, precision=precision, **options) for _ in range(2))
    assert len(one._region.steps) == networks
    each._region = None
    (found, gradients), (expected, theirs) = minibatch(one), minibatch(each)
    assert_same(found, expected)
    if precision == "fp32":
        assert_same(gradients, theirs)
    assert direction(gradients, theirs) > 0.9999  # in bf16, those of features are added in bf16
    assert calls.called == [(ONE, 6)] + [(EACH, 6)] * networks


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (StableCnnPolicy, {}),  # it is one network
        (StableRecurrentPongPolicy, {}),  # there is an LSTM between
        (StablePongPolicy, {"features_extractor_kwargs": {"fast_path_config": None}}),
        (StablePongPolicy, {"compile": False, "precision": "bf16"}),
    ],
)
def test_there_is_no_region_where_there_is_nothing_to_join(cls: Any, options: dict[str, Any]) -> None:
    assert policy_with(cls, **{"compile": True, **options})._region is None


def test_there_is_no_region_without_images_of_bytes_or_with_an_extractor_of_ones_own() -> None:
    class Own(StableCNN):
        def forward(self, inputs: th.Tensor) -> th.Tensor:
            assert inputs.dtype == th.float32
            return super().forward(inputs)

    floats = spaces.Box(0, 1, IMAGE.shape, np.float32)
    dicts = spaces.Dict({"image": IMAGE, "vector": spaces.Box(-1, 1, (2,))})
    for policy in (
        policy_with(compile=True, features_extractor_class=Own, features_extractor_kwargs={"features_dim": None}),
        policy_with(space=floats, compile=True, normalize_images=False),
        policy_with(StableMlpPolicy, spaces.Box(-1, 1, (3,)), compile=True),
        policy_with(StableMultiInputPolicy, dicts, compile=True),
    ):
        assert policy._region is None


def test_on_a_cpu_acting_is_not_compiled_and_graphs_of_a_gpu_hold_all_networks(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_with(compile=True)
    policy.set_training_mode(False)
    with th.no_grad():
        expected = policy(images(4), deterministic=True)
        assert calls.called == []
        monkeypatch.setattr(compiled_calls.CompiledCalls, "_is_to_compile", lambda *_: True)  # as on a GPU
        assert_same(policy(images(4), deterministic=True), expected)
        assert calls.called == [(ONE, 4)]
        policy.predict_values(images(4))
        assert calls.called[1:] == [(EACH, 4)] * 2


@pytest.mark.parametrize(
    "where", ["features_extractor.cnn.conv2", "mlp_extractor.policy_net", "mlp_extractor.value_net.fc1"]
)
def test_hooks_within_are_heard_with_the_same_results(where: str, calls: Calls) -> None:
    policy, heard = policy_with(compile=True), []
    expected = minibatch(policy)
    for _ in range(2):
        module = policy.get_submodule(where)
        handles = [
            module.register_forward_hook(lambda *_: heard.append("forward")),
            module.register_full_backward_hook(lambda *_: heard.append("backward")),
        ]
        th.testing.assert_close(minibatch(policy), expected, atol=1e-5, rtol=1e-4)  # bytes are divided another way
        assert heard == ["forward", "backward"]
        assert [name for name, _ in calls.called].count(ONE) == 1
        for handle in handles:
            handle.remove()
        heard.clear()
        assert_same(minibatch(policy), expected)
        assert calls.called.pop() == (ONE, 6)


@pytest.mark.parametrize("where", ["", "mlp_extractor", "action_net", "value_net"])
def test_hooks_around_are_heard_with_what_lies_between(where: str, calls: Calls) -> None:
    policy, heard = policy_with(compile=True), []
    expected = minibatch(policy)
    module = policy.get_submodule(where) if where else policy.mlp_extractor
    module.register_forward_pre_hook(lambda _, args: heard.append(args[0].shape[1]))
    module.register_full_backward_hook(lambda *_: heard.append("backward"))
    assert_same(minibatch(policy), expected)
    assert heard == [policy.features_dim if "net" not in where else 512, "backward"]
    assert ONE in {name for name, _ in calls.called}


def test_a_subclass_that_changes_the_features_is_compiled_network_by_network(calls: Calls) -> None:
    class Masked(StablePongPolicy):
        def extract_features(self, obs: Any, features_extractor: Any = None) -> Any:
            return super().extract_features(obs, features_extractor) * 0.5

    th.testing.assert_close(minibatch(policy_with(Masked, compile=True)), minibatch(policy_with(Masked)))
    assert calls.called == [(EACH, 6)] * 3


@pytest.mark.parametrize("change", [lambda features: features * 0.5, lambda features: features.mul_(0.5)])
def test_hidden_layers_compute_from_what_a_hook_has_made_of_the_features(
    change: Any, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_calls.CompiledCalls, "_is_to_compile", lambda *_: True)
    one, each = policy_with(compile=True), policy_with(compile=True)
    each._region = None
    for policy in (one, each):
        policy.set_training_mode(False)
        policy.mlp_extractor.register_forward_pre_hook(lambda _, args: (change(args[0]),))
    with th.no_grad():
        assert_same(one(images(4), deterministic=True), each(images(4), deterministic=True))
    assert calls.called == [(ONE, 4), (EACH, 4), (EACH, 4)] + [(EACH, 4)] * 3


def test_networks_that_were_replaced_are_the_ones_that_compute(calls: Calls) -> None:
    one, each = policy_with(compile=True), policy_with(compile=True)
    each._region = None
    for policy in (one, each):
        policy.mlp_extractor = policy_with(net_arch={"pi": [32, 512], "vf": [512]}, compile=True).mlp_extractor
    (found, _), (expected, _) = minibatch(one), minibatch(each)
    assert_same(found, expected)
    assert calls.called[:3] == [(ONE, 6), (EACH, 6), (EACH, 6)]


def test_nothing_is_kept_of_a_minibatch_that_is_over_or_has_failed(calls: Calls) -> None:
    policy = policy_with(compile=True)
    minibatch(policy)
    assert calls.called
    assert all(path.ahead is None for path, _ in policy._region.steps)
    with pytest.raises(ValueError, match="not broadcastable"):
        policy.evaluate_actions(images(4), th.zeros(5))
    assert all(path.ahead is None for path, _ in policy._region.steps)


def test_beyond_the_shapes_that_are_compiled_for_nothing_more_is(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_calls, "MAX_SHAPES", 2)
    policy, plain = policy_with(compile=True), policy_with()
    for rows in (3, 4, 5, 3):
        found, expected = minibatch(policy, rows), minibatch(plain, rows)
        th.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert calls.called == [(ONE, 3), (ONE, 4), (ONE, 3)]


def test_compile_auto_tries_the_region_in_turn_with_uncompiled_networks(calls: Calls) -> None:
    policy = policy_with(compile="auto")
    assert policy._region.trial is policy._compile_trial is not None
    for _ in range(4):
        minibatch(policy)
    assert calls.called == [(ONE, 6)] * 2
    policy._compile_trial.end(False)
    minibatch(policy)
    assert len(calls.called) == 2
    twin = pickle.loads(pickle.dumps(policy))
    assert twin._region.trial is twin._compile_trial is not policy._compile_trial
    minibatch(twin)
    assert calls.called[2:] == [(ONE, 6)]


@pytest.mark.parametrize("option", [True, "auto"])
def test_where_one_region_cannot_be_compiled_each_network_is(option: Any, calls: Calls, caplog: Any) -> None:
    policy = policy_with(compile=option)
    calls.fails = {ONE}
    expected = minibatch(policy_with())
    found = [minibatch(policy) for _ in range(4)]
    for each in found:
        th.testing.assert_close(each, expected, atol=1e-5, rtol=1e-4)
    assert set(calls.called) == {(EACH, 6)}
    assert caplog.messages == [
        "each network is compiled by itself, since together they cannot be: cannot write the cache"
    ]


def test_an_error_of_the_layers_is_the_one_they_raise_uncompiled(calls: Calls, caplog: Any) -> None:
    policy, messages = policy_with(compile=True), []
    calls.fails = {ONE}
    for each in (policy_with(), policy):
        with pytest.raises(RuntimeError) as caught:
            each.evaluate_actions(images(4)[:, :1], th.zeros(4))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not caplog.messages


@pytest.mark.parametrize("way", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_has_a_region_of_its_own_networks(way: Any, calls: Calls) -> None:
    policy = policy_with(StablePongPolicy, compile=True, **APART)
    twin = way(way(policy))
    assert twin._region is not policy._region
    modules = [twin.pi_features_extractor, twin.vf_features_extractor]
    modules += [twin.mlp_extractor.policy_net, twin.mlp_extractor.value_net]
    assert [path.module for path, _ in twin._region.steps] == modules
    assert [path.module._fast_path for path, _ in twin._region.steps] == [path for path, _ in twin._region.steps]
    assert_same(minibatch(twin), minibatch(policy))
    assert calls.called == [(ONE, 6)] * 2


def test_a_run_ends_with_the_weights_of_one_without_and_its_zip_loads(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    model = model_with(StablePPO, "StablePongPolicy", compile=True).learn(32)
    assert {name for name, _ in calls.called} == {ONE}
    model.save(tmp_path / "model")
    loaded = StablePPO.load(tmp_path / "model")
    assert_same_weights(model, loaded)
    assert loaded.policy._region is not None
    monkeypatch.setattr(StablePongPolicy, "_find_region", lambda _: None)
    assert_same_weights(model, model_with(StablePPO, "StablePongPolicy", compile=True).learn(32))
    assert {name for name, _ in calls.called} == {ONE, EACH}


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("options", [{}, {"memory_format": "channels_last", "precision": "bf16", "norm": "batch"}])
def test_torch_compiles_one_graph_for_the_networks_of_a_minibatch(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "why_no_bf16", lambda _: None)
    plain, policy = policy_with(**{**options, "precision": "fp32"}), policy_with(compile=True, **options)
    before = counters["stats"]["unique_graphs"]
    (found, gradients), (expected, theirs) = minibatch(policy), minibatch(plain)
    assert counters["stats"]["unique_graphs"] == before + 1
    assert not counters["graph_break"]
    th.testing.assert_close(found, expected, atol=2e-2 if options else 1e-5, rtol=0)
    assert direction(gradients, theirs) > (0.99 if options else 0.99999)
