"""A user's mistake is one sentence with a status that is not zero, and leaves nothing behind."""

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import run_folder, train
from helpers.processes import run_python

MISTAKES: list[tuple[list[str], dict[str, Any], str]] = [
    (["--env", "PongNoFrameskip-v5"], {}, "Unknown env 'PongNoFrameskip-v5' (did you mean PongNoFrameskip-v4?)"),
    (["--gym-packages", "no_such_package"], {}, "gym_packages (--gym-packages) no_such_package: No module named"),
    (["-i", "nowhere.zip"], {}, "--trained-agent (-i) nowhere.zip: no such .zip file"),
    (["-conf", "nowhere.yml"], {}, "No such file or directory: 'nowhere.yml'"),
    (
        ["-conf", "/"],
        {},
        "conf_file (--conf-file) /: neither a .yml or .yaml file nor a Python file or module with a dictionary",
    ),
    (["-conf", "json"], {}, "conf_file (--conf-file) json: neither a .yml or .yaml file nor a Python file or module"),
    (["-conf", "nowhere.py"], {}, "conf_file (--conf-file) nowhere.py: there is no such file"),
    (
        ["--eval-freq", "32"],
        {"env_wrapper": [{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 50}}]},
        "env_wrapper: TimeLimit lies outside SB3's Monitor",
    ),
    (["--log-interval", "0"], {}, "--log-interval 0: give a number of at least 1"),
    (["--n-eval-envs", "0"], {}, "--n-eval-envs 0: give a number of at least 1"),
    ([], {"frame_stack": 0}, "stable_ppo on CartPole-v1 cannot be set up: AssertionError"),
    (["--algo", "ppo"], {"policy": "MlpPolicy"}, "ppo does not count the updates of learning_rate: {"),
    (["--env", "Acrobot-v1"], {}, "config.yml has no entry for Acrobot-v1"),
    ([], {"n_stepz": 3}, "unknown key 'n_stepz' (did you mean n_steps?)"),
    ([], {"policy": "StablePongPolciy"}, "unknown policy 'StablePongPolciy' (did you mean StablePongPolicy?)"),
    ([], {"policy": "nowhere.Policy"}, "policy 'nowhere.Policy' cannot be imported: No module named 'nowhere'"),
    ([], {"policy_kwargs": {"nrom": "batch"}}, "StableMlpPolicy has no policy_kwargs key 'nrom' (did you mean norm?)"),
    ([], {"policy_kwargs": {"norm": "bacth"}}, "Unknown norm 'bacth': choose one of batch, layer, none"),
    ([], {"policy_kwargs": {"activation": "relo"}}, "Unknown activation 'relo': choose one of leaky_relu, relu"),
    ([], {"policy": "StableCnnPolicy"}, "A Cnn policy needs images"),
    ([], {"guards": {"max_ratio": 3}}, "Unknown guard 'max_ratio' (did you mean"),
    ([], {"learning_rate": "step_1e-4"}, "learning_rate: 'step_1e-4' is neither a number nor lin_ and a number"),
    ([], {"learning_rate": {"initial": 1}}, "learning_rate takes {schedule: step, …}"),
    ([], {"learning_rate": {"schedule": "stair"}}, "Unknown schedule 'stair': choose one of step, linear"),
    ([], {"callback": "sb3_stable_ppo.NoCallback"}, "callback 'sb3_stable_ppo.NoCallback' cannot be imported"),
    ([], {"callback": [{"sb3_stable_ppo.HealthCallback": {"evry": 1}}]}, "HealthCallback has no argument 'evry'"),
    ([], {"callback": "sb3_stable_ppo.HealthCallback", "batch_size": 1}, "`batch_size` must be greater than 1"),
    ([], {"callback": "HealthCallback"}, "callback 'HealthCallback' is not a dotted path"),
    ([], {"callback": [{"sb3_stable_ppo.HealthCallback": None}]}, "is followed by a colon but by no arguments"),
    ([], {"callback": "sb3_stable_ppo.ActivationSnapshotCallback"}, "draws convolutional layers"),
    ([], {"policy_kwargs": {"negative_slope": "big"}}, "negative_slope must be a number from 0 to 1, not 'big'"),
    ([], {"policy_kwargs": {"norm": False}}, "Unknown norm False: choose one of batch, layer, none"),
    ([], {"guards": {"fallback_ratio": 3}}, "fallback_ratio must be two bounds around 1, such as [0.05, 20], not 3"),
    (["-params", "foo"], {}, "--hyperparams (-params) foo: SyntaxError: "),
    (["-params", "gamma:0.9", "policy:Foo"], {}, "(-params) policy:Foo: NameError: name 'Foo' is not defined (write"),
    (["--env-kwargs", "a=1"], {}, "--env-kwargs a=1: SyntaxError: "),
    (["-n", "0"], {}, "--n-timesteps (-n) 0: not a whole number of at least 1. Without the flag"),
    (["-n", "-5"], {}, "--n-timesteps (-n) -5: not a whole number of at least 1"),
    (["-n", "1e4"], {}, "--n-timesteps (-n) 1e4: not a whole number of at least 1"),
    (["-i", "/"], {}, "(-i) /: no such .zip file; it is a folder: name the model in it, such as /CartPole"),
    (["--seed", "99999999999"], {}, "train: ValueError: Seed must be"),
]


