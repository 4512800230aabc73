"""Several runs: which are seeds of each other, and what they have in common."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.run_folders import write_run
from sb3_stable_ppo.report.charts import comparison_charts
from sb3_stable_ppo.report.comparison import band, grouped
from sb3_stable_ppo.report.page import render
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.runs.series import series


def with_settings(folder: Path, settings: dict[str, Any]) -> Path:
    (folder / "env").mkdir()
    (folder / "env" / "config.yml").write_text(yaml.safe_dump(settings))
    return folder


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


def test_the_page_shows_the_steps_that_were_asked_for_not_those_of_the_configuration(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", n_timesteps=5_000)
    page = render([read_run(with_settings(folder, {"n_timesteps": 10_000_000, "gamma": 0.5}))])
    assert re.findall(r"n_timesteps&#34;: (\d+)", page) == ["5000"]
