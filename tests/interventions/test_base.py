"""What all interventions have in common."""

import gc
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th
from sb3_contrib import ARS
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EveryNTimesteps
from torch.utils._pytree import tree_leaves, tree_map_only

from helpers.elsewhere import Elsewhere
from helpers.envs import SceneEnv
from helpers.interventions import INTERVENTIONS, MINIBATCHES, MODELS, STEPS, Note, net, weights
from helpers.processes import run_python
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import (
    AdamReset,
    L2Init,
    ShrinkPerturb,
    SpectralCap,
    StablePPO,
    TorchDictRolloutBuffer,
    WeightClip,
    WeightProjection,
)
from sb3_stable_ppo.interventions.base import Intervention
from sb3_stable_ppo.probes.learners import Learner, learners_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:TRPO sets", "ignore:WeightProjection is made for"),
    pytest.mark.slow(seconds=1),
]

IDLE: dict[str, Any] = {
    "L2Init": lambda: L2Init(strength=0),
    "ShrinkPerturb": lambda: ShrinkPerturb(shrink=1, perturb=0),
    "WeightClip": lambda: WeightClip(kappa=1e6),
    "SpectralCap": lambda: SpectralCap(cap=1e6),
    "a trigger that is never due": lambda: WeightProjection(when={"every_updates": 10_000}),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("idle", IDLE)
def test_switched_off_each_is_bit_identical_to_stock(name: str, idle: str) -> None:
    plain, watched = MODELS[name]().learn(STEPS), MODELS[name]().learn(STEPS, callback=[IDLE[idle]()])
    assert_same_weights(plain, watched)


@pytest.mark.parametrize("name", MODELS)
def test_every_step_of_every_optimizer_is_heard_and_no_hook_stays(name: str) -> None:
    model, note = MODELS[name](), Note()
    counts: dict[str, int] = {}
    for learner in learners_of(model):
        learner.optimizer.register_step_pre_hook(
            lambda *_, own=learner.name: counts.__setitem__(own, counts.get(own, 0) + 1)
        )
    model.learn(STEPS, callback=[note])
    assert {own: note.stepped.count(own) for own in counts} == counts
    assert set(counts) == ({"actor", "critic"} if name in ("SAC", "TD3", "TQC") else {"policy"})
    assert all(not learner.optimizer._optimizer_step_post_hooks for learner in learners_of(model))


def test_a_run_that_broke_off_keeps_no_callback_alive() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            raise KeyboardInterrupt

    model, alive = MODELS["PPO"](), []
    for _ in range(4):
        note = Note()
        alive.append(weakref.ref(note))
        with pytest.raises(KeyboardInterrupt):
            model.learn(32, callback=[note, Stop()])
    del note
    model.learn(32, callback=[Note()])
    gc.collect()
    assert [each() for each in alive] == [None] * 4
    assert not model.policy.optimizer._optimizer_step_post_hooks


def test_a_step_that_the_guards_skip_moves_no_weight() -> None:
    model = StablePPO(
        "MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=0, guards={"undo": False}, **net()
    )
    first = model.policy.mlp_extractor.policy_net[0].weight
    first.register_hook(lambda gradient: gradient * float("nan"))
    before = weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.learn(32, callback=[WeightClip(kappa=0.01), L2Init(strength=0.5), WeightProjection()])
    assert_same(weights(model), before, "")


def test_what_is_remembered_goes_back_with_an_update_that_is_undone() -> None:
    class Count(Intervention):
        def after_step(self, learner: Learner) -> None:
            self.memory["steps"] = self.memory.get("steps", 0) + 1
            self.memory.setdefault("tensor", th.zeros(1)).add_(1)

    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 0}
    guards = {"max_kl": 1e-9, "max_retries": 0}
    model = StablePPO("MlpPolicy", "CartPole-v1", guards=guards, **options, **net())
    count = Count()
    with pytest.warns(UserWarning, match="An update was undone"):
        model.learn(32, callback=[count])
    assert model._dropped_updates == 1
    assert "steps" not in count.memory
    kept = StablePPO("MlpPolicy", "CartPole-v1", **options, **net())
    kept.learn(64, callback=[count])
    assert count.memory["steps"] == int(count.memory["tensor"]) == 8


