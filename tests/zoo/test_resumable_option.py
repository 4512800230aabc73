"""``resumable`` beside ``vec_env: ale`` in a configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.zoo.atari_options import ATARI_WRAPPER, ale_options
from sb3_stable_ppo.zoo.manager import StableExperimentManager

PONG: dict[str, Any] = {
    "env_wrapper": [ATARI_WRAPPER],
    "frame_stack": 4,
    "policy": "CnnPolicy",
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "n_timesteps": 32,
    "vec_env": "ale",
    "resumable": True,
}


def train(tmp_path: Path, *flags: str, **changes: Any) -> int:
    """Pong for a rollout, through the command line."""
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({"PongNoFrameskip-v4": {**PONG, **changes}}))
    logs = str(tmp_path / "logs")
    return main(["train", "--env", "PongNoFrameskip-v4", "-conf", str(path), "-f", logs, "--seed", "0", *flags])


@pytest.mark.parametrize(("changes", "reset_every"), [({}, 27_000), ({"reset_every": "5e2"}, 500)])
def test_the_words_of_a_configuration_reach_the_env(
    changes: Any, reset_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[bool, Any] = {}
    create = StableExperimentManager.create_envs

    def remember(self: Any, n_envs: int, eval_env: bool = False, no_log: bool = False) -> Any:
        made[eval_env] = create(self, n_envs, eval_env, no_log)
        return made[eval_env]

    monkeypatch.setattr(StableExperimentManager, "create_envs", remember)
    assert train(tmp_path, "--eval-freq", "-1", "--no-report", **changes) == 0
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
    assert train(tmp_path, **changes) == 2
    assert re.search(complaint, capsys.readouterr().err.replace("\n", " "))
    assert not (tmp_path / "logs").exists()


def test_what_is_not_given_is_not_passed_on() -> None:
    entry = {key: value for key, value in PONG.items() if key != "resumable"}
    assert "resumable" not in ale_options(entry, "PongNoFrameskip-v4", "here")
    assert ale_options({**entry, "resumable": False}, "PongNoFrameskip-v4", "here")["resumable"] is False
