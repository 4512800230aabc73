"""ChurnReduction: the term's gradient, its coefficient, and that it leaves no other trace in a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm

from helpers.envs import SceneEnv, make_cartpole
from helpers.interventions import MINIBATCHES, MODELS, OFF, net
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.interventions.churn_reduction import CONTINUOUS, DISCRETE, VALUES, ChurnReduction
from sb3_stable_ppo.interventions.minibatches import another_minibatch

pytestmark = pytest.mark.slow(seconds=1)

FIXED: dict[str, Any] = {"after": 10**9}
SERVED = [name for name in MODELS if name != "TRPO"]


def second_gradient(model: BaseAlgorithm, steps: int, callback: Any) -> tuple[list[Any], dict[str, th.Tensor]]:
    """The networks at the first two steps of the optimizer that the term is in, and the gradient at the second."""
    model.max_grad_norm = 1e9  # type: ignore[attr-defined]
    optimizer = getattr(model.policy, "critic", model.policy).optimizer
    networks: list[Any] = []
    gradients: dict[str, th.Tensor] = {}

    def note(*_: Any) -> None:
        networks.append({name: each.detach().clone() for name, each in model.policy.named_parameters()})
        if len(networks) == 2:
            gradients.update(
                {name: each.grad.clone() for name, each in model.policy.named_parameters() if each.grad is not None}
            )

    optimizer.register_step_pre_hook(note)
    model.learn(steps, callback=callback)
    return networks, gradients


ONE_PASS: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "seed": 3}
EXPLICIT: dict[str, Any] = {
    "PPO": (lambda: PPO("MlpPolicy", "CartPole-v1", **ONE_PASS, **net()), 32),
    "PPO, continuous": (lambda: PPO("MlpPolicy", "Pendulum-v1", **ONE_PASS, **net()), 32),
    "DQN": (lambda: DQN("MlpPolicy", "CartPole-v1", train_freq=1, **{**OFF, "seed": 3}, **net()), 18),
    "SAC": (lambda: SAC("MlpPolicy", "Pendulum-v1", **{**OFF, "seed": 3}, **net()), 18),
}


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_gradient_is_that_of_the_loss_with_the_churn_on_another_minibatch(name: str) -> None:
    (make, steps), coefficient = EXPLICIT[name], 7.0
    _, plain = second_gradient(make(), steps, None)
    model = make()
    (first, second), found = second_gradient(model, steps, [ChurnReduction(start=coefficient, **FIXED)])
    inputs, mask = another_minibatch(model, np.random.default_rng((3, 1)))
    assert mask is None
    now, before = make().policy, make().policy
    now.load_state_dict(second, strict=False)
    before.load_state_dict(first, strict=False)
    if name == "PPO":
        log_probs = [policy.get_distribution(*inputs).distribution.logits for policy in (now, before)]
        term = -(log_probs[1].detach().exp() * log_probs[0]).sum(dim=1).mean()
    elif name == "PPO, continuous":
        means = [policy.get_distribution(*inputs).distribution.mean for policy in (now, before)]
        term = ((means[0] - means[1].detach()) ** 2).mean()
    else:
        values = [policy.critic(*inputs) if name == "SAC" else (policy.q_net(*inputs),) for policy in (now, before)]
        squares = [(new - old.detach()) ** 2 for new, old in zip(*values, strict=True)]
        term = th.stack([each.mean() for each in squares]).mean()
    term.backward()
    own = {key: each.grad for key, each in now.named_parameters() if each.grad is not None}
    assert any(each.abs().max() > 1e-6 for each in own.values())
    assert any(not th.allclose(found[key], plain[key], atol=1e-6, rtol=0) for key in own)
    for key, gradient in plain.items():
        if name != "SAC" or key in own:  # what is left over from the last pass of SAC's actor is no gradient of a loss
            expected = gradient + coefficient * own.get(key, th.zeros_like(gradient))
            th.testing.assert_close(found[key], expected, atol=1e-6, rtol=1e-4, msg=key)


@pytest.mark.parametrize("name", SERVED)
def test_with_target_0_it_is_bit_identical_to_stock_and_remembers_nothing(name: str) -> None:
    plain, watched = MODELS[name]().learn(80), MODELS[name]()
    watched.learn(80, callback=[ChurnReduction(target=0)])
    assert_same_weights(plain, watched)
    assert set(watched.intervention_memory["ChurnReduction"]) == {"updates"}  # type: ignore[attr-defined]


def stable(policy: str, env: Any = "CartPole-v1", **options: Any) -> StablePPO:
    return StablePPO(policy, env, **MINIBATCHES, ent_coef=0.1, policy_kwargs=options)


TRACELESS: dict[str, Any] = {
    **{name: MODELS[name] for name in SERVED},
    "with entropy": lambda: PPO("MlpPolicy", "CartPole-v1", ent_coef=0.1, **MINIBATCHES, **net()),
    "gSDE": lambda: PPO("MlpPolicy", "Pendulum-v1", use_sde=True, ent_coef=0.1, **MINIBATCHES, **net()),
    "BatchNorm": lambda: stable("StableMlpPolicy", norm="batch", norm_statistics="batch", net_arch=[16]),
    "running BatchNorm": lambda: stable("StableMlpPolicy", norm="batch", norm_input="running", norm_value="running"),
    "Dict": lambda: stable("StableMultiInputPolicy", SceneEnv()),
    "Dict, bf16": lambda: stable(
        "StableMultiInputPolicy", SceneEnv(), precision="bf16", memory_format="channels_last", net_arch=[16]
    ),
    "Dict, off-policy": lambda: DQN("MultiInputPolicy", SceneEnv(), **OFF, **net()),
    "recurrent, two envs": lambda: RecurrentPPO(
        "MlpLstmPolicy", make_cartpole(2), ent_coef=0.1, **MINIBATCHES, **net(lstm_hidden_size=8)
    ),
}


@pytest.mark.parametrize("name", TRACELESS)
def test_the_second_minibatch_leaves_no_trace_but_its_gradient(name: str) -> None:
    plain, watched = TRACELESS[name]().learn(80), TRACELESS[name]()
    churn = ChurnReduction(target=1.0, start=0.0, **FIXED)
    watched.learn(80, callback=[churn])
    assert_same_weights(plain, watched)
    assert churn.memory["draws"] > 0


def test_a_lean_policy_learns_with_the_term_as_one_that_is_not() -> None:
    sgd = {"optimizer_class": th.optim.SGD, "net_arch": [16]}  # Adam would make steps of rounding errors
    models = [stable("StableMlpPolicy", lean=lean, **sgd) for lean in (False, True)]
    for model in models:
        model.learn(64, callback=[ChurnReduction()])
    for name, parameter in models[0].policy.named_parameters():
        th.testing.assert_close(models[1].policy.get_parameter(name), parameter, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "published"), [("PPO", DISCRETE), ("DQN", VALUES), ("SAC", VALUES), ("box", CONTINUOUS)]
)
def test_each_kind_of_output_has_its_published_settings_unless_they_are_given(name: str, published: Any) -> None:
    def model() -> BaseAlgorithm:
        return MODELS[name]() if name in MODELS else EXPLICIT["PPO, continuous"][0]()

    churn, own = ChurnReduction(), ChurnReduction(target=2, start=3, window=4, after=5)
    model().learn(32, callback=[churn])
    model().learn(32, callback=[own])
    assert churn.settings == published
    assert churn.coefficient == published.start
    assert own.settings == published._replace(target=2.0, start=3.0, window=4, after=5)


def test_the_coefficient_follows_the_loss_from_the_given_update_on() -> None:
    class Coefficients(ChurnReduction):
        def begin(self) -> None:
            super().begin()
            self.seen: list[tuple[float, float, float]] = []

        def after_update(self) -> None:
            super().after_update()
            loss = abs(float(self.logger.name_to_value["train/policy_gradient_loss"]))
            self.seen.append((loss, self.memory["term"], self.coefficient))

    churn = Coefficients(target=0.5, start=3.0, window=2, after=2)
    EXPLICIT["PPO, continuous"][0]().learn(32 * 4, callback=[churn])
    losses, terms, coefficients = zip(*churn.seen, strict=True)
    assert coefficients[0] == 3.0
    assert coefficients[1] == pytest.approx(0.5 * np.mean(losses[:2]) / (np.mean(terms[:2]) + 1e-8))
    loss, term = ((np.mean(each[:2]) + each[2]) / 2 for each in (losses, terms))
    assert coefficients[2] == pytest.approx(0.5 * loss / (term + 1e-8))


def test_of_discrete_actions_the_coefficient_is_never_below_1() -> None:
    churn = ChurnReduction(target=1e-9, after=1)
    MODELS["PPO"]().learn(64, callback=[churn])
    assert churn.coefficient == 1.0


def test_a_large_coefficient_keeps_the_policy_from_churning() -> None:
    def term(start: float) -> float:
        churn = ChurnReduction(start=start, **FIXED)
        options: dict[str, Any] = {"n_steps": 64, "batch_size": 16, "seed": 0, "learning_rate": 3e-3}
        PPO("MlpPolicy", "Pendulum-v1", **options, **net()).learn(128, callback=[churn])
        return float(churn.memory["term"])

    assert term(1e4) < 0.5 * term(0.0)


def test_what_is_remembered_is_plain() -> None:
    churn = ChurnReduction(after=1)
    MODELS["PPO"]().learn(64, callback=[churn])
    kept = {**churn.memory, **churn.memory["previous"]}
    assert {type(value) for value in kept.values()} == {int, float, dict, th.Tensor}


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_a_resumed_run_goes_on_with_its_draws_its_coefficient_and_the_weights_of_one_step_ago(
    name: str, tmp_path: Path
) -> None:
    model, churn = MODELS[name](), ChurnReduction(after=1)
    model.learn(64, callback=[churn])
    model.save(tmp_path / "model.zip")
    resumed: Any = type(model).load(tmp_path / "model.zip", env=model.get_env())
    kept = model.intervention_memory["ChurnReduction"]  # type: ignore[attr-defined]
    assert_same(resumed.intervention_memory["ChurnReduction"], kept, "")
    draws, again = kept["draws"], ChurnReduction(after=1)
    if name != "PPO":
        resumed.replay_buffer = model.replay_buffer  # type: ignore[attr-defined]
    resumed.learn(32, callback=[again], reset_num_timesteps=False)
    assert again.memory["draws"] - draws == (4 if name == "PPO" else 32 if name == "SAC" else 8)


def test_two_runs_of_one_seed_are_the_same() -> None:
    first, second = (MODELS["PPO"]().learn(64, callback=[ChurnReduction(start=5, **FIXED)]) for _ in range(2))
    assert_same_weights(first, second)


def test_an_update_that_is_undone_takes_the_draws_and_the_weights_of_one_step_ago_back() -> None:
    guards = {"max_kl": 1e-9, "max_retries": 1}
    model, churn = StablePPO("MlpPolicy", "CartPole-v1", guards=guards, **MINIBATCHES, **net()), ChurnReduction()
    with pytest.warns(UserWarning, match="An update was undone"):
        model.learn(64, callback=[churn])
    assert model._dropped_updates == 2
    assert not {"draws", "previous", "term", "measured"} & set(churn.memory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": -1}, "target must be a number of at least 0"),
        ({"start": "x"}, "start must be a number of at least 0"),
        ({"window": 0}, "window must be a whole number of at least 1"),
        ({"after": 1.5}, "after must be a whole number of at least 0"),
    ],
)
def test_numbers_out_of_range_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChurnReduction(**options)


def test_a_replay_buffer_without_arrays_is_one_clear_error() -> None:
    model: Any = MODELS["DQN"]()
    del model.replay_buffer.observations
    with pytest.raises(ValueError, match="ReplayBuffer keeps no array of observations to draw from"):
        model.learn(32, callback=[ChurnReduction()])


def test_a2c_has_no_published_target_and_learns_with_a_given_one() -> None:
    with pytest.raises(ValueError, match=r"no published target for A2C.*Begin with ChurnReduction\(target=1.0\)"):
        MODELS["A2C"]().learn(32, callback=[ChurnReduction()])
    churn = ChurnReduction(target=1.0)
    MODELS["A2C"]().learn(96, callback=[churn])
    assert churn.memory["terms" if "terms" in churn.memory else "term"] > 0


def test_weights_from_before_a_stretch_without_it_are_forgotten() -> None:
    model, churn = MODELS["PPO"](), ChurnReduction()
    model.learn(64, callback=[churn])
    model.learn(32, reset_num_timesteps=False)
    model.learn(32, callback=[churn], reset_num_timesteps=False)
    assert churn.memory["draws"] == 7 + 3  # 4 steps an update, of which the first of all has no step before it
    assert model.num_timesteps == churn.memory["at"]