def test_a_run_that_broke_off_leaves_no_hook_to_the_next() -> None:
    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps == 48:
                raise KeyboardInterrupt
            return True

    model, first, second = MODELS["PPO"](), Note(), Note()
    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=[first, Stop()])
    heard = len(first.stepped)
    model.learn(32, callback=[second])
    assert (len(first.stepped), len(second.stepped)) == (heard, 4)
    model.learn(32, callback=[first])
    assert len(first.stepped) == 4  # counted anew, and each step once
    with pytest.raises(KeyboardInterrupt):
        model.learn(64, callback=[first, Stop()])
    heard = len(first.stepped)
    model.learn(32)
    assert len(first.stepped) == heard


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_a_zip_saved_in_mid_run_is_loaded_by_stock_sb3_without_this_package(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    callbacks = [L2Init(), SpectralCap(), WeightProjection(), CheckpointCallback(40, str(tmp_path), "model")]
    model.learn(STEPS, callback=callbacks)
    path = tmp_path / "model_40_steps.zip"
    code = (
        "import sys; sys.modules['sb3_stable_ppo'] = None\n"
        f"from stable_baselines3 import {name}\n"
        f"model = {name}.load({str(path)!r})\n"
        "assert set(model.intervention_memory) == {'L2Init', 'SpectralCap', 'WeightProjection'}\n"
        "assert set(model.initial_weights) == {key for key, _ in model.policy.named_parameters()}\n"
        "print(model.num_timesteps)"
    )
    assert run_python(code).strip() == "40"


def test_two_of_a_class_have_memories_of_their_own_and_act_in_the_order_of_the_list() -> None:
    order: list[str] = []

    class Ordered(Note):
        def act(self) -> None:
            order.append(self._name)

    model = MODELS["PPO"]()
    model.learn(96, callback=[Ordered(when={"every_updates": 1}), Ordered(when={"every_updates": 2})])
    assert order == ["Ordered", "Ordered", "Ordered_2"]
    assert set(model.intervention_memory) == {"Ordered", "Ordered_2"}  # type: ignore[attr-defined]


def test_what_cannot_be_served_is_one_clear_error() -> None:
    with pytest.raises(ValueError, match="L2Init needs an optimizer, and ARS has none"):
        ARS("LinearPolicy", "CartPole-v1", seed=0).learn(100, callback=[L2Init()])
    inside = EveryNTimesteps(16, callback=L2Init())
    with pytest.raises(ValueError, match="L2Init does nothing within EveryNTimesteps, which tells it of steps alone"):
        MODELS["PPO"]().learn(32, callback=[inside])


def test_the_error_of_what_cannot_be_served_is_not_hidden_by_the_end_of_a_run() -> None:
    refused = AdamReset()
    with pytest.raises(ValueError, match="AdamReset resets Adam and AdamW"):
        MODELS["A2C"]().learn(32, callback=[refused])
    refused.on_training_end()  # as rl_zoo3 does in any case


def test_trpo_is_told_that_its_actor_is_out_of_reach() -> None:
    before = weights(model := MODELS["TRPO"]())
    with pytest.warns(UserWarning, match="TRPO sets the weights of its actor without an optimizer: L2Init reaches"):
        model.learn(64, callback=[L2Init(strength=1.0)])
    after = weights(model)
    assert all(th.equal(after[name], before[name]) for name in after if "value" in name)
    assert any(not th.equal(after[name], before[name]) for name in after if "policy_net" in name)


FAST: dict[str, Any] = {"precision": "bf16", "memory_format": "channels_last", "optimizer_kwargs": {"fused": True}}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", INTERVENTIONS)
def test_the_fast_path_is_served_and_stays_finite(name: str) -> None:
    options: dict[str, Any] = {
        "policy_kwargs": {**FAST, "net_arch": [16]},
        "rollout_buffer_class": TorchDictRolloutBuffer,
    }
    model = StablePPO("StableMultiInputPolicy", SceneEnv(), **MINIBATCHES, **options)
    model.learn(32 * 3, callback=[each := INTERVENTIONS[name]()])
    assert each.memory["updates"] == 3
    assert all(bool(th.isfinite(weight).all()) for weight in weights(model).values())


ON_THE_DEVICE: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {
    "ContinualBackprop": lambda memory: list(memory["layers"].values()),
    "SpectralCap": lambda memory: [memory["vectors"]],
    "ChurnReduction": lambda memory: [memory["previous"]],
}


@pytest.mark.parametrize("name", ON_THE_DEVICE)
def test_what_is_saved_lies_on_the_cpu_wherever_the_policy_learns(name: str) -> None:
    callback = INTERVENTIONS[name]()
    MODELS["PPO"]().learn(STEPS, callback=[callback])
    places = ON_THE_DEVICE[name](callback.memory)
    before = [tensor.clone() for tensor in tree_leaves(places) if isinstance(tensor, th.Tensor)]
    for place in places:  # ages lie on the CPU always
        there = {key: tree_map_only(th.Tensor, Elsewhere, value) for key, value in place.items()}
        place.update({key: value for key, value in there.items() if key not in ("age", "replaced")})
    callback.after_update()
    after = [tensor for tensor in tree_leaves(ON_THE_DEVICE[name](callback.memory)) if isinstance(tensor, th.Tensor)]
    assert [tensor.device.type for tensor in after] == ["cpu"] * len(before)
    assert all(th.equal(*pair) for pair in zip(before, after, strict=True))
