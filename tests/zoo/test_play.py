"""All configurations through the real rl_zoo3, masks wherever it plays, and the commands enjoy and plot."""

import csv
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml

import helpers.masked_env  # noqa: F401  # registers Strict-v0
from helpers.processes import ROOT
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.envs.action_masks import InfoActionMasks
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.zoo.registry import ALGORITHMS

SHORT = ["n_envs:2", "n_steps:16", "batch_size:16", "n_epochs:1"]
QUIET = ["--eval-freq", "-1", "--no-progress", "--no-report", "--verbose", "0", "--seed", "0"]
ENTRIES = [
    (path.name, env)
    for path in sorted((ROOT / "zoo_configs").glob("stable_ppo*.yml"))
    for env in yaml.safe_load(path.read_text())
]


def train(folder: Path, algo: str, env: str, *flags: str) -> int:
    return main(["train", "--algo", algo, "--env", env, "-n", "64", "-f", str(folder), *flags])


@pytest.mark.slow
@pytest.mark.parametrize(("file", "env"), ENTRIES)
def test_every_entry_trains_and_plays(file: str, env: str, tmp_path: Path) -> None:
    env_id = "BreakoutNoFrameskip-v4" if env == "atari" else env
    algo = max((name for name in ALGORITHMS if file.startswith(name)), key=len)
    conf = ["--conf-file", str(ROOT / "zoo_configs" / file)]
    assert train(tmp_path, algo, env_id, *conf, *QUIET, "-params", *SHORT) == 0
    run = RunReader(tmp_path / algo / f"{env_id}_1")
    assert run.facts["status"] == "finished"
    assert [line["step"] for line in run.health()] == [32, 64]
    assert (run.folder / f"{env_id}.zip").is_file()
    play = ["enjoy", "--algo", algo, "--env", env_id, "-f", str(tmp_path), "-n", "20", "--no-render"]
    assert main(play) == 0


