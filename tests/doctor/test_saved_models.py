"""``sb3-stable-ppo doctor``: every algorithm's zips, the right exit status, and zips from strangers."""

import io
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from helpers.envs import make_cartpole, make_pong
from sb3_stable_ppo import LinearLR, StablePongPolicy, StablePPO
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.doctor.saved_models import known_algorithms, load_model
from sb3_stable_ppo.doctor.untrusted_zip import model_file, read_weights
from sb3_stable_ppo.doctor.weights import diagnose_weights
from sb3_stable_ppo.runs.folder import RunWriter

CONTINUOUS = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")


@pytest.fixture
def cartpole_zip(tmp_path: Path) -> Path:
    PPO("MlpPolicy", make_cartpole(), n_steps=32, batch_size=32, seed=0).save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


def doctor(*args: Any) -> int:
    return main(["doctor", *map(str, args)])


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", known_algorithms())
def test_the_algorithm_of_a_zip_is_found_out(name: str, tmp_path: Path) -> None:
    policy = "MlpLstmPolicy" if "Recurrent" in name else "MlpPolicy"
    model = known_algorithms()[name](policy, "Pendulum-v1" if name in CONTINUOUS else "CartPole-v1", seed=0)
    model.save(tmp_path / "model.zip")
    loaded = load_model(tmp_path / "model.zip")
    assert type(loaded).__name__ == ("TD3" if name == "DDPG" else name)
    assert load_model(tmp_path / "model.zip", name).policy.state_dict().keys() == model.policy.state_dict().keys()


def test_a_model_of_stock_ppo_with_our_policy_is_ppos(tmp_path: Path) -> None:
    PPO(StablePongPolicy, make_pong(1)).save(tmp_path / "model.zip")
    assert type(load_model(tmp_path / "model.zip")) is PPO


ZOO_NAMES = {"a2c": "A2C", "ddpg": "DDPG", "td3": "TD3", "ppo": "PPO", "ppo_lstm": "RecurrentPPO", "trpo": "TRPO"}
ZOO_NAMES |= {
    "stable_ppo": "StablePPO",
    "stable_ppo_mask": "StableMaskablePPO",
    "stable_ppo_lstm": "StableRecurrentPPO",
}


def test_the_suffix_may_be_left_out_as_in_sb3(cartpole_zip: Path) -> None:
    bare = cartpole_zip.with_suffix("")
    assert model_file(bare) == model_file(cartpole_zip) == cartpole_zip
    assert read_weights(bare)[0].keys() == read_weights(cartpole_zip)[0].keys()


def test_our_algorithms_are_known_before_anything_has_imported_them() -> None:
    code = "from sb3_stable_ppo.doctor.saved_models import known_algorithms; print(*known_algorithms())"
    known = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"PPO", "MaskablePPO", "StablePPO", "StableMaskablePPO", "StableRecurrentPPO"} < set(known)


@pytest.mark.parametrize("algo", ZOO_NAMES)
def test_the_run_that_a_zip_lies_in_names_its_algorithm(algo: str, tmp_path: Path) -> None:
    name = ZOO_NAMES[algo]
    policy = "MlpLstmPolicy" if "Recurrent" in name else "MlpPolicy"
    env = "Pendulum-v1" if name in CONTINUOUS else "CartPole-v1"
    known_algorithms()[name](policy, env, seed=0).save(tmp_path / "model.zip")
    RunWriter(tmp_path).describe(algo=algo)
    assert type(load_model(tmp_path / "model.zip")) is known_algorithms()[name]


def test_a_run_of_another_algorithm_or_a_broken_run_json_does_not_mislead(cartpole_zip: Path) -> None:
    for content in ('{"algo": "dqn"}', '{"algo": "ppo_lstm"}', '{"algo": ["ppo"]}', '{"algo": "mine"}', "{ broken"):
        (cartpole_zip.parent / "run.json").write_text(content)
        assert type(load_model(cartpole_zip)) is PPO, content


# -- verdicts and exit status ------------------------------------------------------------------------------------------


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


