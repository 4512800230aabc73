"""What version 0.1.0 saved, when all modules lay in one folder, loads and goes on: models, a run folder, a study."""

import base64
import importlib
import importlib.util
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

import sb3_stable_ppo
from helpers.envs import make_cartpole
from helpers.packages import needs_numpy_2
from helpers.processes import ROOT, run_python
from sb3_stable_ppo import GuardConfig, StableMaskablePPO, StablePPO, StableRecurrentPPO, TorchRolloutBuffer
from sb3_stable_ppo._old_names import MODULES, RENAMED
from sb3_stable_ppo.schedules.learning_rate import CosineLR, LinearLR, StepLR, WarmupLR, counting_schedule

OLD = ROOT / "tests" / "fixtures" / "version_0_1_0"
NAMES: dict[str, list[str]] = json.loads((OLD / "names.json").read_text())


def _fixture_envs() -> Any:
    """The environments of the script that made the fixtures."""
    spec = importlib.util.spec_from_file_location("make_version_0_1_0", OLD / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def env_of(name: str) -> VecEnv:
    envs = _fixture_envs()
    makers = {
        "mlp": lambda: make_cartpole(1),
        "image": lambda: make_vec_env(envs.Pictures, 2, seed=0),
        "maskable": lambda: make_vec_env(envs.Masked, 2),
        "recurrent": lambda: make_cartpole(1),
        "stock": lambda: make_cartpole(1),
    }
    return makers[name]()


MODELS: dict[str, tuple[Any, int, type, float, GuardConfig | None]] = {
    "mlp": (
        StablePPO,
        48,
        StepLR,
        5e-4,
        GuardConfig(max_lost_unit_fraction=0.4, max_newly_inactive_fraction=0.8, max_kl=0.9),
    ),
    "image": (StablePPO, 160, LinearLR, 1e-5, GuardConfig(max_newly_inactive_fraction=0.7)),
    "maskable": (StableMaskablePPO, 64, CosineLR, 0.0, GuardConfig(max_lost_unit_fraction=0.6)),
    "recurrent": (StableRecurrentPPO, 32, WarmupLR, 6e-4, GuardConfig(max_lost_unit_fraction=0.6)),
    "stock": (PPO, 32, StepLR, 8.1e-4, None),
}
"""By file: algorithm, steps trained, schedule, the learning rate that the next update would have, guards."""


@needs_numpy_2
@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_with_its_schedule_and_guards_and_goes_on_training(name: str) -> None:
    algorithm, steps, schedule_class, rate, guards = MODELS[name]
    model = algorithm.load(OLD / f"{name}.zip", env=env_of(name))
    schedule = counting_schedule(model.learning_rate)
    assert model.num_timesteps == steps
    assert isinstance(schedule, schedule_class)
    assert schedule.value_at(schedule.count) == pytest.approx(rate)
    assert getattr(model, "guards", None) == guards
    if name == "image":
        assert model.rollout_buffer_class is TorchRolloutBuffer
    before = {key: tensor.clone() for key, tensor in model.policy.state_dict().items()}
    if name == "stock":
        model.learn(16, reset_num_timesteps=False, callback=sb3_stable_ppo.LRSchedulerCallback())
    else:
        model.learn(32, reset_num_timesteps=False)
    assert model.num_timesteps > steps
    assert model._n_updates > 0
    changed = [key for key, tensor in model.policy.state_dict().items() if not th.equal(tensor, before[key])]
    assert changed or rate == 0.0


@needs_numpy_2
def test_a_batchnorm_of_the_old_version_goes_on_in_torchs_way_and_is_saved_so(tmp_path: Path) -> None:
    """In 0.1.0 an update was normalised by each minibatch; ``norm_statistics: running`` is newer."""
    model = StablePPO.load(OLD / "image.zip", env=env_of("image"))
    for round_trip in range(2):
        norms = [module for module in model.policy.modules() if isinstance(module, nn.BatchNorm2d)]
        assert {type(norm) for norm in norms} == {nn.BatchNorm2d}, round_trip
        assert {norm.momentum for norm in norms} == {0.1}
        assert model.policy.block_config.norm_statistics == "batch"
        batches = int(norms[0].num_batches_tracked)
        model.learn(32, reset_num_timesteps=False)
        assert int(norms[0].num_batches_tracked) > batches, "minibatches move the running statistics"
        model.save(tmp_path / "again.zip")
        model = StablePPO.load(tmp_path / "again.zip", env=env_of("image"))


@needs_numpy_2
def test_a_model_saved_again_names_its_classes_by_the_package_alone(tmp_path: Path) -> None:
    """So the next move of a module breaks nothing: old names in, ``sb3_stable_ppo.GuardConfig`` out."""
    StablePPO.load(OLD / "image.zip").save(tmp_path / "again.zip")
    names = set()
    for value in json.loads(zipfile.ZipFile(tmp_path / "again.zip").read("data")).values():
        if isinstance(value, dict) and ":serialized:" in value:
            content = base64.b64decode(value[":serialized:"])
            names |= {part for part in (b"guards.config", b"policies.classes", b"fast.rollout") if part in content}
    assert names == set()
    assert StablePPO.load(tmp_path / "again.zip").guards == GuardConfig(max_newly_inactive_fraction=0.7)


@pytest.mark.slow
def test_an_old_model_loads_in_a_process_that_has_imported_nothing_else() -> None:
    code = (
        "import sys\n"
        "from stable_baselines3 import PPO\n"
        "import sb3_stable_ppo\n"
        "model = PPO.load(sys.argv[1])\n"
        "print(type(model.policy).__name__, model.learning_rate.count)"
    )
    assert run_python(code, str(OLD / "stock.zip")).split() == ["StableMlpPolicy", "2"]


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [name for name in NAMES if name != "sb3_stable_ppo"])
def test_every_old_module_is_importable_with_the_classes_that_a_pickle_can_name(module: str) -> None:
    found = importlib.import_module(module)
    exports = {name for name in NAMES["sb3_stable_ppo"] if name != "diagnose"}
    named = {name for name in NAMES[module] if name in exports or name in RENAMED or name == "InfoActionMasks"}
    named |= {name for name in NAMES[module] if module == "sb3_stable_ppo.policies"}  # of which users derive their own
    assert [name for name in named if not isinstance(getattr(found, name, None), type)] == []


