"""The checks of a run: activity, learning, spikes, actions."""

import numpy as np
import pytest

from helpers.report_data import check, drawn, run_of
from helpers.run_folders import health_line, layer
from sb3_stable_ppo.health.thresholds import CONSTANT_POLICY
from sb3_stable_ppo.report.check import Check
from sb3_stable_ppo.report.checks import spikes_in

CALM = [0.01, 0.012, 0.009, 0.011] * 20


KL = "train/approx_kl"


@pytest.mark.parametrize(
    ("values", "metric", "found"),
    [
        (CALM, KL, []),
        ([*CALM[:40], 0.4, *CALM[40:]], KL, [40]),
        ([*CALM[:40], 0.05, *CALM[40:]], KL, []),  # stands out, but below the floor
        ([*CALM[:40], np.nan, *CALM[40:]], KL, [40]),
        ([0.4, *CALM], KL, []),  # a newborn critic
        ([np.inf, *CALM], KL, [0]),
        (list(np.linspace(0, 0.4, 80)), KL, []),  # a trend is no spike
        ([*CALM, *[0.9] * 40], KL, list(range(80, 120))),  # however long it lasts
        ([*CALM, *[50.0] * 40], "train/value_loss", []),
        ([*CALM, *[500.0] * 40], "train/value_loss", list(range(80, 120))),
        ([*np.array(CALM) * 1e4, 550.0], "train/critic_loss", [80]),
        ([*np.array(CALM) * 1e4, 150.0], "train/critic_loss", []),  # not far, where values are a hundred
        ([], KL, []),
        ([0.1], KL, []),
        ([np.nan] * 30, KL, list(range(30))),
    ],
)
def test_a_spike_stands_out_from_its_neighbours(values: list[float], metric: str, found: list[int]) -> None:
    assert spikes_in(np.array(values, dtype=np.float64), metric) == found


@pytest.mark.parametrize(
    ("returns", "state"),
    [
        (list(np.linspace(-20, 10, 50)), "yes"),
        ([*np.linspace(-20, 10, 30), *np.linspace(10, -18, 30)], "no"),
        (list(np.linspace(10, -20, 50)), "no"),
        ([-20.5, -20.3, -20.4, -20.4] * 10, "open"),
        ([1.0, 2.0] * 9, "open"),
        ([*np.linspace(-20, 10, 50), np.nan], "no"),
        ([np.nan] * 30, "no"),
    ],
)
def test_learning_is_a_return_that_rises_and_stays(returns: list[float], state: str) -> None:
    assert check(run_of({"rollout/ep_rew_mean": returns}), "learning").state == state


def test_chance_alone_seldom_looks_like_learning() -> None:
    """Means of the last 100 episodes of a policy that does not change, as SB3 logs them."""
    random, states = np.random.default_rng(0), []
    for _ in range(200):
        rewards = random.exponential(22.0, 400)
        means = [rewards[max(end - 100, 0) : end].mean() for end in range(10, 401, 10)]
        states.append(check(run_of({"rollout/ep_rew_mean": means}), "learning").state)
    assert states.count("open") >= 180


def test_what_was_lost_was_there_at_its_step_even_where_others_are_missing() -> None:
    run = run_of({"rollout/ep_rew_mean": [*np.linspace(-20, 10, 50), *np.linspace(10, -19, 50)]})
    assert "by step 60,000" in check(run, "learning").text


def test_a_layer_that_loses_half_its_live_units_is_named_with_the_step() -> None:
    lines = [{"layers": {"conv1": layer(30, 32), "conv2": layer(64 if n < 12 else 20, 64)}} for n in range(20)]
    found = check(run_of(health=lines), "Activity")
    assert found.state == "no"
    assert found.text.endswith("conv1 94% → 94%, conv2 100% → 31%. Lost: conv2 since step 13,000.")
    assert check(run_of(health=lines[:12]), "Activity").state == "yes"


def test_a_critic_of_its_own_is_no_matter_of_activity() -> None:
    lines = [{"layers": {"pi.fc1": layer(60, 64), "vf.fc1": layer(2, 64)}}]
    found = check(run_of(health=lines), "Activity")
    assert found.state == "yes"
    assert "in every layer" in found.name


