"""What a page is made of: runs read whatever wrote them, checks, timelines, charts; and the command's mistakes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from helpers.envs import make_cartpole
from helpers.run_folders import health_line, layer, write_progress, write_run
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.report.charts import (
    COUNTED,
    MAX_MARKS,
    comparison_charts,
    curve_charts,
    health_maps,
    marks_of,
    thinned,
)
from sb3_stable_ppo.report.checks import Check, checks_of, spikes_in
from sb3_stable_ppo.report.comparison import band, grouped
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.report.verdict import Verdict, verdict_of
from sb3_stable_ppo.runs.data import RunData, read_run
from sb3_stable_ppo.runs.folder import RunReader, RunWriter
from sb3_stable_ppo.runs.series import Series, series
from sb3_stable_ppo.snapshots.pictures import GAP, NONFINITE, index_grid
from sb3_stable_ppo.snapshots.timeline import (
    MAX_BYTES,
    MAX_SIDE,
    LayerTimeline,
    Timeline,
    evenly,
    fitted,
    palette_png,
    timeline_of,
    timeline_scale,
)

NO_TIMELINE = Timeline([], {}, None, 0, [])


def active_timeline(**shares: list[float]) -> Timeline:
    """Of layers with 100 channels."""
    layers = {
        name: LayerTimeline(100, 1.0, [], [round(100 * share) for share in active], [0] * len(active))
        for name, active in shares.items()
    }
    return Timeline(list(range(1, 1 + len(next(iter(shares.values()))))), layers, None, 0, [])


def run_of(curves: dict[str, Any] | None = None, health: list[dict[str, Any]] | None = None, **facts: Any) -> RunData:
    found = {
        name: Series(1000.0 * np.arange(1, len(values) + 1), np.array(values, dtype=np.float64))
        for name, values in (curves or {}).items()
    }
    lines = [{"step": 1000 * number, **line} for number, line in enumerate(health or [], start=1)]
    return RunData("run", Path("run"), facts, {}, found, lines, [])


def check(run: RunData, name: str) -> Check:
    (found,) = [one for one in checks_of(run, NO_TIMELINE) if name in one.name]
    return found


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_plain_sb3_run_is_read_from_its_progress_csv_and_evaluations(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, n_epochs=1, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    evaluation = EvalCallback(make_cartpole(), eval_freq=32, n_eval_episodes=2, log_path=str(tmp_path), verbose=0)
    model.learn(192, callback=evaluation)
    run = read_run(tmp_path)
    assert run.curves["train/approx_kl"].steps.tolist() == [128.0, 192.0]
    assert run.curves["eval/mean_reward"].steps.tolist() == [64.0, 128.0, 192.0]
    with np.load(tmp_path / "evaluations.npz") as stored:
        assert run.curves["eval/mean_reward"].values.tolist() == stored["results"].mean(axis=1).tolist()
    assert run.steps == 192
    assert run.notes == ["No health: HealthCallback was not on, or has not measured yet."]


def test_without_a_progress_csv_tensorboards_logs_are_read(tmp_path: Path) -> None:
    model = PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0, tensorboard_log=str(tmp_path))
    model.learn(192)
    run = read_run(tmp_path)
    assert run.curves["train/clip_fraction"].steps.tolist() == [128.0, 192.0]
    assert run.curves["train/learning_rate"].values == pytest.approx([3e-4, 3e-4])


def test_without_any_log_the_monitor_files_are_read_in_the_order_of_their_episodes(tmp_path: Path) -> None:
    env = make_vec_env("CartPole-v1", 2, seed=0, monitor_dir=str(tmp_path))
    PPO("MlpPolicy", env, n_steps=64, seed=0).learn(512)
    env.close()
    run = read_run(tmp_path)
    rows = [
        tuple(map(float, line.split(",")))
        for path in tmp_path.glob("*.monitor.csv")
        for line in path.read_text().splitlines()[2:]
    ]
    rewards = [reward for reward, _, _ in sorted(rows, key=lambda row: row[2])]
    assert len(rewards) > 5
    means = run.curves["rollout/ep_rew_mean"]
    assert means.values == pytest.approx(np.cumsum(rewards) / np.arange(1, len(rewards) + 1))
    assert means.steps[-1] == sum(length for _, length, _ in rows)


def test_a_line_that_is_half_written_is_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    whole = read_run(folder)
    with (folder / "progress.csv").open("a") as file:
        file.write("4096")
    with (folder / "health.jsonl").open("a") as file:
        file.write('{"step": 99, "laye')
    cut = read_run(folder)
    assert len(cut.health) == len(whole.health)
    assert cut.curves["train/loss"].values.tolist() == whole.curves["train/loss"].values.tolist()


@pytest.mark.parametrize("name", ["run.json", "evaluations.npz", "env/config.yml"])
def test_a_file_that_is_broken_costs_no_more_than_its_own_part(name: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "env").mkdir()
    (folder / name).write_text("[ : broken")
    run = read_run(folder)
    assert len(run.notes) == 1
    assert run.notes[0].startswith(f"Not read in {folder}: ")
    assert len(run.curves) == 12
    assert "Not read in" in render([run])


def test_settings_are_read_as_rl_zoo3_writes_them_and_nothing_else_is_constructed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "env").mkdir()
    config = folder / "env" / "config.yml"
    tag = "!!python/object/apply:collections.OrderedDict"
    config.write_text(f"{tag}\n- - - batch_size\n    - 256\n  - - policy_kwargs\n    - norm: layer\n")
    assert read_run(folder).settings == {"batch_size": 256, "policy_kwargs": {"norm": "layer"}}
    config.write_text(f"!!python/object/apply:os.system ['touch {tmp_path}/executed']")
    assert read_run(folder).settings == {}
    assert not (tmp_path / "executed").exists()


def test_a_run_whose_process_is_gone_was_killed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    host = os.uname().nodename
    folder = write_run(tmp_path / "run", status="running", pid=gone.pid, host=host)
    assert read_run(folder).status == "killed"
    assert "gone without having recorded an end" in render([read_run(folder)])
    RunWriter(folder).describe(pid=os.getpid())
    assert read_run(folder).status == "running"
    RunWriter(folder).describe(pid=gone.pid, host="elsewhere")
    assert read_run(folder).status == "running"


# -- judging -----------------------------------------------------------------------------------------------------------

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
    lines = [health_line(policy={"action_balance": balance}) for _ in range(5)]
    assert check(run_of(health=lines), "action").state == state


def test_a_clip_fraction_is_judged_only_where_the_clip_range_is_not_annealed_away() -> None:
    ranges, fractions = np.linspace(0.1, 0.0, 200), np.full(200, 0.1)
    fractions[-20:] = np.linspace(0.1, 1.0, 20)  # nearly every ratio is beyond a range of next to nothing
    curves = {"train/clip_range": list(ranges), "train/clip_fraction": list(fractions)}
    assert check(run_of(curves), "spikes").state == "yes"
    fractions[60:70] = 0.9  # the range is 0.07 here
    assert check(run_of({**curves, "train/clip_fraction": list(fractions)}), "spikes").state == "no"
    assert check(run_of({"train/clip_fraction": list(fractions)}), "spikes").state == "no"


def test_spikes_in_more_than_one_update_of_a_hundred_are_too_many() -> None:
    few, many = [*CALM, 0.9, *CALM], [*CALM, 0.9, *CALM[:40], 0.8, *CALM[40:60], 0.7, *CALM]
    assert check(run_of({"train/approx_kl": few}), "spikes") == Check(
        "Metrics without spikes", "yes", "1 of 161 rows of the log in approx_kl, the largest 0.9 at step 81,000."
    )
    assert check(run_of({"train/approx_kl": many}), "spikes").state == "no"
    assert check(run_of({"train/approx_kl": [*CALM, np.nan, *CALM]}), "spikes").state == "no"


def event(name: str, raised: bool = True, **changes: Any) -> dict[str, Any]:
    return {"name": name, "raised": raised, "step": 5, "where": "conv2", "text": f"{name} it is", **changes}


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


# -- the timeline ------------------------------------------------------------------------------------------------------


def test_a_timeline_shows_a_layer_going_dark(tmp_path: Path) -> None:
    timeline = timeline_of(RunReader(write_run(tmp_path / "run", snapshots=10, dies_at=20)))
    assert len(timeline.steps) == 10
    for found in timeline.layers.values():
        assert [active > 0 for active in found.active] == [step <= 20 * 1024 for step in timeline.steps]
        dark = found.frames[-1]
        assert set(np.unique(dark)) == {0, GAP}
    assert timeline.observation is not None
    assert timeline.observation.shape == (84, 84)


def test_the_scale_hides_neither_a_death_nor_an_explosion() -> None:
    assert timeline_scale(np.array([[2.0], [0.0], [0.0]])) == 2.0
    assert timeline_scale(np.array([[2.0], [3.0], [900.0]])) == 3.0
    assert timeline_scale(np.zeros((3, 2))) == 1.0
    assert timeline_scale(np.array([[np.nan], [4.0], [np.inf]])) == 1.0


def test_what_is_not_finite_is_marked_in_its_own_colour() -> None:
    grid = index_grid(np.array([[[np.nan]], [[1.0]], [[0.0]]]), 1.0)
    assert grid[1, 1] == NONFINITE
    assert grid[1, 3] == GAP - 1
    assert grid[3, 1] == 0


def test_broken_snapshots_are_passed_over_and_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", snapshots=5)
    steps = RunReader(folder).snapshot_steps()
    (folder / "snapshots" / f"{steps[2]:012d}.npz").write_bytes(b"PK cut short")
    (folder / "snapshots" / "observation.npz").write_bytes(b"")
    timeline = timeline_of(RunReader(folder))
    assert timeline.steps == [*steps[:2], *steps[3:]]
    assert timeline.observation is None
    assert [note.split(" cannot")[0] for note in timeline.notes] == [
        f"The snapshot of step {steps[2]:,}",
        "The observation of the snapshots",
    ]


def test_large_maps_are_shown_by_the_largest_of_each_block() -> None:
    maps = np.zeros((64, 200, 150))
    maps[3, 199, 149] = -7.0
    small = fitted(maps)
    assert small.shape[0] == 64
    assert small[3].max() == 7.0
    assert max(index_grid(small, 7.0).shape) <= MAX_SIDE
    assert fitted(np.ones((32, 20, 20))).shape == (32, 20, 20)


def test_a_palette_png_is_the_very_picture() -> None:
    import io

    grid = index_grid(np.random.default_rng(0).random((4, 5, 6)), 1.0)
    read = Image.open(io.BytesIO(palette_png(grid)))
    assert read.mode == "P"
    assert (np.asarray(read) == grid).all()


def test_evenly_keeps_both_ends() -> None:
    assert evenly(list(range(500)), 200)[0] == 0
    assert evenly(list(range(500)), 200)[-1] == 499
    assert len(set(evenly(list(range(500)), 200))) == 200


def test_every_run_of_a_comparison_is_judged_by_its_last_snapshot(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / str(number), snapshots=5, dies_at=20) for number in range(6)]
    for folder in runs:
        (folder / "health.jsonl").unlink()
    page = render([read_run(folder) for folder in runs])
    assert page.count("collapsed activations.</strong> conv1, conv2, conv3: dark in the last snapshot.") == 6


def test_the_same_run_by_two_names_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", rollouts=5)
    assert main(["report", str(folder), f"{folder}/../run"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")


def test_watching_a_run_that_is_over_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(write_run(tmp_path / "run", rollouts=5)), "--watch"]) == 0
    assert "no run goes on (run: finished), so the page is written once" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["null", '{"versions": [1], "num_timesteps": "x", "status": 3}', "[1]"])
def test_facts_that_are_of_the_wrong_kind_are_no_traceback(content: str, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", rollouts=30)
    (folder / "run.json").write_text(content)
    with (folder / "health.jsonl").open("a") as file:
        file.write('{"step": 90000, "events": [1], "layers": 7, "features": [], "policy": null}\n')
    assert "run" in render([read_run(folder)])


@pytest.mark.slow
def test_a_page_of_two_million_steps_stays_light(tmp_path: Path) -> None:
    page = render([read_run(write_run(tmp_path / "run", rollouts=1953, snapshots=500))])
    assert len(page) < 25_000_000
    assert "200 of the 500 snapshots of run are shown, evenly spaced" in page


@pytest.mark.slow
def test_a_network_with_large_maps_has_fewer_frames_on_its_page(tmp_path: Path) -> None:
    writer, random = RunWriter(tmp_path / "run"), np.random.default_rng(0)
    for step in range(1, 101):
        writer.snapshot(step, {"conv1": random.random((256, 60, 60))})
    page = render([read_run(tmp_path / "run")])
    assert len(page) < 4 * MAX_BYTES / 3 + 6_000_000
    assert "of the 100 snapshots of run are shown" in page


# -- charts ------------------------------------------------------------------------------------------------------------


def test_thinning_keeps_every_spike_and_every_gap() -> None:
    values = np.zeros(20_000)
    values[7_777], values[15_003], values[9_000] = 5.0, -3.0, np.nan
    small = thinned(Series(np.arange(20_000.0), values))
    assert len(small.values) <= 1000
    assert {5.0, -3.0} <= set(small.values)
    assert np.isnan(small.values).sum() == 1
    assert (np.diff(small.steps) > 0).all()
    holes = np.where(np.arange(20_000) % 3 == 0, np.nan, values)
    assert thinned(Series(np.arange(20_000.0), holes)).steps[-1] > 19_900
    short = Series(np.arange(3.0), np.ones(3))
    assert thinned(short) is short


def test_curves_have_sb3s_values_and_the_marks_on_their_axis(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", dies_at=30))
    charts = dict(curve_charts(run))
    assert list(charts["Entropy"].data[0].y) == pytest.approx(list(np.linspace(1.79, 0.9, 40)))
    marks = marks_of(run)
    assert [(mark.step, mark.kind) for mark in marks] == [(21 * 1024, "guard"), (31 * 1024, "alarm")]
    assert [shape.x0 for shape in charts["Entropy"].layout.shapes] == [31 * 1024, 21 * 1024]


def test_what_an_intervention_did_is_a_mark_and_what_is_none_is_left_out() -> None:
    done = {"name": "ReGraMa", "step": 77, "text": "ReGraMa acted (on low_rank)"}
    run = run_of({}, [{**health_line(), "interventions": [done]}])
    assert [(mark.step, mark.kind, mark.text) for mark in marks_of(run)] == [(77, "repair", done["text"])]


@pytest.mark.slow
def test_more_marks_than_one_can_tell_apart_are_thinned_but_for_alarms() -> None:
    curves = {next(iter(COUNTED)): list(range(500)), "train/loss": [0.1] * 500}
    run = run_of(curves, [health_line(events=[event("low_rank", step=123)])])
    (figure,) = [figure for title, figure in curve_charts(run) if title == "Loss"]
    assert len(figure.layout.shapes) <= MAX_MARKS
    assert 123 in [shape.x0 for shape in figure.layout.shapes]
    assert len(marks_of(run)) == 500


def test_heat_maps_have_a_row_for_each_layer_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    maps = dict(health_maps(read_run(write_run(tmp_path / "run", dies_at=20))))
    assert list(maps) == ["Live units", "Dormant units (tau 0.025)", "Rank, share of the layer's highest"]
    live = maps["Live units"].data[0]
    assert list(live.y) == ["conv1", "conv2", "conv3"]
    assert (np.asarray(live.z)[:, 20:] == 0).all()
    assert (np.asarray(live.z)[:, :20] > 0.85).all()


def test_a_heat_map_of_many_lines_shows_the_worst_of_each_stretch() -> None:
    lines = [{"layers": {"conv1": layer(0 if n == 1234 else 32, 32)}} for n in range(3000)]
    z = np.asarray(dict(health_maps(run_of(health=lines)))["Live units"].data[0].z)
    assert z.shape == (1, 300)
    assert sorted(set(z[0])) == [0.0, 1.0]
    assert (z == 0).sum() == 1


# -- comparison --------------------------------------------------------------------------------------------------------


def with_settings(folder: Path, settings: dict[str, Any]) -> Path:
    (folder / "env").mkdir()
    (folder / "env" / "config.yml").write_text(yaml.safe_dump(settings))
    return folder


def test_the_page_shows_the_steps_that_were_asked_for_not_those_of_the_configuration(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", n_timesteps=5_000)
    page = render([read_run(with_settings(folder, {"n_timesteps": 10_000_000, "gamma": 0.5}))])
    assert re.findall(r"n_timesteps&#34;: (\d+)", page) == ["5000"]


def test_seeds_of_the_same_settings_are_one_group(tmp_path: Path) -> None:
    slow, fast = {"learning_rate": 1e-4}, {"learning_rate": 1e-3}
    runs = [
        read_run(with_settings(write_run(tmp_path / name, rollouts=5, seed=seed, algo=algo), settings))
        for name, seed, algo, settings in [
            ("a", 1, "ppo", slow),
            ("b", 2, "ppo", slow),
            ("c", 1, "stable_ppo", slow),
            ("d", 1, "stable_ppo", fast),
        ]
    ]
    groups = grouped(runs, ["a", "b", "c", "d"])
    assert [(group.name, [run.name for run in group.runs]) for group in groups] == [
        ("a, b", ["a", "b"]),
        ("c", ["c"]),
        ("d", ["d"]),
    ]
    (returns,) = [figure for title, figure in comparison_charts(groups) if title == "Return"]
    assert [trace.name for trace in returns.data if trace.name] == ["mean of a, b", "c", "d"]


def test_runs_of_rl_zoo3_on_different_games_are_no_seeds_of_each_other(tmp_path: Path) -> None:
    runs = []
    for game in ("Pong", "Breakout"):
        folder = with_settings(write_run(tmp_path / game, rollouts=5), {"learning_rate": 1e-4})
        (folder / "run.json").unlink()
        (folder / "env" / "args.yml").write_text(zoo_arguments(game))
        runs.append(read_run(folder))
    assert [run.facts for run in runs] == [{"algo": "ppo", "env": game, "seed": 3} for game in ("Pong", "Breakout")]
    assert len(grouped(runs, ["1", "2"])) == 2


def zoo_arguments(game: str) -> str:
    tag = "!!python/object/apply:collections.OrderedDict"
    return f"{tag}\n- - - algo\n    - ppo\n  - - env\n    - {game}\n  - - seed\n    - 3\n"


def test_the_band_is_the_mean_and_an_interval_around_it() -> None:
    first, second = series([(0, 0.0), (100, 10.0)]), series([(0, 10.0), (50, 15.0), (200, 30.0)])
    steps, mean, low, high = band([first, second])
    assert (steps[0], steps[-1]) == (0.0, 100.0)
    assert mean == pytest.approx(5 + steps / 10)
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert low[0] == 0.0
    assert high[0] == 10.0
    apart = band([series([(0, 1.0), (9, 1.0)]), series([(10, 1.0), (20, 1.0)])])
    assert [len(part) for part in apart] == [0, 0, 0, 0]


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_writes_page_gif_and_strip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", snapshots=6)
    gif, strip = tmp_path / "timeline.gif", tmp_path / "strip"
    assert main(["report", str(folder), "--gif", str(gif), "--strip", str(strip), "--columns", "3"]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "report.html"), str(gif), str(strip / "strip.png")]
    assert getattr(Image.open(gif), "n_frames", 0) == 6
    pictures = sorted(path.name for path in strip.iterdir())
    assert len(pictures) == 3 * 3 + 2
    assert np.asarray(Image.open(strip / "conv1_000001024.png")).shape == (127, 127, 3)


@pytest.mark.slow
def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", status="running", pid=os.getpid(), host=os.uname().nodename)
    command = [sys.executable, "-m", "sb3_stable_ppo", "report", str(folder), "--watch", "--every", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().strip() == f"{folder / 'report.html'}: step 40,960"
        assert '"refresh": 1,' in (folder / "report.html").read_text()
        RunWriter(folder).health(50_000, health_line())
        assert any("step 50,000" in watching.stdout.readline() for _ in range(20))
        RunWriter(folder).describe(status="finished")
        assert watching.wait(60) == 0
    assert '"refresh": null,' in (folder / "report.html").read_text()


def test_a_mistake_is_one_sentence_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, bare = tmp_path / "empty", tmp_path / "bare"
    empty.mkdir()
    run = write_run(tmp_path / "logs" / "ppo" / "Pong_1", snapshots=3)
    for _ in range(2):
        PPO("MlpPolicy", make_cartpole(), n_steps=8, batch_size=16, tensorboard_log=str(tmp_path / "two")).learn(16)
    write_progress(bare, {"time/total_timesteps": [1], "train/loss": [0.1]})
    for args, complaint in [
        ([tmp_path / "none"], "none: there is no such folder"),
        ([empty], "empty is no run folder: nothing in it"),
        ([tmp_path / "logs"], "Folders in it that hold runs: ppo/Pong_1"),
        ([bare, "-o", tmp_path / "no" / "page.html"], "its folder does not exist"),
        ([bare, "-o", empty], "a folder"),
        ([run, "--gif", tmp_path / "no" / "timeline.gif"], "--gif"),
        ([run, "--gif", tmp_path / "timeline.html"], "the name of a GIF ends in .gif"),
        ([run, "-o", tmp_path / "page.html", "--strip", run / "run.json"], "File exists"),
        ([tmp_path / "two"], "two holds the TensorBoard logs of 2 runs: name one, or several, of PPO_1, PPO_2."),
        ([bare, "--gif", tmp_path / "timeline.gif"], "bare holds no snapshots to make pictures of"),
    ]:
        assert main(["report", *map(str, args)]) == 2, args
        shown = capsys.readouterr()
        assert complaint in " ".join(shown.err.split()), args
        assert shown.err.count("error:") == 1


def test_train_leaves_a_report_and_without_it_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["train", "--env", "CartPole-v1", "-n", "512", "--seed", "0", "--eval-freq", "-1", "-f", str(tmp_path)]
    assert main(args) == 0
    page = tmp_path / "stable_ppo" / "CartPole-v1_1" / "report.html"
    assert f"Report: {page}\n" in capsys.readouterr().out
    assert "stable_ppo on CartPole-v1" in page.read_text()
    assert json.loads((page.parent / "run.json").read_text())["pid"] == os.getpid()
    assert main([*args, "--no-report"]) == 0
    assert not (tmp_path / "stable_ppo" / "CartPole-v1_2" / "report.html").exists()


def test_an_alarm_that_this_version_does_not_know_is_not_passed_over() -> None:
    lines = [health_line(events=[{"name": "my_alarm", "raised": True, "step": 1, "text": "something is odd"}])]
    run = run_of(health=[{"step": 1, **line} for line in lines])
    verdict = verdict_of(run, Timeline([], {}, None, 0, []))
    assert (verdict.word, verdict.state) == ("alarm: my_alarm", "no")
