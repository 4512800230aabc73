"""
The figures of a network's health on some observations: what ``health.jsonl`` holds and a diagnosis judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from torch import nn
from torch.distributions import Categorical

from sb3_stable_ppo.common.layer_names import is_critic_layer
from sb3_stable_ppo.common.tensors import all_finite, first_nonfinite, is_broken_distribution
from sb3_stable_ppo.metrics.kl import LOG_MAX, mean_kl
from sb3_stable_ppo.metrics.layers import (
    BatchNorm,
    dormant_fraction,
    feature_norm,
    feature_similarity,
    live_units,
    ranks,
    saturated_fraction,
    sparsity,
    srank,
)
from sb3_stable_ppo.metrics.policy import churn_cross_entropy, policy_churn, ratio_excess
from sb3_stable_ppo.metrics.weights import norm_drift
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.outputs import Observations, Outputs, log_prob, outputs_of, policy_figures

Figures = dict[str, Any]
COUNTED_ROWS = 64
"""Observations that units are counted on, everywhere: on more of them, more units are live."""
FAULTS = ("dead", "linear", "saturated")
"""What a unit can be that says nothing: silent, or a mere matrix (LeakyReLU), or always the same (tanh)."""


OUTPUTS = "what the layers or the policy put out is not finite, though the weights are"


class NotFinite(ValueError):
    """A network whose weights or outputs are not finite; the message says which."""


class PolicyReading(NamedTuple):
    """
    A policy on some observations: what its layers put out, by name; what it makes of it; and by name how far each
    BatchNorm's running statistics are from those of these observations.
    """

    activations: dict[str, th.Tensor]
    outputs: Outputs
    drift: dict[str, float]


def inspect_policy(
    policy: BasePolicy,
    probe: ActivationProbe,
    observations: Observations,
    drift: bool = False,
    action_masks: Any = None,
) -> PolicyReading:
    """
    Run every network of a policy once, in eval mode, without a trace.

    :param policy: any of SB3 or sb3-contrib
    :param probe: of that policy
    :param observations: a batch as the policy gets it, on its device, images not yet scaled
    :param drift: measure that of each BatchNorm, which takes a pass over what goes into it
    :param action_masks: of MaskablePPO, a row for each observation; None: all actions count as allowed
    :raises NotFinite: if a weight or what the policy puts out is not a number
    """
    if not all_finite(list(policy.parameters())):
        raise NotFinite(f"weight {first_nonfinite(dict(policy.named_parameters()))}")
    with probe.listening() as activations, _drifting(policy if drift else nn.Module()) as drifts:
        try:
            outputs = outputs_of(policy, observations, action_masks)
        except ValueError as error:
            if not is_broken_distribution(error):
                raise
            raise NotFinite(OUTPUTS) from error
    told = [*outputs.parameters(), *activations.values()]
    if not all_finite([tensor.float() for tensor in told]):
        raise NotFinite(OUTPUTS)
    return PolicyReading({name: tensor.float() for name, tensor in activations.items()}, outputs, drifts)


def layer_figures(probe: ActivationProbe, activations: Mapping[str, th.Tensor]) -> dict[str, Figures]:
    """
    By layer, in the order in which they run: ``units``, ``live`` (units), ``dormant_fraction``, ``fault`` (one of
    ``FAULTS``) and the ``fault_fraction`` of units that have it, ``sparsity``, ``norm``. The two outputs of a unit of
    ``crelu`` are added up to the unit's magnitude.

    :param probe: which has read them
    :param activations: by layer, shape (batch, units, ...)
    """
    figures: dict[str, Figures] = {}
    for name, outputs in activations.items():
        by_unit = probe.by_unit(name, outputs, dim=1)
        tensor = by_unit.sum(dim=1) if by_unit.shape[1] > 1 else outputs
        live, units = live_units(tensor), tensor.shape[1]
        fault, fraction = ("linear" if name in probe.leaky else "dead"), 1 - live / units
        if name in probe.saturating:
            fault, fraction = "saturated", saturated_fraction(tensor)
        figures[name] = {
            "units": units,
            "live": live,
            "dormant_fraction": round(dormant_fraction(tensor), 6),
            "fault": fault,
            "fault_fraction": round(fraction, 6),
            "sparsity": round(sparsity(tensor), 6),
            "norm": feature_norm(tensor),
        }
    return figures


def evenly_chosen(activations: Mapping[str, th.Tensor], rows: int) -> dict[str, th.Tensor]:
    """
    >>> evenly_chosen({"fc1": th.arange(5.0)}, 3)
    {'fc1': tensor([0., 2., 4.])}

    :param activations: by layer, shape (batch, ...)
    :param rows: how many of the batch are taken, evenly spread; all, where it has no more
    """
    size = len(next(iter(activations.values()), ()))
    if size <= rows:
        return dict(activations)
    chosen = th.linspace(0, size - 1, rows).long()
    return {name: tensor[chosen.to(tensor.device)] for name, tensor in activations.items()}


def feature_layer(activations: Mapping[str, th.Tensor]) -> str | None:
    """
    The last hidden layer that the action is made from, whose outputs are *the features*.

    :param activations: by layer, in the order in which they run
    """
    names = [name for name in activations if not is_critic_layer(name)]
    return names[-1] if names else None


def feature_figures(activations: Mapping[str, th.Tensor], thorough: bool) -> Figures:
    """
    ``layer``, ``width``, ``rows``, ``norm``, ``similarity``, and if ``thorough`` the four of
    :class:`~sb3_stable_ppo.metrics.layers.Ranks`.

    :param activations: by layer
    :param thorough: decompose the features, which takes longer than all else
    :return: empty where no layer was reached
    """
    name = feature_layer(activations)
    if name is None:
        return {}
    features = activations[name].flatten(1)
    figures: Figures = {
        "layer": name,
        "width": features.shape[1],
        "rows": len(features),
        "norm": feature_norm(features),
    }
    if len(features) > 1:
        figures["similarity"] = feature_similarity(features)
    return {**figures, **ranks(features)._asdict()} if thorough else figures


def health_figures(
    policy: BasePolicy, probe: ActivationProbe, reading: PolicyReading, thorough: bool, rows: int = COUNTED_ROWS
) -> Figures:
    """
    All that one look tells.

    :param policy: that was looked at
    :param probe: it was looked at through
    :param reading: what was read
    :param thorough: with the ranks of the features, and each layer's ``srank``
    :param rows: observations that units are counted on; those of a thorough look are more
    :return: ``layers``, ``features``, ``policy``
    """
    features = feature_figures(reading.activations, thorough)
    if features:
        features["inputs"] = get_flattened_obs_dim(policy.observation_space)
    layers = layer_figures(probe, evenly_chosen(reading.activations, rows))
    for name, tensor in reading.activations.items() if thorough else ():
        is_map = tensor.dim() > 2  # of a convolution: the rank of its channels' means
        known = features["srank"] if name == features.get("layer") else None
        layers[name]["srank"] = known or srank(tensor.flatten(2).mean(dim=2) if is_map else tensor)
    return {
        "layers": layers,
        "features": features,
        "policy": policy_figures(reading.outputs, policy.action_space),
    }


def update_figures(
    before: PolicyReading, after: PolicyReading, actions: th.Tensor | None = None, clip_range: float | None = None
) -> Figures:
    """
    What an update did to a policy that draws its actions; empty for one that does not.

    :param before: the update
    :param after: it, on the same observations
    :param actions: taken on them
    :param clip_range: PPO's
    :return: ``kl``; with actions and clip range ``ratio_excess``; and of discrete actions ``churn`` and
        ``churn_cross_entropy``, means over the parts of an action
    """
    old, new = before.outputs.parts, after.outputs.parts
    if not old:
        return {}
    figures: Figures = {"kl": mean_kl(old, new)}
    if actions is not None and clip_range is not None and clip_range < 1:
        ratio = (log_prob(new, actions) - log_prob(old, actions)).clamp(max=LOG_MAX).exp()
        figures["ratio_excess"] = ratio_excess(ratio, clip_range)
    pairs = [
        (p.probs, q.probs)
        for p, q in zip(old, new, strict=True)
        if isinstance(p, Categorical) and isinstance(q, Categorical)
    ]
    if pairs:
        figures["churn"] = sum(policy_churn(p, q) for p, q in pairs) / len(pairs)
        figures["churn_cross_entropy"] = sum(churn_cross_entropy(p, q) for p, q in pairs) / len(pairs)
    return figures


@contextmanager
def _drifting(policy: nn.Module) -> Iterator[dict[str, float]]:
    """Within, each BatchNorm that runs leaves its drift in the dict."""
    drift: dict[str, float] = {}

    def measure(name: str, norm: nn.Module, args: tuple[th.Tensor, ...]) -> None:
        assert isinstance(norm, BatchNorm)
        if norm.running_mean is not None and norm.running_var is not None:
            drift[name] = norm_drift(args[0].detach().float(), norm.running_mean, norm.running_var, norm.eps)

    found = [(name, module) for name, module in policy.named_modules() if isinstance(module, BatchNorm)]
    handles = [norm.register_forward_pre_hook(partial(measure, name)) for name, norm in found]
    try:
        yield drift
    finally:
        for handle in handles:
            handle.remove()
