"""rl_zoo3's own -optimize and --trial-id, over our search space, with the YAML file's network merged into trials."""

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FixedTrial
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

from helpers.callbacks import Notes
from helpers.tuning import PARAMS
from sb3_stable_ppo import StableMlpPolicy
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.runs.data import read_run
from sb3_stable_ppo.schedules.learning_rate import StepLR
from sb3_stable_ppo.studies.space import SEARCHED
from sb3_stable_ppo.studies.storage import open_storage
from sb3_stable_ppo.zoo.registry import register
from sb3_stable_ppo.zoo.trials import merged_sampling, with_trial

optuna.logging.set_verbosity(optuna.logging.ERROR)
register()
ZOO_PARAMS = {
    "n_steps_pow": 5,
    "batch_size_pow": 6,
    "one_minus_gamma": 0.01,
    "one_minus_gae_lambda": 0.05,
    "learning_rate": 3e-4,
    "ent_coef": 0.01,
    "clip_range": 0.2,
    "n_epochs": 5,
    "max_grad_norm": 0.5,
    "net_arch": "tiny",
    "activation_fn": "relu",
}


def sampled(algo: str, hyperparams: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    with merged_sampling(algo, hyperparams, 2, 6400):
        return HYPERPARAMS_SAMPLER[algo](FixedTrial(params), 2, 2, {})


def test_a_trial_of_ours_keeps_the_network_and_the_guards_of_the_file_and_has_a_schedule() -> None:
    known = {
        "policy": StableMlpPolicy,
        "policy_kwargs": {"net_arch": [16], "norm": "batch"},
        "guards": {"probe_rows": 32},
        "n_steps": 32,
        "learning_rate": 1.0,
    }
    found = sampled("stable_ppo", known, PARAMS)
    assert found.keys() == set(SEARCHED)
    assert found["policy_kwargs"]["net_arch"] == [16]
    assert found["policy_kwargs"]["norm"] == "layer"
    assert found["guards"] == {"probe_rows": 32, "max_kl": 0.5}
    assert isinstance(found["learning_rate"], StepLR)
    assert found["learning_rate"].step_size == 2  # 50 updates of 2 x 64 steps, 20 decays


def test_a_trial_of_stock_ppo_keeps_what_it_does_not_say_itself() -> None:
    found = sampled(
        "ppo", {"policy": StableMlpPolicy, "policy_kwargs": {"norm": "layer", "net_arch": [16]}}, ZOO_PARAMS
    )
    assert found["policy_kwargs"]["norm"] == "layer"
    assert found["policy_kwargs"]["net_arch"] != [16]  # which a stock trial says
    assert found["n_epochs"] == 5


def test_the_sampler_is_given_back() -> None:
    before = HYPERPARAMS_SAMPLER["stable_ppo"]
    with merged_sampling("stable_ppo", {"policy": "MlpPolicy"}, 1, 100):
        assert HYPERPARAMS_SAMPLER["stable_ppo"] is not before
    assert HYPERPARAMS_SAMPLER["stable_ppo"] is before


def test_a_trial_of_rl_zoo3_alone_is_merged_too() -> None:
    entry = {"policy": "StableMlpPolicy", "policy_kwargs": {"norm": "layer"}, "n_envs": 2}
    found = with_trial("stable_ppo", entry, ZOO_PARAMS, 100)
    assert found["policy_kwargs"]["norm"] == "layer"
    assert found["n_envs"] == 2
    assert found["n_epochs"] == 5


@pytest.fixture
def config(tmp_path: Path) -> Path:
    entry = {
        "policy": "StableMlpPolicy",
        "policy_kwargs": {"net_arch": [24], "norm": "none"},
        "n_envs": 2,
        "n_steps": 32,
        "batch_size": 64,
        "n_timesteps": 128,
        "callback": ["helpers.callbacks.Notes", "sb3_stable_ppo.HealthCallback"],
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"CartPole-v1": entry}))
    return tmp_path / "config.yml"


@pytest.mark.slow
def test_optimize_trains_trials_of_ours_and_trial_0_can_be_trained_again(config: Path, tmp_path: Path) -> None:
    Notes.seen.clear()
    storage = ["--storage", str(tmp_path / "study.log"), "--study-name", "zoo"]
    call = ["train", "--env", "CartPole-v1", "--conf-file", str(config), "-f", str(tmp_path), "--no-report", *storage]
    once = ["-optimize", "--n-trials", "2", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    assert main([*call, *once, "-n", "128"]) == 0
    assert len(list((tmp_path / "stable_ppo").glob("report_*.csv"))) == 1
    assert [(name, widths) for name, widths, _ in Notes.seen] == [("StablePPO", [24])] * 2
    assert main([*call, "--trial-id", "0", "-n", "128", "--eval-freq", "-1"]) == 0
    study = optuna.load_study(
        study_name="zoo",
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))),
    )
    params = study.trials[0].params
    settings = read_run(tmp_path / "stable_ppo" / "CartPole-v1_1").settings
    assert settings["policy_kwargs"]["net_arch"] == [24]
    assert settings["policy_kwargs"]["norm"] == params["norm"]
    assert settings["gamma"] == 1 - params["one_minus_gamma"]
    assert settings["n_epochs"] == params["n_epochs"]
    rate = settings["learning_rate"]
    assert (rate["initial"] if isinstance(rate, dict) else rate) == params["learning_rate"]


def test_a_trial_that_is_not_there_is_one_sentence(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(tmp_path / "study.log"), "--study-name", "zoo", "--trial-id", "0"]
    call = ["train", "--env", "CartPole-v1", "--conf-file", str(config), "-f", str(tmp_path / "logs"), *storage]
    assert main(call) == 2
    assert "--trial-id 0 --study-name zoo: there is no file" in capsys.readouterr().err
    assert not (tmp_path / "study.log").exists()
    optuna.create_study(study_name="zoo", storage=open_storage(str(tmp_path / "study.log")))
    assert main(call) == 2
    assert "--trial-id 0 --study-name zoo: the study has fewer trials; the first is 0." in capsys.readouterr().err
