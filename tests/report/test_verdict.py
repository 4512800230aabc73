"""The verdict on a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.report_data import NO_TIMELINE, active_timeline, drawn, event, run_of
from helpers.run_folders import health_line, layer
from sb3_stable_ppo.health.thresholds import VERDICT_OF
from sb3_stable_ppo.report.checks import checks_of
from sb3_stable_ppo.report.verdict import Verdict, verdict_of
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.folder import RunReader, RunWriter
from sb3_stable_ppo.snapshots.pictures import NONFINITE
from sb3_stable_ppo.snapshots.timeline import Timeline, timeline_of

QUIET = "No alarm is raised at step 1,000. Fewer than 20 finished episodes tell nothing yet."


@pytest.mark.parametrize(
    ("events", "verdict"),
    [
        ([], Verdict("early training", QUIET)),
        ([event("low_rank"), event("nonfinite")], Verdict("numerically broken", "nonfinite it is.")),
        ([event("one_action")], Verdict("collapsed policy", "one_action it is.")),
        ([event("growing_norm")], Verdict("dying", "growing_norm it is.")),
        ([event("low_rank"), event("low_rank", False)], Verdict("early training", QUIET)),
    ],
)
def test_the_verdict_is_that_of_the_worst_alarm_still_raised(events: list[Any], verdict: Verdict) -> None:
    assert verdict_of(run_of(health=[health_line(events=events)]), NO_TIMELINE) == verdict


def test_a_quiet_run_is_healthy_once_its_return_has_left_its_floor() -> None:
    def lines(returns: Any) -> list[Any]:
        rows = [{"ep_rew_mean": value, "ep_rew_std": 1.0, "episodes": 100} for value in returns]
        return [health_line(rollout=row) for row in rows]

    flat, risen = [-20.0] * 30, [*np.linspace(-20, -21, 15), *np.linspace(-21, -15, 15)]
    assert verdict_of(run_of(health=lines(flat)), NO_TIMELINE).word == "early training"
    assert verdict_of(run_of(health=lines(risen)), NO_TIMELINE).word == "healthy"
    far = np.linspace(-20, -10, 30)  # of version 0.1.0 the log alone tells, less surely
    assert verdict_of(run_of({"rollout/ep_rew_mean": far}, health=[health_line()]), NO_TIMELINE).word == "healthy"
    assert verdict_of(run_of({"rollout/ep_rew_mean": risen}), active_timeline(conv1=[1.0])).word == "healthy"
    sparse = verdict_of(run_of(health=[health_line(rollout={})]), NO_TIMELINE)
    assert sparse.word == "early training"
    told = verdict_of(run_of({"train/explained_variance": [0.9] * 30}, lines(flat)), NO_TIMELINE).text
    assert told.endswith(
        "has not left its floor, -20. The critic explains 90% of the returns' variance: it knows what "
        "pays, and the policy comes next."
    )


def test_inactive_leaky_layers_are_a_linear_network() -> None:
    layers = {"conv2": layer(0, 64, fault="linear")}
    run = run_of(health=[health_line(layers=layers, events=[event("inactive_layer")])])
    assert verdict_of(run, NO_TIMELINE).word == "linear network"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_too_short_for_an_alarm_is_judged_by_what_each_measurement_shows(count: int) -> None:
    dark = health_line(layers={"conv1": layer(0, 32), "conv2": layer(64, 64)})
    found = verdict_of(run_of(health=[dark] * count), NO_TIMELINE)
    if count < 3:
        assert found == Verdict("collapsed activations", "100% of the units of conv1 are dead (since step 1,000).")
        recovered = verdict_of(run_of(health=[*[dark] * (count - 1), health_line()]), NO_TIMELINE)
        assert recovered.word == "early training"
        jumped = {**dark, "events": [event("jumping_policy")]}
        assert verdict_of(run_of(health=[*[dark] * (count - 1), jumped]), NO_TIMELINE) == found, "the worst counts"
    else:  # that no alarm was raised is what the run has on record
        assert found.word == "early training"


def test_a_policy_that_ignores_the_state_has_collapsed_as_the_doctor_has_it() -> None:
    alive, constant = (health_line(policy=drawn(action_balance=1.0, policy_variance=value)) for value in (1e-5, 0.0))
    told = "The policy does the same in every state: its variance over states has fallen from 1.0e-05 to 0.0e+00."
    verdict = verdict_of(run_of(health=[alive, constant]), NO_TIMELINE)
    assert verdict == Verdict(VERDICT_OF["constant_policy"], told)
    alarmed = {**constant, "events": [event("inactive_layer")]}
    assert verdict_of(run_of(health=[alive, alarmed]), NO_TIMELINE).word == "collapsed activations"
    assert verdict_of(run_of(health=[constant, constant]), NO_TIMELINE).word == "early training"  # it may be newborn
    greedy = [health_line(policy={"action_balance": value, "policy_variance": value}) for value in (0.2, 0.0)]
    assert verdict_of(run_of(health=greedy), NO_TIMELINE).word == "early training"  # DQN's values come later


def test_the_critic_explains_nothing_where_returns_do_not_vary_and_that_is_no_broken_network() -> None:
    run = run_of({"train/explained_variance": [np.nan] * 30}, [health_line()])  # SB3's value where they are all equal
    assert verdict_of(run, NO_TIMELINE).word == "early training"


def test_a_dark_convolution_of_the_critic_alone_is_told_and_not_judged() -> None:
    dark = active_timeline(**{"pi.conv1": [1.0, 1.0], "vf.conv1": [1.0, 0.0]})
    assert verdict_of(run_of(), dark).word == "early training"
    found = checks_of(run_of(), dark)[0]
    assert found.state == "yes"
    assert "Lost, but of the critic alone and not judged: vf.conv1" in found.text


def test_without_health_the_log_and_the_snapshots_tell() -> None:
    assert verdict_of(run_of({"train/critic_loss": [0.1, np.nan]}), NO_TIMELINE) == Verdict(
        "numerically broken", "train/critic_loss is not finite at the end, at first at step 2,000."
    )
    assert verdict_of(run_of({"train/loss": [np.nan, 0.1]}), NO_TIMELINE).word == "unknown"  # it came back
    dark = active_timeline(conv1=[1.0, 0.0], conv2=[1.0, 0.9])
    assert verdict_of(run_of(), dark) == Verdict("collapsed activations", "conv1: dark in the last snapshot.")
    one_loud_channel = active_timeline(conv3=[0.02, 0.02])
    assert verdict_of(run_of(), one_loud_channel).word == "early training"
    learning = run_of({"eval/mean_reward": np.linspace(-20, 10, 30)})
    assert verdict_of(learning, one_loud_channel).word == "healthy"
    assert checks_of(run_of(), one_loud_channel)[0].state == "yes"
    assert verdict_of(run_of(status="collapsed"), NO_TIMELINE).word == "collapsed"
    assert verdict_of(run_of(health=[health_line()], status="failed", error="OSError: disk"), NO_TIMELINE) == Verdict(
        "failed", "OSError: disk"
    )
    assert verdict_of(run_of(), NO_TIMELINE).word == "unknown"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_snapshots_that_are_not_finite_are_a_broken_network(value: float, tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run")
    for step, size in enumerate([1.0, 1.0, value], start=1):
        writer.snapshot(step, {"conv1": np.full((4, 3, 3), size)})
    timeline = timeline_of(RunReader(tmp_path / "run"))
    assert timeline.layers["conv1"].broken == [0, 0, 4]
    assert NONFINITE in timeline.layers["conv1"].frames[-1]
    assert verdict_of(read_run(tmp_path / "run"), timeline).word == "numerically broken"


def test_an_alarm_that_this_version_does_not_know_is_not_passed_over() -> None:
    lines = [health_line(events=[{"name": "my_alarm", "raised": True, "step": 1, "text": "something is odd"}])]
    run = run_of(health=[{"step": 1, **line} for line in lines])
    verdict = verdict_of(run, Timeline([], {}, None, 0, []))
    assert (verdict.word, verdict.state) == ("alarm: my_alarm", "no")