@pytest.mark.parametrize(("balance", "state"), [(0.9, "yes"), (0.3, "open"), (0.01, "no"), (None, "no")])
def test_actions_are_balanced_by_their_entropy_over_states(balance: float | None, state: str) -> None:
    lines = [health_line(policy=drawn(action_balance=balance)) for _ in range(5)]
    assert check(run_of(health=lines), "action").state == state


@pytest.mark.parametrize(
    ("first", "last", "state"),
    [
        (1e-5, 0.0, "no"),
        (1e-5, 0.9 * CONSTANT_POLICY, "no"),
        (2 * CONSTANT_POLICY, 0.3 * CONSTANT_POLICY, "open"),  # a newborn one, on the frames of a short rollout
        (0.0, 0.0, "open"),
        (1e-5, CONSTANT_POLICY, "yes"),
        (None, None, "yes"),
    ],
)
def test_actions_are_not_balanced_where_the_policy_ignores_what_it_sees(
    first: float | None, last: float | None, state: str
) -> None:
    lines = [health_line(policy=drawn(action_balance=1.0, policy_variance=value)) for value in (first, *[last] * 4)]
    found = check(run_of(health=lines), "action")
    assert found.state == state
    assert ("balanced because it ignores what it sees" in found.text) == (state != "yes")


def test_one_action_stays_a_fault_whatever_the_policy_sees() -> None:
    lines = [health_line(policy=drawn(action_balance=0.0, policy_variance=0.0))]
    assert check(run_of(health=lines), "action").state == "no"


def test_one_action_of_a_policy_that_is_greedy_in_its_values_is_no_fault() -> None:
    lines = [health_line(policy={"action_balance": value, "policy_variance": value}) for value in (0.2, 0.0)]
    found = check(run_of(health=lines), "action")
    assert found.state == "open"
    assert "may hardly be learnt yet" in found.text


def test_continuous_actions_that_are_the_same_in_every_state_are_a_fault() -> None:
    lines = [health_line(policy={"policy_variance": value}) for value in (0.5, 0.0)]
    run = run_of({"train/std": [1.0, 0.5]}, lines)
    assert check(run, "action") == Check(
        "Balanced action distribution",
        "no",
        "Continuous actions: standard deviation 1 → 0.5; the policy ignores what it sees: its variance over states has "
        "fallen from 5.0e-01 to 0.0e+00.",
    )


def test_a_clip_fraction_is_judged_only_where_the_clip_range_is_not_annealed_away() -> None:
    ranges, fractions = np.linspace(0.1, 0.0, 200), np.full(200, 0.1)
    fractions[-20:] = np.linspace(0.1, 1.0, 20)  # nearly every ratio is beyond a range of next to nothing
    curves = {"train/clip_range": list(ranges), "train/clip_fraction": list(fractions)}
    assert check(run_of(curves), "spikes").state == "yes"
    fractions[60:70] = 0.9  # the range is 0.07 here
    assert check(run_of({**curves, "train/clip_fraction": list(fractions)}), "spikes").state == "no"
    assert check(run_of({"train/clip_fraction": list(fractions)}), "spikes").state == "no"


@pytest.mark.parametrize("metric", ["train/value_loss", "train/loss"])
def test_a_value_loss_that_jumps_while_the_critic_explains_the_returns_is_no_spike(metric: str) -> None:
    losses = [0.1] * 200
    losses[60:70] = [14.0] * 10
    for explained, state in ((0.9, "yes"), (0.2, "no")):
        curves = {metric: losses, "train/explained_variance": [0.9] * 60 + [explained] * 10 + [0.9] * 130}
        assert check(run_of(curves), "spikes").state == state
    assert check(run_of({metric: losses}), "spikes").state == "no"
    losses[60] = np.inf
    curves = {metric: losses, "train/explained_variance": [0.9] * 200}
    assert check(run_of(curves), "spikes").state == "no"


def test_spikes_in_more_than_one_update_of_a_hundred_are_too_many() -> None:
    few, many = [*CALM, 0.9, *CALM], [*CALM, 0.9, *CALM[:40], 0.8, *CALM[40:60], 0.7, *CALM]
    assert check(run_of({"train/approx_kl": few}), "spikes") == Check(
        "Metrics without spikes", "yes", "1 of 161 rows of the log in approx_kl, the largest 0.9 at step 81,000."
    )
    assert check(run_of({"train/approx_kl": many}), "spikes").state == "no"
    assert check(run_of({"train/approx_kl": [*CALM, np.nan, *CALM]}), "spikes").state == "no"
