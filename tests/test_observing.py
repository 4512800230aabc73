"""Metrics, pictures, probes and the run folder."""

import json
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch as th
from conftest import SceneEnv, make_cartpole, make_pong
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN, PPO, SAC
from torch import nn

from sb3_stable_ppo import StableCnnPolicy, StableMultiInputPolicy, StablePongPolicy
from sb3_stable_ppo.metrics import dead_fraction, dormant_fraction, live_units, srank
from sb3_stable_ppo.pictures import (
    GAP_COLOUR,
    NONFINITE_COLOUR,
    central_motion,
    channel_grid,
    colour_scale,
    viridis,
)
from sb3_stable_ppo.probes import ActivationProbe, evaluating, find_layers
from sb3_stable_ppo.runs import RunReader, RunWriter, thinned

# -- metrics -----------------------------------------------------------------------------------------------------------


def test_a_unit_is_live_if_it_is_positive_anywhere_on_any_input() -> None:
    maps = th.full((2, 3, 2, 2), -0.01)
    maps[1, 2, 0, 1] = 0.5
    assert live_units(maps) == 1
    assert dead_fraction(maps) == pytest.approx(2 / 3)


def test_sparse_units_are_not_dead() -> None:
    assert dead_fraction(th.eye(4)) == 0.0


def test_dormant_fraction_divides_by_the_mean_of_the_layer() -> None:
    # means 0.02, 1, 1.98 of a layer mean 1: 0.02 <= 0.025 is dormant, 0.03 would not be
    assert dormant_fraction(th.tensor([[0.02, -1.0, 1.98]])) == pytest.approx(1 / 3)
    assert dormant_fraction(th.tensor([[0.03, -1.0, 1.97]])) == 0.0


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_layer_of_zeros_or_of_no_numbers_is_wholly_dormant(value: float) -> None:
    assert dormant_fraction(th.full((3, 5, 2, 2), value)) == 1.0
    assert live_units(th.full((3, 5, 2, 2), value)) == 0


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (th.diag(th.tensor([4.0, 2.0, 0.001])), 2),  # 4 + 2 is 99.98% of the sum
        (th.diag(th.tensor([99.0, 1.0])), 1),  # exactly 99%
        (th.diag(th.tensor([98.9, 1.1])), 2),
        (th.ones(8, 1) @ th.arange(5.0)[None], 1),  # all inputs look alike
        (th.eye(5), 5),
        (th.zeros(4, 3), 0),
        (th.tensor([[1.0, float("nan")]]), 0),
    ],
)
def test_srank_is_the_count_of_singular_values_that_make_up_99_percent(features: th.Tensor, expected: int) -> None:
    assert srank(features) == expected
    assert srank(1e3 * features) == expected


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_viridis_is_matplotlibs_to_the_eye() -> None:
    values = np.linspace(0, 1, 256)
    theirs = np.rint(matplotlib.colormaps["viridis"](values)[:, :3] * 255)
    difference = np.abs(viridis(values).astype(int) - theirs)
    assert difference.max() <= 8
    assert difference.mean() < 1


def test_viridis_cuts_off_and_marks_what_is_not_finite() -> None:
    low, high, broken, infinite = viridis(np.array([-1.0, 7.0, math.nan, math.inf])).tolist()
    assert [low, high] == viridis(np.array([0.0, 1.0])).tolist()
    assert broken == infinite == list(NONFINITE_COLOUR)


def test_a_grid_has_each_channel_in_its_place() -> None:
    layer = np.zeros((3, 2, 2))
    layer[1, 0, 1] = -4.0
    grid = channel_grid(layer, scale=4.0)
    assert grid.shape == (7, 7, 3)  # 2 x 2 cells of 2 x 2 with gaps of 1
    bright, dark = viridis(np.array([1.0, 0.0]))
    assert grid[1, 5].tolist() == bright.tolist()
    assert grid[1, 1].tolist() == dark.tolist()
    assert grid[4, 4].tolist() == list(GAP_COLOUR)  # there is no fourth channel


def test_a_layer_that_dies_goes_dark_on_the_scale_of_its_first_snapshot() -> None:
    alive = np.random.default_rng(0).uniform(0, 3, (4, 5, 5))
    scale = colour_scale(alive)
    assert channel_grid(alive, scale).mean() > channel_grid(alive * 0.01, scale).mean() + 20


