"""
The layers of a policy that have units to look at, with names that a reader knows them by.
"""

from __future__ import annotations

from dataclasses import dataclass

from stable_baselines3.common.policies import BasePolicy
from torch import nn

_BRANCHES = {
    "features_extractor": "",
    "pi_features_extractor": "pi",
    "vf_features_extractor": "vf",
    "mlp_extractor.policy_net": "pi",
    "mlp_extractor.value_net": "vf",
}

_OWN_BRANCHES = {"pi": {"actor", "policy", "pi"}, "vf": {"critic", "value", "vf"}}
"""Words in the names that users give to the networks of an ``mlp_extractor`` of their own."""


@dataclass(frozen=True)
class Layer:
    """
    A layer that a probe reads.

    :param name: short and readable: ``conv1``, ``fc1``, ``pi.fc1`` (actor), ``camera.conv1`` (a key of a Dict)
    :param path: where it is in the policy, as in the state dict
    :param kind: ``conv`` or ``fc``
    :param module: the convolution or linear layer itself
    """

    name: str
    path: str
    kind: str
    module: nn.Module

    @property
    def units(self) -> int:
        """How many channels or features the layer puts out; a ``crelu`` behind it makes two outputs of each."""
        return len(self.module.weight)  # type: ignore[arg-type]


def find_layers(policy: BasePolicy) -> list[Layer]:
    """
    The convolutional and linear layers of a policy, but for its output layers and its target networks.

    :param policy: any SB3 policy
    """
    found: list[Layer] = []
    counts: dict[tuple[str, str], int] = {}
    squashed = [path for path, module in policy.named_modules() if path.startswith("actor.mu.") and _is_linear(module)]
    outputs = {"action_net", "value_net", *squashed[-1:]}  # TD3's last layer has a tanh behind it, but is an output
    for path, module in policy.named_modules():
        if "_target" in path.partition(".")[0]:
            continue
        if isinstance(module, (nn.Conv2d, nn.Linear)) and path not in outputs:
            branch, kind = _branch(path), "conv" if isinstance(module, nn.Conv2d) else "fc"
            counts[branch, kind] = counts.get((branch, kind), 0) + 1
            found.append(Layer(f"{branch}{kind}{counts[branch, kind]}", path, kind, module))
    return found


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _branch(path: str) -> str:
    """The part of a layer's name that tells actor from critic and one Dict key from another."""
    for prefix, branch in _BRANCHES.items():
        if path.startswith(f"{prefix}."):
            rest = path[len(prefix) + 1 :]
            if rest.startswith("extractors."):
                branch = ".".join(filter(None, (branch, rest.split(".")[1])))
            return f"{branch}." if branch else ""
    if path.startswith("mlp_extractor."):  # of a user's own
        words = set(path.split(".")[1].split("_"))
        own = next((branch for branch, names in _OWN_BRANCHES.items() if words & names), None)
        if own is not None:
            return f"{own}."
    return f"{path.split('.')[0]}."
