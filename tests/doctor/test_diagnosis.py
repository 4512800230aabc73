"""diagnose: the right verdict for known cases, and no false alarm for healthy ones."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from torch import nn

from helpers.diagnosis import fill, names, observations_of
from helpers.envs import SceneEnv, make_cartpole, make_pong
from sb3_stable_ppo import (
    StableCnnPolicy,
    StableMultiInputPolicy,
    StablePongPolicy,
    StablePPO,
    diagnose,
)
from sb3_stable_ppo.doctor.findings import SEVERITIES, Finding, conclude
from sb3_stable_ppo.health.thresholds import VERDICTS

pytestmark = pytest.mark.slow(seconds=1)


def test_a_young_model_of_pong_is_early_training_and_changed_by_nothing() -> None:
    for policy in ("CnnPolicy", StablePongPolicy):
        model = PPO(policy, make_pong(), n_steps=32, batch_size=32, n_epochs=1, seed=0).learn(64)
        observations = observations_of(model)
        state, random = {k: v.clone() for k, v in model.policy.state_dict().items()}, th.get_rng_state()
        diagnosis = diagnose(model, observations)
        assert (diagnosis.verdict, diagnosis.is_healthy) == ("early training", True)
        assert all(th.equal(value, state[name]) for name, value in model.policy.state_dict().items())
        assert th.equal(th.get_rng_state(), random)
        model.ep_info_buffer.extend({"r": -20.0, "l": 900} for _ in range(20))
        told = diagnose(model, observations)
        assert told.verdict == "healthy", "what came before these 20 games nobody knows"
        (note,) = (found for found in told.findings if found.name == "unknown_floor")
        assert note.severity == "note"
        assert note.evidence.startswith("The last 20 episodes of training had a mean return of -20. The zip alone does")
        assert diagnose(model.policy, observations).verdict == "healthy", "of a policy alone no episode is known"


def test_the_first_dead_layer_is_named_with_its_place_and_what_lies_behind_it_is_counted() -> None:
    model = PPO("CnnPolicy", make_pong(), seed=0)
    fill(model.policy.features_extractor.cnn[2], -1.0)
    diagnosis = diagnose(model, observations_of(model))
    assert diagnosis.verdict == "collapsed activations"
    finding = diagnosis.findings[0]
    assert (finding.name, finding.severity, finding.value, finding.threshold) == ("dead_units", "critical", 1.0, 0.9)
    assert finding.evidence.startswith(
        "100% of the units of conv2 (ReLU at features_extractor.cnn.3, behind Conv2d at features_extractor.cnn.2) are"
    )
    assert "low_rank" in names(diagnosis)
    assert finding.remedy.startswith("Start again with a lower learning rate (or fewer epochs) and StablePPO")
    assert str(diagnosis).startswith("collapsed activations: 100% of the units of conv2")


def test_units_that_are_dead_are_not_told_once_more_as_dormant_but_those_of_another_layer_are() -> None:
    model = PPO("CnnPolicy", make_pong(), seed=0)
    fill(model.policy.features_extractor.cnn[2], -1.0)
    observations = observations_of(model)
    dormant = {
        name: layer["dormant_fraction"] for name, layer in diagnose(model, observations).figures["layers"].items()
    }
    assert dormant["conv2"] == 1.0
    assert "dormant_units" not in names(diagnose(model, observations))
    fill(model.policy.features_extractor.cnn[0], 0.0)
    with th.no_grad():
        model.policy.features_extractor.cnn[0].bias[0] = 10.0  # one unit lives, the others are dormant and not dead
        model.policy.features_extractor.cnn[0].bias[1:] = 1e-3
    found = {finding.name: finding for finding in diagnose(model, observations).findings}
    assert found["dead_units"].evidence.startswith("100% of the units of conv2 (")
    assert found["dormant_units"].evidence.startswith("97% of the units of conv1 (")


def test_the_place_of_a_layer_is_told_once() -> None:
    model = PPO("CnnPolicy", make_pong(), seed=0)
    fill(model.policy.features_extractor.linear[0], -1.0)
    found = {finding.name: finding for finding in diagnose(model, observations_of(model)).findings}
    place = "(ReLU at features_extractor.linear.1, behind Linear at features_extractor.linear.0)"
    assert found["dead_units"].evidence == f"100% of the units of fc1 {place} are dead."
    assert found["low_rank"].evidence.startswith("The features of fc1 have an srank of 0 of 512")


def test_leaky_units_that_are_never_positive_make_a_linear_network_which_no_count_of_zeros_sees() -> None:
    model = StablePPO(StableCnnPolicy, make_pong(), seed=0, policy_kwargs={"norm": "none"})
    for conv in ("conv1", "conv2", "conv3"):
        model.policy.features_extractor.cnn.get_submodule(conv).bias.data.fill_(-1e4)
    diagnosis = diagnose(model, observations_of(model))
    assert diagnosis.verdict == "linear network"
    assert all(layer["sparsity"] == 0 for layer in diagnosis.figures["layers"].values())


def test_a_tanh_network_that_always_says_the_same_has_saturated() -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0)
    fill(model.policy.mlp_extractor.policy_net[0], 20.0)
    diagnosis = diagnose(model, observations_of(model))
    assert diagnosis.verdict == "collapsed activations"
    assert diagnosis.findings[0].name == "saturated_units"


def test_one_action_in_all_states_with_live_layers_is_a_collapsed_policy() -> None:
    model = PPO("CnnPolicy", make_pong(), seed=0)
    model.policy.action_net.bias.data[3] = 50.0
    diagnosis = diagnose(model, observations_of(model))
    assert (diagnosis.verdict, names(diagnosis)[0]) == ("collapsed policy", "one_action")


def test_a_policy_that_does_not_look_has_collapsed_however_even_its_actions() -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0)
    fill(model.policy.action_net, 0.0)
    model.num_timesteps = 1_000
    assert names(diagnose(model, observations_of(model)))[0] == "constant_policy"
    model.num_timesteps = 0
    assert diagnose(model, observations_of(model)).verdict == "early training", (
        "the newborn have not learnt to look yet"
    )


@pytest.mark.parametrize("where", ["action_net.bias", "mlp_extractor.value_net.2.weight"])
def test_nan_is_named_with_its_tensor(where: str) -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0)
    model.policy.get_parameter(where).data.flatten()[0] = math.nan
    diagnosis = diagnose(model, observations_of(model))
    assert (diagnosis.verdict, diagnosis.is_healthy) == ("numerically broken", False)
    assert f"weight {where}: 1 of" in diagnosis.findings[0].evidence


def test_weights_so_large_that_the_outputs_are_no_numbers_are_broken_too() -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0, policy_kwargs={"activation_fn": nn.ReLU})
    for parameter in model.policy.mlp_extractor.parameters():
        parameter.data *= 1e25
    diagnosis = diagnose(model, observations_of(model))
    assert diagnosis.verdict == "numerically broken"
    assert "though the weights are" in diagnosis.findings[0].evidence


def test_a_history_of_falling_rank_and_growing_norms_is_a_network_that_is_dying() -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0)
    model.num_timesteps = 5
    history = [
        {"step": step, "layers": {}, "nonfinite": None, "features": {"layer": "pi.fc2", "srank": srank, "norm": 3.0}}
        for step, srank in enumerate([40, 60, 30, 14, 13, 12])
    ]
    diagnosis = diagnose(model, observations_of(model), history)
    assert (diagnosis.verdict, names(diagnosis)[0]) == ("dying", "falling_rank")
    assert "pi.fc2 has fallen to 20% of its peak (since step 3)" in diagnosis.findings[0].evidence
    model.num_timesteps = 2
    assert diagnose(model, observations_of(model), history).verdict == "early training", (
        "what came after does not count"
    )


def test_the_worst_of_several_is_the_verdict_and_warnings_are_none() -> None:
    def found(severity: str, verdict: str) -> Finding:
        return Finding("x", severity, verdict, None, None, "e", "r")

    assert conclude([found("critical", verdict) for verdict in reversed(VERDICTS)], {}).verdict == VERDICTS[0]
    assert conclude([found("warning", "")], {}).verdict == "healthy"
    ordered = conclude([found("note", "early training"), found("warning", ""), found("critical", "dying")], {})
    assert [finding.severity for finding in ordered.findings] == list(reversed(SEVERITIES))


@pytest.mark.parametrize("name", ["DQN", "TD3", "SAC", "CrossQ"])
def test_values_and_actions_that_are_no_numbers_are_broken_though_nothing_raises(name: str) -> None:
    cls = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    model = cls("MlpPolicy", "CartPole-v1" if name == "DQN" else "Pendulum-v1", seed=0)
    observations = observations_of(model)
    for key, tensor in model.policy.state_dict().items():
        if name == "CrossQ":
            tensor.fill_(math.nan) if key == "actor.latent_pi.0.ra_mean" else None
        elif tensor.is_floating_point():
            tensor.mul_(1e30)
    assert diagnose(model, observations).verdict == "numerically broken"


@pytest.mark.parametrize("name", ["PPO", "SAC", "MultiDiscrete"])
def test_an_action_stuck_at_its_bound_or_in_one_part_is_a_collapsed_policy(name: str) -> None:
    if name == "SAC":
        model: Any = stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", seed=0)
        model.policy.actor.mu.bias.data.fill_(20.0)
    elif name == "PPO":
        model = PPO("MlpPolicy", "Pendulum-v1", seed=0)
        model.policy.action_net.bias.data.fill_(50.0)
    else:

        class TwoParts(gym.ActionWrapper[Any, Any, Any]):
            action_space = spaces.MultiDiscrete([3, 2])

            def action(self, action: Any) -> Any:
                return int(action[1])

        model = PPO("MlpPolicy", TwoParts(gym.make("CartPole-v1")), seed=0)
        model.policy.action_net.bias.data[1] = 50.0
    model.num_timesteps = 100
    assert diagnose(model, observations_of(model)).verdict == "collapsed policy"


def test_a_flat_critic_is_a_warning_and_no_collapse() -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0)
    fill(model.policy.mlp_extractor.value_net[0], 20.0)
    diagnosis = diagnose(model, observations_of(model))
    assert (diagnosis.verdict, diagnosis.findings[0].severity) == ("early training", "warning")
    assert "It is the critic's own" in diagnosis.findings[0].evidence


@pytest.mark.parametrize("env", ["MountainCar-v0", "Pendulum-v1", "Acrobot-v1"])
def test_few_numbers_in_an_observation_bound_the_rank_and_are_no_collapse(env: str) -> None:
    for activation in (nn.Tanh, nn.ReLU):
        model = PPO("MlpPolicy", env, seed=0, policy_kwargs={"activation_fn": activation})
        assert diagnose(model, observations_of(model, 512)).verdict == "early training"


def test_a_network_without_layers_is_said_to_be_unknown_inside() -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0, policy_kwargs={"net_arch": []})
    assert names(diagnose(model, observations_of(model))) == ["early", "no_layers"]


def test_dict_observations_are_diagnosed() -> None:
    model = PPO(StableMultiInputPolicy, SceneEnv(), n_steps=32, batch_size=32, n_epochs=1, seed=0).learn(32)
    scene = SceneEnv()
    rows = [scene.reset(seed=seed)[0] for seed in range(32)]
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    assert diagnose(model, batch).verdict == "early training"
    with pytest.raises(ValueError, match=r"takes \['camera', 'speed'\], not \['camera'\]"):
        diagnose(model, {"camera": batch["camera"]})


@pytest.mark.parametrize(
    ("observations", "complaint"),
    [
        (np.zeros((1, 4), np.float32), "One observation tells nothing"),
        (np.zeros(4, np.float32), r"the policy takes batches of shape \(n, \*\(4,\)\), not \(4,\)"),
        (np.zeros((8, 5), np.float32), r"not \(8, 5\)"),
        (np.zeros((8, 4), np.float32), "These observations are all the same"),
        (np.full((8, 4), np.nan, np.float32), "not finite; it is the env that is broken"),
    ],
)
def test_observations_of_another_kind_are_one_error(observations: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        diagnose(PPO("MlpPolicy", make_cartpole()), observations)


def test_masks_that_do_not_belong_to_the_observations_are_one_error() -> None:
    rows = np.arange(32, dtype=np.float32).reshape(8, 4)
    with pytest.raises(ValueError, match="action_masks are for MaskablePPO, and ActorCriticPolicy takes none"):
        diagnose(PPO("MlpPolicy", make_cartpole()), rows, action_masks=np.ones((8, 2)))
    with pytest.raises(ValueError, match="Give a row of action_masks for each of the 8 observations"):
        diagnose(sb3_contrib.MaskablePPO("MlpPolicy", make_cartpole()), rows, action_masks=np.ones((7, 2)))
