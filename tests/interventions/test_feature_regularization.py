"""FeatureRegularization: the term's gradient, whose rows are whose, and that it leaves no other trace in a run."""

from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from helpers.envs import SceneEnv, make_cartpole
from helpers.interventions import MINIBATCHES, MODELS, net, weights
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import StablePPO, StableRecurrentPPO, TorchRolloutBuffer
from sb3_stable_ppo.interventions.churn_reduction import ChurnReduction
from sb3_stable_ppo.interventions.feature_regularization import FeatureRegularization, hidden_layers

pytestmark = pytest.mark.slow(seconds=1)

ONE_PASS: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "seed": 3}


class Terms(FeatureRegularization):
    """Notes each term and its rows."""

    def begin(self) -> None:
        self.terms: list[float] = []
        self.rows: list[Any] = []

    def term(self) -> th.Tensor:
        term = super().term()
        self.terms.append(float(term.detach()))
        self.rows.append(self._rows)
        return term


def scene(**options: Any) -> StablePPO:
    return StablePPO("StableMultiInputPolicy", SceneEnv(), **MINIBATCHES, policy_kwargs=options)


MODELS_OF_ROLLOUTS: dict[str, Any] = {
    **{name: MODELS[name] for name in ("PPO", "StablePPO", "MaskablePPO")},
    "two envs": lambda: PPO("MlpPolicy", make_cartpole(2), **MINIBATCHES, **net()),
    "our buffer": lambda: PPO(
        "MlpPolicy", make_cartpole(2), rollout_buffer_class=TorchRolloutBuffer, **MINIBATCHES, **net()
    ),
    "Dict": scene,
    "lean": lambda: StablePPO("StableMlpPolicy", "CartPole-v1", **MINIBATCHES, policy_kwargs={"lean": True}),
    "BatchNorm": lambda: StablePPO(
        "StableMlpPolicy", make_cartpole(2), **MINIBATCHES, policy_kwargs={"norm": "batch", "norm_input": "running"}
    ),
}


@pytest.mark.parametrize("layers", ["last", "all"])
@pytest.mark.parametrize("name", MODELS_OF_ROLLOUTS)
def test_the_features_of_a_row_have_not_moved_before_the_first_step_and_then_move(name: str, layers: str) -> None:
    rider = Terms(layers=layers)
    model = MODELS_OF_ROLLOUTS[name]()
    model.learn(32 * model.n_envs * 2, callback=[rider])
    minibatches = len(rider.terms) // 2
    assert minibatches == 4 * model.n_envs
    for first, *others in (rider.terms[:minibatches], rider.terms[minibatches:]):
        assert first == pytest.approx(0, abs=1e-9)
        assert all(1e-9 < other < 1 for other in others)


def gradients_at_second_step(model: BaseAlgorithm, callback: Any) -> tuple[list[Any], dict[str, th.Tensor]]:
    model.max_grad_norm = 1e9  # type: ignore[attr-defined]
    networks: list[Any] = []
    gradients: dict[str, th.Tensor] = {}

    def note(*_: Any) -> None:
        networks.append(weights(model))
        if len(networks) == 2:
            gradients.update({name: each.grad.clone() for name, each in model.policy.named_parameters()})  # type: ignore[union-attr]

    model.policy.optimizer.register_step_pre_hook(note)
    model.learn(32, callback=callback)
    return networks, gradients


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_gradient_is_that_of_the_loss_with_the_mean_square_of_all_units(layers: str) -> None:
    def make() -> PPO:
        return PPO("MlpPolicy", "CartPole-v1", **ONE_PASS, **net())

    _, plain = gradients_at_second_step(make(), None)
    model, rider = make(), Terms(strength=30.0, layers=layers)
    (first, second), found = gradients_at_second_step(model, [rider])
    now, rollout = make().policy, make().policy
    now.load_state_dict(second)
    rollout.load_state_dict(first)
    observations = th.as_tensor(model.rollout_buffer.observations)[rider.rows[1]]

    def features(policy: Any) -> th.Tensor:
        linear, activation, last = policy.mlp_extractor.policy_net[:3]
        hidden = linear(observations)
        found = last(activation(hidden))
        return th.cat([hidden, found], dim=1) if layers == "all" else found

    term = ((features(now) - features(rollout).detach()) ** 2).mean()
    assert rider.terms[1] == pytest.approx(term.item(), rel=1e-4)
    term.backward()
    for name, parameter in now.named_parameters():
        own = th.zeros_like(parameter) if parameter.grad is None else parameter.grad
        th.testing.assert_close(found[name], plain[name] + 30 * own, atol=1e-6, rtol=1e-4, msg=name)
    assert not th.allclose(
        found["mlp_extractor.policy_net.2.weight"], plain["mlp_extractor.policy_net.2.weight"], atol=1e-5, rtol=0
    )