@pytest.mark.parametrize(
    ("layer", "scale"), [([1.0, -3.0], 3.0), ([0.0, 0.0], 1.0), ([math.nan, 2.0], 2.0), ([math.nan], 1.0)]
)
def test_colour_scale(layer: list[float], scale: float) -> None:
    assert colour_scale(np.array(layer)) == scale


def stack_with_ball(columns: list[int]) -> np.ndarray:
    frames = np.full((4, 84, 84), 87, np.uint8)
    for frame, column in zip(frames, columns, strict=True):
        frame[40:42, column] = 236
    return frames


def test_motion_in_the_middle_is_a_ball_in_play_throughout_the_stack() -> None:
    assert central_motion(stack_with_ball([30, 33, 36, 39])) > 0
    assert central_motion(stack_with_ball([30, 33, 36, 36])) == 0.0


def test_paddles_the_score_and_the_blank_frames_after_a_reset_are_no_motion() -> None:
    paddles = stack_with_ball([40] * 4)
    paddles[:, 50, :] += np.arange(4, dtype=np.uint8)[:, None] * np.array([1] * 16 + [0] * 52 + [1] * 16, np.uint8)
    paddles[:, 3, :] = np.arange(4, dtype=np.uint8)[:, None]
    assert central_motion(paddles) == 0.0
    reset = stack_with_ball([30, 33, 36, 39])
    reset[0] = 0
    assert central_motion(reset) == 0.0


# -- probes ------------------------------------------------------------------------------------------------------------


def layer_names(policy: Any) -> list[tuple[str, str]]:
    return [(layer.name, layer.path) for layer in find_layers(policy)]


def test_layers_are_named_as_a_reader_would() -> None:
    assert layer_names(PPO(StablePongPolicy, make_pong()).policy) == [
        ("conv1", "features_extractor.cnn.conv1"),
        ("conv2", "features_extractor.cnn.conv2"),
        ("conv3", "features_extractor.cnn.conv3"),
        ("pi.fc1", "mlp_extractor.policy_net.fc1"),
        ("vf.fc1", "mlp_extractor.value_net.fc1"),
    ]


def test_layers_of_stock_cnn_policy() -> None:
    assert layer_names(PPO("CnnPolicy", make_pong()).policy) == [
        ("conv1", "features_extractor.cnn.0"),
        ("conv2", "features_extractor.cnn.2"),
        ("conv3", "features_extractor.cnn.4"),
        ("fc1", "features_extractor.linear.0"),
    ]


def test_layers_of_dict_observations_and_of_separate_extractors_tell_their_branch() -> None:
    scene = PPO(StableMultiInputPolicy, SceneEnv(), policy_kwargs={"share_features_extractor": False}).policy
    names = [name for name, _ in layer_names(scene)]
    assert names[:4] == ["camera.conv1", "camera.conv2", "camera.conv3", "camera.fc1"]
    assert {"vf.camera.conv1", "pi.fc1", "vf.fc2"} < set(names)


@pytest.mark.parametrize("policy", ["CnnPolicy", StablePongPolicy, StableCnnPolicy])
@pytest.mark.parametrize("share", [True, False])
def test_a_probe_reads_what_the_activations_put_out(policy: Any, share: bool) -> None:
    model = PPO(policy, make_pong(), policy_kwargs={"share_features_extractor": share}, seed=0)
    frames = th.randint(0, 256, (3, 4, 84, 84), generator=th.Generator().manual_seed(0), dtype=th.uint8)
    found = ActivationProbe(model.policy)(frames)
    assert found.keys() == {layer.name for layer in find_layers(model.policy)}
    conv = next(m for m in model.policy.modules() if isinstance(m, nn.Conv2d))
    modules = list(model.policy.features_extractor.cnn)
    expected = frames / 255
    for module in modules[: modules.index(conv) + 3]:
        expected = module.eval()(expected)
        if type(module).__name__.endswith("ReLU"):
            break
    assert th.equal(found["conv1"], expected)
    assert found["conv3"].shape == (3, 64, 7, 7)


