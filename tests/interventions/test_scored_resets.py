"""ReDo and ReGraMa: which units they reset, and when."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from helpers.interventions import MINIBATCHES, MODELS, OFF, ON_POLICY, STEPS, net
from helpers.weights import assert_same_weights
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.interventions.redo import ReDo
from sb3_stable_ppo.interventions.regrama import ReGraMa
from sb3_stable_ppo.interventions.unit_space import ScoredReset

pytestmark = [
    pytest.mark.filterwarnings("ignore:ReDo judges units"),
    pytest.mark.filterwarnings("ignore:.* leaves some layers alone"),
    pytest.mark.filterwarnings("ignore:TRPO sets"),
    pytest.mark.slow(seconds=1),
]
FIRST, SECOND, THIRD = (f"mlp_extractor.policy_net.{number}" for number in (0, 2, 4))
EACH = {"every_updates": 1}
DEAD = [3, 7]


def frozen(**options: Any) -> PPO:
    """A model that would stay as it is."""
    kwargs = {**MINIBATCHES, "n_epochs": 1, "learning_rate": 0.0, **options.pop("model", {})}
    return PPO("MlpPolicy", "CartPole-v1", **kwargs, **net(**options))


def kill(model: Any, path: str, units: list[int]) -> None:
    layer = model.policy.get_submodule(path)
    with th.no_grad():
        layer.weight[units] = 0.0
        layer.bias[units] = -1.0


def units(model: Any, name: str) -> dict[str, int]:
    """How many were reset, by the path of their layer."""
    found: dict[str, int] = model.intervention_memory[name].get("units", {})
    return found


def fifth_of(model: Any) -> th.Tensor:
    weight: th.Tensor = model.policy.get_submodule(FIRST).weight
    return weight.detach()[5].clone()


@pytest.mark.parametrize("made", [ReDo, ReGraMa])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_never_triggered_is_stock_training(name: str, made: type[ScoredReset]) -> None:
    stock, model = MODELS[name]().learn(STEPS), MODELS[name]()
    model.learn(STEPS, callback=made(when={"every_updates": 1000}))  # type: ignore[call-arg]
    assert_same_weights(stock, model)


@pytest.mark.parametrize("made", [ReDo, ReGraMa])
@pytest.mark.parametrize("name", ["PPO", "StablePPO", "A2C", "RecurrentPPO", "MaskablePPO"])
def test_a_threshold_of_0_resets_no_unit_that_lives(name: str, made: Any) -> None:
    stock, model = MODELS[name]().learn(STEPS), MODELS[name]()
    model.learn(STEPS, callback=made(0.0, when=EACH))
    assert_same_weights(stock, model)


@pytest.mark.parametrize("made", [ReDo, ReGraMa])
@pytest.mark.parametrize("name", MODELS)
def test_every_algorithm_goes_on_learning_with_units_reset_each_time(name: str, made: Any) -> None:
    model = MODELS[name]()
    model.learn(STEPS, callback=made(0.5, when=EACH))
    memory = next(iter(model.intervention_memory.values()))  # type: ignore[attr-defined]
    assert sum(memory["units"].values()) > 0
    assert memory["draws"] <= memory["acted"]
    assert all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters())


def test_redo_resets_the_units_that_are_never_active_and_no_others() -> None:
    model = frozen(activation_fn=nn.ReLU)
    kill(model, FIRST, DEAD)
    layer = model.policy.get_submodule(FIRST)
    before = layer.weight.detach().clone()
    redo = ReDo(tau=0.0, when=EACH)
    model.learn(64, callback=redo)
    assert units(model, "ReDo")[FIRST] == 2
    changed = (layer.weight != before).any(dim=1).nonzero().flatten()
    assert changed.tolist() == DEAD
    assert redo.figures()[f"units.{FIRST}"] == 2
    assert redo.figures()["units"] == sum(units(model, "ReDo").values())


class Functional(BaseFeaturesExtractor):
    """A convolution whose activation is a function, which no hook sees."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 16)
        self.conv, self.fc, self.act = nn.Conv2d(1, 4, 8, 8), nn.Linear(144, 16), nn.ReLU()

    def forward(self, x: th.Tensor) -> th.Tensor:
        return self.act(self.fc(self.conv(x).relu().flatten(1)))


