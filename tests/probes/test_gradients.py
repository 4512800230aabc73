"""Gradients as backward leaves them."""

import pytest
import torch as th
from torch import nn

from sb3_stable_ppo.metrics.weights import grama_fraction
from sb3_stable_ppo.probes.gradients import GradientRecorder
from sb3_stable_ppo.probes.layers import Layer


def network() -> tuple[nn.Sequential, list[Layer]]:
    th.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    return net, [Layer(f"fc{index}", str(index), "fc", net[index]) for index in (0, 2)]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_figures_are_of_the_last_minibatch_before_it_was_clipped(set_to_none: bool) -> None:
    net, layers = network()
    recorder = GradientRecorder(layers)
    expected: dict[str, th.Tensor] = {}
    for scale in (1.0, 100.0):
        net.zero_grad(set_to_none=set_to_none)
        net(th.randn(16, 4) * scale).square().sum().backward()
        expected = {layer.name: layer.module.weight.grad.clone() for layer in layers}  # type: ignore[union-attr, operator]
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    found = recorder.figures()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name]["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-6)
        assert found[name]["gradient_norm"] > 0.5
        assert found[name]["grama_fraction"] == pytest.approx(grama_fraction(gradient), abs=1e-6)


def test_a_frozen_layer_is_passed_over() -> None:
    net, layers = network()
    net[0].requires_grad_(False)
    recorder = GradientRecorder(layers)
    net(th.randn(16, 4)).sum().backward()
    assert recorder.figures().keys() == {"fc2"}


def test_a_closed_recorder_leaves_no_hook() -> None:
    net, layers = network()
    GradientRecorder(layers).close()
    assert not any(weight._post_accumulate_grad_hooks for weight in net.parameters())  # type: ignore[attr-defined]


def test_a_layer_whose_weights_are_computed_is_passed_over() -> None:
    net, layers = network()
    nn.utils.parametrizations.weight_norm(net[0])
    recorder = GradientRecorder(layers)
    net(th.randn(16, 4)).sum().backward()
    assert recorder.figures().keys() == {"fc2"}