def test_observations_are_normalised_as_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = VecNormalize(make_cartpole(), norm_obs=True)
    env.obs_rms.mean += 100.0
    PPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0).save(tmp_path / "model.zip")
    env.save(str(tmp_path / "vecnormalize.pkl"))
    seen: list[Any] = []
    monkeypatch.setattr("sb3_stable_ppo.doctor.examination.diagnose", lambda _, rows, __: seen.append(rows) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        doctor(tmp_path / "model.zip", "--env", "CartPole-v1", "--rows", 16)
    assert float(np.max(seen[0])) == -10.0, "clipped"


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
    model = StablePPO(StablePongPolicy, make_pong(), seed=0)
    state = dict(model.policy.state_dict())
    diagnosis = diagnose_weights(state, {})
    assert [finding.name for finding in diagnosis.findings] == ["norm_without_statistics", "weights_only"]
    assert diagnosis.verdict == "not ruled out"
    name = "features_extractor.cnn.norm2"
    constant = {**state, f"{name}.running_var": th.zeros(64), f"{name}.num_batches_tracked": th.tensor(9)}
    constant = {key: value for key, value in constant.items() if "norm" not in key or name in key}
    assert diagnose_weights(constant, {}).verdict == "collapsed activations"


# -- mistakes ----------------------------------------------------------------------------------------------------------


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


# -- zips of strangers -------------------------------------------------------------------------------------------------


class Hostile:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def rewritten(source: Path, target: Path, **files: bytes) -> Path:
    """A copy of a zip with other contents of some of its files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, files.get(info.filename.replace(".pth", ""), old.read(info)))
    return target


def test_nothing_in_a_hostile_zip_is_executed(cartpole_zip: Path, tmp_path: Path) -> None:
    mark, buffer = tmp_path / "executed", io.BytesIO()
    th.save({"weight": Hostile(mark)}, buffer)
    serialized = {":type:": "x", ":serialized:": __import__("base64").b64encode(pickle.dumps(Hostile(mark))).decode()}
    data = json.dumps({"policy_class": serialized, "num_timesteps": 5}).encode()
    for name, zip_file in {
        "weights": rewritten(cartpole_zip, tmp_path / "a.zip", policy=buffer.getvalue()),
        "pickle": rewritten(cartpole_zip, tmp_path / "b.zip", policy=pickle.dumps(Hostile(mark))),
    }.items():
        with pytest.raises(UsageError, match="its weights are not tensors alone"):
            read_weights(zip_file)
        assert doctor(zip_file, "--weights-only") == 2, name
        assert doctor(zip_file) == 2, "without an env nothing else is looked at"
    harmless = rewritten(cartpole_zip, tmp_path / "c.zip", data=data)
    assert doctor(harmless, "--weights-only") == 0
    assert read_weights(harmless)[1] == {"num_timesteps": 5}
    assert not mark.exists()
    load = f"from stable_baselines3 import PPO; PPO.load({str(harmless)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", load], check=False, capture_output=True)
    assert mark.exists(), "the zip would have done it"


def test_a_zip_that_grows_a_thousandfold_is_not_unpacked(cartpole_zip: Path, tmp_path: Path) -> None:
    bomb = rewritten(cartpole_zip, tmp_path / "bomb.zip", data=b"[" * 50_000_000)
    with pytest.raises(UsageError, match=r"data would take 50,000,000 bytes from [\d,]+: not unpacked"):
        read_weights(bomb)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 50_000_000)
    with pytest.raises(UsageError, match="not unpacked"):
        read_weights(rewritten(cartpole_zip, tmp_path / "nested.zip", policy=inner.getvalue()))
    deep = rewritten(cartpole_zip, tmp_path / "deep.zip", data=b"[" * 5_000 + os.urandom(200).hex().encode())
    with pytest.raises(UsageError, match="its data is no JSON"):
        read_weights(deep)
    with pytest.raises(UsageError, match="its data is no JSON object"):
        read_weights(rewritten(cartpole_zip, tmp_path / "list.zip", data=b"[1, 2]"))


@pytest.mark.parametrize(
    "weights",
    [
        [1, 2],
        {},
        {"weight": 3},
        {"weight": th.zeros(1).expand(10**13)},
        {"weight": th.zeros(3, 3).to_sparse()},
        {"weight": th.zeros(3, device="meta")},
        {"\x1b[2J": th.zeros(3)},
    ],
)
def test_weights_that_are_no_tensors_by_name_are_refused(weights: Any, cartpole_zip: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    th.save(weights, buffer)
    with pytest.raises(UsageError, match="its weights are not plain tensors by name"):
        read_weights(rewritten(cartpole_zip, tmp_path / "a.zip", policy=buffer.getvalue()))


def test_a_reader_that_has_had_enough_is_no_error(cartpole_zip: Path) -> None:
    command = f"{sys.executable} -m sb3_stable_ppo doctor {cartpole_zip} --json | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