@pytest.mark.parametrize("make", [lambda: SAC("MlpPolicy", "Pendulum-v1"), lambda: DQN("MlpPolicy", make_cartpole())])
def test_a_probe_does_no_harm_to_off_policy_policies(make: Any) -> None:
    model = make()
    observation = th.as_tensor(model.observation_space.sample()[None])
    assert ActivationProbe(model.policy, kinds=("conv",))(observation) == {}


def test_a_probe_puts_back_modes_hooks_random_state_and_statistics() -> None:
    policy = PPO(StablePongPolicy, make_pong(), seed=0).policy
    policy.train()
    policy.features_extractor.cnn.norm2.eval()
    modes = [module.training for module in policy.modules()]
    state = {name: value.clone() for name, value in policy.state_dict().items()}
    random_state = th.get_rng_state()
    ActivationProbe(policy)(th.zeros(2, 4, 84, 84, dtype=th.uint8))
    assert [module.training for module in policy.modules()] == modes
    assert all(th.equal(value, state[name]) for name, value in policy.state_dict().items())
    assert th.equal(th.get_rng_state(), random_state)
    assert not any(module._forward_hooks for module in policy.modules())


def test_a_probe_lets_go_after_an_error() -> None:
    policy = PPO(StablePongPolicy, make_pong(), seed=0).policy
    policy.train()
    with pytest.raises(RuntimeError):
        ActivationProbe(policy)(th.zeros(2, 3, 84, 84, dtype=th.uint8))
    assert all(module.training for module in policy.modules())
    assert not any(module._forward_hooks for module in policy.modules())


def test_evaluating_restores_each_modules_own_mode() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    net[0].eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.modules()] == [True, False, True]


# -- run folder --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    writer, reader = RunWriter(tmp_path / "run"), RunReader(tmp_path / "run")
    writer.describe(env="Pong", status="running")
    writer.describe(status="finished")
    writer.health(1024, {"conv1": {"units": 32, "live": 30, "dormant_fraction": 0.125}})
    writer.observation({"observation": np.arange(8, dtype=np.uint8)})
    writer.snapshot(1000, {"conv1": np.array([[[0.5, -1e9, math.nan]]])})
    assert reader.facts == {"env": "Pong", "status": "finished"}
    assert list(reader.health()) == [
        {"step": 1024, "layers": {"conv1": {"units": 32, "live": 30, "dormant_fraction": 0.125}}}
    ]
    observation = reader.observation()
    assert observation is not None
    assert observation["observation"].tolist() == list(range(8))
    assert reader.snapshot_steps() == [1000]
    assert str(reader.snapshot(1000)["conv1"].ravel().tolist()) == "[0.5, -65504.0, nan]"


def test_an_empty_or_missing_folder_reads_as_nothing(tmp_path: Path) -> None:
    reader = RunReader(tmp_path / "nowhere")
    assert (reader.facts, list(reader.health()), reader.snapshot_steps(), reader.observation()) == ({}, [], [], None)


def test_a_line_cut_short_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    RunWriter(tmp_path).health(1, {})
    with (tmp_path / "health.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "layers": {}})[:9])
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1]


def test_a_line_after_one_cut_short_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "health.jsonl").write_text('{"step": 1, "layers": {}}\n{"ste')
    for step in (3, 4):
        RunWriter(tmp_path).health(step, {})
    assert [line["step"] for line in RunReader(tmp_path).health()] == [1, 3, 4]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = RunWriter(tmp_path)
    writer.describe(status="running")

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        writer.describe(status="finished")
    assert RunReader(tmp_path).facts == {"status": "running"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@given(steps=st.sets(st.integers(0, 10**6), max_size=200), keep=st.integers(1, 50))
def test_thinning_keeps_the_newest_and_no_more_than_asked(steps: set[int], keep: int) -> None:
    ordered = sorted(steps)
    kept = sorted(steps - set(thinned(ordered, keep)))
    assert len(kept) <= keep
    if steps:
        assert kept[-1] == ordered[-1]
        assert len(kept) > keep // 2 or len(steps) <= keep


def test_snapshots_are_thinned_on_disk(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, max_snapshots=4)
    for step in range(1, 6):
        writer.snapshot(step, {"conv1": np.zeros(1)})
    assert RunReader(tmp_path).snapshot_steps() == [1, 3, 5]
