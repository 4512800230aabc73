"""ContinualBackprop: which units it replaces, when, and with what."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from helpers.elsewhere import Elsewhere
from helpers.interventions import MINIBATCHES, MODELS, STEPS, net
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.interventions.continual_backprop import ContinualBackprop

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* leaves some layers alone"),
    pytest.mark.filterwarnings("ignore:TRPO sets"),
    pytest.mark.slow(seconds=1),
]
FIRST, SECOND = "mlp_extractor.policy_net.0", "mlp_extractor.policy_net.2"
NAME = "ContinualBackprop"


def frozen(**options: Any) -> PPO:
    """A model that would stay as it is; two steps of the optimizer in each update."""
    options = {**MINIBATCHES, "n_epochs": 1, "learning_rate": 0.0, **options}
    return PPO("MlpPolicy", "CartPole-v1", **options, **net())


def remembered(model: Any, path: str) -> dict[str, Any]:
    layer: dict[str, Any] = model.intervention_memory[NAME]["layers"][path]
    return layer


@pytest.mark.parametrize("options", [{"replacement_rate": 0.0}, {"replacement_rate": 1.0, "maturity": 1000}])
@pytest.mark.parametrize("name", MODELS)
def test_without_mature_units_or_a_rate_it_is_stock_training(name: str, options: dict[str, Any]) -> None:
    stock, model = MODELS[name]().learn(STEPS), MODELS[name]()
    model.learn(STEPS, callback=ContinualBackprop(**options))
    assert_same_weights(stock, model)


@pytest.mark.parametrize("name", MODELS)
def test_every_algorithm_goes_on_learning_with_units_replaced(name: str) -> None:
    model = MODELS[name]()
    model.learn(STEPS, callback=ContinualBackprop(0.2, maturity=0))
    memory = model.intervention_memory[NAME]  # type: ignore[attr-defined]
    assert sum(memory["units"].values()) > 0
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters())


def test_what_is_due_adds_up_to_whole_units_of_those_that_are_mature() -> None:
    model = frozen()
    model.learn(32 * 4, callback=ContinualBackprop(replacement_rate=1 / 32, maturity=2))  # 8 steps, 16 units
    # Mature at steps 3 to 8: 16, 16 (one is replaced), 15, 15, 16 (it is again, as nobody made use of it), 15
    kept = remembered(model, FIRST)
    assert model.intervention_memory[NAME]["units"][FIRST] == 2
    assert kept["due"] == pytest.approx((16 + 16 + 15 + 15 + 16 + 15) / 32 - 2)
    assert sorted(kept["age"].tolist()) == [1, *[8] * 15]
    assert sorted(kept["replaced"].tolist()) == [*[0] * 15, 2]


def test_the_units_of_the_least_activity_times_outgoing_weight_go_first() -> None:
    model = frozen()
    with th.no_grad():
        model.policy.get_submodule(SECOND).weight[:, 5] = 1e-4
        model.policy.get_submodule(FIRST).weight[9] = 1e-5
    before = model.policy.get_submodule(FIRST).weight.detach().clone()
    model.learn(32, callback=ContinualBackprop(replacement_rate=1 / 8, maturity=1))
    changed = (model.policy.get_submodule(FIRST).weight != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == [5, 9]
    kept = remembered(model, SECOND)["replaced"] == 0  # a unit of the second layer that is new has new weights
    assert not model.policy.get_submodule(SECOND).weight[kept][:, [5, 9]].any()


def test_utility_is_a_running_mean_over_the_minibatches_of_the_updates_alone() -> None:
    seen: list[th.Tensor] = []

    class Listening(BaseCallback):
        def _on_rollout_end(self) -> None:
            self.handle = self.model.policy.get_submodule(SECOND).register_forward_pre_hook(
                lambda _, args: seen.append(args[0].detach()) if th.is_grad_enabled() else None
            )

        def _on_rollout_start(self) -> None:
            if self.num_timesteps:
                self.handle.remove()

        def _on_step(self) -> bool:
            return True

    model = frozen()
    model.learn(64, callback=[Listening(), ContinualBackprop(1e-9, maturity=10, decay=0.9)])
    outgoing = model.policy.get_submodule(SECOND).weight.detach().abs().mean(dim=0)
    utility, means = th.zeros(16), th.zeros(16)
    assert len(seen) == 4
    for inputs in seen:
        utility = 0.9 * utility + 0.1 * inputs.abs().mean(dim=0) * outgoing
        means = 0.9 * means + 0.1 * inputs.mean(dim=0)
    kept = remembered(model, FIRST)
    th.testing.assert_close(kept["utility"], utility)
    th.testing.assert_close(kept["means"][0].flatten(), means)
    assert kept["age"].tolist() == [4] * 16


def test_the_mean_output_of_a_layer_stays_when_a_unit_is_replaced() -> None:
    model = frozen(batch_size=32)
    rollouts: list[th.Tensor] = []
    outputs: list[th.Tensor] = []

    class Reads(BaseCallback):
        def _on_rollout_end(self) -> None:
            rollouts.append(th.as_tensor(self.model.rollout_buffer.observations)[:, 0].clone())  # type: ignore[attr-defined]
            self._read()

        def _on_training_end(self) -> None:
            self._read()

        def _read(self) -> None:
            first, second = (self.model.policy.get_submodule(path) for path in (FIRST, SECOND))
            with th.no_grad():
                outputs.append(second(first(rollouts[0]).tanh()).mean(dim=0))

        def _on_step(self) -> bool:
            return True

    model.learn(32, callback=[Reads(), ContinualBackprop(replacement_rate=1 / 16, maturity=0)])
    assert model.intervention_memory[NAME]["units"] == dict.fromkeys(model.intervention_memory[NAME]["layers"], 1)
    kept = remembered(model, SECOND)
    replaced = int(kept["replaced"].argmax())
    others = [unit for unit in range(16) if unit != replaced]  # the second layer has lost a unit too
    th.testing.assert_close(outputs[1][others], outputs[0][others])


def test_an_update_that_guards_undo_takes_its_replacements_back() -> None:
    options: Any = {"guards": {"max_kl": 1e-12, "max_retries": 1}, **MINIBATCHES}
    model = StablePPO("StableMlpPolicy", "CartPole-v1", **options, **net())
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    with pytest.warns(UserWarning, match="An update was undone"):
        model.learn(32, callback=ContinualBackprop(0.1, maturity=0))
    assert_same(before, dict(model.policy.state_dict()), "")
    assert model.intervention_memory.get(NAME, {}) == {}


def test_a_step_without_gradients_ages_nobody() -> None:
    class Skips(BaseCallback):
        def _on_training_start(self) -> None:
            self.model.policy.optimizer.register_step_pre_hook(
                lambda optimizer, *_: optimizer.zero_grad(set_to_none=True)  # type: ignore[no-untyped-call]
            )

        def _on_step(self) -> bool:
            return True

    model = frozen()
    model.learn(64, callback=[Skips(), ContinualBackprop(1.0, maturity=0)])
    assert "layers" not in model.intervention_memory[NAME]


def test_what_it_remembers_is_in_the_zip_and_a_run_that_is_resumed_goes_on_with_it(tmp_path: Path) -> None:
    model = frozen().learn(64, callback=ContinualBackprop(1 / 32, maturity=2))
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=model.get_env())
    assert_same(loaded.intervention_memory, model.intervention_memory, "")  # type: ignore[attr-defined]
    loaded.learn(64, callback=ContinualBackprop(1 / 32, maturity=2), reset_num_timesteps=False)
    assert remembered(loaded, FIRST)["age"].max() == 8


def test_a_model_that_was_trained_on_one_device_goes_on_learning_on_another() -> None:
    models = [frozen().learn(64, callback=ContinualBackprop(1 / 32, maturity=2)) for _ in range(2)]
    for kept in models[0].intervention_memory[NAME]["layers"].values():  # type: ignore[attr-defined]
        kept["utility"], kept["means"] = Elsewhere(kept["utility"]), [Elsewhere(each) for each in kept["means"]]
    for model in models:
        model.set_random_seed(0)
        model.learn(64, callback=ContinualBackprop(1 / 32, maturity=2), reset_num_timesteps=False)
    assert_same(models[0].intervention_memory, models[1].intervention_memory, "")
    assert_same_weights(*models)


def test_nobody_listens_while_the_policy_acts() -> None:
    class Looks(BaseCallback):
        def _on_step(self) -> bool:
            hooks.extend(len(module._forward_pre_hooks) for module in self.model.policy.modules())
            return True

    hooks: list[int] = []
    for name in ("PPO", "SAC"):
        MODELS[name]().learn(STEPS, callback=[ContinualBackprop(), Looks()])
    assert set(hooks) == {0}


def test_what_a_run_that_broke_off_has_left_behind_goes_at_the_next_one() -> None:
    class Breaks(BaseCallback):
        def _on_rollout_end(self) -> None:
            raise KeyboardInterrupt

        def _on_step(self) -> bool:
            return True

    model = frozen()
    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=[ContinualBackprop(), Breaks()])
    assert any(module._forward_pre_hooks for module in model.policy.modules())
    model.learn(64)
    assert not any(module._forward_pre_hooks for module in model.policy.modules())


def test_a_policy_that_acts_in_numpy_is_heard_too() -> None:
    kwargs: dict[str, Any] = {"net_arch": [8], "lean": True}
    model = StablePPO("StableMlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **MINIBATCHES)
    model.learn(64, callback=ContinualBackprop(0.1, maturity=0))
    assert set(model.intervention_memory[NAME]["units"]) == {
        "mlp_extractor.policy_net.fc1",
        "mlp_extractor.value_net.fc1",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replacement_rate": 2}, "replacement_rate must be a number from 0 to 1"),
        ({"maturity": -1}, "maturity must be a whole number of at least 0"),
        ({"decay": 1.0}, "decay must be a number from 0 to"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ContinualBackprop(**options)
