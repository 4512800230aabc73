"""Whether anybody listens to modules."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn
from torch.nn.modules import module as torch_modules

from sb3_stable_ppo.fast.hooks import Hooks

REGISTERED: list[Callable[[nn.Module], Any]] = [
    lambda module: module.register_forward_hook(lambda *_: None),
    lambda module: module.register_forward_pre_hook(lambda *_: None),
    lambda module: module.register_full_backward_hook(lambda *_: None),
    lambda module: module.register_full_backward_pre_hook(lambda *_: None),
    lambda _: torch_modules.register_module_forward_hook(lambda *_: None),
    lambda _: torch_modules.register_module_forward_pre_hook(lambda *_: None),
    lambda _: torch_modules.register_module_full_backward_hook(lambda *_: None),
    lambda _: torch_modules.register_module_full_backward_pre_hook(lambda *_: None),
]


@pytest.mark.parametrize("register", REGISTERED)
def test_each_kind_of_hook_is_seen_while_it_is_there(register: Callable[[nn.Module], Any]) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    hooks = Hooks(network.modules())
    assert not hooks
    handle = register(network[0])
    assert hooks
    handle.remove()
    assert not hooks


@pytest.mark.parametrize("way", [copy.deepcopy, lambda hooks: pickle.loads(pickle.dumps(hooks))])
@pytest.mark.parametrize("register", REGISTERED)
def test_a_copy_watches_its_own_modules(register: Callable[[nn.Module], Any], way: Callable[[Hooks], Hooks]) -> None:
    network = nn.Linear(2, 2)
    hooks = Hooks([network])
    assert not hooks
    twin = way(hooks)
    assert twin.modules[0] is not network
    handle = register(twin.modules[0])
    assert twin
    handle.remove()
    assert not twin
