"""How units of ``crelu`` are read: both outputs by the probe, judged together by guards, health and doctor."""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN

from helpers.crelu import build, model_of, rows_of
from helpers.envs import SceneEnv, make_pong
from sb3_stable_ppo import ActivationSnapshotCallback, HealthCallback, StableCnnPolicy, StableMlpPolicy, diagnose
from sb3_stable_ppo.guards.arithmetic import lost_unit_fraction, newly_inactive_fraction
from sb3_stable_ppo.guards.reading import draw_probe_batch, read
from sb3_stable_ppo.health.figures import layer_figures
from sb3_stable_ppo.policies.extractors import StableCNN
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.runs.folder import RunReader


def test_the_probe_reads_two_outputs_for_each_unit_and_sorts_them_by_unit() -> None:
    built = build(StableMlpPolicy, norm="none", net_arch=[3])
    probe, rows = ActivationProbe(built), rows_of(built)
    units = built.mlp_extractor.policy_net.fc1(rows).detach()
    found = probe(rows)["pi.fc1"]
    assert th.equal(found, th.cat((units.clamp(min=0), (-units).clamp(min=0)), dim=1))
    assert th.equal(probe.by_unit("pi.fc1", found, dim=1).sum(dim=1), units.abs())
    assert probe.unread == []


def test_channels_are_not_taken_for_columns_where_maps_are_as_wide_as_the_layer_has_units() -> None:
    space = spaces.Box(0, 255, (1, 132, 132), np.uint8)  # 32 channels in maps of 32x32
    built = build(StableCnnPolicy, space)
    rows = rows_of(built, 2)
    assert ActivationProbe(built)(rows)["conv1"].shape == (2, 64, 32, 32)
    own = built.features_extractor.cnn[:3](rows.float() / 255)
    assert th.equal(ActivationProbe(built)(rows)["conv1"], own)


def test_our_extractor_in_another_algorithms_policy_is_read_too() -> None:
    options = {
        "features_extractor_class": StableCNN,
        "features_extractor_kwargs": {"features_dim": 16, "activation": "crelu"},
    }
    model = DQN("CnnPolicy", make_pong(1), policy_kwargs=options, buffer_size=10)
    frames = th.as_tensor(np.stack([model.observation_space.sample() for _ in range(2)]))
    outputs = [tensor.shape[1] for tensor in ActivationProbe(model.policy)(frames).values()]
    assert outputs[:4] == [64, 128, 128, 32], "of conv1, conv2, conv3 and fc1; the rest is the Q network's"


def with_bias(model: Any, bias: float) -> Any:
    """What the guards read of a model whose critic's first layer has this bias in all units."""
    with th.no_grad():
        model.policy.mlp_extractor.value_net.fc1.bias.fill_(bias)
    rows = draw_probe_batch(model.rollout_buffer, 16)
    return read(model.policy, ActivationProbe(model.policy), rows, model.action_space)


def test_units_that_change_their_sign_are_not_lost_to_the_guards() -> None:
    model = model_of(policy_kwargs={"norm": "none"}).learn(32)
    before, after = with_bias(model, 100.0), with_bias(model, -100.0)
    assert before.spread["vf.fc1"].shape == before.positive["vf.fc1"].shape == (64,)
    assert lost_unit_fraction(before.spread, after.spread) == (0.0, "")
    assert newly_inactive_fraction(before.positive, after.positive)[0] == 0.0


def test_units_that_are_zero_whatever_comes_are_lost_to_the_guards_and_dead_to_the_figures_of_health() -> None:
    model = model_of(policy_kwargs={"norm": "none"}).learn(32)
    before = with_bias(model, 1.0)
    with th.no_grad():
        model.policy.mlp_extractor.value_net.fc1.weight.zero_()
    after = with_bias(model, 0.0)
    assert lost_unit_fraction(before.spread, after.spread) == (1.0, "vf.fc1")
    assert newly_inactive_fraction(before.positive, after.positive) == (1.0, "vf.fc1")
    probe = ActivationProbe(model.policy)
    figures = layer_figures(probe, probe(th.rand(16, 4)))
    dead, living = figures["vf.fc1"], figures["pi.fc1"]
    assert (dead["units"], dead["live"], dead["fault"], dead["fault_fraction"]) == (64, 0, "dead", 1.0)
    assert (living["units"], living["live"], living["fault_fraction"]) == (64, 64, 0.0)


def test_stable_ppo_trains_with_guards_and_health_and_the_doctor_reads_it(tmp_path: Path) -> None:
    model = model_of(seed=1)
    model.learn(128, callback=HealthCallback(every_updates=1, budget=None, folder=tmp_path))
    line = list(RunReader(tmp_path).health())[-1]
    units = {name: layer["units"] for name, layer in line["layers"].items()}
    assert units == dict.fromkeys(("pi.fc1", "pi.fc2", "vf.fc1", "vf.fc2"), 64)
    assert line["features"]["width"] == 128
    assert model._undone_updates == 0
    observations = np.stack([model.observation_space.sample() for _ in range(32)]).clip(-3, 3)
    assert "unread_layers" not in {found.name for found in diagnose(model, observations).findings}


def test_snapshots_keep_both_outputs_of_each_channel(tmp_path: Path) -> None:
    options = {"features_extractor_kwargs": {"cnn_output_dim": 16}}
    model = model_of(policy="StableMultiInputPolicy", env=SceneEnv(), policy_kwargs=options)
    snapshots = ActivationSnapshotCallback(every=16, folder=tmp_path)
    model.learn(32, callback=snapshots)
    assert {name: len(array) for name, array in snapshots.activations.items()} == {
        "camera.conv1": 64,
        "camera.conv2": 128,
        "camera.conv3": 128,
    }
