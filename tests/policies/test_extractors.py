"""The body: what stands where, which words are understood, and how BatchNorm is calibrated."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_stable_ppo.policies.blocks import BlockConfig
from sb3_stable_ppo.policies.calibration import calibrating, norms_with_statistics, untracked
from sb3_stable_ppo.policies.extractors import StableCNN, StableCombinedExtractor, conv_output_size

FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def kinds(cnn: StableCNN) -> list[str]:
    return [type(module).__name__ for module in cnn.cnn]


def test_batch_norm_stands_after_the_activation() -> None:
    block = ["Conv2d", "LeakyReLU", "BatchNorm2d"]
    assert kinds(StableCNN(FRAMES, norm="batch")) == block * 3 + ["Flatten"]


def test_layer_norm_stands_before_the_activation_and_is_one_group() -> None:
    cnn = StableCNN(FRAMES, norm="layer")
    assert kinds(cnn) == ["Conv2d", "GroupNorm", "LeakyReLU"] * 3 + ["Flatten"]
    assert [module.num_groups for module in cnn.cnn if isinstance(module, nn.GroupNorm)] == [1, 1, 1]


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norm_position_overrides_the_norms_own_place(norm: str) -> None:
    before = kinds(StableCNN(FRAMES, norm=norm, norm_position="before"))
    after = kinds(StableCNN(FRAMES, norm=norm, norm_position="after"))
    assert [before[2], after[1]] == ["LeakyReLU", "LeakyReLU"]


def test_without_norm_and_with_relu_the_body_is_nature_cnn() -> None:
    from stable_baselines3.common.torch_layers import NatureCNN

    ours, nature = StableCNN(FRAMES, 512, norm="none", activation="relu"), NatureCNN(FRAMES, 512)
    weights = dict(zip(ours.state_dict(), nature.state_dict().values(), strict=True))
    ours.load_state_dict(weights)
    frames = th.rand(3, 4, 84, 84, generator=th.Generator().manual_seed(0))
    assert th.equal(ours(frames), nature(frames))


def test_convolutions_have_the_sizes_of_the_nature_paper() -> None:
    convs = [module for module in StableCNN(FRAMES).cnn if isinstance(module, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs] == [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    assert [c.in_channels for c in convs] == [4, 32, 64]
    assert StableCNN(FRAMES, None).features_dim == 64 * 7 * 7


@pytest.mark.parametrize(("size", "expected"), [(84, 7), (36, 1), (35, 0)])
def test_conv_output_size(size: int, expected: int) -> None:
    assert conv_output_size(size) == expected


def test_negative_slope_reaches_the_activation() -> None:
    activation = BlockConfig(negative_slope=0.2).activation_fn()
    assert activation(th.tensor(-1.0)).item() == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"norm": "bacth"}, r"Unknown norm 'bacth': choose one of batch, layer, none\."),
        ({"norm_position": "inside"}, r"Unknown norm_position 'inside': choose one of before, after\."),
        (
            {"activation": "lrelu"},
            r"Unknown activation 'lrelu': choose one of leaky_relu, relu, elu, gelu, silu, tanh, crelu, or give",
        ),
    ],
)
def test_an_unknown_word_is_an_error_that_lists_the_choices(words: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StableCNN(FRAMES, **words)
    with pytest.raises(ValueError, match=complaint):
        StableCombinedExtractor(spaces.Dict({"speed": spaces.Box(-1, 1, (2,))}), **words)


def test_observations_that_are_no_image_are_an_error_that_names_the_right_policy() -> None:
    with pytest.raises(ValueError, match="StableMlpPolicy for vectors"):
        StableCNN(spaces.Box(-1, 1, (4,)))


def test_an_image_that_is_too_small_is_an_error_that_names_the_least_size() -> None:
    with pytest.raises(ValueError, match=r"35x84 pixels are too small.*at least 36x36"):
        StableCNN(spaces.Box(0, 255, (4, 35, 84), np.uint8))


def test_calibration_over_batches_equals_the_statistics_of_all_of_them_at_once() -> None:
    batches = th.randn(5, 6, 3, 4, 4, generator=th.Generator().manual_seed(1)) * 3 + 7
    norm = nn.BatchNorm2d(3).eval()
    with calibrating([norm]):
        for batch in batches:
            norm(batch)
    everything = batches.flatten(0, 1)
    th.testing.assert_close(norm.running_mean, everything.mean((0, 2, 3)))
    th.testing.assert_close(norm.running_var, everything.var((0, 2, 3), correction=0))
    assert int(norm.num_batches_tracked) == 5


def test_calibration_counts_the_batch_before_normalising_it() -> None:
    norm = nn.BatchNorm1d(1).eval()
    with calibrating([norm]):
        out = norm(th.tensor([[1.0], [3.0]]))
    th.testing.assert_close(out, th.tensor([[-1.0], [1.0]]), atol=1e-4, rtol=0)


def test_calibration_works_on_single_samples_and_stays_bounded() -> None:
    norm = nn.BatchNorm1d(1).eval()
    with calibrating([norm]):
        outs = [norm(th.tensor([[x]])).item() for x in (5.0, 5.0, 6.0, 500.0)]
    assert outs[:2] == [0.0, 0.0]
    assert max(abs(out) for out in outs) < 4**0.5  # one of n samples is at most sqrt(n - 1) deviations away


def test_calibration_draws_no_random_number_and_leaves_no_hook() -> None:
    norm = nn.BatchNorm2d(3).eval()
    before = th.get_rng_state()
    with calibrating([norm]):
        norm(th.ones(2, 3, 4, 4))
    assert th.equal(th.get_rng_state(), before)
    assert not norm._forward_pre_hooks


def test_calibration_leaves_no_hook_after_an_error() -> None:
    norm = nn.BatchNorm2d(3).eval()
    with pytest.raises(RuntimeError), calibrating([norm]):
        norm(th.ones(2, 4, 4, 4))
    assert not norm._forward_pre_hooks


def test_a_new_batch_norm_is_untracked_until_a_batch_has_passed() -> None:
    cnn = StableCNN(FRAMES, norm="batch")
    assert all(untracked(norm) for norm in norms_with_statistics(cnn))
    cnn(th.rand(2, 4, 84, 84))
    assert not any(untracked(norm) for norm in norms_with_statistics(cnn))


def test_numbers_that_yaml_reads_as_strings_are_numbers() -> None:
    options = BlockConfig(norm="batch", negative_slope="1e-2", norm_momentum="0.2")  # type: ignore[arg-type]
    assert (options.negative_slope, options.norm_momentum) == (0.01, 0.2)