def test_the_layers_are_those_on_the_way_to_an_action_in_their_order() -> None:
    model = scene(net_arch=[8])
    found = hidden_layers(model.policy, model.policy.obs_to_tensor(model.env.reset())[0])  # type: ignore[union-attr]
    paths = {module: path for path, module in model.policy.named_modules()}
    ends = [paths[layer].split("extractors.")[-1] for layer in found]
    assert ends[:3] == ["camera.cnn.conv1", "camera.cnn.conv2", "camera.cnn.conv3"]
    assert ends[-1].startswith("mlp_extractor.policy_net")
    assert not any("value_net" in end or "action_net" in end for end in ends)


@pytest.mark.parametrize("name", MODELS_OF_ROLLOUTS)
def test_with_strength_0_it_is_bit_identical_to_stock(name: str) -> None:
    plain, watched = MODELS_OF_ROLLOUTS[name]().learn(80), MODELS_OF_ROLLOUTS[name]()
    assert_same_weights(plain, watched.learn(80, callback=[FeatureRegularization(strength=0)]))


@pytest.mark.parametrize("name", [name for name in MODELS_OF_ROLLOUTS if name != "lean"])
def test_reading_leaves_no_trace_but_the_gradient(name: str) -> None:
    plain, watched = MODELS_OF_ROLLOUTS[name]().learn(80), MODELS_OF_ROLLOUTS[name]()
    assert_same(weights(watched.learn(80, callback=[Terms(strength=1e-38)])), weights(plain), "")


def test_nothing_is_left_on_the_rollout_buffer() -> None:
    model, rider = MODELS["PPO"](), Terms()
    model.learn(64, callback=[rider])
    assert "_get_samples" not in vars(model.rollout_buffer)  # type: ignore[attr-defined]
    assert "_rollout" not in vars(rider)


def test_an_update_that_was_interrupted_leaves_nothing_to_the_next_run() -> None:
    model, rider = MODELS["PPO"](), Terms()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = model.policy.optimizer.register_step_post_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=[rider])
    handle.remove()
    model.learn(64)
    assert len(rider.terms) == 1
    assert "_get_samples" not in vars(model.rollout_buffer)  # type: ignore[attr-defined]
    assert not any(module._forward_hooks for module in model.policy.modules())


@pytest.mark.parametrize("churn_first", [False, True])
@pytest.mark.parametrize("name", ["PPO", "StablePPO"])
def test_beside_churn_reduction_each_has_its_own_rows(name: str, churn_first: bool) -> None:
    alone, beside, churn = Terms(), Terms(), ChurnReduction(start=0.0, after=10**9)
    MODELS[name]().learn(64, callback=[alone])
    MODELS[name]().learn(64, callback=[churn, beside] if churn_first else [beside, churn])
    assert beside.terms == alone.terms
    assert churn.memory["draws"] == len(alone.terms) - 1


def test_a_large_strength_holds_the_features() -> None:
    def movement(strength: float) -> float:
        rider = Terms(strength=strength)
        options: dict[str, Any] = {"n_steps": 64, "batch_size": 16, "seed": 0, "learning_rate": 3e-3}
        PPO("MlpPolicy", "CartPole-v1", **options, **net()).learn(64, callback=[rider])
        return rider.terms[-1]

    assert movement(1e3) < 0.5 * movement(1e-6)


@pytest.mark.parametrize(
    "make",
    [
        MODELS["A2C"],
        MODELS["DQN"],
        MODELS["RecurrentPPO"],
        lambda: StableRecurrentPPO("StableMlpPolicy", "CartPole-v1", **MINIBATCHES),
    ],
)
def test_what_it_cannot_serve_is_one_clear_error(make: Any) -> None:
    model = make()
    with pytest.raises(ValueError, match=rf"{type(model).__name__} makes no such passes. Choose PPO, MaskablePPO"):
        model.learn(32, callback=[FeatureRegularization()])


def test_what_has_no_loss_in_reach_is_told_only_of_algorithms_that_it_serves() -> None:
    with (
        pytest.warns(UserWarning, match="TRPO sets"),
        pytest.raises(ValueError, match=r"reach\. Choose PPO, MaskablePPO, StablePPO or StableMaskablePPO\.$"),
    ):
        MODELS["TRPO"]().learn(32, callback=[FeatureRegularization()])


def test_an_actor_without_hidden_layers_and_a_second_of_the_class_are_told() -> None:
    flat = PPO("MlpPolicy", "CartPole-v1", **MINIBATCHES, policy_kwargs={"net_arch": []})
    with pytest.raises(ValueError, match="this actor has none: choose another net_arch"):
        flat.learn(32, callback=[FeatureRegularization()])
    with pytest.raises(ValueError, match="FeatureRegularization is in the list of callbacks more than once"):
        MODELS["PPO"]().learn(32, callback=[FeatureRegularization(), FeatureRegularization(layers="all")])


def test_arguments_out_of_range_are_told() -> None:
    with pytest.raises(ValueError, match="strength must be a number of at least 0"):
        FeatureRegularization(strength=-1)
    with pytest.raises(ValueError, match="Unknown layers 'first': choose one of last, all"):
        FeatureRegularization(layers="first")
