"""KLAdaptiveLR: the rule, what it follows, what it survives, and that the guards have no second scale beside it."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO

from helpers.envs import make_cartpole
from helpers.rates import SMALL, UPDATE, RateRecorder
from sb3_stable_ppo import KLAdaptiveLR, LRSchedulerCallback, StablePPO, StableRecurrentPPO
from sb3_stable_ppo.schedules.learning_rate import counting_schedule, make_schedule

LARGE, SMALL_KL, FINE = 0.021, 0.0049, 0.012


def rates_after(schedule: KLAdaptiveLR, *kls: float) -> list[float]:
    rates = []
    for kl in kls:
        schedule.advance(0, kl)
        rates.append(schedule.value_at(schedule.count))
    return rates


def test_the_rate_is_divided_above_twice_the_target_multiplied_below_half_and_kept_between() -> None:
    schedule = KLAdaptiveLR(1e-3, target=0.01, factor=2, high=4e-3)
    assert rates_after(schedule, LARGE, FINE, 0.02, 0.005, SMALL_KL, SMALL_KL) == [5e-4, 5e-4, 5e-4, 5e-4, 1e-3, 2e-3]


def test_the_rate_stays_within_its_bounds_and_by_default_never_rises_above_its_start() -> None:
    assert rates_after(KLAdaptiveLR(1e-3, factor=10), SMALL_KL, LARGE, SMALL_KL) == [1e-3, 1e-4, 1e-3]
    assert rates_after(KLAdaptiveLR(1e-3, factor=10), *[LARGE] * 4)[-1] == pytest.approx(1e-5)
    assert rates_after(KLAdaptiveLR(1e-3, factor=10, low=5e-4, high=2e-3), LARGE, SMALL_KL) == [5e-4, 2e-3]


def test_a_kl_that_is_not_a_number_is_too_large() -> None:
    assert rates_after(KLAdaptiveLR(1e-3, factor=2), float("nan"), float("inf")) == [5e-4, 2.5e-4]


def test_the_kl_of_a_warm_up_changes_nothing() -> None:
    schedule = KLAdaptiveLR(1e-3, factor=2, warmup=2)
    assert schedule.value_at(0) == pytest.approx(1e-3 / 3)
    assert rates_after(schedule, LARGE, LARGE, LARGE) == pytest.approx([2e-3 / 3, 1e-3, 5e-4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1}, "factor must be above 1"),
        ({"initial": 0}, "initial must be above 0"),
        ({"target": 0}, "target must be above 0"),
        ({"low": 1e-2}, "initial must lie between low and high"),
        ({"high": 1e-5}, "initial must lie between low and high"),
    ],
)
def test_options_that_make_no_rule_are_told(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KLAdaptiveLR(**{"initial": 1e-3, **options})


def test_a_rate_that_was_low_when_a_run_goes_on_is_no_end() -> None:
    """It may rise again."""
    schedule = KLAdaptiveLR(1e-3, low=1e-8)
    schedule.begin(0, 640, 10, True, 64)
    schedule.rate = 1e-7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.begin(64, 640, 10, False, 64)


def expected_rates(initial: float, kls: list[float], target: float, factor: float) -> list[float]:
    rates = [initial]
    for kl in kls:
        rate = rates[-1] / factor if kl > 2 * target else rates[-1] * factor if kl < target / 2 else rates[-1]
        rates.append(min(max(rate, initial / 100), initial))
    return rates


class KLRecorder(RateRecorder):
    """The KL of each update too."""

    def __init__(self) -> None:
        super().__init__()
        self.kls: list[float] = []

    def _on_rollout_start(self) -> None:
        if "train/approx_kl" in self.logger.name_to_value:
            self.kls.append(float(self.logger.name_to_value["train/approx_kl"]))


@pytest.mark.parametrize("algorithm", [StablePPO, StableRecurrentPPO, PPO])
def test_the_rate_of_each_update_follows_the_kl_that_sb3_logged_for_the_one_before(algorithm: Any) -> None:
    policy = "MlpLstmPolicy" if algorithm is StableRecurrentPPO else "MlpPolicy"
    schedule = KLAdaptiveLR(3e-2, target=2e-2, factor=1.3)
    stock = algorithm is PPO
    model = algorithm(policy, make_cartpole(), learning_rate=3e-2 if stock else schedule, **SMALL)
    recorder = KLRecorder()
    model.learn(12 * UPDATE, callback=[*([LRSchedulerCallback(schedule)] if stock else []), recorder])
    assert len(recorder.used) == 12
    assert recorder.used == pytest.approx(expected_rates(3e-2, recorder.kls, 2e-2, 1.3)[:12])
    assert len(set(recorder.used)) > 1, "it has moved"


def test_a_run_that_is_saved_and_goes_on_keeps_its_rate_and_a_new_run_begins_anew(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=KLAdaptiveLR(3e-2, target=1e-3), **SMALL)
    model.learn(4 * UPDATE).save(tmp_path / "model")
    rate = counting_schedule(model.learning_rate).rate  # type: ignore[union-attr]
    assert rate < 3e-2
    loaded, recorder = StablePPO.load(tmp_path / "model", env=make_cartpole()), RateRecorder()
    loaded.learn(UPDATE, reset_num_timesteps=False, callback=recorder)
    assert recorder.used == [rate]
    anew = RateRecorder()
    loaded.learn(UPDATE, callback=anew)
    assert anew.used == [3e-2]
    assert pickle.loads(pickle.dumps(counting_schedule(loaded.learning_rate))).rate < 3e-2  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", [A2C, TRPO])
def test_an_algorithm_that_logs_no_kl_is_told_to_choose_another_schedule(algorithm: Any) -> None:
    model = algorithm("MlpPolicy", make_cartpole(), n_steps=16)
    with pytest.raises(RuntimeError, match=r"logs no train/approx_kl.*choose another schedule"):
        model.learn(96, callback=LRSchedulerCallback("kl_adaptive", initial=1e-3))


def test_an_undone_update_halves_this_rate_and_the_guards_have_no_scale_beside_it() -> None:
    schedule = KLAdaptiveLR(1e-3, target=100.0, factor=1.5)
    model = StablePPO(
        "MlpPolicy", make_cartpole(), learning_rate=schedule, guards={"max_kl": 1e-9, "max_retries": 2}, **SMALL
    )
    with pytest.warns(UserWarning, match="An update was undone"):
        model.learn(UPDATE)
    assert model._undone_updates == 3
    assert model._lr_scale == 1.0
    # halved at each attempt; the KL of the last, far below the target, raises it once
    assert counting_schedule(model.learning_rate).rate == pytest.approx(1e-3 / 8 * 1.5)  # type: ignore[union-attr]


def test_an_undone_update_is_tried_again_at_half_the_rate_in_a_warm_up_too() -> None:
    schedule = KLAdaptiveLR(1e-3, target=100.0, warmup=3)
    assert schedule.value_at(0) == pytest.approx(2.5e-4)
    schedule.lower(2.0)
    assert schedule.value_at(0) == pytest.approx(1.25e-4)


def test_below_the_bound_of_this_rate_the_guards_scale_halves_on() -> None:
    schedule = KLAdaptiveLR(1e-3, target=100.0, factor=1.5, low=4e-4)
    guards = {"max_kl": 1e-9, "max_retries": 2}
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=schedule, guards=guards, **SMALL)
    with pytest.warns(UserWarning, match="An update was undone"):
        model.learn(UPDATE)
    assert model._undone_updates == 3
    assert 4e-4 * model._lr_scale == pytest.approx(1e-3 / 8)


@pytest.mark.parametrize("algorithm", [StablePPO, StableRecurrentPPO])
@pytest.mark.parametrize("sound_updates", [0, 1])
def test_an_update_that_is_dropped_before_its_kl_is_known_is_counted_and_leaves_the_rate_to_the_undo(
    algorithm: Any, sound_updates: int
) -> None:
    policy = "MlpLstmPolicy" if algorithm is StableRecurrentPPO else "MlpPolicy"
    schedule = KLAdaptiveLR(1e-3, target=1e-12, factor=1.5)
    model = algorithm(policy, make_cartpole(), learning_rate=schedule, guards={"max_retries": 0}, **SMALL)
    step = model.policy.optimizer.step

    def poison(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        if model.num_timesteps > sound_updates * UPDATE:
            model.policy.action_net.weight.data.fill_(float("nan"))
        return result

    model.policy.optimizer.step = poison
    with pytest.warns(UserWarning, match=r"An update was undone: train\(\) failed"):
        model.learn((sound_updates + 1) * UPDATE, log_interval=10)  # so long the KL of an update before is there
    found = counting_schedule(model.learning_rate)
    assert model._dropped_updates == 1
    assert found.count == sound_updates + 1  # type: ignore[union-attr]
    assert found.rate == pytest.approx(1e-3 / 1.5**sound_updates / 2)  # type: ignore[union-attr]


def test_it_goes_by_a_name_in_yaml() -> None:
    schedule = make_schedule("kl_adaptive", initial="3e-4", target=0.02, high="1e-3")
    assert repr(schedule) == (
        "KLAdaptiveLR(initial=0.0003, warmup=0, unit='updates', target=0.02, factor=1.5, low=2.9999999999999997e-06, "
        "high=0.001)"
    )
