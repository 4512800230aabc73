"""GradientRider: exactly grad L + c * grad term, where it belongs, and nothing of it anywhere else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th
from sb3_contrib import CrossQ
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from helpers.interventions import MODELS, OFF, net
from helpers.processes import run_python
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.interventions.churn_reduction import ChurnReduction
from sb3_stable_ppo.interventions.rider import GradientRider, ride
from sb3_stable_ppo.probes.learners import learners_of

pytestmark = pytest.mark.slow(seconds=1)

SERVED = {
    **{name: make for name, make in MODELS.items() if name != "TRPO"},
    "CrossQ": lambda: CrossQ("MlpPolicy", "Pendulum-v1", **OFF, **net()),
}
TRAINS = {"SAC": "critic", "TD3": "critic", "TQC": "critic", "CrossQ": "critic"}


class HalfSquares(GradientRider):
    """Half the sum of the squares of all weights that the loss moves, whose gradient are the weights themselves."""

    def __init__(self, strength: float = 0.1) -> None:
        super().__init__()
        self.strength, self.rides = strength, 0

    @property
    def coefficient(self) -> float:
        return self.strength

    @property
    def is_on(self) -> bool:
        return self.strength > 0

    def parameters(self) -> list[th.nn.Parameter]:
        own = getattr(self.model.policy, "critic", None)
        return list((own if type(self.model).__name__ in TRAINS else self.model.policy).parameters())

    def term(self) -> th.Tensor:
        self.rides += 1
        return th.stack([(each**2).sum() for each in self.parameters() if each.requires_grad]).sum() / 2


def first_gradients(
    model: BaseAlgorithm, rider: GradientRider | None, steps: int
) -> tuple[dict[str, dict[str, th.Tensor]], dict[str, th.Tensor]]:
    """The gradients that each optimizer finds at its first step, and the weights that it finds them at."""
    found: dict[str, dict[str, th.Tensor]] = {}
    at: dict[str, th.Tensor] = {}
    model.max_grad_norm = 1e9  # type: ignore[attr-defined]

    def note(name: str) -> Callable[..., None]:
        def hook(optimizer: th.optim.Optimizer, *_: Any) -> None:
            if name not in found:
                own = {id(each) for group in optimizer.param_groups for each in group["params"]}
                named = [(key, each) for key, each in model.policy.named_parameters() if id(each) in own]
                found[name] = {key: each.grad.clone() for key, each in named if each.grad is not None}
                at.update({key: each.detach().clone() for key, each in named})

        return hook

    for learner in learners_of(model):
        learner.optimizer.register_step_pre_hook(note(learner.name))
    model.learn(steps, callback=[] if rider is None else [rider])
    return found, at


@pytest.mark.parametrize("name", SERVED)
def test_the_gradient_is_that_of_the_loss_with_the_term_and_the_actor_of_sac_has_none_of_it(name: str) -> None:
    steps = 17 if name in TRAINS or "DQN" in name else 32
    strength = 0.1
    plain, _ = first_gradients(SERVED[name](), None, steps)
    ridden, at = first_gradients(SERVED[name](), HalfSquares(strength), steps)
    with_rider = TRAINS.get(name, "policy")
    for key, gradient in ridden[with_rider].items():
        th.testing.assert_close(
            gradient, plain[with_rider].get(key, 0.0) + strength * at[key], atol=1e-6, rtol=1e-6, msg=key
        )
    assert ridden[with_rider]
    if name not in ("TD3", "CrossQ"):  # whose actor learns after the critic has moved on, in a later step
        assert ridden.keys() == plain.keys()


@pytest.mark.parametrize("name", ["SAC", "TD3", "TQC", "CrossQ"])
def test_one_ride_for_each_step_of_the_critic_and_none_for_the_actor(name: str) -> None:
    rider = HalfSquares()
    SERVED[name]().learn(16 + 20, callback=[rider])
    assert rider.rides == 20


@pytest.mark.parametrize(("name", "minibatches"), [("PPO", 4), ("StablePPO", 4), ("A2C", 1), ("RecurrentPPO", 4)])
def test_one_ride_for_each_minibatch_and_none_for_what_the_guards_read(name: str, minibatches: int) -> None:
    rider = HalfSquares()
    SERVED[name]().learn(64, callback=[rider])
    assert rider.rides == 2 * minibatches


def test_the_coefficient_is_not_scaled_by_what_comes_by() -> None:
    weight = th.tensor([1.0, 2.0], requires_grad=True)
    output = ride(weight * 3, (weight**2).sum(), 0.5)
    assert th.equal(output, weight * 3)
    (0.0 * output.sum()).backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("vf_coef", [0.0, 0.5])
def test_without_a_weight_of_the_value_loss_the_term_is_there_all_the_same(vf_coef: float) -> None:
    def model() -> PPO:
        return PPO(
            "MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, vf_coef=vf_coef, clip_range_vf=1e-9,
            seed=0, **net(),
        )  # fmt: skip

    plain, _ = first_gradients(model(), None, 32)
    ridden, at = first_gradients(model(), HalfSquares(), 32)
    for key, gradient in ridden["policy"].items():
        th.testing.assert_close(gradient, plain["policy"][key] + 0.1 * at[key], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["PPO", "StablePPO", "DQN", "SAC"])
def test_switched_off_it_is_bit_identical_to_stock(name: str) -> None:
    rider = HalfSquares(strength=0)
    assert_same_weights(SERVED[name]().learn(80), SERVED[name]().learn(80, callback=[rider]))
    assert rider.rides == 0


class Hooked(BaseCallback):
    """Whether anybody listens to a module while the policy acts, and in the update."""

    def __init__(self) -> None:
        super().__init__()
        self.acting: list[bool] = []
        self.updating: list[bool] = []

    def _are_hooked(self) -> bool:
        return any(module._forward_hooks for module in self.model.policy.modules())

    def _on_step(self) -> bool:
        self.acting.append(self._are_hooked())
        return True

    def _on_rollout_end(self) -> None:
        self.updating.append(self._are_hooked())


@pytest.mark.parametrize("name", ["PPO", "StablePPO", "DQN", "SAC"])
def test_nothing_listens_while_the_policy_acts(name: str) -> None:
    hooked = Hooked()
    model = SERVED[name]()
    model.learn(80, callback=[HalfSquares(), hooked])
    assert not any(hooked.acting)
    assert all(hooked.updating)
    assert not hooked._are_hooked()


def test_nothing_listens_after_an_update_that_was_undone() -> None:
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}
    guards = {"max_kl": 1e-9, "max_retries": 0}
    model, hooked = StablePPO("MlpPolicy", "CartPole-v1", guards=guards, **options, **net()), Hooked()
    with pytest.warns(UserWarning, match="An update was undone"):
        model.learn(64, callback=[HalfSquares(), hooked])
    assert model._dropped_updates >= 1
    assert not any(hooked.acting)


def interrupted(model: BaseAlgorithm, rider: GradientRider) -> None:
    """Ctrl-C in the middle of the first update."""
    steps = 0

    def interrupt(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt

    handle = model.policy.optimizer.register_step_post_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=[rider])
    handle.remove()


@pytest.mark.parametrize("name", ["PPO", "StablePPO", "DQN"])
def test_a_model_interrupted_in_its_update_is_saved_and_loaded_and_learns_on_without_the_rider(
    name: str, tmp_path: Path
) -> None:
    model, rider = SERVED[name](), HalfSquares()
    interrupted(model, rider)
    assert "evaluate_actions" not in vars(model.policy)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.get_env())
    assert_same(loaded.get_parameters(), model.get_parameters(), "")
    rides = rider.rides
    model.learn(80)
    assert rider.rides == rides
    assert not any(module._forward_hooks for module in model.policy.modules())


@pytest.mark.slow(seconds=5)  # a fresh process
def test_a_zip_of_an_interrupted_model_is_loaded_by_stock_sb3_without_this_package(tmp_path: Path) -> None:
    model = SERVED["PPO"]()
    interrupted(model, ChurnReduction())
    model.save(tmp_path / "model.zip")
    code = (
        "import sys; sys.modules['sb3_stable_ppo'] = None\n"
        "from stable_baselines3 import PPO\n"
        "import gymnasium\n"
        f"model = PPO.load({str(tmp_path / 'model.zip')!r}, env=gymnasium.make('CartPole-v1'))\n"
        "model.learn(32)\n"
        "print(set(model.intervention_memory))"
    )
    assert run_python(code).strip() == "{'ChurnReduction'}"


def test_a_run_that_starts_at_the_step_at_which_the_last_was_interrupted_is_another() -> None:
    model, rider = SERVED["PPO"](), HalfSquares()
    interrupted(model, rider)
    rides = rider.rides
    assert model.num_timesteps == 32
    model.learn(32, reset_num_timesteps=True)
    assert model.num_timesteps == 32
    assert rider.rides == rides


def test_an_algorithm_whose_loss_is_out_of_reach_is_one_clear_error() -> None:
    with (
        pytest.warns(UserWarning, match="TRPO sets"),
        pytest.raises(ValueError, match="HalfSquares adds a term to the loss, and TRPO has none that it can reach"),
    ):
        MODELS["TRPO"]().learn(32, callback=[HalfSquares()])


def test_coefficient_and_term_are_logged() -> None:
    model, rider = SERVED["PPO"](), HalfSquares(0.25)
    model.learn(64, callback=[rider])
    logged = model.logger.name_to_value
    assert logged["interventions/HalfSquares/coefficient"] == 0.25
    assert logged["interventions/HalfSquares/term"] == pytest.approx(rider.memory["term"])
    assert rider.memory["term"] > 1
