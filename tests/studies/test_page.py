"""A study looked at: our page of Optuna's plots, and optuna-dashboard, on studies that tune makes."""

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from helpers.processes import LIMIT, until
from sb3_stable_ppo.studies.page import page_of
from sb3_stable_ppo.studies.space import sample
from sb3_stable_ppo.studies.storage import open_storage
from sb3_stable_ppo.studies.study import claim, open_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_with_trials(path: Path, count: int, directions: int) -> optuna.Study:
    """As workers leave it, without the training; one trial has collapsed, one failed."""
    study = open_study(open_storage(str(path)), "seen & known", {"algo": "stable_ppo"}, "none", 0, directions)
    for number in range(count):
        trial = study.ask()
        claim(trial, count)
        params = sample(trial, guarded=True)
        if directions == 1:
            trial.report(number / 2, 1)
        study.tell(trial, [float(number), params["init_gain"]][:directions])
    for state in (TrialState.PRUNED, TrialState.FAIL):
        study.tell(study.ask(), state=state)
    return study


@pytest.mark.parametrize(
    ("directions", "titles"),
    [
        (1, ["Optimization History", "Intermediate Values", "Hyperparameter Importances", "Parallel Coordinate"]),
        (2, ["Pareto-front Plot", "least share of live units"]),
    ],
)
def test_a_page_has_optunas_plots_and_opens_offline(directions: int, titles: list[str], tmp_path: Path) -> None:
    page = page_of(study_with_trials(tmp_path / "journal.log", 4, directions))
    assert page is not None
    for title in titles:
        assert title in page
    assert "<title>seen &amp; known</title>" in page
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', page)
    assert page.count("window.PlotlyConfig") >= 1


def test_where_there_is_nothing_to_show_there_is_no_page(tmp_path: Path) -> None:
    assert page_of(study_with_trials(tmp_path / "journal.log", 1, 1)) is None


@pytest.mark.slow
def test_optuna_dashboard_shows_the_study(tmp_path: Path) -> None:
    study_with_trials(tmp_path / "journal.log", 3, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).parent / "optuna-dashboard")
    command = [program, str(tmp_path / "journal.log"), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def asked(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}") as answer:
                return json.load(answer)
        except urllib.error.URLError:
            return None

    try:
        (summary,) = until(lambda: asked("studies"), 60)["study_summaries"]
        assert summary["study_name"] == "seen & known"
        detail = asked(f"studies/{summary['study_id']}")
        assert [trial["state"] for trial in detail["trials"]] == ["Complete"] * 3 + ["Pruned", "Fail"]
    finally:
        server.terminate()
        server.wait(LIMIT)
