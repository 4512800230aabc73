"""``sb3-stable-ppo train`` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.commands import CARTPOLE, run_folder, train, write_config
from helpers.processes import LIMIT, ROOT, run_python
from helpers.weights import assert_same_weights
from sb3_stable_ppo import LRSchedulerCallback, StablePongPolicy, StablePPO
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.fast.rollout_buffer import TorchRolloutBuffer
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.schedules.learning_rate import counting_schedule
from sb3_stable_ppo.zoo.callbacks import without_run_callbacks
from sb3_stable_ppo.zoo.hyperparams import class_entries, keywords_of, with_numbers
from sb3_stable_ppo.zoo.registry import config_file, register

pytestmark = pytest.mark.slow(seconds=1)


def test_a_run_leaves_config_model_evaluations_health_and_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, "--eval-freq", "32", "--eval-episodes", "1") == 0
    folder = run_folder(tmp_path)
    for name in ("CartPole-v1.zip", "best_model.zip", "evaluations.npz", "progress.csv", "CartPole-v1/config.yml"):
        assert (folder / name).is_file(), name
    assert list((folder / "tensorboard").iterdir())
    reader = RunReader(folder)
    assert reader.facts["status"] == "finished"
    assert (reader.facts["env"], reader.facts["seed"], reader.facts["num_timesteps"]) == ("CartPole-v1", 0, 64)
    assert reader.facts["versions"]["torch"]
    assert {"cpu", "device", "threads", "flags", "environment"} < set(reader.facts["fingerprint"])
    assert [line["step"] for line in reader.health()] == [32, 64]
    printed = capsys.readouterr().out
    assert f"Results (finished): {folder}" in printed.replace("\n", "")
    assert "pi.fc1" in printed
    assert "step 32" in printed
    assert "step 64" in printed


def test_the_run_is_what_stable_ppo_alone_would_train(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1") == 0
    from stable_baselines3.common.env_util import make_vec_env

    from sb3_stable_ppo import StepLR

    options = {key: CARTPOLE[key] for key in ("n_steps", "batch_size", "n_epochs")}
    direct = StablePPO("StableMlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), StepLR(1e-3, 1), seed=0, **options)
    assert_same_weights(StablePPO.load(run_folder(tmp_path) / "CartPole-v1.zip"), direct.learn(64))


def test_a_number_that_yaml_reads_as_a_string_is_accepted(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1", learning_rate="1e-3", ent_coef="1e-2", n_timesteps="6.4e1") == 0
    model = StablePPO.load(run_folder(tmp_path) / "CartPole-v1.zip")
    assert (model.lr_schedule(0.5), model.ent_coef, model.num_timesteps) == (1e-3, 0.01, 64)


def test_guards_are_set_from_yaml(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1", guards={"max_log_ratio": 5}) == 0
    guards = StablePPO.load(run_folder(tmp_path) / "CartPole-v1.zip").guards
    assert guards is not None
    assert guards.max_log_ratio == 5.0


def test_lin_ends_at_zero_even_where_the_last_rollout_overshoots(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1", "-n", "40", learning_rate="lin_0.001", clip_range="lin_0.2") == 0
    model = StablePPO.load(run_folder(tmp_path) / "CartPole-v1.zip")
    assert model.num_timesteps == 64
    assert model.policy.optimizer.param_groups[0]["lr"] == 0.0
    assert [model.lr_schedule(p) for p in (1.0, 0.5, -0.6)] == [0.001, 0.0005, 0.0]


def test_a_run_is_resumed_with_its_count_of_updates_and_steps(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1") == 0
    zipped = str(run_folder(tmp_path) / "CartPole-v1.zip")
    assert train(tmp_path, "--eval-freq", "-1", "-i", zipped) == 0
    resumed = StablePPO.load(run_folder(tmp_path, 2) / "CartPole-v1.zip")
    schedule = counting_schedule(resumed.learning_rate)
    assert schedule is not None
    assert (resumed.num_timesteps, schedule.count) == (128, 4)
    assert RunReader(run_folder(tmp_path, 2)).facts["resumed_from"] == zipped


def test_a_learning_rate_on_the_command_line_counts_when_resuming_too(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1") == 0
    zipped = str(run_folder(tmp_path) / "CartPole-v1.zip")
    override = "learning_rate:{'schedule':'step','initial':0.5}"
    assert train(tmp_path, "--eval-freq", "-1", "-i", zipped, "-params", override) == 0
    schedule = counting_schedule(StablePPO.load(run_folder(tmp_path, 2) / "CartPole-v1.zip").learning_rate)
    assert schedule is not None
    assert schedule.initial == 0.5


def test_a_collapse_saves_the_model_and_ends_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = ["sb3_stable_ppo.HealthCallback", "helpers.callbacks.CollapseCallback"]
    assert train(tmp_path, "--eval-freq", "-1", callback=callback) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "sb3-stable-ppo: training collapsed: every layer is dark"
    assert StablePPO.load(run_folder(tmp_path) / "CartPole-v1.zip").num_timesteps == 48
    assert RunReader(run_folder(tmp_path)).facts["status"] == "collapsed"


def test_ctrl_c_saves_the_model_and_the_run_says_it_was_stopped(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1", callback="helpers.callbacks.InterruptCallback") == 130
    assert StablePPO.load(run_folder(tmp_path) / "CartPole-v1.zip").num_timesteps == 48
    facts = RunReader(run_folder(tmp_path)).facts
    assert (facts["status"], facts["num_timesteps"]) == ("stopped", 48)


def test_zoo_flags_work(tmp_path: Path) -> None:
    flags = ["--eval-freq", "-1", "--save-freq", "32", "--uuid", "--num-threads", "2", "--log-interval", "1"]
    assert train(tmp_path, *flags, "--no-progress", "--verbose", "0", "-tb", str(tmp_path / "tb")) == 0
    (folder,) = (tmp_path / "logs" / "stable_ppo").iterdir()
    assert (folder / "rl_model_32_steps.zip").is_file()
    assert len(folder.name) > len("CartPole-v1_1_") + 30
    assert (tmp_path / "tb" / "CartPole-v1" / "StablePPO_1").is_dir()
    assert "train/loss" in (folder / "progress.csv").read_text().splitlines()[0]


@pytest.mark.slow
def test_pongs_configuration_trains_on_the_fast_path_and_keeps_snapshots(tmp_path: Path, capsys: Any) -> None:
    flags = ["-n", "2048", "-f", str(tmp_path), "--eval-freq", "-1", "--seed", "1"]
    assert main(["train", "--env", "PongNoFrameskip-v4", *flags]) == 0
    assert "Fast path: channels_last, " in capsys.readouterr().out
    folder = tmp_path / "stable_ppo" / "PongNoFrameskip-v4_1"
    model = StablePPO.load(folder / "PongNoFrameskip-v4.zip")
    assert isinstance(model.policy, StablePongPolicy)
    assert isinstance(model.rollout_buffer_class, type)
    assert issubclass(model.rollout_buffer_class, TorchRolloutBuffer)
    assert "not compiled, on " in RunReader(folder).facts["fast_path"]
    assert (model.n_steps, model.n_epochs, model.batch_size, model.ent_coef) == (128, 4, 64, 0.003)
    assert RunReader(folder).snapshot_steps() == [1000, 2000, 2048]
    assert [len(line["layers"]) for line in RunReader(folder).health()] == [5, 5]


@pytest.mark.slow
@pytest.mark.parametrize("env", ["PongNoFrameskip-v4", "CartPole-v1"])
def test_stock_rl_zoo3_trains_our_policy_by_its_dotted_path(env: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "ppo", "--conf-file", "zoo_configs/ppo.yml"]
    flags = ["--env", env, "-n", "1024", "--eval-freq", "-1", "-f", str(tmp_path), "--seed", "0"]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    from stable_baselines3 import PPO

    model = PPO.load(tmp_path / "ppo" / f"{env}_1" / f"{env}.zip")
    assert type(model.policy).__name__ == ("StablePongPolicy" if "Pong" in env else "StableMlpPolicy")
    assert type(model) is PPO


@pytest.mark.slow
def test_python_m_is_the_same_program() -> None:
    command = [sys.executable, "-m", "sb3_stable_ppo"]
    assert subprocess.run([*command, "--version"], capture_output=True, text=True).stdout == "sb3-stable-ppo 0.1.0\n"
    done = subprocess.run([*command, "train", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--no-progress" in done.stdout
    assert "--n-timesteps" in done.stdout
    assert "stable_ppo" in done.stdout


@pytest.mark.slow
def test_runs_started_at_the_same_time_have_folders_of_their_own(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    command = [sys.executable, "-m", "sb3_stable_ppo", "train", "--env", "CartPole-v1", "-conf", config]
    flags = ["-f", str(tmp_path / "logs"), "--eval-freq", "-1"]
    runs = [subprocess.Popen([*command, *flags, "--seed", str(seed)], stdout=subprocess.DEVNULL) for seed in (1, 2, 3)]
    assert [run.wait(LIMIT) for run in runs] == [0, 0, 0]
    readers = [RunReader(run_folder(tmp_path, number)) for number in (1, 2, 3)]
    assert sorted(reader.facts["seed"] for reader in readers) == [1, 2, 3]
    assert [len(list(reader.health())) for reader in readers] == [2, 2, 2]


def test_another_schedule_in_the_yaml_begins_when_a_run_is_resumed(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1", learning_rate="lin_0.001") == 0
    zipped = str(run_folder(tmp_path) / "CartPole-v1.zip")
    assert train(tmp_path, "--eval-freq", "-1", "-i", zipped, learning_rate={"schedule": "step", "initial": 0.5}) == 0
    schedule = counting_schedule(StablePPO.load(run_folder(tmp_path, 2) / "CartPole-v1.zip").learning_rate)
    assert schedule is not None
    assert (schedule.initial, schedule.count) == (0.5, 2)


def test_our_configuration_for_stock_ppo_works_through_our_command_too(tmp_path: Path) -> None:
    callback = [{"sb3_stable_ppo.LRSchedulerCallback": {"schedule": "step", "initial": 1e-3, "step_size": 1}}]
    flags = ["--algo", "ppo", "--eval-freq", "-1"]
    assert train(tmp_path, *flags, policy="sb3_stable_ppo.StableMlpPolicy", learning_rate=1e-3, callback=callback) == 0
    assert (tmp_path / "logs" / "ppo" / "CartPole-v1_1" / "CartPole-v1.zip").is_file()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, sb3_stable_ppo\n"
        "print([name for name in ('rl_zoo3', 'optuna', 'plotly', 'ale_py') if name in sys.modules])"
    )
    assert run_python(code).strip() == "[]"


def test_our_algorithms_stand_beside_the_stock_ones() -> None:
    from rl_zoo3.train import ALGOS

    register()
    assert ALGOS["stable_ppo"] is StablePPO
    assert "ppo" in ALGOS
    assert config_file("stable_ppo").is_file()


def test_with_numbers_leaves_words_alone() -> None:
    words = {"clip_range": "lin_2.5e-4", "policy": "e5", "seed": "1e", "list": ["1e3", "x"]}
    assert with_numbers(words) == {**words, "list": [1000.0, "x"]}


def test_keywords_follow_kwargs_to_the_parents() -> None:
    assert {"guards", "learning_rate", "n_steps", "policy_kwargs"} <= keywords_of(StablePPO)
    assert {"schedule", "verbose"} <= keywords_of(LRSchedulerCallback)
    assert {"norm", "net_arch", "optimizer_kwargs", "log_std_init"} <= keywords_of(StablePongPolicy)


def test_callbacks_in_all_of_the_zoos_forms() -> None:
    assert class_entries(None) == []
    assert class_entries("a.B") == [("a.B", {})]
    assert class_entries(["a.B", {"c.D": {"every": 1}}]) == [("a.B", {}), ("c.D", {"every": 1})]


def test_trials_have_no_callbacks_that_write_to_a_run_folder() -> None:
    specified = ["sb3_stable_ppo.HealthCallback", {"sb3_stable_ppo.LRSchedulerCallback": {"schedule": "step"}}]
    assert without_run_callbacks(specified) == [{"sb3_stable_ppo.LRSchedulerCallback": {"schedule": "step"}}]


def test_run_json_is_json(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1") == 0
    facts = json.loads((run_folder(tmp_path) / "run.json").read_text())
    assert np.isfinite(facts["n_timesteps"])