def test_every_export_of_the_old_package_can_be_imported_still() -> None:
    assert [name for name in NAMES["sb3_stable_ppo"] if not hasattr(sb3_stable_ppo, name)] == []


def test_the_table_knows_every_old_module_and_names_modules_that_exist() -> None:
    kept = {"sb3_stable_ppo", "sb3_stable_ppo.algorithms", "sb3_stable_ppo.bench"}
    assert {f"sb3_stable_ppo.{name}" for name in MODULES} == NAMES.keys() - kept
    for new in {new for modules in MODULES.values() for new in modules}:
        importlib.import_module(f"sb3_stable_ppo.{new}")
    assert RENAMED.keys() <= {name for names in NAMES.values() for name in names}


def test_a_name_that_never_was_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'NoGuard'"):
        getattr(importlib.import_module("sb3_stable_ppo.guard_config"), "NoGuard")  # noqa: B009  # for its effect
    with pytest.raises(AttributeError, match="has no attribute 'NoPolicy'"):
        getattr(importlib.import_module("sb3_stable_ppo.policies"), "NoPolicy")  # noqa: B009
    with pytest.raises(ImportError):
        importlib.import_module("sb3_stable_ppo.no_module")


def test_dotted_names_of_configurations_resolve() -> None:
    from sb3_stable_ppo.zoo.hyperparams import find_class

    for name in (
        "sb3_stable_ppo.HealthCallback",
        "sb3_stable_ppo.TorchRolloutBuffer",
        "sb3_stable_ppo.ActivationSnapshotCallback",
        "sb3_stable_ppo.LRSchedulerCallback",
        "sb3_stable_ppo.StablePongPolicy",
        "sb3_stable_ppo.zoo_masks.InfoActionMasks",
        "sb3_stable_ppo.policies.StablePongPolicy",
    ):
        assert isinstance(find_class(name, "callback"), type)
    assert sb3_stable_ppo.envs.make_atari_env is importlib.import_module("sb3_stable_ppo.envs.atari").make_atari_env


