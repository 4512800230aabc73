"""The arithmetic of each intervention that moves weights, on a step whose gradient is zero: nothing else moves them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch as th
from sb3_contrib import CrossQ, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from helpers.interventions import MINIBATCHES, MODELS, OFF, STEPS, net, weights
from helpers.weights import assert_same
from sb3_stable_ppo import L2Init, ShrinkPerturb, SpectralCap, StablePPO, WeightClip, WeightProjection
from sb3_stable_ppo.interventions.fresh import fresh_draw, fresh_weights
from sb3_stable_ppo.interventions.weight_space import WeightIntervention
from sb3_stable_ppo.probes.learners import learners_of

pytestmark = pytest.mark.filterwarnings("ignore:WeightProjection is made for")


def one_step(intervention: BaseCallback, **options: Any) -> tuple[PPO, dict[str, th.Tensor], dict[str, th.Tensor]]:
    """A model, and its weights before and after one step of SGD with a learning rate of 0 and the intervention."""
    kwargs = net(optimizer_class=th.optim.SGD, optimizer_kwargs={}, **options)
    model = PPO("MlpPolicy", "Pendulum-v1", n_steps=16, batch_size=16, n_epochs=1, learning_rate=0.0, seed=0, **kwargs)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(3.0)
    before = weights(model)
    model.learn(16, callback=[intervention])
    return model, before, weights(model)


def is_bias(name: str) -> bool:
    return name.endswith("bias")


def test_l2_init_goes_its_share_of_the_way_back_in_weights_and_biases_but_not_in_log_std() -> None:
    class Moved(BaseCallback):
        """Moves all weights by 1 between the start and the step."""

        def _on_step(self) -> bool:
            if self.n_calls == 1:
                with th.no_grad():
                    for parameter in self.model.policy.parameters():
                        parameter.add_(1.0)
            return True

    _, before, after = one_step(CallbackList([Moved(), L2Init(strength=0.25)]))
    for name in before:
        share = 1.0 if name == "log_std" else 0.75
        th.testing.assert_close(after[name], before[name] + share, msg=name)


def test_weight_clip_bounds_by_the_fan_in_of_the_layer() -> None:
    _, before, after = one_step(WeightClip(kappa=0.5))
    fans = {"mlp_extractor.policy_net.0": 3, "mlp_extractor.value_net.2": 16, "action_net": 16}
    for layer, fan_in in fans.items():
        bound = 0.5 / math.sqrt(fan_in)
        for part in ("weight", "bias"):
            th.testing.assert_close(after[f"{layer}.{part}"], before[f"{layer}.{part}"].clamp(-bound, bound))
    assert th.equal(after["log_std"], before["log_std"])


def test_weight_projection_keeps_each_norm_and_each_direction() -> None:
    class Grown(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 1:
                with th.no_grad():
                    for parameter in self.model.policy.parameters():
                        parameter.mul_(7.0)
            return True

    _, before, after = one_step(CallbackList([Grown(), WeightProjection()]))
    for name, weight in before.items():
        grows = is_bias(name) or name in ("log_std", "action_net.weight", "value_net.weight")
        th.testing.assert_close(after[name], weight * (7.0 if grows else 1.0), msg=name)


def test_spectral_cap_reaches_the_cap_and_leaves_what_is_below() -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", learning_rate=0.0, seed=0, n_steps=64, batch_size=8, n_epochs=8, **net())
    with th.no_grad():
        model.policy.mlp_extractor.policy_net[2].weight.mul_(5.0)
    before = weights(model)
    model.learn(64, callback=[SpectralCap(cap=3.0)])
    after = weights(model)
    sigma = float(th.linalg.svdvals(after["mlp_extractor.policy_net.2.weight"])[0])
    assert sigma == pytest.approx(3.0, rel=0.01)
    assert th.equal(after["mlp_extractor.policy_net.0.weight"], before["mlp_extractor.policy_net.0.weight"])


def test_at_a_trigger_spectral_cap_is_exact_at_once() -> None:
    model = PPO("MlpPolicy", "Pendulum-v1", learning_rate=0.0, seed=0, n_steps=16, batch_size=16, n_epochs=1, **net())
    layer = model.policy.mlp_extractor.policy_net[2]
    with th.no_grad():
        layer.weight.copy_(th.randn(16, 16, generator=th.Generator().manual_seed(0)))
    model.learn(32, callback=[SpectralCap(cap=2.0, when={"every_updates": 1})])
    assert float(th.linalg.svdvals(layer.weight.detach())[0]) == pytest.approx(2.0, rel=1e-5)


def test_weights_that_were_0_once_are_capped_when_they_grow() -> None:
    model = MODELS["PPO"]()
    cap, weight = SpectralCap(cap=0.5), model.policy.mlp_extractor.policy_net[2].weight
    kept = weight.detach().clone() * 3
    with th.no_grad():
        weight.zero_()
    model.learn(32, callback=[cap])
    with th.no_grad():
        weight.copy_(kept)
    model.learn(32 * 10, callback=[cap], reset_num_timesteps=False)
    assert float(th.linalg.matrix_norm(weight.detach(), 2)) == pytest.approx(0.5, rel=0.02)


def test_spectral_cap_reads_a_convolution_as_a_matrix_with_a_row_for_each_channel() -> None:
    cap = SpectralCap(cap=1.0)
    model = MODELS["PPO"]()
    cap.model, cap._name = model, "SpectralCap"
    conv = th.nn.Conv2d(3, 4, 2)
    weight = next(iter(learners_of(model)[0].weights))
    conv_weight = type(weight)("conv.weight", conv.weight, conv, False, False)
    with th.no_grad():
        for _ in range(200):
            sigma = cap._sigma(conv_weight)
    assert float(sigma) == pytest.approx(float(th.linalg.svdvals(conv.weight.detach().reshape(4, 12))[0]), rel=1e-4)


def test_shrink_perturb_mixes_in_what_the_constructor_draws() -> None:
    model, before, after = one_step(ShrinkPerturb(shrink=0.5, perturb=0.25))
    fresh = fresh_weights(model, hash((0, 0)) % 2**31)
    for name, weight in before.items():
        expected = weight if name == "log_std" else 0.5 * weight + 0.25 * fresh[name]
        th.testing.assert_close(after[name], expected, msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_fresh_weights_have_the_init_of_the_policy_and_move_no_random_state(name: str) -> None:
    model = MODELS[name]()
    state = th.get_rng_state()
    fresh, again, other = (fresh_weights(model, seed) for seed in (5, 5, 6))
    assert th.equal(th.get_rng_state(), state)
    assert_same(fresh, again, "")
    for key, parameter in model.policy.named_parameters():
        if parameter.dim() == 2 and not key.startswith("lstm"):
            assert float(fresh[key].std()) == pytest.approx(float(parameter.std()), rel=0.35, abs=0.005), key
            assert not th.equal(fresh[key], other[key]), key


def test_fresh_weights_reseed_no_other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS["PPO"]()
    for device in ("cuda.manual_seed_all", "mps.manual_seed", "xpu.manual_seed_all"):
        monkeypatch.setattr(f"torch.{device}", lambda _, name=device: pytest.fail(f"torch.{name} was called"))
    fresh_weights(model, 0)


def test_a_policy_that_cannot_be_made_twice_is_one_clear_error() -> None:
    model = MODELS["PPO"]()
    complete = model.policy._get_constructor_parameters
    model.policy._get_constructor_parameters = lambda: {**complete(), "net_arch": [8]}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="ActorCriticPolicy cannot be made a second time, for fresh weights: the seco"):
        fresh_weights(model, 0)


ALL: dict[str, Any] = {
    "L2Init": lambda **options: L2Init(strength=0.1, **options),
    "ShrinkPerturb": lambda **options: ShrinkPerturb(0.9, 0.1, **options),
    "WeightClip": lambda **options: WeightClip(kappa=0.1, **options),
    "WeightProjection": lambda **options: WeightProjection(**options),
    "SpectralCap": lambda **options: SpectralCap(cap=0.1, **options),
}


@pytest.mark.parametrize("intervention", ALL)
@pytest.mark.parametrize("name", ["PPO", "SAC", "DQN"])
def test_the_last_layer_is_left_alone_by_option_and_the_target_always(name: str, intervention: str) -> None:
    model = MODELS[name]()
    chosen: WeightIntervention = ALL[intervention](last_layer=False)
    model.learn(20, callback=[chosen])
    names = {weight.name for weight in chosen.everything()}
    assert names
    assert not [each for each in names if "action_net" in each or each == "value_net.weight" or "_target" in each]
    assert not [
        each for each in names if each.startswith(("q_net.q_net.4", "actor.mu", "actor.log_std", "critic.qf0.4"))
    ]
    with_last: WeightIntervention = ALL[intervention](last_layer=True)
    MODELS[name]().learn(20, callback=[with_last])
    assert {weight.name for weight in with_last.everything()} > names


@pytest.mark.parametrize("intervention", ALL)
def test_a_run_that_is_resumed_ends_where_the_unbroken_one_does(intervention: str, tmp_path: Path) -> None:
    def model() -> PPO:
        return PPO("MlpPolicy", "CartPole-v1", **{**MINIBATCHES, "batch_size": 32, "n_epochs": 2}, **net())

    class Fork(BaseCallback):
        """Saves after the first update, and makes both runs go on from the same random state and observation."""

        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            if self.num_timesteps == 32:
                self.model.save(tmp_path / "half.zip")
                self.seeded()

        def seeded(self) -> None:
            self.model.set_random_seed(7)
            self.model._last_obs = self.model.env.reset()

    unbroken = model()
    unbroken.learn(96, callback=[ALL[intervention](), fork := Fork()])
    assert fork.num_timesteps == 96
    resumed = PPO.load(tmp_path / "half.zip", env=model().get_env())
    fork.model = resumed
    resumed._last_obs = None

    class Again(Fork):
        def _on_rollout_start(self) -> None:
            if self.num_timesteps == 32:
                self.seeded()

    resumed.learn(64, callback=[ALL[intervention](), Again()], reset_num_timesteps=False)
    assert_same(weights(resumed), weights(unbroken), "")


@pytest.mark.parametrize("make", [L2Init, WeightProjection])
def test_a_trained_model_without_its_initial_weights_is_one_clear_error_and_now_is_a_way_out(make: Any) -> None:
    model = MODELS["PPO"]().learn(STEPS)
    with pytest.raises(
        ValueError, match=rf"{make.__name__} needs the weights that the model began with, and this one ha"
    ):
        model.learn(32, callback=[make()])
    model.learn(32, callback=[make(initial="now")])


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: L2Init(strength=2), "strength must be a number from 0 to 1, not 2"),
        (lambda: L2Init(initial="then"), "Unknown initial 'then': choose one of saved, now"),
        (lambda: WeightClip(kappa=0), "kappa must be a number of at least 1e-06, not 0"),
        (lambda: SpectralCap(cap=-1), "cap must be a number of at least 1e-06, not -1"),
        (lambda: ShrinkPerturb(shrink=1.5), "shrink must be a number from 0 to 1, not 1.5"),
    ],
)
def test_a_number_out_of_range_is_one_clear_error(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_projection_without_norms_says_so_and_with_norms_says_nothing(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.warns(UserWarning, match="made for networks with a norm behind each layer, and ActorCriticPolicy here"):
        MODELS["PPO"]().learn(32, callback=[WeightProjection()])
    recwarn.clear()
    StablePPO("StableMlpPolicy", "CartPole-v1", **MINIBATCHES, **net()).learn(32, callback=[WeightProjection()])
    CrossQ("MlpPolicy", "Pendulum-v1", **OFF, **net()).learn(32, callback=[WeightProjection()])
    assert not [each for each in recwarn if "WeightProjection" in str(each.message)]


def test_a_recurrent_policy_of_another_size_is_made_again_as_it_is() -> None:
    options: dict[str, Any] = {**MINIBATCHES, **net(lstm_hidden_size=8, n_lstm_layers=2)}
    model = RecurrentPPO("MlpLstmPolicy", "CartPole-v1", **options)
    model.learn(64, callback=[ShrinkPerturb(when={"every_updates": 1})])
    assert fresh_weights(model, 0)["lstm_actor.weight_hh_l1"].shape == (32, 8)


def test_the_norms_that_another_intervention_has_kept_the_weights_for_are_known() -> None:
    model = MODELS["PPO"]()
    initial = weights(model)
    model.learn(32, callback=[L2Init()])
    model.learn(32, callback=[projection := WeightProjection()], reset_num_timesteps=False)
    for name, norm in projection.memory["norms"].items():
        assert norm == pytest.approx(float(initial[name].norm()), rel=1e-6)


@pytest.mark.parametrize("intervention", ALL)
def test_a_network_without_a_layer_to_move_is_one_clear_error(intervention: str) -> None:
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": []}, **MINIBATCHES)
    with pytest.raises(ValueError, match=f"{intervention} has no layer to move: all that ActorCriticPolicy has is lef"):
        model.learn(32, callback=[ALL[intervention](last_layer=False)])


def test_a_run_without_a_seed_has_fresh_weights_of_its_own() -> None:
    models = [PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=16, **net()) for _ in range(2)]
    draws = [fresh_draw(model, 1) for model in models]
    assert not th.equal(draws[0]["action_net.weight"], draws[1]["action_net.weight"])
    assert_same(fresh_draw(models[0], 1), draws[0], "")
