"""A run in several calls of ``learn()``, with the same callbacks or with new ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO

from helpers.interventions import EACH, INTERVENTIONS, MODELS, Note, weights
from helpers.weights import assert_same, assert_same_weights
from sb3_stable_ppo import L2Init, ReDo, ReGraMa, ShrinkPerturb, WeightProjection
from sb3_stable_ppo.interventions.base import Intervention

pytestmark = [
    pytest.mark.filterwarnings("ignore:WeightProjection is made for", "ignore:AdamReset sets"),
    pytest.mark.slow(seconds=1),
]
SCORED: list[Callable[..., Intervention]] = [
    lambda **when: ReDo(tau=0.5, rows=16, **when),
    lambda **when: ReGraMa(threshold=0.5, **when),
]
PARTS = 4


def learn_in_parts(name: str, steps: int, make: Callable[[], Intervention]) -> Any:
    """A model after ``PARTS`` calls of ``learn()``, each with what ``make`` gives."""
    model = MODELS[name]()
    for _ in range(PARTS):
        model.learn(steps, callback=[make()], reset_num_timesteps=False)
    return model


def memory_of(model: Any) -> dict[str, Any]:
    """What the only intervention remembers."""
    (found,) = model.intervention_memory.values()
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("kept", [True, False], ids=["the same callback", "a new one each time"])
@pytest.mark.parametrize("name", INTERVENTIONS)
def test_a_run_of_one_update_a_call_is_the_run_in_one(name: str, kept: bool) -> None:
    whole = MODELS["PPO"]().learn(32 * PARTS, callback=[INTERVENTIONS[name]()])
    callback = INTERVENTIONS[name]()
    parts = learn_in_parts("PPO", 32, lambda: callback if kept else INTERVENTIONS[name]())
    assert_same_weights(parts, whole)
    for key in ("updates", "acted", "units", "term"):
        assert_same(memory_of(parts).get(key), memory_of(whole).get(key), key)


@pytest.mark.parametrize("kept", [True, False], ids=["the same callback", "a new one each time"])
@pytest.mark.parametrize("name", [name for name in INTERVENTIONS if name != "FeatureRegularization"])
def test_off_policy_too(name: str, kept: bool) -> None:
    whole = MODELS["SAC"]().learn(12 * PARTS, callback=[INTERVENTIONS[name]()])
    callback = INTERVENTIONS[name]()
    parts = learn_in_parts("SAC", 12, lambda: callback if kept else INTERVENTIONS[name]())
    assert_same_weights(parts, whole)


def test_fresh_networks_are_drawn_as_often_in_short_calls_as_in_a_long_one() -> None:
    whole = MODELS["PPO"]().learn(32 * 72, callback=[ShrinkPerturb()])
    parts = MODELS["PPO"]()
    for _ in range(12):
        parts.learn(32 * 6, callback=[ShrinkPerturb()], reset_num_timesteps=False)
    assert memory_of(parts)["draws"] == memory_of(whole)["draws"] == 2
    assert_same_weights(parts, whole)


@pytest.mark.parametrize("name", ["A2C", "SAC"])
@pytest.mark.parametrize("make", SCORED)
def test_what_units_are_judged_by_is_gathered_over_calls_that_share_a_callback(name: str, make: Any) -> None:
    when, calls = {"every_updates": 9}, 10
    whole = MODELS[name]().learn(32 * calls, callback=[make(when=when)])
    parts, callback = MODELS[name](), make(when=when)
    for _ in range(calls):
        parts.learn(32, callback=[callback], reset_num_timesteps=False)
    assert memory_of(parts)["units"] == memory_of(whole)["units"]


def test_now_is_when_the_run_of_the_callback_began() -> None:
    model = MODELS["PPO"]().learn(32)
    began = weights(model)
    for _ in range(3):
        model.learn(32, callback=[L2Init(initial="now")], reset_num_timesteps=False)
    assert_same(memory_of(model)["initial"], {name: began[name] for name in memory_of(model)["initial"]}, "")
    assert "initial_weights" not in model.__dict__
    anew = weights(model)
    model.learn(32, callback=[L2Init(initial="now")])
    assert_same(memory_of(model)["initial"], {name: anew[name] for name in memory_of(model)["initial"]}, "")


def test_a_projection_takes_up_the_last_layer_when_it_is_told_to() -> None:
    model = MODELS["PPO"]()
    model.policy.action_net.weight.data.mul_(3.0)
    model.learn(32, callback=[WeightProjection(initial="now")])
    norm = float(model.policy.action_net.weight.detach().norm())
    model.learn(64, callback=[WeightProjection(initial="now", last_layer=True)], reset_num_timesteps=False)
    assert float(model.policy.action_net.weight.detach().norm()) == pytest.approx(norm)


def test_the_norms_of_now_and_the_saved_ones_do_not_mix() -> None:
    model = MODELS["PPO"]().learn(32, callback=[WeightProjection()])
    saved = dict(memory_of(model)["norms"])
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(2.0)
    model.learn(32, callback=[WeightProjection(initial="now")], reset_num_timesteps=False)
    assert memory_of(model)["norms"] == saved
    assert memory_of(model)["norms_now"] == {name: pytest.approx(2 * norm, rel=1e-4) for name, norm in saved.items()}
    trained = MODELS["PPO"]().learn(32)
    trained.learn(32, callback=[WeightProjection(initial="now")])
    with pytest.raises(ValueError, match="initial"):
        trained.learn(32, callback=[WeightProjection()])


def test_l2_init_takes_up_the_last_layer_when_it_is_told_to() -> None:
    model = MODELS["PPO"]().learn(32, callback=[L2Init(initial="now", last_layer=False)])
    last = model.policy.action_net.weight.detach().clone()
    model.learn(32, callback=[L2Init(initial="now")], reset_num_timesteps=False)
    assert th.equal(memory_of(model)["initial"]["action_net.weight"], last)


def test_the_count_of_updates_goes_on_in_a_model_that_was_saved(tmp_path: Path) -> None:
    note = Note(when={"every_updates": 3})
    model = MODELS["PPO"]().learn(32 * 2, callback=[note])
    assert note.acted == []
    model.save(tmp_path / "model.zip")
    resumed = PPO.load(tmp_path / "model.zip", env=model.get_env())
    resumed.learn(32 * 3, callback=[note], reset_num_timesteps=False)
    assert note.acted == [96]


def test_what_falls_due_at_the_end_is_done_when_the_run_goes_on() -> None:
    model, notes = MODELS["PPO"](), []
    for _ in range(6):
        notes.append(Note(when={"every_updates": 2}))
        model.learn(32, callback=[notes[-1]], reset_num_timesteps=False)
    assert [note.acted for note in notes] == [[], [], [64], [], [128], []]


@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN", "SAC"])
@pytest.mark.parametrize("make", [lambda **when: ReDo(tau=0.5, **when), lambda **when: ReGraMa(threshold=0.5, **when)])
def test_what_falls_due_at_the_end_is_done_once_there_is_something_to_judge_by(name: str, make: Any) -> None:
    model = MODELS[name]()
    for _ in range(2):  # in the second the first rollout starts before anything is known
        model.learn(64, callback=[make(when={"every_updates": 2})], reset_num_timesteps=False)
    memory = next(iter(model.intervention_memory.values()))  # type: ignore[attr-defined]
    assert memory["updates"] >= 3
    assert sum(memory["units"].values()) > 0


@pytest.mark.parametrize("name", ["PPO", "A2C", "DQN", "SAC"])
@pytest.mark.parametrize("make", SCORED)
def test_units_are_reset_however_short_the_calls_are(name: str, make: Any) -> None:
    model, is_on_policy = MODELS[name]().learn(32), name in ("PPO", "A2C")
    for _ in range(6):  # off-policy, steps that are counted anew begin with learning_starts
        model.learn(32 if is_on_policy else 4, callback=[make(when=EACH)], reset_num_timesteps=is_on_policy)
    assert memory_of(model)["updates"] >= 6
    assert memory_of(model)["acted"] >= 5  # all but what fell due at the very end
    assert sum(memory_of(model)["units"].values()) > 0


@pytest.mark.parametrize("make", SCORED)
def test_what_was_chosen_at_the_end_is_reset_in_a_model_that_was_saved(make: Any, tmp_path: Path) -> None:
    whole = MODELS["PPO"]()
    whole.learn(64, callback=[make(when=EACH)])
    model, callback = MODELS["PPO"](), make(when=EACH)
    model.learn(32, callback=[callback])
    chosen = memory_of(model)["chosen"]
    assert sum(len(numbers) for numbers in chosen.values()) > 0
    callback.on_training_end()  # as rl_zoo3 does once more
    assert memory_of(model)["chosen"] is chosen
    assert {type(numbers) for numbers in chosen.values()} == {th.Tensor}
    model.save(tmp_path / "model.zip")
    resumed = PPO.load(tmp_path / "model.zip", env=model.get_env())
    assert_same(memory_of(resumed)["chosen"], chosen, "")
    resumed.learn(32, callback=[make(when=EACH)], reset_num_timesteps=False)
    assert memory_of(resumed)["acted"] == 1
    assert memory_of(resumed)["units"] == memory_of(whole)["units"]


@pytest.mark.parametrize("make", SCORED)
def test_units_that_were_chosen_before_a_stretch_without_it_are_forgotten(make: Any) -> None:
    model = MODELS["PPO"]()
    model.learn(32, callback=[make(when=EACH)])
    before = memory_of(model)["chosen_at"]
    assert before == model._n_updates
    model.learn(32, reset_num_timesteps=False)
    model.learn(32, callback=[make(when=EACH)], reset_num_timesteps=False)
    assert "acted" not in memory_of(model)
    assert memory_of(model)["chosen_at"] == model._n_updates
    model.learn(32, callback=[make(when=EACH)], reset_num_timesteps=False)
    assert memory_of(model)["acted"] == 1
