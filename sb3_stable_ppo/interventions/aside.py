"""
A pass through networks while ``train()`` is at work on them, without a trace in it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch as th
from torch import nn

from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.fast.execution import FastModule
from sb3_stable_ppo.probes.activations import evaluating


@contextmanager
def aside(network: nn.Module) -> Iterator[None]:
    """
    Within this context a policy or one of its networks can be run between the forward and the backward pass of
    ``train()``, with or without gradients.

    It runs in eval mode, as it acts: no dropout is drawn, no running statistics move. SB3 keeps one distribution object
    per policy, from which ``evaluate_actions`` takes the entropy after the values, so another stands in for it. Layers
    of the fast path run one by one: code that was compiled for the policy's own parameters would be compiled again for
    a copy of them, and a CUDA graph would write over what ``train()`` has yet to go back through.

    :param network: a policy, or a network of it
    """
    # cuDNN goes back through an LSTM in train mode alone; without dropout the mode makes no other difference
    recurrent = [m for m in network.modules() if isinstance(m, nn.RNNBase) and m.training and not m.dropout]
    with ExitStack() as stack:
        stack.enter_context(evaluating(network))
        for lstm in recurrent:
            lstm.training = True
        for module in network.modules():
            if isinstance(module, FastModule):
                stack.callback(module.register_forward_hook(_listen).remove)
        if hasattr(network, "action_dist"):
            stack.enter_context(patched(network, "action_dist", copy.copy(network.action_dist)))
        if hasattr(network, "_begin_pass"):  # it tells CUDA graphs that nothing of the last pass is needed any more
            stack.enter_context(patched(network, "_begin_pass", _nothing))
        yield


@contextmanager
def weights_in_place(network: nn.Module, weights: Mapping[str, th.Tensor]) -> Iterator[None]:
    """
    Within this context a network has other weights, and no gradients.

    ``torch.func.functional_call`` is no way to it: where a module has two names, as the features extractor of SB3's
    policies has, torch leaves the other weights in it for good (2.13, ``_reparametrize_module``). Here the parameters
    stay, and change the memory that they stand for; that also reaches the list in which an LSTM keeps its own.

    :param network: a policy, or a network of it
    :param weights: by name, for all of ``named_parameters()``
    """
    own = [(parameter, parameter.data) for parameter in network.parameters()]
    try:
        for name, parameter in network.named_parameters():
            parameter.data = weights[name]
        with th.no_grad():
            yield
    finally:
        for parameter, data in own:
            parameter.data = data


def _listen(module: nn.Module, args: Any, output: Any) -> None:
    """A hook in whose presence layers run one by one."""


def _nothing() -> None:
    """In place of a method that is not to be called."""
