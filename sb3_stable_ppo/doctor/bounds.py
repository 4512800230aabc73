"""
What the weights of SB3's NatureCNN prove about its units: bounds of what each can put out, for every image.

Interval arithmetic: where each input of a layer lies between two bounds, so does each output,
``bias + sum(w * bound)`` with the bound that makes each term largest or smallest. A unit whose upper bound is not above
zero is dead behind its ReLU whatever the image. (The converse does not hold: a unit may be dead without this proof.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch as th

CONVOLUTIONS = {"cnn.0": (32, 8), "cnn.2": (64, 4), "cnn.4": (64, 3)}
"""Of NatureCNN, in the order in which they run: by name, channels and kernel size. None is padded."""
LAYERS = (*CONVOLUTIONS, "linear.0")


def upper_bounds(
    tensors: Mapping[str, th.Tensor], extractor: str, low: float = 0.0, high: float = 1.0
) -> dict[str, th.Tensor]:
    """
    The largest value that each unit of a NatureCNN can have before its ReLU.

    :param tensors: a policy's, by name
    :param extractor: the extractor's name, such as ``features_extractor``
    :param low: the least value of a pixel, as the network gets it
    :param high: the largest
    :return: by layer's name, one bound per unit
    """
    bounds: dict[str, th.Tensor] = {}
    lows, highs = th.tensor([low], dtype=th.float64), th.tensor([high], dtype=th.float64)
    for layer in LAYERS:
        weight, bias = (tensors[f"{extractor}.{layer}.{part}"].double() for part in ("weight", "bias"))
        inputs = weight.shape[1] // len(lows)  # a channel of the last convolution is several inputs of the linear layer
        lows, highs = lows.repeat_interleave(inputs), highs.repeat_interleave(inputs)
        by_input = weight.flatten(2) if weight.dim() == 4 else weight.unsqueeze(2)
        positive, negative = by_input.clamp(min=0).sum(dim=2), by_input.clamp(max=0).sum(dim=2)
        above = bias + positive @ highs + negative @ lows
        below = bias + positive @ lows + negative @ highs
        bounds[f"{extractor}.{layer}"] = above
        lows, highs = below.clamp(min=0), above.clamp(min=0)
    return bounds


def nature_cnns(tensors: Mapping[str, th.Tensor], facts: Mapping[str, Any]) -> list[str]:
    """
    The names of the extractors that are SB3's NatureCNN on images scaled to [0, 1], as far as the weights' shapes and
    the facts beside them tell.

    :param tensors: a policy's, by name
    :param facts: beside them; see :func:`~sb3_stable_ppo.doctor.untrusted_zip.read_weights`
    """
    if facts.get("normalize_images") is False or "NatureCNN" not in str(
        facts.get("features_extractor_class", "NatureCNN")
    ):
        return []
    first = f".{LAYERS[0]}.weight"
    found = [name.removesuffix(first) for name in tensors if name.endswith(first)]
    return [extractor for extractor in found if _has_natures_shapes(tensors, extractor)]


def _has_natures_shapes(tensors: Mapping[str, th.Tensor], extractor: str) -> bool:
    names = [f"{extractor}.{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    own = {name for name in tensors if name.startswith((f"{extractor}.cnn.", f"{extractor}.linear."))}
    if own != set(names) or not all(tensors[name].is_floating_point() for name in names):
        return False
    channels: tuple[int, ...] = tensors[names[0]].shape[1:2]
    for layer, (units, size) in CONVOLUTIONS.items():
        weight, bias = tensors[f"{extractor}.{layer}.weight"], tensors[f"{extractor}.{layer}.bias"]
        if weight.shape != (units, *channels, size, size) or bias.shape != (units,):
            return False
        channels = bias.shape
    weight, bias = tensors[f"{extractor}.linear.0.weight"], tensors[f"{extractor}.linear.0.bias"]
    return weight.dim() == 2 and bias.shape == weight.shape[:1] and weight.numel() > 0 and weight.shape[1] % 64 == 0