def test_redo_leaves_a_convolution_alone_whose_activation_it_cannot_read() -> None:
    kwargs = {"features_extractor_class": Functional, "net_arch": [16], "activation_fn": nn.ReLU}
    env = FakeImageEnv(screen_height=48, screen_width=48, n_channels=1)
    model = PPO("CnnPolicy", env, n_steps=32, batch_size=16, n_epochs=1, seed=0, policy_kwargs=kwargs)
    redo = ReDo(tau=0.0, when=EACH)
    with pytest.warns(UserWarning, match="features_extractor.conv has no activation that could be read"):
        model.learn(64, callback=redo)
    assert "features_extractor.fc" in {layer.path for layer in redo.graph.layers}


def test_redo_divides_a_units_mean_activation_by_that_of_its_layer() -> None:
    model, redo = frozen(), ReDo(when={"every_updates": 1000}, rows=16)
    model.learn(32, callback=redo)
    observations = th.as_tensor(redo._observations())
    assert len(observations) == 16
    with th.no_grad():
        means = model.policy.get_submodule(FIRST)(observations).tanh().abs().mean(dim=0)
    (layer, scores), *_ = redo.scores()
    assert layer.path == FIRST
    th.testing.assert_close(scores, means / (means.mean() + 1e-9))


def test_the_two_outputs_of_a_unit_of_crelu_are_judged_together() -> None:
    kwargs: dict[str, Any] = {"net_arch": [8], "activation": "crelu", "norm_hidden": "none"}
    model = StablePPO("StableMlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **MINIBATCHES)
    redo = ReDo(when={"every_updates": 1000})
    model.learn(32, callback=redo)
    with th.no_grad():
        means = model.policy.mlp_extractor.policy_net.fc1(th.as_tensor(redo._observations())).abs().mean(dim=0)
    th.testing.assert_close(redo.scores()[0][1], means / means.mean())


def test_of_short_rollouts_redo_looks_at_several() -> None:
    redo = ReDo(when={"every_updates": 1000}, rows=64)
    PPO("MlpPolicy", "CartPole-v1", n_steps=20, batch_size=20, n_epochs=1).learn(200, callback=redo)
    assert len(redo._observations()) == 80


def test_off_policy_redo_looks_at_observations_as_the_policy_gets_them() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1"))
    model, redo = SAC("MlpPolicy", env, **OFF, **net()), ReDo(rows=8)
    model.learn(40, callback=redo)
    assert redo.trigger.number == 1000
    assert abs(redo._observations()).max() <= 10.0
    steps = model.replay_buffer.pos - 1  # type: ignore[union-attr]
    newest = model.replay_buffer.observations[steps]  # type: ignore[union-attr]
    assert th.equal(th.as_tensor(redo._observations()[0]), th.as_tensor(env.normalize_obs(newest)[0]))


@pytest.mark.parametrize("made", [ReDo, ReGraMa])
@pytest.mark.parametrize("alive_behind", [0, 1], ids=["all dead", "a constant unit lives"])
def test_a_network_that_is_dead_from_its_first_layer_on_lives_again(alive_behind: int, made: Any) -> None:
    """As stock PPO leaves it after an update that was too large: no observation reaches the outputs."""
    model = PPO("MlpPolicy", "CartPole-v1", **MINIBATCHES, **net(activation_fn=nn.ReLU, net_arch=[16, 16, 16]))
    observations = th.randn(64, 4, generator=th.Generator().manual_seed(0))
    for path in (FIRST, SECOND, THIRD):
        kill(model, path, list(range(16)))
    with th.no_grad():
        model.policy.get_submodule(THIRD).bias[:alive_behind] = 1.0
        assert not model.policy.get_distribution(observations).distribution.logits.std(dim=0).any()
    model.learn(32 * 5, callback=made(when=EACH))  # four times: ReGraMa goes back one layer each time
    with th.no_grad():
        hidden = model.policy.mlp_extractor.policy_net
        assert all(float((hidden[:upto](observations) > 0).any(dim=0).float().mean()) > 0.5 for upto in (2, 4, 6))
        assert bool((model.policy.get_distribution(observations).distribution.logits.std(dim=0) > 0).all())


def test_redo_says_that_leaky_units_are_for_regrama() -> None:
    with pytest.warns(UserWarning, match="Take ReGraMa"):
        frozen(activation_fn=nn.LeakyReLU).learn(32, callback=ReDo())


def test_regrama_resets_a_unit_that_is_active_and_learns_nothing() -> None:
    model = frozen()
    with th.no_grad():
        model.policy.get_submodule(SECOND).weight[:, 5] = 0.0
    before = fifth_of(model)
    model.learn(64, callback=[ReDo(when=EACH), ReGraMa(when=EACH)])
    assert units(model, "ReDo") == {}
    assert units(model, "ReGraMa") == {FIRST: 1}
    assert not th.equal(fifth_of(model), before)


def test_regrama_averages_the_gradients_of_the_latest_minibatches() -> None:
    seen: list[th.Tensor] = []

    class Listening(BaseCallback):
        def _on_training_start(self) -> None:
            weight = self.model.policy.get_submodule(FIRST).weight
            self.model.policy.optimizer.register_step_post_hook(
                lambda *_: seen.append(weight.grad.abs().mean(dim=1))  # type: ignore[union-attr]
            )

        def _on_step(self) -> bool:
            return True

    regrama = ReGraMa(when={"every_updates": 5}, minibatches=3)
    frozen().learn(32 * 4, callback=[Listening(), regrama])
    assert len(seen) == 8
    means = th.stack(seen[-3:]).mean(dim=0)
    (layer, scores), *_ = regrama.scores()
    assert layer.path == FIRST
    th.testing.assert_close(scores, means / means.mean())


def test_regrama_leaves_a_layer_alone_where_there_was_nothing_to_learn() -> None:
    model = frozen(model={"vf_coef": 0.0})
    model.learn(64, callback=ReGraMa(when=EACH))
    assert units(model, "ReGraMa") == {}


def test_regrama_resets_a_layer_that_is_dead_as_a_whole() -> None:
    model = frozen(activation_fn=nn.ReLU)
    kill(model, SECOND, list(range(16)))
    model.learn(64, callback=ReGraMa(when=EACH))
    assert units(model, "ReGraMa")[SECOND] == 16
    assert FIRST not in units(model, "ReGraMa")  # no gradient reached what is behind it


def test_regrama_passes_over_steps_that_guards_have_skipped() -> None:
    class Skips(BaseCallback):
        def _on_rollout_end(self) -> None:
            self.model.policy.optimizer.register_step_pre_hook(
                lambda optimizer, *_: optimizer.zero_grad(set_to_none=True)  # type: ignore[no-untyped-call]
            )

        def _on_step(self) -> bool:
            return True

    model = frozen()
    model.learn(64, callback=[Skips(), ReGraMa(when=EACH)])
    assert units(model, "ReGraMa") == {}


@pytest.mark.parametrize("made", [ReDo, ReGraMa])
def test_two_runs_of_a_seed_are_the_same_and_the_zip_loads_in_stock_sb3(made: Any, tmp_path: Path) -> None:
    models = []
    for _ in range(2):
        models.append(StablePPO("StableMlpPolicy", "CartPole-v1", **MINIBATCHES, **net()))
        models[-1].learn(128, callback=made(0.5, when={"every_updates": 2}))
    assert_same_weights(*models)
    plain = frozen().learn(64, callback=made(0.5, when=EACH))
    plain.save(tmp_path / "model")
    assert units(PPO.load(tmp_path / "model"), made.__name__) == units(plain, made.__name__)


def test_nobody_listens_while_the_policy_acts() -> None:
    class Looks(BaseCallback):
        def _on_step(self) -> bool:
            hooks.append(len(self.model.policy.optimizer._optimizer_step_post_hooks))
            return True

    hooks: list[int] = []
    for name in ("PPO", "DQN"):
        MODELS[name]().learn(STEPS, callback=[ReGraMa(when=EACH), Looks()])
    assert set(hooks[1:]) == {0}


@pytest.mark.parametrize("name", ON_POLICY)
def test_without_when_they_act_every_10_updates_on_policy(name: str) -> None:
    regrama = ReGraMa()
    MODELS[name]().learn(32, callback=regrama)
    assert str(regrama.trigger) == "every 10 updates"


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (ReDo, {"tau": -1}, "tau must be a number of at least 0"),
        (ReDo, {"rows": 0}, "rows must be a whole number of at least 1"),
        (ReGraMa, {"threshold": "a"}, "threshold must be a number of at least 0"),
        (ReGraMa, {"minibatches": 0}, "minibatches must be a whole number of at least 1"),
        (ReGraMa, {"when": "always"}, "choose one of every_updates, on_alarm"),
    ],
)
def test_bad_arguments_are_named(made: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**options)


def test_a_network_without_hidden_layers_is_refused_and_layers_left_alone_are_named() -> None:
    with pytest.raises(ValueError, match="ReGraMa resets units of hidden layers, and ActorCriticPolicy has none"):
        PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": []}).learn(1, callback=ReGraMa())
    with pytest.warns(UserWarning, match=r"leaves some layers alone: lstm_actor is a LSTM"):
        MODELS["RecurrentPPO"]().learn(32, callback=ReGraMa())
