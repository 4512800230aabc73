"""When RunCheckpoint writes, what it refuses, and what it leaves on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from sb3_contrib import ARS
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CallbackList, EveryNTimesteps, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import SubprocVecEnv

from helpers.resumed import Killed, Killer, Setup, rows, train
from helpers.weights import assert_same_weights
from sb3_stable_ppo.checkpoints import RunCheckpoint, callback as callback_module, resume

pytestmark = pytest.mark.slow(seconds=1)


def ppo(env: Any = "CartPole-v1", **options: Any) -> PPO:
    policy_kwargs = {"net_arch": [8]}
    return PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, policy_kwargs=policy_kwargs, seed=1, **options)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def manifest(folder: Path, step: int) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "checkpoints" / f"{step:012d}" / "manifest.json").read_text())
    return facts


def test_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    without = ppo().learn(192)
    assert_same_weights(without, ppo().learn(192, callback=RunCheckpoint(every=32, folder=tmp_path)))


def test_it_writes_between_updates_when_one_is_due_and_at_the_end_and_keeps_the_last(tmp_path: Path) -> None:
    ppo().learn(320, callback=RunCheckpoint(every=50, folder=tmp_path, keep=10))
    assert steps(tmp_path) == [64, 128, 192, 256, 320]
    ppo().learn(320, callback=RunCheckpoint(every=50, folder=tmp_path, keep=2))
    assert steps(tmp_path) == [256, 320]
    assert len(list((tmp_path / "checkpoints.1").iterdir())) == 5


def test_minutes_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def tick() -> float:
        now[0] += 10
        return now[0]

    monkeypatch.setattr(callback_module.time, "monotonic", tick)
    ppo().learn(192, callback=RunCheckpoint(every_minutes=0.5, folder=tmp_path, keep=10))
    assert steps(tmp_path)[:-1] == [64, 160]
    assert RunCheckpoint(folder=tmp_path).every_minutes == 10


def test_a_request_is_served_at_the_next_update(tmp_path: Path) -> None:
    checkpoint = RunCheckpoint(every=10_000, folder=tmp_path)
    checkpoint.request()
    ppo().learn(64, callback=checkpoint)
    assert steps(tmp_path) == [0, 64]


def test_a_run_that_a_callback_ends_within_a_rollout_has_no_checkpoint_of_half_of_it(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1", max_episode_steps=10)
    ppo(env).learn(10_000, callback=[StopTrainingOnMaxEpisodes(15), RunCheckpoint(every=64, folder=tmp_path)])
    assert all(step % 64 == 0 for step in steps(tmp_path))


def test_it_must_be_last(tmp_path: Path) -> None:
    late = [RunCheckpoint(folder=tmp_path), Killer()]
    with pytest.raises(ValueError, match="must be the last of the callbacks, as those after it, Killer here"):
        ppo().learn(32, callback=late)
    ppo().learn(32, callback=[CallbackList([Killer(), RunCheckpoint(folder=tmp_path)])], progress_bar=True)


def test_it_says_what_it_cannot_serve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder to write to"):
        ppo().learn(32, callback=RunCheckpoint())
    with pytest.raises(ValueError, match="within EveryNTimesteps"):
        ppo().learn(64, callback=EveryNTimesteps(32, RunCheckpoint(folder=tmp_path)))
    with pytest.raises(ValueError, match="ARS is neither: leave it out"):
        ARS("MlpPolicy", "CartPole-v1", n_delta=2).learn(100, callback=RunCheckpoint(folder=tmp_path))
    with pytest.raises(ValueError, match="keep must be a whole number of at least 1"):
        RunCheckpoint(keep=0)
    with pytest.raises(ValueError, match="every_minutes=0 would write at every update: give every=1 for that, or"):
        RunCheckpoint(every_minutes=0)


def test_what_is_not_saved_is_said_at_the_start_and_in_the_manifest(tmp_path: Path) -> None:
    class Forgetful(Killer):
        state_dict = property(doc="hides the method")  # type: ignore[assignment]

    with pytest.warns(UserWarning, match="not bit for bit: what Forgetful remembers is not saved"):
        ppo().learn(64, callback=[Forgetful(), RunCheckpoint(every=32, folder=tmp_path)])
    facts = manifest(tmp_path, 64)
    assert not facts["exact"]
    assert "Forgetful" in facts["not_saved"][0]
    ppo().learn(64, callback=[Killer(), RunCheckpoint(every=32, folder=tmp_path)])
    assert manifest(tmp_path, 64)["exact"]
    assert manifest(tmp_path, 64)["not_saved"] == []


def test_an_env_in_other_processes_goes_on_with_new_episodes(tmp_path: Path) -> None:
    def env() -> Any:
        return make_vec_env("CartPole-v1", n_envs=2, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"})

    first = env()
    with pytest.warns(UserWarning, match="the state of the envs in SubprocVecEnv cannot be saved"):
        ppo(first).learn(128, callback=RunCheckpoint(every=64, folder=tmp_path))
    first.close()
    second = env()
    with pytest.warns(
        UserWarning, match="continues from step 128, not bit for bit: the state of the envs in SubprocVecEnv"
    ):
        model = resume(tmp_path, second, total_timesteps=256)
    second.close()
    assert model.num_timesteps == 256


def test_without_its_replay_buffer_an_off_policy_run_goes_on_with_an_empty_one(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", "CartPole-v1", buffer_size=100, learning_starts=10, policy_kwargs={"net_arch": [8]})
    with pytest.warns(UserWarning, match="the replay buffer is left out"):
        model.learn(100, callback=RunCheckpoint(every=50, folder=tmp_path, replay_buffer=False))
    env = make_vec_env("CartPole-v1")
    with pytest.warns(UserWarning, match="not bit for bit: the replay buffer"):
        resumed = resume(tmp_path, env, total_timesteps=120)
    assert resumed.replay_buffer is not None
    assert resumed.replay_buffer.pos == 20


@pytest.mark.parametrize("limit", [1000, 20_000])
def test_a_disk_that_is_full_ends_no_run_and_leaves_no_half_checkpoint(limit: int, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # bytes of a file, in place of those of a disk
    try:
        with pytest.warns(UserWarning, match=r"at step 32 could not be written .*File too large.*the next is tried"):
            model = ppo().learn(32, callback=RunCheckpoint(folder=tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert model.num_timesteps == 32
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_run_can_be_resumed_again_and_again(tmp_path: Path) -> None:
    setup = Setup(lambda: make_vec_env("CartPole-v1", n_envs=2, seed=3), lambda env: ppo(env))
    unbroken = train(setup, tmp_path / "unbroken", 512, every=64)
    train(setup, tmp_path / "broken", 512, every=64, kill_at=150)
    for at in (200, 330, 450):
        with pytest.raises(Killed):
            resume(tmp_path / "broken", setup.env(), [Killer(at)])
    resumed = resume(tmp_path / "broken", setup.env(), [Killer()])
    assert_same_weights(unbroken, resumed)
    assert steps(tmp_path / "broken") == [384, 448, 512]


def test_an_earlier_model_that_is_trained_in_the_same_folder_has_checkpoints_of_its_own(tmp_path: Path) -> None:
    env = make_vec_env("CartPole-v1")
    model = ppo(env).learn(64)
    model.save(tmp_path / "early")
    model.learn(320, reset_num_timesteps=False, callback=RunCheckpoint(every=64, folder=tmp_path))
    assert steps(tmp_path) == [256, 320, 384]
    branch = PPO.load(tmp_path / "early", env=env)
    with pytest.warns(UserWarning, match=r"later steps than 64.*: 000000000256\.1, 000000000320\.1, 000000000384\.1"):
        branch.learn(128, reset_num_timesteps=False, callback=RunCheckpoint(every=32, folder=tmp_path))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"000000000{name}" for name in ("128", "160", "192", "256.1", "320.1", "384.1")]
    assert_same_weights(branch, resume(tmp_path, env))


def test_a_run_that_is_resumed_from_before_a_damaged_checkpoint_is_told_of_it_once(tmp_path: Path) -> None:
    ppo().learn(128, callback=RunCheckpoint(every=64, folder=tmp_path))
    (tmp_path / "checkpoints" / "000000000128" / "state.pt").unlink()
    with pytest.warns(UserWarning, match="is damaged") as told:
        resume(tmp_path, make_vec_env("CartPole-v1"), total_timesteps=192)
    assert not [each for each in told if "later steps" in str(each.message)]
    assert steps(tmp_path) == [64, 128, 192]
    assert (tmp_path / "checkpoints" / "000000000128.1").is_dir()


def test_a_run_of_before_that_wrote_at_every_update_by_zero_minutes_goes_on_so(tmp_path: Path) -> None:
    ppo().learn(64, callback=RunCheckpoint(every=32, folder=tmp_path))
    path = tmp_path / "checkpoints" / "000000000064" / "manifest.json"
    facts = json.loads(path.read_text())
    facts["run_checkpoint"].update(every=None, every_minutes=0.0)
    path.write_text(json.dumps(facts))
    resume(tmp_path, make_vec_env("CartPole-v1"), total_timesteps=128)
    assert steps(tmp_path) == [64, 96, 128]


def test_a_run_that_has_ended_is_not_trained_further_unless_it_is_asked_for(tmp_path: Path) -> None:
    model = ppo()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(128, callback=RunCheckpoint(every=64))
    env = make_vec_env("CartPole-v1")
    assert_same_weights(model, resume(tmp_path, env))
    longer = resume(tmp_path, env, total_timesteps=192)
    assert longer.num_timesteps == 192
    assert [row["time/iterations"] for row in rows(tmp_path)] == ["1", "2", "3", "4", "5", "6"]
