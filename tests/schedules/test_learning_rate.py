"""Schedules: their arithmetic, and that the count is exact through training, saving, loading and resuming."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch as th
from hypothesis import given, strategies as st
from stable_baselines3.common.callbacks import CheckpointCallback

from helpers.envs import make_cartpole
from helpers.rates import SMALL, UPDATE, RateRecorder
from sb3_stable_ppo import CosineLR, LinearLR, StablePPO, StepLR, WarmupLR
from sb3_stable_ppo.schedules.counting import CountingSchedule
from sb3_stable_ppo.schedules.learning_rate import SCHEDULES, counting_schedule, make_schedule

pytestmark = pytest.mark.slow(seconds=1)


def test_step_lr_equals_torchs() -> None:
    weight = th.nn.Parameter(th.zeros(1))
    optimizer = th.optim.SGD([weight], lr=1e-4)
    theirs = th.optim.lr_scheduler.StepLR(optimizer, step_size=12, gamma=0.9)
    ours = StepLR()
    for count in range(100):
        assert ours.value_at(count) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        theirs.step()


def test_the_defaults_of_step_lr_are_kept() -> None:
    assert (StepLR().initial, StepLR().step_size, StepLR().gamma) == (1e-4, 12, 0.9)


def test_linear_and_cosine_by_hand() -> None:
    linear, cosine = LinearLR(1.0, 0.5, total=10), CosineLR(1.0, 0.0, total=10)
    assert [linear.value_at(c) for c in (0, 5, 10, 11)] == [1.0, 0.75, 0.5, 0.5]
    assert [cosine.value_at(c) for c in (0, 5, 10, 11)] == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_warm_up_rises_in_equal_steps_and_then_the_schedule_begins() -> None:
    warm = StepLR(1.0, step_size=2, gamma=0.5, warmup=3)
    assert [warm.value_at(c) for c in range(8)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25]
    assert [WarmupLR(1.0, warmup=1).value_at(c) for c in range(3)] == [0.5, 1.0, 1.0]
    assert [LinearLR(1.0, 0.0, total=6, warmup=2).value_at(c) for c in (2, 4, 6)] == [1.0, 0.5, 0.0]


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    initial=st.floats(1e-8, 1.0),
    count=st.integers(0, 10**7),
    warmup=st.integers(0, 50),
)
def test_no_value_is_ever_negative_or_above_the_start(name: str, initial: float, count: int, warmup: int) -> None:
    schedule = make_schedule(name, initial=initial, warmup=warmup)
    schedule.fix_length(1000, 999, restart=True)
    assert 0.0 <= schedule.value_at(count) <= initial * (1 + 1e-9)


@pytest.mark.parametrize("progress", [1.0, 0.5, 0.0, -0.28])
def test_calling_a_schedule_is_pure_and_ignores_progress(progress: float) -> None:
    schedule = StepLR(step_size=1)
    schedule.begin(0, 100, 10, restart=True)
    schedule.advance(10)
    assert [schedule(progress) for _ in range(3)] == [9e-5] * 3
    assert schedule.count == 1


def test_numbers_may_be_strings_as_yaml_reads_them() -> None:
    assert make_schedule("step", initial="1e-4", gamma="0.9").initial == 1e-4


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("stepp", {}, "Unknown schedule 'stepp': choose one of step, linear, cosine, warmup"),
        ("step", {"size": 3}, "unexpected keyword argument 'size'"),
        ("step", {"gamma": 1.5}, r"gamma must be a number from 0 to 1, not 1.5"),
        ("step", {"step_size": 0}, "step_size must be a whole number of at least 1 or 'auto', not 0"),
        ("step", {"step_size": "fast"}, "step_size must be a whole number of at least 1 or 'auto', not 'fast'"),
        ("step", {"step_size": "auto", "gamma": 1}, "a tenth of the start, which gamma=1 never comes to: give a gamma"),
        ("step", {"step_size": "auto", "gamma": 0}, "a tenth of the start, which gamma=0 never comes to: give a gamma"),
        ("step", {"initial": -1e-4}, "initial must be a number of at least 0"),
        ("linear", {"initial": "fast"}, "initial must be a number of at least 0, not 'fast'"),
        ("cosine", {"unit": "epochs"}, "Unknown unit 'epochs': choose one of updates, steps"),
    ],
)
def test_a_wrong_schedule_is_an_error_that_says_what_is_right(
    name: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_schedule(name, **options)


def test_stable_ppo_uses_and_logs_the_value_of_each_update_once() -> None:
    model, rates = StablePPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(1e-3, 2, 0.5), **SMALL), RateRecorder()
    model.learn(5 * UPDATE, callback=rates)
    assert rates.used == rates.logged == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4]
    assert counting_schedule(model.learning_rate).count == 5


def test_a_new_schedule_in_steps_on_a_resumed_model_starts_where_the_model_is() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=1e-3, **SMALL).learn(4 * UPDATE)
    model.learning_rate = LinearLR(1e-3, total=10 * UPDATE, unit="steps")
    model._setup_lr_schedule()
    rates = RateRecorder()
    model.learn(2 * UPDATE, callback=rates, reset_num_timesteps=False)
    assert rates.used == pytest.approx([6e-4, 5e-4])


def test_a_new_schedule_on_a_resumed_model_is_as_long_as_the_learn_it_begins_with() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=1e-3, **SMALL).learn(4 * UPDATE)
    model.learning_rate = LinearLR(1e-3)
    model._setup_lr_schedule()
    rates = RateRecorder()
    model.learn(2 * UPDATE, callback=rates, reset_num_timesteps=False)
    assert rates.used == pytest.approx([1e-3, 5e-4])


def test_a_schedule_that_has_ended_warns_that_nothing_will_be_learnt() -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=LinearLR(1e-3), **SMALL).learn(2 * UPDATE)
    with pytest.warns(UserWarning, match=r"is at its end: the learning rate is 0\. Give it a longer total="):
        model.learn(2 * UPDATE, reset_num_timesteps=False)


def train_in_parts(parts: list[int], folder: Path, schedule: CountingSchedule) -> list[float]:
    """The rates used when training is saved and loaded between parts."""
    model, used = StablePPO("MlpPolicy", make_cartpole(), learning_rate=schedule, **SMALL), []
    for part, updates in enumerate(parts):
        if part:
            model.save(folder / "model")
            model = StablePPO.load(folder / "model", env=make_cartpole())
        rates = RateRecorder()
        model.learn(updates * UPDATE, callback=rates, reset_num_timesteps=part == 0)
        used += rates.used
    return used


@pytest.mark.parametrize("unit", ["updates", "steps"])
@pytest.mark.parametrize("schedule", ["step", "linear", "cosine", "warmup"])
def test_save_load_and_resume_go_on_exactly(schedule: str, unit: str, tmp_path: Path) -> None:
    scale = 1 if unit == "updates" else UPDATE
    options: dict[str, Any] = {"initial": 1e-3, "unit": unit, "warmup": scale}
    if schedule == "step":
        options["step_size"] = 2 * scale
    if schedule in ("linear", "cosine"):
        options["total"] = 6 * scale
    whole = train_in_parts([7], tmp_path, make_schedule(schedule, **options))
    parts = train_in_parts([2, 1, 4], tmp_path, make_schedule(schedule, **options))
    assert parts == whole
    assert len(set(whole)) > 1


def test_a_schedule_as_long_as_its_first_run_is_not_stretched_by_a_second(tmp_path: Path) -> None:
    used = train_in_parts([4, 2], tmp_path, LinearLR(1e-3, 0.0))
    assert used == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4, 0.0, 0.0])


def test_a_new_run_starts_the_schedule_anew() -> None:
    model, rates = StablePPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(1e-3, 1, 0.5), **SMALL), RateRecorder()
    model.learn(2 * UPDATE, callback=rates)
    model.learn(2 * UPDATE, callback=rates)
    assert rates.used == [1e-3, 5e-4] * 2


def test_a_checkpoint_in_mid_rollout_counts_only_finished_updates(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=StepLR(1e-3, 1, 0.5), **SMALL)
    model.learn(3 * UPDATE, callback=CheckpointCallback(12, str(tmp_path)))  # at step 24: one update done
    loaded = StablePPO.load(tmp_path / "rl_model_24_steps")
    assert counting_schedule(loaded.learning_rate).count == 1


def test_two_models_built_from_one_schedule_do_not_share_its_count() -> None:
    schedule = StepLR(1e-3)
    first = StablePPO("MlpPolicy", make_cartpole(), learning_rate=schedule, **SMALL).learn(3 * UPDATE)
    second = StablePPO("MlpPolicy", make_cartpole(), learning_rate=schedule, **SMALL)
    assert [counting_schedule(m.learning_rate).count for m in (first, second)] == [3, 0]


def test_12_and_09_at_1024_steps_leave_one_percent_after_500_000_steps() -> None:
    assert StepLR().value_at(500_000 // 1024) == pytest.approx(1e-4 * 0.9**40)
    assert 0.009 < 0.9**40 < 0.015


def test_a_schedule_that_dies_early_warns_at_the_start_with_the_step() -> None:
    schedule = StepLR()  # 0.9**66 < 0.001: after 66 * 12 updates of 1,024 steps
    with pytest.warns(
        UserWarning, match=r"a thousandth of its start after 810,977 of 10,000,000 steps.*Raise step_size"
    ):
        schedule.begin(0, 10_000_000, 9766, restart=True)


@pytest.mark.parametrize(
    ("schedule", "total"),
    [(StepLR(), 800_000), (LinearLR(), 10_000_000), (CosineLR(1e-4, 1e-5), 10_000_000), (WarmupLR(), 10_000)],
)
def test_a_schedule_that_ends_with_the_run_does_not_warn(schedule: CountingSchedule, total: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.begin(0, total, -(-total // 1024), restart=True)


def test_the_schedule_of_pongs_batchnorm_ends_at_about_a_tenth() -> None:
    import yaml

    from sb3_stable_ppo.zoo.hyperparams import with_numbers
    from sb3_stable_ppo.zoo.registry import config_file

    file = config_file("stable_ppo").with_name("stable_ppo_batchnorm.yml")
    pong = with_numbers(yaml.safe_load(file.read_text()))["PongNoFrameskip-v4"]
    updates = pong["n_timesteps"] / (pong["n_envs"] * pong["n_steps"])
    schedule = make_schedule(**pong["learning_rate"])
    assert (schedule.initial, schedule.gamma) == (1e-4, 0.9)
    assert 0.09 < schedule.value_at(int(updates)) / schedule.initial < 0.11


def test_a_dict_as_in_yaml_is_the_schedule_that_it_describes() -> None:
    rate: Any = {"schedule": "linear", "initial": 1e-3}
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=rate, n_steps=32, batch_size=32, n_epochs=1, seed=0)
    assert repr(model.learning_rate) == repr(LinearLR(1e-3))
    assert model.learn(256).logger.name_to_value["train/learning_rate"] < 1e-3


@pytest.mark.parametrize(
    ("rate", "complaint"),
    [
        (StepLR, r"learning_rate is the class StepLR: give a schedule that it makes, such as StepLR\(1e-4\)\."),
        ({"initial": 1e-3}, "without schedule: step, linear, cosine, warmup, kl_adaptive"),
        ({"schedule": "stepp", "initial": 1e-3}, "Unknown schedule 'stepp': choose one of step, linear"),
    ],
)
def test_what_is_no_learning_rate_is_told_with_the_cure(rate: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StablePPO("MlpPolicy", make_cartpole(), learning_rate=rate)
