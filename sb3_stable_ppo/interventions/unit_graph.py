"""
Which unit feeds which inputs of which layers, found by running the policy, so that no network has to be known by name.

One layer at a time puts out marks in place of its outputs, and all other layers put out zeros. Whatever differs between
the rows of a batch then comes from the marked layer, and comes from it directly. Unit ``i`` is marked in the rows that
spell ``i + 1`` in binary, and in the rows that spell its complement it is not: an input that follows one unit alone
spells its number, and one that follows several is known by that too. Norms hand on what they get meanwhile, since they
would mix the units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from sb3_stable_ppo.probes.activation_modules import is_activation
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.probes.learners import Learner
from sb3_stable_ppo.probes.outputs import outputs_of

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
NOBODY, SEVERAL = -1, -2
"""Who feeds an input, where it is no unit of the marked layer, and where it is more than one."""
LEAST = 1e-4
"""Rows that differ by less are alike: vector instructions round their last values differently."""


class Reader(NamedTuple):
    """
    A layer or a norm that takes the outputs of units.

    :param path: where it is in the policy
    :param module: itself
    :param columns: the inputs that each unit feeds, shape (units, inputs of a unit): several behind a Flatten
    """

    path: str
    module: nn.Module
    columns: th.Tensor


class UnitLayer(NamedTuple):
    """
    A hidden layer, and where the outputs of its units go.

    :param path: where it is in the policy
    :param module: a linear layer or a convolution
    :param readers: the layers that its units feed; nothing else sees them
    :param norms: between the layer and its readers
    """

    path: str
    module: Any
    readers: tuple[Reader, ...]
    norms: tuple[Reader, ...]

    @property
    def units(self) -> int:
        """Neurons or channels."""
        return len(self.module.weight)


class UnitGraph(NamedTuple):
    """
    :param layers: those whose units can be reset
    :param left_alone: the other hidden layers, each with the reason
    """

    layers: tuple[UnitLayer, ...]
    left_alone: dict[str, str]


class _CannotTellError(Exception):
    """Why a layer is left alone, to be read behind its path."""


def unit_graph(policy: Any, learners: Sequence[Learner]) -> UnitGraph:
    """
    The hidden layers of a policy that an optimizer trains.

    Nothing of the policy is changed, and no random number is drawn.

    :param policy: any of SB3 or sb3-contrib
    :param learners: the optimizers of the model
    """
    weights = [weight for learner in learners for weight in learner.weights]
    trained = {id(weight.parameter) for weight in weights}
    hidden = {weight.name.rpartition(".")[0]: weight.module for weight in weights if not weight.is_output}
    found: dict[str, UnitLayer] = {}
    left_alone: dict[str, str] = {}
    for path, module in hidden.items():
        try:
            if not is_layer(module):
                raise _CannotTellError(f"is a {type(module).__name__} that cannot be reset unit by unit")
            found[path] = _Trace(policy, path, module).result(trained)
        except _CannotTellError as error:
            left_alone[path] = str(error)
    for path in _in_conflict(found.values()):
        left_alone[path] = "adds its outputs to those of another layer"
        del found[path]
    return UnitGraph(tuple(found.values()), left_alone)


def is_layer(module: nn.Module) -> bool:
    """Whether a module has a row of weights for each unit and a column for each input, as plain parameters."""
    return isinstance(module, LAYERS) and "weight" in module._parameters and getattr(module, "groups", 1) == 1


def is_norm(module: nn.Module) -> bool:
    """torch's norms, and CrossQ's BatchRenorm of sb3-contrib, which older versions do not have."""
    return isinstance(module, NORMS) or any(cls.__name__ in ("RMSNorm", "BatchRenorm") for cls in type(module).__mro__)


def units_last(tensor: th.Tensor, module: nn.Module) -> th.Tensor:
    """What a module takes, a layer or a norm, with its inputs in the last dimension."""
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1:
        return tensor.flatten(-len(module.normalized_shape))
    is_last = isinstance(module, (nn.Linear, nn.LayerNorm)) or type(module).__name__ == "RMSNorm"
    return tensor if is_last else tensor.movedim(1, -1)


def blank_observations(policy: Any, rows: int) -> Any:
    """So many observations of zeros, as a policy of SB3 gets them."""

    def blank(space: spaces.Space[Any]) -> Any:
        if isinstance(space, spaces.Dict):
            return {key: blank(part) for key, part in space.spaces.items()}
        return np.zeros((rows, *(space.shape or ())), space.dtype)

    return obs_as_tensor(blank(policy.observation_space), policy.device)


class _Trace:
    """
    One pass through the networks with one layer marked.

    :param policy: whose networks they are
    :param path: of the layer in the policy
    :param layer: to be marked
    :raises _CannotTellError: if the layer is not given a batch of observations
    """

    def __init__(self, policy: Any, path: str, layer: Any) -> None:
        self.policy, self.path, self.layer = policy, path, layer
        self.units, self.is_marked = len(layer.weight), False
        self.marks = _marks(self.units).to(policy.device)
        self.feeds: dict[str, tuple[nn.Module, list[th.Tensor]]] = {}
        """Of each module behind the layer, who fed each of its inputs, each time that it was called."""
        self.escapes: list[str] = []
        """Where else the marks were seen."""
        self._run()
        if not self.is_marked:
            raise _CannotTellError("is not reached when the policy is run")

    def _run(self) -> None:
        handles = [handle for path, module in self.policy.named_modules() for handle in self._listen(path, module)]
        try:
            with ActivationProbe(self.policy).listening():  # in eval mode, without gradients or fused kernels
                outputs = outputs_of(self.policy, blank_observations(self.policy, len(self.marks)))
        finally:
            for handle in handles:
                handle.remove()
        self._look_out("the policy's output", outputs.parameters())

    def _listen(self, path: str, module: nn.Module) -> Iterator[Any]:
        if module is self.policy:
            return
        if isinstance(module, BaseModel):
            yield module.register_forward_hook(lambda _, __, output: self._look_out("the policy's output", output))
        elif is_layer(module) or is_norm(module):
            yield module.register_forward_pre_hook(
                lambda module, args, kwargs: self._read(path, module, args, kwargs), with_kwargs=True
            )
            yield module.register_forward_hook(self._replace, with_kwargs=True)
        elif any(True for _ in module.parameters(recurse=False)) and not is_activation(module):
            yield module.register_forward_pre_hook(
                lambda _, args, kwargs: self._look_out(f"{path}, a {type(module).__name__}", [args, kwargs]),
                with_kwargs=True,
            )

    def _read(self, path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self.is_marked:
            return
        inputs = next(tensors_in([args, kwargs]))
        if len(inputs) != len(self.marks):
            raise _CannotTellError(f"comes before {path}, which does not take a row for each observation")
        self.feeds.setdefault(path, (module, []))[1].append(self._feeders(units_last(inputs, module)))

    def _replace(self, module: nn.Module, args: Any, kwargs: Any, output: th.Tensor) -> th.Tensor:
        if is_norm(module):
            return next(tensors_in([args, kwargs]))
        replaced = th.zeros_like(output)
        if module is self.layer:
            if len(output) != len(self.marks):
                raise _CannotTellError("does not take a row for each observation")
            self.is_marked = True
            last = replaced if isinstance(module, nn.Linear) else replaced.movedim(1, -1)
            last += self.marks.view(len(self.marks), *[1] * (last.dim() - 2), self.units)
        return replaced

    def _feeders(self, inputs: th.Tensor) -> th.Tensor:
        """Of each input the unit that feeds it."""
        inputs = inputs.float().reshape(len(inputs), -1, inputs.shape[-1])
        differs = ((inputs - inputs[:1]).abs() > LEAST).any(dim=1)
        on, off = differs[1:].view(2, 2, -1, inputs.shape[-1]).any(dim=0)  # of either sign: CReLU keeps them apart
        places = 2 ** th.arange(len(on), device=on.device)
        unit: th.Tensor = (on * places[:, None]).sum(dim=0) - 1
        unit[(on == off).any(dim=0) | (unit >= self.units)] = SEVERAL
        unit[~(on | off).any(dim=0)] = NOBODY
        return unit

    def _look_out(self, where: str, values: Any) -> None:
        """Whether marks are among some values, which are told by rows that differ."""
        for tensor in tensors_in(values):
            if not self.is_marked or not tensor.is_floating_point():
                continue
            rows = tensor if len(tensor) == len(self.marks) else tensor.movedim(-min(tensor.dim(), 2), 0)  # LSTM
            if len(rows) != len(self.marks) or bool(((rows - rows[:1]).abs() > LEAST).any()):
                self.escapes.append(where)

    def result(self, trained: set[int]) -> UnitLayer:
        """
        :param trained: ids of the parameters that an optimizer moves
        :raises _CannotTellError: if the units cannot be told apart, or feed something that cannot forget them
        """
        if self.escapes:
            raise _CannotTellError(f"feeds {self.escapes[0]}")
        readers, norms = [], []
        for path, (module, calls) in self.feeds.items():
            if all(bool((call == NOBODY).all()) for call in calls):
                continue
            reader = Reader(path, module, self._columns(path, calls))
            if is_norm(module):
                norms.append(reader)
            elif id(module.weight) in trained:
                readers.append(reader)
            else:
                raise _CannotTellError(f"feeds {path}, which is not trained")
        if not readers:
            raise _CannotTellError("feeds no other layer")
        return UnitLayer(self.path, self.layer, tuple(readers), tuple(norms))

    def _columns(self, path: str, calls: list[th.Tensor]) -> th.Tensor:
        feeders = calls[0]
        if any(not th.equal(feeders, other) for other in calls[1:]):
            raise _CannotTellError(f"feeds {path}, which others feed too")
        fed = (feeders != NOBODY).nonzero().flatten()
        counts = feeders[fed].clamp(min=0).bincount(minlength=self.units)
        if bool((feeders == SEVERAL).any()):
            raise _CannotTellError(f"has its units mixed before they reach {path}")
        if int(counts.min()) != int(counts.max()):
            raise _CannotTellError(f"feeds {path} with some of its units only")
        return fed[feeders[fed].argsort(stable=True)].view(self.units, -1)


def _marks(units: int) -> th.Tensor:
    """
    The rows of marks: zeros, then of either sign a row for each binary place and one for its complement.

    >>> _marks(2).tolist()[:3]
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]

    :param units: how many
    :return: shape (rows, units)
    """
    places = th.arange(units.bit_length())
    on = ((th.arange(1, units + 1) >> places[:, None]) & 1).float()
    both = th.cat([on, 1 - on])
    return th.cat([th.zeros(1, units), both, -both])


def _in_conflict(layers: Any) -> set[str]:
    """The layers that feed an input which another one feeds too."""
    owners: dict[tuple[int, int], str] = {}
    found: set[str] = set()
    for layer in layers:
        for reader, column in ((each, n) for each in layer.readers for n in each.columns.flatten().tolist()):
            owner = owners.setdefault((id(reader.module), column), layer.path)
            if owner != layer.path:
                found |= {owner, layer.path}
    return found


def tensors_in(value: Any) -> Iterator[th.Tensor]:
    """All tensors in nested tuples, lists and dicts that have a dimension."""
    if isinstance(value, th.Tensor) and value.dim():
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)
