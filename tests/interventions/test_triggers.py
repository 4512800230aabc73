"""When an intervention acts: as users write it, and in a run."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from helpers.interventions import MINIBATCHES, MODELS, ON_POLICY, Note, net
from sb3_stable_ppo import HealthCallback, L2Init
from sb3_stable_ppo.interventions.adam_reset import AdamReset
from sb3_stable_ppo.interventions.triggers import Trigger

pytestmark = pytest.mark.filterwarnings("ignore:TRPO sets")


def test_each_form_of_when_is_read() -> None:
    assert Trigger.of("always") == Trigger("always")
    assert Trigger.of({"every_updates": "1e1"}) == Trigger("every_updates", 10)
    assert Trigger.of({"on_alarm": "low_rank"}) == Trigger("on_alarm", alarms=("low_rank",))
    assert Trigger.of({"on_alarm": ["low_rank", "nonfinite"]}).alarms == ("low_rank", "nonfinite")


@pytest.mark.parametrize(
    ("when", "complaint"),
    [
        ("sometimes", "Unknown when 'sometimes': choose one of always, every_updates, on_alarm; every_updates and"),
        ("every_updates", "Unknown when 'every_updates': .* take a value, as in"),
        ({"every_updates": 0}, "every_updates must be a whole number of at least 1, not 0"),
        ({"on_alarm": "fire"}, "Unknown alarm 'fire': choose one of nonfinite, inactive_layer, dormant_layer"),
        ({"every_updates": 1, "on_alarm": "low_rank"}, "when takes one of always, every_updates, on_alarm at a time"),
        ({"on_alarm": 5}, "on_alarm takes the name of an alarm or a list of names, not 5"),
        ({"on_alarm": []}, r"on_alarm takes the name of an alarm or a list of names, not \[\]"),
        ({"always": True}, "when: always takes no value"),
        ({}, "when takes one of always, every_updates, on_alarm at a time"),
    ],
)
def test_anything_else_is_one_clear_error(when: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        L2Init(when=when)


def test_an_intervention_that_cannot_act_always_says_what_it_can() -> None:
    with pytest.raises(ValueError, match="Unknown when 'always': choose one of every_updates, on_alarm"):
        AdamReset(when="always")


@pytest.mark.parametrize("name", ON_POLICY)
def test_a_trigger_acts_every_so_many_updates_and_not_when_training_is_over(name: str) -> None:
    note = Note(when={"every_updates": 2})
    MODELS[name]().learn(32 * 6, callback=[note])
    assert note.acted == [64, 128]
    assert note.stepped == []


def test_off_policy_an_update_is_one_train_however_many_steps_it_takes() -> None:
    model, note = MODELS["SAC"](), Note(when={"every_updates": 10})
    model.gradient_steps = 3  # type: ignore[attr-defined]
    model.learn(16 + 25, callback=[note])
    assert note.acted == [26, 36]


def test_what_is_done_is_logged_and_marked_in_the_health_of_the_run(tmp_path: Path) -> None:
    model = MODELS["PPO"]()
    health = HealthCallback(every_updates=1, budget=None, folder=tmp_path)
    model.learn(32 * 4, callback=[health, Note(when={"every_updates": 2})])
    lines = health.writer.reader.health()
    marks = [(mark["step"], mark["text"]) for line in lines for mark in line.get("interventions", ())]
    assert marks == [(64, "Note acted (every 2 updates)")]


def test_an_alarm_is_answered_once_each_time_that_it_is_raised(tmp_path: Path) -> None:
    class Silence(BaseCallback):
        """Puts out a layer from step 64 on."""

        def _on_step(self) -> bool:
            if self.num_timesteps >= 64:
                with th.no_grad():
                    self.model.policy.mlp_extractor.policy_net[0].bias.fill_(-100.0)
            return True

    options: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "seed": 0}
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [16], "activation_fn": th.nn.ReLU}, **options)
    note = Note(when={"on_alarm": ["inactive_layer", "low_rank"]})
    health = HealthCallback(every_updates=1, budget=None, folder=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.learn(32 * 9, callback=[Silence(), health, note])
    raised = [event for line in health.writer.reader.health() for event in line["events"] if event["raised"]]
    assert "inactive_layer" in [event["name"] for event in raised]
    assert 1 <= len(note.acted) <= len(raised)
    assert all(step > 64 for step in note.acted)


class Silenced(BaseCallback):
    """Puts out the first layer from step 64 on."""

    def _on_step(self) -> bool:
        if self.num_timesteps >= 64:
            with th.no_grad():
                self.model.policy.mlp_extractor.policy_net[0].bias.fill_(-100.0)
        return True


@pytest.mark.parametrize("kept", [True, False], ids=["the same callbacks", "new ones each time"])
@pytest.mark.parametrize("folder", [True, False], ids=["with a folder", "without"])
def test_an_alarm_is_answered_once_however_short_the_calls_of_learn_are(
    kept: bool, folder: bool, tmp_path: Path
) -> None:
    if not kept and not folder:
        pytest.skip("nothing tells a new callback without a folder of the alarms so far")

    def callbacks() -> list[BaseCallback]:
        health = HealthCallback(every_updates=1, budget=None, folder=tmp_path if folder else None, on_alarm=ignore)
        return [Silenced(), health, Note(when={"on_alarm": "inactive_layer"})]

    model = PPO("MlpPolicy", "CartPole-v1", **MINIBATCHES, **net(activation_fn=th.nn.ReLU))
    given, acted = callbacks(), 0
    for _ in range(12):
        given = given if kept else callbacks()
        model.learn(32, callback=given, reset_num_timesteps=False)
        acted += len(given[-1].acted)
    assert acted == 1


def ignore(event: Any, model: Any) -> None:
    pass


def test_what_fell_due_with_another_trigger_or_long_ago_is_not_done() -> None:
    model = MODELS["PPO"]()
    model.learn(64, callback=[Note(when={"every_updates": 2})])
    other = Note(when={"every_updates": 100})
    model.learn(64, callback=[other], reset_num_timesteps=False)
    assert other.acted == []
    model = MODELS["PPO"]()
    model.learn(64, callback=[Note(when={"every_updates": 2})])
    model.learn(32, reset_num_timesteps=False)
    late = Note(when={"every_updates": 2})
    model.learn(32, callback=[late], reset_num_timesteps=False)
    assert late.acted == []


def test_an_alarm_needs_somebody_who_raises_it_at_fixed_updates(tmp_path: Path) -> None:
    waiting = Note(when={"on_alarm": "low_rank"})
    with pytest.raises(
        ValueError, match=r"Note waits for an alarm, and nobody raises one: put HealthCallback\(budget=N"
    ):
        MODELS["PPO"]().learn(32, callback=[waiting])
    with pytest.raises(
        ValueError, match="stands behind Note in the list of callbacks, so that it would come an update"
    ):
        MODELS["PPO"]().learn(32, callback=[waiting, HealthCallback(folder=tmp_path, budget=None)])
    with pytest.raises(ValueError, match="HealthCallback measures as its time allows, so that two runs of one seed"):
        MODELS["PPO"]().learn(32, callback=[HealthCallback(folder=tmp_path), waiting])
