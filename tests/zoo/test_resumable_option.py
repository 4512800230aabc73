"""``resumable`` beside ``vec_env: ale`` in a configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.zoo_envs import PONG, remembered_envs, train_pong
from sb3_stable_ppo.zoo.atari_options import ale_options


@pytest.mark.parametrize(("changes", "reset_every"), [({}, 27_000), ({"reset_every": "5e2"}, 500)])
def test_the_words_of_a_configuration_reach_the_env(
    changes: Any, reset_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = remembered_envs(monkeypatch)
    assert train_pong(tmp_path, "--eval-freq", "-1", "--no-report", **{"resumable": True, **changes}) == 0
    state = made[False]._log.state_dict()
    assert state["settings"]["reset_every"] == reset_every
    assert state["actions"].shape == (16, 2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"resumable": "yes please"}, "resumable must be true or false, not 'yes please'"),
        ({"resumable": 5000}, "resumable must be true or false, not 5000"),
        ({"reset_every": 0}, "reset_every must be a whole number of at least 1, not 0"),
        ({"resumable": False, "reset_every": 9}, "reset_every changes nothing without resumable: true"),
        ({"vec_env": "subproc"}, "resumable is an option of vec_env: ale, and vec_env is subproc here: leave it out"),
        ({"resumabel": True}, "unknown key 'resumabel'.*resumable"),
    ],
)
def test_a_mistake_is_one_sentence_with_status_2(
    changes: Any, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_pong(tmp_path, **{"resumable": True, **changes}) == 2
    assert re.search(complaint, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "logs").exists()


def test_what_is_not_given_is_not_passed_on() -> None:
    assert "resumable" not in ale_options(PONG, "PongNoFrameskip-v4", "here")
    assert ale_options({**PONG, "resumable": False}, "PongNoFrameskip-v4", "here")["resumable"] is False
