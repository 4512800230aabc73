"""``sb3-stable-ppo doctor``: the right verdict and exit status, and mistakes in one sentence."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, unwrap_vec_normalize

from helpers import masked_env  # noqa: F401  # registers its envs
from helpers.doctor import CONTINUOUS, doctor
from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import LinearLR, StablePongPolicy, StablePPO
from sb3_stable_ppo.doctor.saved_models import known_algorithms
from sb3_stable_ppo.doctor.weights import diagnose_weights
from sb3_stable_ppo.envs.action_masks import InfoActionMasks


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC", "MaskablePPO", "RecurrentPPO", "StablePPO"])
def test_a_model_that_lives_is_status_0(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = "Pendulum-v1" if name in CONTINUOUS else "CartPole-v1"
    known_algorithms()[name]("MlpLstmPolicy" if "Recurrent" in name else "MlpPolicy", env, seed=0).save(tmp_path / "m")
    assert doctor(tmp_path / "m.zip", "--env", env, "--rows", 64) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{name} after 0 steps, 64 observations of {env}" in shown
    assert "early training" in shown


def test_a_schedule_that_counts_updates_is_no_hindrance(tmp_path: Path) -> None:
    model = StablePPO("MlpPolicy", make_cartpole(), learning_rate=LinearLR(1e-3), n_steps=32, batch_size=32, seed=0)
    model.learn(128).save(tmp_path / "model.zip")
    assert doctor(tmp_path / "model.zip", "--env", "CartPole-v1", "--rows", 64) == 0


def test_pong_is_played_as_it_was_trained_and_a_dead_layer_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = PPO("CnnPolicy", make_pong(1), seed=0)
    conv = model.policy.features_extractor.cnn[2]
    conv.weight.data.abs_().neg_()
    conv.bias.data.fill_(-1.0)
    model.save(tmp_path / "dead.zip")
    args = (tmp_path / "dead.zip", "--rows", 32)
    assert doctor(*args, "--env", "PongNoFrameskip-v4") == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "collapsed activations critical dead_units: 100% of the units of conv2" in shown
    assert doctor(*args) == 1, "its weights tell by their signs"
    shown = " ".join(capsys.readouterr().out.split())
    assert "100% of the units of features_extractor.cnn.2 are dead" in shown


@pytest.mark.parametrize("flags", [[], ["--weights-only"], ["--env", "CartPole-v1"]])
def test_nan_is_status_1_by_whatever_way(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = PPO("MlpPolicy", make_cartpole(), seed=0)
    model.policy.action_net.bias.data[1] = math.nan
    model.save(tmp_path / "nan.zip")
    assert doctor(tmp_path / "nan.zip", *flags, "--json") == 1
    diagnosis = json.loads(capsys.readouterr().out)
    assert (diagnosis["verdict"], diagnosis["healthy"]) == ("numerically broken", False)
    assert "action_net.bias: 1 of 2 values are not finite" in diagnosis["findings"][0]["evidence"]


def test_json_has_the_findings_and_the_figures(cartpole_zip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(cartpole_zip, "--env", "CartPole-v1", "--rows", 64, "--json") == 0
    diagnosis = json.loads(capsys.readouterr().out)
    assert diagnosis["figures"]["layers"].keys() == {"pi.fc1", "pi.fc2", "vf.fc1", "vf.fc2"}
    assert diagnosis["figures"]["features"]["srank"] > 2
    assert "PPO after 0 steps" in diagnosis["subject"]


def test_the_runs_own_figures_tell_what_has_become_worse(
    cartpole_zip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0).learn(64).save(cartpole_zip)
    lines: list[Any] = [{"step": n, "features": {"layer": "pi.fc2", "norm": 2.0 if n < 5 else 40.0}} for n in range(9)]
    lines += [[1], {"no": "step"}, {"step": 9, "features": {"norm": None}, "layers": {"x": {"fault_fraction": None}}}]
    lines[-1]["layers"]["x"]["dormant_fraction"] = None
    (cartpole_zip.parent / "health.jsonl").write_bytes(b"\xff\xfe\n" + "\n".join(map(json.dumps, lines)).encode())
    assert doctor(cartpole_zip, "--env", "CartPole-v1", "--rows", 64) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "dying critical growing_norm: The features of pi.fc2 are 20.0 times as large as at first" in shown


def rows_judged_of(env: VecEnv, normalizer: VecNormalize, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The observations by which the doctor judges a model of that env, saved with its statistics beside it."""
    PPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0).save(folder / "model.zip")
    normalizer.save(str(folder / "vecnormalize.pkl"))
    seen: list[Any] = []
    monkeypatch.setattr("sb3_stable_ppo.doctor.examination.diagnose", lambda _, rows, *__: seen.append(rows) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        doctor(folder / "model.zip", "--env", "CartPole-v1", "--rows", 16)
    return seen[0]


def test_observations_are_normalised_as_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = VecNormalize(make_cartpole(), norm_obs=True)
    env.obs_rms.mean += 100.0
    rows = rows_judged_of(env, env, tmp_path, monkeypatch)
    assert float(np.max(rows)) == -10.0, "clipped"


@pytest.mark.parametrize(
    "wrap", [lambda env: VecFrameStack(VecNormalize(env), 4), lambda env: VecNormalize(VecFrameStack(env, 4))]
)
def test_observations_are_normalised_before_they_are_stacked_or_behind_as_in_training(
    wrap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = wrap(make_cartpole())
    normalizer = unwrap_vec_normalize(env)
    assert normalizer is not None
    normalizer.obs_rms.mean += 100.0
    rows = rows_judged_of(env, normalizer, tmp_path, monkeypatch)
    assert rows.shape == (16, 16)
    assert set(rows[rows != 0]) == {-10.0}, "clipped"


@pytest.mark.parametrize("env_id", ["Strict-v0", "StrictWithMethod-v0"])
def test_a_masked_policy_plays_and_is_judged_with_the_masks_of_its_env(
    env_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = gym.make(env_id)
    masked = env if env_id == "StrictWithMethod-v0" else InfoActionMasks(env)
    model = MaskablePPO("MlpPolicy", masked, n_steps=32, batch_size=32, seed=0)
    model.save(tmp_path / "model.zip")
    assert doctor(tmp_path / "model.zip", "--env", env_id, "--rows", 64, "--json") == 0
    policy = json.loads(capsys.readouterr().out)["figures"]["policy"]
    assert policy["entropy_share"] == pytest.approx(math.log(2) / math.log(6), abs=0.01), "two of six are allowed"


def test_odd_tensors_are_looked_at_without_a_crash() -> None:
    odd = {
        "features_extractor.cnn.0.weight": th.zeros(4, 1, 2, 2),
        "features_extractor.cnn.0.bias": th.zeros(3),
        "features_extractor.cnn.2.weight": th.zeros(0, 0, 0, 0),
        "features_extractor.cnn.2.bias": th.zeros(0),
        "norm.running_var": th.ones(2),
        "norm.num_batches_tracked": th.tensor([1, 2]),
        "norm.ra_var": th.full((2,), 1e6),
    }
    assert diagnose_weights(odd, {}).verdict == "not ruled out"


def test_stacked_vectors_and_a_critic_without_an_actors_layers_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PPO("MlpPolicy", VecFrameStack(make_cartpole(), 4), seed=0).save(tmp_path / "stacked.zip")
    assert doctor(tmp_path / "stacked.zip", "--env", "CartPole-v1", "--rows", 64) == 0
    PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": {"pi": [], "vf": [16]}}).save(tmp_path / "critic.zip")
    assert doctor(tmp_path / "critic.zip", "--env", "CartPole-v1", "--rows", 64) == 0
    assert "vf.fc1" in capsys.readouterr().out


def test_weights_that_exploded_and_norms_without_statistics_are_seen_in_the_weights() -> None:
    assert diagnose_weights({"fc.weight": th.tensor([[1.0, -5e3]])}, {}).findings[0].name == "huge_weights"
    returns = {"value_net.return_mean": th.tensor(-2e3), "value_net.return_var": th.tensor(9e4)}
    assert diagnose_weights(returns, {}).verdict == "not ruled out"
    model = StablePPO(StablePongPolicy, make_pong(), seed=0)
    state = dict(model.policy.state_dict())
    diagnosis = diagnose_weights(state, {})
    assert [finding.name for finding in diagnosis.findings] == ["norm_without_statistics", "weights_only"]
    assert diagnosis.verdict == "not ruled out"
    name = "features_extractor.cnn.norm2"
    constant = {**state, f"{name}.running_var": th.zeros(64), f"{name}.num_batches_tracked": th.tensor(9)}
    constant = {key: value for key, value in constant.items() if "norm" not in key or name in key}
    assert diagnose_weights(constant, {}).verdict == "collapsed activations"


def test_a_mistake_is_one_sentence_and_status_2(
    cartpole_zip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = cartpole_zip.read_bytes()
    (tmp_path / "short.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no model")
    class_of_nobody = tmp_path / "nobody.zip"
    with zipfile.ZipFile(cartpole_zip) as old, zipfile.ZipFile(class_of_nobody, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename == "data":
                data = json.loads(content)
                content = json.dumps({**data, "policy_class": "of nobody"}).encode()
            new.writestr(info.filename, content)
    env = ("--env", "CartPole-v1")
    for args, complaint in [
        ((tmp_path / "missing.zip",), "missing.zip: there is no such file"),
        ((tmp_path / "missing.zip", *env), "missing.zip: there is no such file"),
        (
            (tmp_path,),
            "has 5 models. Name one of model.zip, nobody.zip, other.zip, short.zip, text.zip.",
        ),
        ((tmp_path / "short.zip",), "no whole zip of an SB3 model"),
        ((tmp_path / "short.zip", *env), "short.zip"),
        ((tmp_path / "text.zip", *env), "text.zip"),
        ((tmp_path / "other.zip",), "no whole zip of an SB3 model"),
        ((tmp_path / "other.zip", *env), "other.zip"),
        ((class_of_nobody, *env), "its algorithm cannot be told; name it with --algo"),
        ((cartpole_zip, "--env", "Pendulum-v1"), "Observation spaces do not match"),
        ((cartpole_zip, "--env", "Pendulum-v1"), "Was the model trained in this env? --weights-only examines"),
        *(
            ((cartpole_zip, "--env", name), f"Unknown env '{name}' (did you mean PongNoFrameskip-v4?)")
            for name in ("Pong", "pong", "Pong-v5", "ALE/Pong-v6", "PongDeterministic-v4", "Pongg-v4")
        ),
        ((cartpole_zip, *env, "--algo", "dqn"), "model.zip is a model of PPO, not of DQN: leave --algo out"),
        ((cartpole_zip, "--env", "CartPole-v11"), "Unknown env 'CartPole-v11' (did you mean CartPole-v1?)"),
        ((cartpole_zip, *env, "--algo", "PPPO"), "Unknown algorithm 'PPPO' (did you mean PPO?): choose one of A2C"),
        ((cartpole_zip, *env, "--weights-only"), "--weights-only looks at weights alone"),
        ((cartpole_zip, *env, "--gym-packages", "no_such_module"), "gym_packages (--gym-packages) no_such_module"),
    ]:
        assert doctor(*args) == 2, args
        shown = capsys.readouterr()
        assert complaint in " ".join(shown.err.split()), args
        assert shown.err.count("error:") == 1
        assert not shown.out
