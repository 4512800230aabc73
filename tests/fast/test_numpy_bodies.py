"""The hidden layers of actor and critic in NumPy, together and apart: what torch computes, forward and backward."""

import copy
from typing import Any

import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_stable_ppo.fast.numpy_bodies import Twins, Two, bodies
from sb3_stable_ppo.fast.numpy_forms import NoNumpyForm, shared


def layers(width: int = 8, activation: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, width),
        nn.LayerNorm(width),
        activation or nn.LeakyReLU(),
        nn.Linear(width, 4, bias=False),
        nn.Tanh(),
    )


FORMS: dict[str, tuple[nn.Sequential, nn.Sequential, type]] = {
    "alike": (layers(), layers(), Twins),
    "another width": (layers(), layers(16), Two),
    "another slope": (layers(), layers(activation=nn.LeakyReLU(0.3)), Two),
    "no layer": (nn.Sequential(), nn.Sequential(), Two),
    "no critic's": (layers(), nn.Sequential(), Two),
}


@pytest.mark.parametrize("share", [True, False], ids=["one input", "two inputs"])
@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_are_torchs(form: str, share: bool) -> None:
    actor, critic, expected = copy.deepcopy(FORMS[form])
    both = bodies([*actor], [*critic])
    assert type(both) is expected
    rows = th.randn(5, 3, generator=th.Generator().manual_seed(0))
    inputs = (rows, rows if share else rows.flip(0))
    arrays = (inputs[0].numpy(), inputs[0].numpy() if share else inputs[1].numpy().copy())

    outputs = actor(inputs[0]), critic(inputs[1])
    found, back = both.learn(arrays)
    for ours, acted, torchs in zip(found, both(arrays), outputs, strict=True):
        np.testing.assert_allclose(ours, torchs.detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(acted, ours)
    np.testing.assert_allclose(both.actor(arrays[0]), found[0], rtol=1e-6, atol=1e-7)

    gradients = [th.randn(output.shape, generator=th.Generator().manual_seed(1)) for output in outputs]
    learning = [(output, gradient) for output, gradient in zip(outputs, gradients, strict=True) if output.requires_grad]
    if learning:
        outputs_that_learn, their_gradients = zip(*learning, strict=True)
        wanted = th.autograd.grad(outputs_that_learn, both.parameters, their_gradients)
        for ours, torchs in zip(back(*(each.numpy() for each in gradients)), wanted, strict=True):
            np.testing.assert_allclose(ours, torchs, rtol=1e-4, atol=1e-5)


def test_twins_leave_every_weight_as_it_was_and_see_each_change() -> None:
    actor, critic = layers(), layers()
    before = copy.deepcopy((actor.state_dict(), critic.state_dict()))
    both = bodies([*actor], [*critic])
    for network, state in zip((actor, critic), before, strict=True):
        for name, tensor in network.state_dict().items():
            assert th.equal(tensor, state[name])
            assert tensor.is_contiguous()
    rows: Any = np.ones((2, 3), np.float32)
    old = both((rows, rows))
    with th.no_grad():
        critic[1].bias.add_(1.0)
    new = both((rows, rows))
    np.testing.assert_array_equal(new[0], old[0])
    assert np.abs(new[1] - old[1]).max() > 1e-3


def test_only_one_precision_and_device_is_shared() -> None:
    with pytest.raises(NoNumpyForm, match=r"a weight is torch.float64 on cpu"):
        shared(th.zeros(2), th.zeros(2, dtype=th.float64))
