"""
Runs our policies, the guards' arithmetic and our rollout buffers on a device that only pretends to be one, and prints
what went wrong. For ``test_other_device.py``, in a process of its own: what it registers with torch stays for good.

Tensors have shapes, types and devices but no numbers, so a tensor that was left on the CPU is an error, and so is each
look at a number, which on a GPU is a wait.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, product
from typing import Any
from unittest import mock

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution
from torch.func import functional_call
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from sb3_stable_ppo import StableCnnPolicy, StableMlpPolicy, StableMultiInputPolicy, StablePongPolicy
from sb3_stable_ppo.fast import compiled_calls, config
from sb3_stable_ppo.guards.arithmetic import normalize_advantages

DEVICE = "pretended"
IMAGE, VECTOR = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Box(-1, 1, (5,))
SPACES = {
    StablePongPolicy: IMAGE,
    StableCnnPolicy: IMAGE,
    StableMlpPolicy: VECTOR,
    StableMultiInputPolicy: spaces.Dict({"image": IMAGE, "vector": VECTOR}),
}
ROWS = 8
ALL, ONE = "_run_layers", "run_fused_layers"
COMPILED: list[tuple[Any, bool, list[str]]] = [
    (StablePongPolicy, True, [ALL, ONE, ONE, ONE, ONE, ALL]),
    (StablePongPolicy, False, [ALL, ONE, ONE, ONE, ONE, ALL]),
    (StableCnnPolicy, True, [ONE] * 4),
    (StableCnnPolicy, False, [ALL, ONE, ONE, ALL]),
]
"""What is called compiled, in ``forward``, ``predict_values``, ``_predict`` and ``evaluate_actions``."""


class Caller(nn.Module):
    """``functional_call`` runs a module's ``forward`` with other tensors in place of its own; here, any method."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, name: str, *args: Any) -> Any:
        return getattr(self.policy, name)(*args)


def observations(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: observations(inner) for key, inner in space.items()}
    dtype = th.uint8 if space.dtype == np.uint8 else th.float32
    return th.empty((ROWS, *(space.shape or ())), dtype=dtype, device=DEVICE)


def run_policy(cls: Any, **options: Any) -> None:
    """A rollout's forward, the methods of evaluation, and a minibatch with its gradients."""
    space = SPACES[cls]
    caller = Caller(cls(space, spaces.Discrete(6), lambda _: 1e-3, **options))
    mode = FakeTensorMode()
    with mode:
        state = {
            name: th.empty(tensor.shape, dtype=tensor.dtype, device=DEVICE)
            for name, tensor in chain(caller.named_parameters(), caller.named_buffers())
        }
        obs, actions = observations(space), th.empty(ROWS, dtype=th.long, device=DEVICE)
    for name, _ in caller.named_parameters():
        state[name].requires_grad_()
    caller.policy.set_training_mode(False)
    with mode, th.no_grad():
        for name in ("forward", "predict_values", "_predict"):
            found = functional_call(caller, state, (name, obs), tie_weights=False)
            for tensor in found if isinstance(found, tuple) else (found,):
                assert tensor.device.type == DEVICE, name
    caller.policy.set_training_mode(True)
    with mode:
        values, log_prob, entropy = functional_call(
            caller, state, ("evaluate_actions", obs, actions), tie_weights=False
        )
        (values.sum() + log_prob.sum() + entropy.sum()).backward()
    without = [name for name, _ in caller.named_parameters() if state[name].grad is None]
    assert not without, f"no gradient reached {without}"


def run_compiled(cls: Any, share: bool, expected: list[str]) -> None:
    """As it runs where layers are compiled, but for torch's compiler."""
    called: list[str] = []

    def compile_layers(layers: Any, device: th.device) -> Any:
        assert device.type == DEVICE
        return lambda inputs: (called.append(layers.__name__), layers(inputs))[1]

    compiler = mock.patch.object(compiled_calls, "compile_layers", compile_layers)
    with compiler, mock.patch.object(config, "why_no_compile", return_value=None):
        run_policy(cls, norm="layer", compile="auto", share_features_extractor=share)
    assert called == expected, called


def run_advantages() -> None:
    with FakeTensorMode():
        advantages, is_flat = normalize_advantages(th.empty(64, device=DEVICE), 1e-5)
        assert advantages.device.type == is_flat.device.type == DEVICE


def a_tensor_left_behind() -> None:
    with FakeTensorMode():
        th.empty(3, device=DEVICE) + th.empty(3)


def a_look_at_a_number() -> None:
    with FakeTensorMode():
        th.empty((), device=DEVICE).item()


def cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for cls, norm, running, position in product(
        SPACES, ("layer", "batch"), ("none", "running"), ("contiguous", "channels_last")
    ):
        options = {"norm": norm, "norm_input": running, "norm_value": running, "memory_format": position}
        yield f"{cls.__name__} {' '.join(options.values())}", partial(run_policy, cls, **options)
    for cls, share, expected in COMPILED:
        yield f"{cls.__name__} compiled, extractor shared: {share}", partial(run_compiled, cls, share, expected)
    yield "advantages", run_advantages
    yield "a tensor left behind", a_tensor_left_behind
    yield "a look at a number", a_look_at_a_number


def main() -> None:
    _setup_privateuseone_for_python_backend(DEVICE)
    Distribution.set_default_validate_args(False)  # SB3's distributions look at all of their numbers
    found = {}
    for name, case in cases():
        try:
            case()
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = ""
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