def test_old_words_of_guards_are_understood_and_both_at_once_are_not() -> None:
    assert GuardConfig.of({"max_unit_loss": 0.3, "max_silenced": 0.6}) == GuardConfig(
        max_lost_unit_fraction=0.3, max_newly_inactive_fraction=0.6
    )
    with pytest.raises(ValueError, match="max_lost_unit_fraction is given twice"):
        GuardConfig.of({"max_lost_unit_fraction": 0.3, "max_unit_loss": 0.3})


def test_a_config_pickled_now_unpickles_as_it_was() -> None:
    guards = GuardConfig(max_kl=0.3, max_newly_inactive_fraction=0.5)
    assert pickle.loads(pickle.dumps(guards)) == guards


# -- a run folder, a configuration and a study -------------------------------------------------------------------------


def test_an_old_run_folder_is_read() -> None:
    from sb3_stable_ppo.runs.data import read_run

    run = read_run(OLD / "run")
    assert (run.status, run.steps, run.facts["algo"]) == ("finished", 256, "stable_ppo")
    assert run.settings["guards"] == {"max_unit_loss": 0.4, "max_silenced": 0.8}
    pictures = read_run(OLD / "image_run")
    assert [line["step"] for line in pictures.health] == [32, 64, 96, 128, 160]


@pytest.mark.slow
def test_an_old_configuration_trains_and_resumes_the_model_that_it_made(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sb3_stable_ppo",
        "train",
        "--env",
        "CartPole-v1",
        "-n",
        "128",
        "-f",
        str(tmp_path),
    ]
    command += ["--conf-file", str(OLD / "config.yml"), "--eval-freq", "-1", "--no-report", "--no-progress"]
    resumed = [*command, "-i", str(OLD / "run" / "CartPole-v1.zip")]
    for call in (command, resumed):
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    steps = [json.loads(path.read_text())["num_timesteps"] for path in sorted(tmp_path.glob("*/*/run.json"))]
    assert steps == [128, 256 + 128]


@pytest.mark.slow
def test_an_old_study_goes_on(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(OLD / "study" / "journal.log", tmp_path / "old" / "journal.log")
    command = [sys.executable, "-m", "sb3_stable_ppo", "tune", "--env", "CartPole-v1", "-n", "256", "-f", str(tmp_path)]
    command += ["--conf-file", str(OLD / "config.yml"), "--study", "old", "--n-evaluations", "1", "--trials", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 trials, 1 of them to do" in done.stdout
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "old" / "journal.log"))
    )
    trials = optuna.load_study(study_name="old", storage=storage).trials
    assert trials[2].distributions["schedule"] == trials[0].distributions["schedule"]
    assert "n_steps_pow" not in trials[2].params, "it goes on in the space that it was begun in"
    states = [trial.state.name for trial in trials]
    assert len(states) == 3
    assert states[:2] == ["COMPLETE", "COMPLETE"]


@needs_numpy_2
def test_an_old_model_computes_what_it_computed() -> None:
    """The values that 0.1.0 gave these observations."""
    observations = np.linspace(-0.2, 0.2, 40, dtype=np.float32).reshape(10, 4)
    policy = StablePPO.load(OLD / "mlp.zip").policy
    policy.set_training_mode(False)
    values = policy.predict_values(policy.obs_to_tensor(observations)[0]).flatten().tolist()
    assert values == pytest.approx(VALUES, abs=1e-6)


VALUES = [
    0.6872914, 0.6983026, 0.7165164, 0.7512488, 0.8478407, 0.9147832, 0.1709720, -0.0075695, -0.0940097, -0.1416416,
]  # fmt: skip
