"""channels_last is kept from the bytes to the last convolution, in both directions, whatever the norm."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_stable_ppo.fast import config
from sb3_stable_ppo.fast.config import FastPathConfig
from sb3_stable_ppo.policies.extractors import StableCNN

IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
NORMS = [
    {"norm": "layer"},
    {"norm": "layer", "norm_position": "after"},
    {"norm": "batch"},
    {"norm": "batch", "norm_statistics": "running"},
    {"norm": "none"},
]


@pytest.mark.parametrize("activation", ["leaky_relu", "crelu"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: " ".join(norm.values()))
def test_no_layer_of_the_extractor_turns_images_back(
    norm: dict[str, str], precision: str, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "why_no_bf16", lambda _: None)
    th.manual_seed(0)
    fast = FastPathConfig("channels_last", precision)
    extractor = StableCNN(IMAGE, None, fast_path_config=fast, activation=activation, **norm)
    fast.lay_out(extractor)
    outputs: dict[str, th.Tensor] = {}
    gradients: dict[str, th.Tensor] = {}

    def watch(name: str, module: nn.Module) -> None:
        def keep(_: nn.Module, args: Any, output: th.Tensor) -> None:
            outputs[name] = output
            if args[0].requires_grad and args[0].dim() == 4:
                args[0].register_hook(lambda gradient: gradients.update({f"into {name}": gradient}))

        module.register_forward_hook(keep)

    for name, module in extractor.cnn.named_children():
        watch(name, module)
    extractor.train()
    features = extractor(th.randint(0, 256, (6, *IMAGE.shape), dtype=th.uint8))
    (features * th.randn_like(features)).sum().backward()
    images = {name: tensor for name, tensor in {**outputs, **gradients}.items() if name != "flatten"}
    assert len(outputs) == (10 if norm["norm"] != "none" else 7)
    assert len(gradients) == len(outputs) - 1  # bytes have no gradient
    turned = [name for name, tensor in images.items() if not tensor.is_contiguous(memory_format=th.channels_last)]
    assert turned == ["into flatten"]  # features are counted channel by channel, as SB3's are
    wanted = th.bfloat16 if precision == "bf16" else th.float32
    assert {tensor.dtype for tensor in images.values()} == {wanted}