@pytest.mark.slow
@pytest.mark.parametrize("env", list(yaml.safe_load((ROOT / "zoo_configs" / "ppo.yml").read_text())))
def test_every_entry_for_stock_ppo_trains_through_rl_zoo3_alone(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rl_zoo3.train

    env_id = "PongNoFrameskip-v4" if env == "atari" else env
    conf = ["--conf-file", str(ROOT / "zoo_configs" / "ppo.yml"), "--eval-freq", "-1", "--verbose", "0"]
    args = ["train", "--algo", "ppo", "--env", env_id, "-n", "64", "-f", str(tmp_path), *conf, "-params", *SHORT]
    monkeypatch.setattr(sys, "argv", args)
    rl_zoo3.train.train()
    assert (tmp_path / "ppo" / f"{env_id}_1" / f"{env_id}.zip").is_file()


# -- masks -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained and evaluated in an env that breaks where a masked action is taken."""
    folder = tmp_path_factory.mktemp("masked")
    config = folder / "masks.yml"
    entry: dict[str, Any] = {
        "env_wrapper": ["sb3_stable_ppo.zoo_masks.InfoActionMasks"],
        "policy": "StableMlpPolicy",
        "n_timesteps": 64,
        "n_envs": 2,
        "n_steps": 16,
        "batch_size": 16,
    }
    config.write_text(yaml.safe_dump({"Strict-v0": entry}))
    flags = ["--eval-freq", "32", "--eval-episodes", "2", "--no-progress", "--no-report", "--verbose", "0"]
    strict = ["--conf-file", str(config), "--gym-packages", "helpers.masked_env"]
    assert train(folder, "stable_ppo_mask", "Strict-v0", *flags, *strict) == 0
    return folder


def test_masked_envs_are_evaluated_with_their_masks(masked_run: Path) -> None:
    with np.load(masked_run / "stable_ppo_mask" / "Strict-v0_1" / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [32, 64]
        assert (evaluations["results"] == 15.0).all()


def test_masked_envs_are_enjoyed_with_their_masks(masked_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play = ["enjoy", "--algo", "stable_ppo_mask", "--env", "Strict-v0", "-f", str(masked_run), "-n", "46"]
    assert main([*play, "--no-render"]) == 0
    shown = capsys.readouterr().out
    assert "3 Episodes" in shown
    assert "Mean reward: 15.00 +/- 0.00" in shown


@pytest.mark.slow
def test_masked_envs_are_tuned_with_their_masks(masked_run: Path, tmp_path: Path) -> None:
    flags = ["-optimize", "--n-trials", "1", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    conf = ["--conf-file", str(masked_run / "masks.yml"), "--verbose", "0", "--n-startup-trials", "0"]
    assert train(tmp_path, "stable_ppo_mask", "Strict-v0", *flags, *conf) == 0
    (report,) = (tmp_path / "stable_ppo_mask").glob("report_*.csv")
    (trial,) = csv.DictReader(report.open())
    assert (trial["value"], trial["state"]) == ("15.0", "COMPLETE")


def test_a_mask_is_that_of_the_last_info() -> None:
    env = InfoActionMasks(gym.make("Strict-v0"))
    with pytest.raises(ValueError, match=r"There is no mask before the first reset\(\)"):
        env.action_masks()
    _, info = env.reset(seed=0)
    for _ in range(5):
        assert env.action_masks().tolist() == [bool(allowed) for allowed in info["action_mask"]]
        info = env.step(int(env.action_masks().argmax()))[-1]


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ("CartPole-v1", r"has no action_mask in its info; its keys are none\. Let reset\(\) and step\(\) put it there"),
        ("Pendulum-v1", r"is for discrete actions.*: leave it out, and give the env a method action_masks\(\)"),
    ],
)
def test_an_env_without_masks_is_refused(env: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        InfoActionMasks(gym.make(env)).reset()


def test_a_masked_algorithm_on_an_env_without_masks_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yml"
    entry = {"policy": "StableMlpPolicy", "n_timesteps": 64, "n_steps": 16, "batch_size": 16}
    config.write_text(yaml.safe_dump({"CartPole-v1": entry}))
    assert train(tmp_path, "stable_ppo_mask", "CartPole-v1", "--conf-file", str(config), *QUIET) == 2
    shown = capsys.readouterr().err
    assert "does not support action masking" in shown
    assert "or give the env a method action_masks()" in shown
    assert shown.count("error:") == 1
    assert not (tmp_path / "stable_ppo_mask").exists()


# -- enjoy and plot ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cartpole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cartpole")
    flags = ["-n", "2048", "--eval-freq", "1024", "--no-progress", "--no-report", "--verbose", "0", "--seed", "0"]
    assert main(["train", "--env", "CartPole-v1", "-f", str(folder), *flags]) == 0
    return folder


def test_enjoy_prints_scores_without_a_screen(
    cartpole_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["enjoy", "--env", "CartPole-v1", "-f", str(cartpole_run), "-n", "600", "--load-best"]) == 0
    shown = capsys.readouterr().out
    assert "best_model.zip" in shown
    assert "Mean reward:" in shown
    assert "No episode" not in shown


def test_enjoy_says_why_there_is_no_score(cartpole_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enjoy", "--env", "CartPole-v1", "-f", str(cartpole_run), "-n", "5", "--no-render"]) == 0
    assert "No episode ended within 5 steps, so there is no score. Play longer with -n." in capsys.readouterr().out


@pytest.mark.slow
def test_enjoy_writes_a_video(cartpole_run: Path, tmp_path: Path) -> None:
    import imageio.v3 as imageio

    video = tmp_path / "video"
    assert main(["enjoy", "--env", "CartPole-v1", "-f", str(cartpole_run), "-n", "60", "--video", str(video)]) == 0
    (file,) = video.glob("stable_ppo-CartPole-v1*.mp4")
    frames = imageio.imread(file, plugin="FFMPEG")
    assert len(frames) >= 60
    assert frames.std() > 0


@pytest.mark.slow
def test_plot_saves_the_figure(cartpole_run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "returns.png"
    flags = ["-a", "stable_ppo", "-e", "CartPole-v1", "-f", str(cartpole_run), "-w", "10", "--save", str(picture)]
    assert main(["plot", "train", *flags]) == 0
    assert picture.stat().st_size > 5000


@pytest.mark.parametrize("script", ["train", "all"])
def test_a_plot_without_anything_in_it_is_one_sentence_and_no_file(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stable_ppo" / "CartPole-v1_1").mkdir(parents=True)
    flags = ["-a", "stable_ppo", "-e", "CartPole-v1", "-f", str(tmp_path), "--save", str(tmp_path / "returns.png")]
    assert main(["plot", script, *flags]) == 2
    shown = capsys.readouterr().err
    assert f"error: plot {script}: nothing is drawn; it takes runs of these envs with" in shown
    assert "No artists" not in shown
    assert not (tmp_path / "returns.png").exists()


LOGS = ["-a", "stable_ppo", "-e", "CartPole-v1", "-f", "logs"]
NO_PLOTS: list[tuple[list[str], str]] = [
    (["train"], "plot train needs -a (--algo), -e (--env), -f (--exp-folder): plot train -a stable_ppo -e"),
    (["all"], "plot all needs -a (--algos), -e (--env), -f (--exp-folders): plot all -a stable_ppo -e CartPole-v1 -f"),
    (["all", *LOGS[:2], *LOGS[4:]], "plot all needs -e (--env): plot all -a"),
    (["all", *LOGS[:4], "-max", "100"], "plot all needs -f (--exp-folders): plot all -a"),
    (["file"], "plot file needs -i (--input): plot file -i"),
    (["file", "-iqm"], "plot file needs -i (--input): plot file -i"),
    (["file", "-i", "broken"], "plot file: "),
    (
        ["all", "-a", "nope", *LOGS[2:]],
        "plot all: there is no folder logs/nope. Algorithms with runs there: a2c, stable_ppo.",
    ),
    (
        ["train", "-a", "nope", *LOGS[2:]],
        "plot train: there is no folder logs/nope. Algorithms with runs there: a2c, stable_ppo.",
    ),
    (
        ["all", *LOGS[:2], "-e", "CartPole-v1", "Pendulum", *LOGS[4:]],
        "plot all: there is no run of Pendulum. Envs with runs there: CartPole-v1.",
    ),
]


@pytest.mark.parametrize(("args", "complaint"), NO_PLOTS, ids=[" ".join(args) for args, _ in NO_PLOTS])
def test_what_a_plot_lacks_is_one_sentence_and_no_table(
    args: list[str],
    complaint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for algo in ("stable_ppo", "a2c"):
        (tmp_path / "logs" / algo / "CartPole-v1_1").mkdir(parents=True)
    (tmp_path / "logs" / "workers").mkdir()  # of another kind
    (tmp_path / "broken.pkl").write_bytes(b"no pickle")
    assert main(["plot", *args]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"sb3-stable-ppo: error: {complaint}")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (
            ["enjoy", "--env", "CartPole-v1", "-f", "nowhere"],
            "which run plays): The nowhere/stable_ppo folder was not found.",
        ),
        (
            ["enjoy", "--env", "CartPole-v1", "--env-kwargs", "goal:x"],
            "--env-kwargs goal:x: NameError: name 'x' is not",
        ),
        (["enjoy", "--env", "CartPole-v11"], "Unknown env 'CartPole-v11' (did you mean CartPole-v1?)"),
        (["enjoy", "--env", "CartPole-v1", "--algo", "stable"], "Unknown algorithm 'stable': choose one of"),
        (["plot", "train", "-a", "ppo", "-e", "CartPole-v1", "-f", "nowhere"], "nowhere/ppo"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    args: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    shown = capsys.readouterr().err
    assert complaint in " ".join(shown.split())
    assert shown.count("error:") == 1