@pytest.mark.parametrize(("flags", "changes", "sentence"), MISTAKES, ids=[m[2][:40] for m in MISTAKES])
def test_a_mistake_is_one_sentence_with_status_2_and_leaves_nothing(
    flags: list[str], changes: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *flags, **changes) == 2
    captured = capsys.readouterr()
    complaint = captured.err.splitlines()[-1]
    assert complaint.startswith("sb3-stable-ppo: error: ")
    assert sentence in complaint
    assert "Traceback" not in captured.err + captured.out
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]


def test_an_unknown_algorithm_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path, "--algo", "stable_pop")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()  # without rl_zoo3's usage, which fills a screen
    assert line.startswith("sb3-stable-ppo train: error: argument --algo: invalid choice: 'stable_pop'")
    assert line.endswith(". `sb3-stable-ppo train --help` shows all flags.")
    assert not (tmp_path / "logs").exists()


def test_a_run_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert train(tmp_path, "-f", str(tmp_path / "file" / "logs")) == 2
    assert "Not a directory" in capsys.readouterr().err.splitlines()[-1]


def test_a_corrupt_zip_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04 not really")
    assert train(tmp_path, "-i", str(tmp_path / "model.zip")) == 2
    assert "zip" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "logs").exists()


def test_yaml_that_cannot_be_read_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.yml").write_text("CartPole-v1: [")
    assert train(tmp_path, "-conf", str(tmp_path / "broken.yml")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(
        f"sb3-stable-ppo: error: conf_file (--conf-file) {tmp_path / 'broken.yml'}: while parsing"
    )


@pytest.mark.parametrize("content", ["", "- CartPole-v1", "CartPole-v1:"])
def test_a_configuration_that_is_no_mapping_is_one_sentence(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.yml").write_text(content)
    assert train(tmp_path, "-conf", str(tmp_path / "odd.yml")) == 2
    assert re.search(r"odd.yml(, CartPole-v1)?: not a mapping of (names|envs) to", capsys.readouterr().err)
    assert not (tmp_path / "logs").exists()


def test_an_earlier_run_beside_a_failed_one_is_kept(tmp_path: Path) -> None:
    assert train(tmp_path, "--eval-freq", "-1") == 0
    before = sorted(run_folder(tmp_path).rglob("*"))
    assert train(tmp_path, n_stepz=3) == 2
    assert sorted(run_folder(tmp_path).rglob("*")) == before
    assert [path.name for path in (tmp_path / "logs" / "stable_ppo").iterdir()] == ["CartPole-v1_1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "flags", "sentence"),
    [
        ("rl_zoo3", [], "train needs rl_zoo3: pip install 'sb3-stable-ppo[zoo]'"),
        ("mujoco", ["--env", "Hopper-v5"], "Hopper-v5 needs MuJoCo: pip install 'sb3-stable-ppo[mujoco]'"),
        ("ale_py", ["--env", "PongNoFrameskip-v4"], "needs the Atari emulator: pip install 'sb3-stable-ppo[atari]'"),
    ],
)
def test_a_missing_extra_is_one_sentence_with_the_command_to_install_it(
    missing: str, flags: list[str], sentence: str
) -> None:
    code = (
        "import sys, importlib.util\n"
        f"missing = {missing!r}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == missing: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "find_spec = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == missing else find_spec(name, *a)\n"
        "from sb3_stable_ppo.cli import main\n"
        f"sys.stderr = sys.stdout\nprint('status', main(['train', *{flags!r}]))"
    )
    printed = run_python(code)
    assert sentence in printed
    assert printed.splitlines()[-1] == "status 2"
