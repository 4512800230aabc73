"""What weights alone prove of a network, and that the doctor claims no more than that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import diagnose
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.doctor.bounds import nature_cnns, upper_bounds
from sb3_stable_ppo.doctor.untrusted_zip import read_weights
from sb3_stable_ppo.doctor.weights import diagnose_weights


def pong(**options: Any) -> PPO:
    return PPO("CnnPolicy", make_pong(1), seed=0, **options)


def with_dead_conv1(model: PPO) -> PPO:
    """Its weights stay as they are; its bias outweighs them all."""
    model.policy.features_extractor.cnn[0].bias.data.fill_(-100.0)
    return model


class LeakyNature(NatureCNN):
    """Nature's shapes, but no unit is ever dead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for index in (1, 3, 5):
            self.cnn[index] = nn.LeakyReLU()


def test_a_first_layer_that_its_bias_has_killed_is_seen_without_an_env(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_dead_conv1(pong()).save(tmp_path / "dead.zip")
    for flags in ([], ["--weights-only"]):
        assert main(["doctor", str(tmp_path / "dead.zip"), *flags, "--json"]) == 1
        diagnosis = json.loads(capsys.readouterr().out)
        assert (diagnosis["verdict"], diagnosis["healthy"]) == ("collapsed activations", False)
        (finding,) = diagnosis["findings"]
        assert (finding["name"], finding["value"]) == ("dead_units", 1.0)
        assert finding["evidence"].startswith("100% of the units of features_extractor.cnn.0 are dead")
        assert finding["remedy"].startswith("Start again with a lower learning rate (or fewer epochs) and StablePPO")


def test_a_policy_that_ignores_the_state_because_a_layer_is_dead_gets_the_layers_remedy() -> None:
    model = with_dead_conv1(pong())
    model.num_timesteps = 10_000
    images = np.random.default_rng(0).integers(0, 256, (64, *model.observation_space.shape), dtype=np.uint8)
    found = {finding.name: finding for finding in diagnose(model, images).findings}
    assert {"dead_units", "constant_policy"} <= found.keys()
    assert found["constant_policy"].remedy == found["dead_units"].remedy
    assert found["constant_policy"].evidence.startswith(
        "The policy draws its actions at random, with the same odds in every state: its variance over states is 0.0e+00"
    )
    assert "Its entropy is 100% of its maximum" in found["constant_policy"].evidence
    assert [name for name, finding in found.items() if "ent_coef" in finding.remedy] == []


def test_ent_coef_is_advised_only_where_the_entropy_is_low() -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0)
    model.num_timesteps = 1_000
    model.policy.action_net.weight.data.zero_()
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    remedies = {}
    for logit in (0.0, 2.5, 50.0):
        model.policy.action_net.bias.data[0] = logit
        finding = diagnose(model, observations).findings[0]
        remedies[finding.name, logit] = "Raise ent_coef" in finding.remedy
        is_random = "draws its actions at random" in finding.evidence
        assert is_random == (logit == 0.0)
    assert remedies == {("constant_policy", 0.0): False, ("constant_policy", 2.5): True, ("one_action", 50.0): True}


def test_no_unit_puts_out_more_than_its_bound_and_the_first_layers_bound_is_reached() -> None:
    model = pong()
    th.manual_seed(1)
    for parameter in model.policy.features_extractor.parameters():
        parameter.data.add_(0.05 * th.randn_like(parameter))
    extractor = model.policy.features_extractor
    bounds = upper_bounds(model.policy.state_dict(), "features_extractor")
    best = (extractor.cnn[0].weight > 0).float()  # each unit's own best image, one patch wide
    images = th.cat([th.rand(16, 4, 84, 84), nn.functional.pad(best, (0, 76, 0, 76))])
    with th.no_grad():
        values = images
        for index in (0, 2, 4):
            values = extractor.cnn[index](values)
            reached = values.amax(dim=(0, 2, 3))
            bound = bounds[f"features_extractor.cnn.{index}"]
            assert (reached <= bound + 1e-4).all()
            if index == 0:
                np.testing.assert_allclose(reached, bound, rtol=1e-4)
            values = values.relu()
        values = extractor.linear[0](values.flatten(1))
        assert (values.amax(dim=0) <= bounds["features_extractor.linear.0"] + 1e-4).all()


def test_a_layer_behind_live_ones_is_proved_dead_by_bounds_that_signs_do_not_show() -> None:
    model = pong()
    cnn = model.policy.features_extractor.cnn
    cnn[0].weight.data.mul_(0.1)
    cnn[4].bias.data.fill_(-900.0)  # its weights stay positive and negative
    (finding,) = diagnose_weights(model.policy.state_dict(), {}).findings
    assert finding.evidence.startswith("100% of the units of features_extractor.cnn.4 are dead")


def test_what_may_not_be_natures_cnn_on_scaled_images_proves_nothing(tmp_path: Path) -> None:
    for options in ({"features_extractor_class": LeakyNature}, {"normalize_images": False}):
        with_dead_conv1(pong(policy_kwargs=options)).save(tmp_path / "model.zip")
        tensors, facts = read_weights(tmp_path / "model.zip")
        assert nature_cnns(tensors, facts) == []
        assert diagnose_weights(tensors, facts).verdict == "not ruled out"
    with_dead_conv1(pong(policy_kwargs={"features_extractor_class": NatureCNN})).save(tmp_path / "model.zip")
    assert diagnose_weights(*read_weights(tmp_path / "model.zip")).verdict == "collapsed activations"


@pytest.mark.parametrize("flags", [[], ["--weights-only"]])
def test_weights_without_a_fault_are_not_called_healthy(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PPO("MlpPolicy", make_cartpole(), seed=0).save(tmp_path / "model.zip")
    assert main(["doctor", str(tmp_path / "model.zip"), *flags, "--json"]) == 0
    diagnosis = json.loads(capsys.readouterr().out)
    assert (diagnosis["verdict"], diagnosis["healthy"]) == ("not ruled out", None)
    assert main(["doctor", str(tmp_path / "model.zip"), *flags]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not ruled out" in shown
    assert "--env" in shown
    assert "healthy" not in shown
