"""Which model a run folder has, and in which run folder a model lies."""

import json
import re
from pathlib import Path

import pytest

from helpers.run_folders import write_tensorboard
from sb3_stable_ppo import UsageError
from sb3_stable_ppo.runs.models import model_of_run, run_of_model


def make_run(folder: Path, *names: str, env: str | None = "CartPole-v1") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if env:
        (folder / "run.json").write_text(json.dumps({"env": env, "algo": "stable_ppo"}))
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_last_model_of_a_run_goes_before_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path, "best_model.zip", "CartPole-v1.zip", "rl_model_64_steps.zip", "last_healthy.zip")
    assert model_of_run(run) == (run / "CartPole-v1.zip", "CartPole-v1")


def test_the_name_of_an_env_with_a_slash_is_as_rl_zoo3_writes_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ALE-Pong-v5.zip", "best_model.zip", env="ALE/Pong-v5")
    assert model_of_run(run) == (run / "ALE-Pong-v5.zip", "ALE/Pong-v5")


def test_a_run_of_stock_rl_zoo3_tells_its_env_in_args_yml(tmp_path: Path) -> None:
    run = make_run(tmp_path, "CartPole-v1.zip", "best_model.zip", "CartPole-v1/args.yml", env=None)
    pairs = "!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n  - - env\n    - CartPole-v1\n"
    (run / "CartPole-v1" / "args.yml").write_text(pairs)
    assert model_of_run(run) == (run / "CartPole-v1.zip", "CartPole-v1")


@pytest.mark.parametrize("env", ["CartPole-v1", None])
def test_a_folder_with_one_zip_has_that_model(env: str | None, tmp_path: Path) -> None:
    assert model_of_run(make_run(tmp_path, "my_model.zip", env=env)) == (tmp_path / "my_model.zip", env)


@pytest.mark.parametrize(
    ("names", "env", "sentence"),
    [
        (
            ["best_model.zip", "rl_model_64_steps.zip"],
            "CartPole-v1",
            "has no CartPole-v1.zip, the last model of its run. Name one of best_model.zip, rl_model_64_steps.zip.",
        ),
        (["a.zip", "b.zip"], None, "has 2 models. Name one of a.zip, b.zip."),
        (
            [f"{n}.zip" for n in range(7)],
            None,
            "has 7 models. Name one of 0.zip, 1.zip, 2.zip, 3.zip, 4.zip and 2 more.",
        ),
        (["x/model.zip"], None, "has no model itself. Name one of x/model.zip."),
        (
            ["health.jsonl"],
            "CartPole-v1",
            "has no model, but health.jsonl, run.json. No model of its run was saved (yet).",
        ),
        ([], None, "has no model, but nothing. It is no run folder."),
    ],
)
def test_a_folder_without_its_model_says_what_it_has(
    names: list[str], env: str | None, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(sentence) + "$"):
        model_of_run(make_run(tmp_path, *names, env=env))


@pytest.mark.parametrize(
    "name", ["CartPole-v1.zip", "best_model.zip", "last_healthy.zip", "checkpoints/rl_model_1_steps.zip"]
)
def test_a_model_lies_in_its_run(name: str, tmp_path: Path) -> None:
    assert run_of_model(make_run(tmp_path, name) / name) == tmp_path


def test_a_model_outside_of_runs_is_for_the_doctor(tmp_path: Path) -> None:
    make_run(tmp_path, "model.zip", env=None)
    with pytest.raises(UsageError, match=r"lies in no run folder.*`sb3-stable-ppo doctor .*model\.zip` examines"):
        run_of_model(tmp_path / "model.zip")


@pytest.mark.parametrize("below", ["logs/ppo/Pong_1", "PPO_1"])
def test_a_run_below_a_models_folder_is_not_the_models(below: str, tmp_path: Path) -> None:
    write_tensorboard(tmp_path / below)
    make_run(tmp_path, "model.zip", env=None)
    with pytest.raises(UsageError, match="is a model that lies in no run folder"):
        run_of_model(tmp_path / "model.zip")


def test_a_model_beside_its_runs_tensorboard_log_lies_in_that_run(tmp_path: Path) -> None:
    write_tensorboard(tmp_path)
    assert run_of_model(make_run(tmp_path, "model.zip", env=None) / "model.zip") == tmp_path
