"""What counts as a collapse: the readings before and after an update, and the bounds on them."""

import pytest
import torch as th
from stable_baselines3 import PPO

from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.guards.arithmetic import lost_unit_fraction, newly_inactive_fraction
from sb3_stable_ppo.metrics.layers import spread

SMALL = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "seed": 0}
PLAIN = {"policy_kwargs": {"norm": "none"}}  # a LayerNorm would take the shift back


def train_that_lowers_the_critics_bias(by: float) -> object:
    """In place of ``PPO.train``: the action distribution stays, the critic's first layer moves."""

    def train(self: PPO) -> None:
        samples = next(self.rollout_buffer.get(8))  # an update that takes no minibatch is an error of its own
        self.policy.evaluate_actions(samples.observations, samples.actions.long().flatten())
        with th.no_grad():
            self.policy.mlp_extractor.value_net[0].bias -= by

    return train


def test_an_update_that_makes_a_leaky_relu_layer_linear_is_undone_though_the_policy_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = StablePPO("StableMlpPolicy", "CartPole-v1", guards={"max_retries": 1}, **PLAIN, **SMALL)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    monkeypatch.setattr(PPO, "train", train_that_lowers_the_critics_bias(100.0))

    with pytest.warns(UserWarning, match="100% of the units of vf.fc1 are positive on no row any more"):
        model.learn(16)

    assert (model._undone_updates, model._dropped_updates) == (2, 1)
    assert model.logger.name_to_value["guards/update_kl"] == 0.0
    assert model.logger.name_to_value["guards/lost_unit_fraction"] < 0.5  # most of it still varies over the rows
    assert model.logger.name_to_value["guards/newly_inactive_fraction"] == 1.0
    assert all(th.equal(before[name], value) for name, value in model.policy.state_dict().items())


def test_max_silenced_of_one_lets_it_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StablePPO("StableMlpPolicy", "CartPole-v1", guards={"max_newly_inactive_fraction": 1.0}, **PLAIN, **SMALL)
    monkeypatch.setattr(PPO, "train", train_that_lowers_the_critics_bias(100.0))
    model.learn(16)
    assert model._undone_updates == 0


def test_a_tanh_layer_that_saturates_is_undone_by_what_no_longer_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StablePPO("MlpPolicy", "CartPole-v1", guards={"max_retries": 0}, **SMALL)
    monkeypatch.setattr(PPO, "train", train_that_lowers_the_critics_bias(-100.0))  # all at +1: positive, and constant
    with pytest.warns(UserWarning, match="100% of the live units of vf.fc1 died, more than max_lost_unit_fraction 50%"):
        model.learn(16)
    assert model._undone_updates == 1


def test_worst_loss_counts_only_what_was_lost() -> None:
    before = {"conv1": th.arange(16) < 8, "fc1": th.ones(10, dtype=th.bool)}
    gained = {"conv1": th.ones(16, dtype=th.bool), "fc1": th.arange(10) < 7}
    assert newly_inactive_fraction(before, gained) == (pytest.approx(0.3), "fc1")


def test_unit_loss_measures_against_the_layers_mean_before_the_update() -> None:
    shrunk = {"fc1": th.full((8,), 0.002)}  # all units alike: nothing stands out after, all is small against before
    assert lost_unit_fraction({"fc1": th.ones(8)}, shrunk) == (0.0, "")
    assert lost_unit_fraction({"fc1": th.ones(8)}, {"fc1": th.full((8,), 0.0009)}) == (1.0, "fc1")


def test_spread_is_the_standard_deviation_over_rows_and_places() -> None:
    activations = th.randn(6, 3, 4, 5, generator=th.Generator().manual_seed(0)) + 1000.0
    by_unit = activations.movedim(1, 0).flatten(1).double()
    assert spread(activations).numpy() == pytest.approx(by_unit.std(dim=1, correction=0).numpy(), rel=1e-4)
    assert spread(th.full((4, 2), 7.0)).tolist() == [0.0, 0.0]


def test_the_sign_of_a_tanh_unit_is_no_measure_of_its_health(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StablePPO("MlpPolicy", "CartPole-v1", guards={"max_lost_unit_fraction": 1.0}, **SMALL)
    monkeypatch.setattr(PPO, "train", train_that_lowers_the_critics_bias(100.0))
    model.learn(16)
    assert model._undone_updates == 0
    assert model.logger.name_to_value["guards/newly_inactive_fraction"] == 0.0
