"""The bench command: what it measures is real, and what it prints is what was measured."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces

from helpers.packages import needs_envpool
from helpers.processes import run_python
from sb3_stable_ppo.bench import measuring
from sb3_stable_ppo.bench.training import Clock, train_variant
from sb3_stable_ppo.bench.variants import ATARI, DICTS, IMAGES, VECTORS, Kind, Variant, kind_of
from sb3_stable_ppo.cli.app import main
from sb3_stable_ppo.common.errors import UsageError

KINDS = {"Atari": ATARI, "images": IMAGES, "vectors": VECTORS, "Dicts": DICTS}
BASE = ATARI.variants["dummy"].name


def figures(speed: float) -> dict[str, float]:
    return {"steps_per_s": speed, "warm_up_s": 2.0, "peak_mib": 600.4}


def test_the_table_has_medians_ranges_and_the_ratio_to_stock() -> None:
    rows = [(BASE, figures(speed)) for speed in (90, 100, 120)] + [("ours", figures(250))]
    assert measuring.table(rows, BASE).splitlines()[2:] == [
        f"| {BASE} | 100 (90 to 120) | 1.00 | 2 | 600 |",
        "| ours | 250 (250 to 250) | 2.50 | 2 | 600 |",
    ]
    assert (
        measuring.table([("ours", figures(250))], BASE).splitlines()[2] == "| ours | 250 (250 to 250) | - | 2 | 600 |"
    )


def same_env(before: Variant, after: Variant) -> bool:
    return before.vec_env == after.vec_env and before.policy == after.policy


@pytest.mark.parametrize("kind", KINDS)
def test_each_variant_adds_to_the_one_before(kind: str) -> None:
    steps = list(KINDS[kind].variants.values())
    pairs = [(before, after) for before, after in itertools.pairwise(steps) if same_env(before, after)]
    assert len(pairs) >= 4
    for before, after in pairs:
        assert before.policy_kwargs.items() <= after.policy_kwargs.items()
        assert before.options.keys() <= after.options.keys()
        assert before != after


@needs_envpool
def test_each_kind_of_env_has_its_own_variants() -> None:
    assert kind_of("PongNoFrameskip-v4") is ATARI
    assert kind_of("CartPole-v1") is VECTORS
    assert list(kind_of("Taxi-v4").variants) == [word for word in VECTORS.variants if word != "envpool"]  # has no Taxi
    for env_id, space, kind in [
        ("BenchImages-v0", spaces.Box(0, 255, (64, 64, 3), "uint8"), IMAGES),
        ("BenchDict-v0", spaces.Dict({"a": spaces.Box(-1, 1, (2,))}), DICTS),
    ]:
        gym.register(env_id, lambda space=space, **_: Still(space))
        assert kind_of(env_id) is kind
        gym.registry.pop(env_id)


def test_an_env_whose_spaces_sb3_cannot_take_is_an_error_before_anything_is_listed() -> None:
    with pytest.raises(UsageError, match=r"SB3 trains nothing on Blackjack-v1: Tuple.* is not supported"):
        kind_of("Blackjack-v1")


class Still(gym.Env[Any, Any]):
    """Nothing moves, and nothing ends."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(3)
        space.seed(0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 1.0, False, False, {}


def test_what_is_timed_are_whole_rollouts_after_two_to_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks: list[Clock] = []
    monkeypatch.setattr(
        Clock, "_on_training_end", lambda self, own=Clock._on_training_end: (own(self), clocks.append(self))
    )
    numbers = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
    for short in ("stock", "all"):
        found = train_variant(VECTORS.variants[short], "CartPole-v1", n_envs=2, steps=100, seed=0, numbers=numbers)
        assert clocks[-1].steps == 128
        assert clocks[-1].num_timesteps == 256
        assert found["steps_per_s"] == clocks[-1].steps / clocks[-1].seconds
        assert found["warm_up_s"] > 0 < found["peak_mib"]


def test_variants_take_turns_and_every_second_round_runs_backwards() -> None:
    order = [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c")]
    assert list(measuring.turns(["a", "b", "c"], 3)) == order


@pytest.mark.slow
def test_bench_trains_each_variant_in_a_process_of_its_own(capsys: Any) -> None:
    assert main(["bench", "--n-envs", "1", "--steps", "128", "--variants", "7", "--seed", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["variant"], row["seed"]) for row in rows] == [(BASE, 3), ("+ precision: auto", 3)]
    assert all(row["steps_per_s"] > 0 and row["peak_mib"] > 100 for row in rows)
    assert "PongNoFrameskip-v4, 1 env, " in err


@pytest.mark.slow
def test_bench_measures_an_env_of_vectors_with_the_numbers_that_are_asked_for(capsys: Any) -> None:
    numbers = ["--n-envs", "2", "--n-steps", "64", "--batch-size", "32", "--n-epochs", "2"]
    assert main(["bench", "--env", "CartPole-v1", *numbers, "--steps", "128", "--variants", "all"]) == 0
    out, err = capsys.readouterr()
    assert "CartPole-v1, 2 envs" in err
    assert "auto is" not in err
    assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == ["| stock SB3", "| + HealthCallback"]


def test_what_was_measured_before_a_variant_failed_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fails_at_the_second(cells: Any) -> Any:
        first, _ = cells
        yield first, {"steps_per_s": 100.0, "warm_up_s": 1.0, "peak_mib": float("nan")}
        raise RuntimeError("SubprocVecEnv: no more memory")

    monkeypatch.setattr(measuring, "measure", fails_at_the_second)
    assert main(["bench", "--env", "CartPole-v1", "--variants", "all"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[2:] == ["| stock SB3 | 100 (100 to 100) | 1.00 | 1 | - |"]
    assert "bench: SubprocVecEnv: no more memory" in err


def test_the_process_of_a_measurement_says_what_to_call_instead() -> None:
    done = subprocess.run([sys.executable, "-m", "sb3_stable_ppo.bench", "--help"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "This is one measurement of many. To measure, use: sb3-stable-ppo bench --help\n"


OWN_ENV = """
import atexit
import gymnasium as gym
import numpy as np

class Own(gym.Env):
    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros((64, 64, 3), np.uint8), {}

    def step(self, action):
        return np.zeros((64, 64, 3), np.uint8), 0.0, False, False, {}

gym.register("Own-v0", Own)
atexit.register(lambda: print("the simulator has ended"))
"""


@pytest.mark.slow
def test_an_env_of_ones_own_is_measured_in_processes_that_know_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "own_env_of_bench.py").write_text(OWN_ENV)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    flags = ["--env", "Own-v0", "--n-envs", "2", "--n-steps", "4", "--steps", "8", "--variants", "subproc", "--json"]
    assert main(["bench", *flags]) == 2
    assert "Unknown env 'Own-v0'" in capsys.readouterr().err
    assert main(["bench", *flags, "--gym-packages", "own_env_of_bench"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == ["stock", "subproc"]
    assert rows[0]["gym_packages"] == ["own_env_of_bench"]


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from sb3_stable_ppo.cli.app import main\n"
        "try:\n    main(['bench', '--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules, 'stable_baselines3' in sys.modules)"
    )
    assert run_python(code).splitlines()[-1] == "False False"


@pytest.mark.slow
def test_a_variant_that_fails_is_named_with_the_reason() -> None:
    with pytest.raises(RuntimeError, match=r"^no such: KeyError: 'no such'$"):
        list(measuring.measure([{"variant": "no such", "env_id": "CartPole-v1", "n_envs": 1, "steps": 1, "seed": 0}]))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--env", "PongNoFrameskip-v5"], "Unknown env 'PongNoFrameskip-v5' (did you mean PongNoFrameskip-v4?)"),
        (["--n-envs", "0"], "'0' is not a whole number of at least 1"),
        (["--steps", "many"], "'many' is not a whole number"),
        (["--variants", "99"], "Unknown variant '99': choose from dummy, subproc, ale, norm, buffer"),
        (["--variants", "ale", "bf61"], "Unknown variant 'bf61' (did you mean bf16?): choose from dummy, "),
        (["--variants", "0"], "or a number from 1 to 9"),
        (
            ["--env", "CartPole-v1", "--variants", "ale"],
            "Unknown variant 'ale' (did you mean all?): choose",
        ),
        (["--env", "Pong-v4"], "skips a random number of frames"),
        (["--n-epochs", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_a_mistake_in_the_call_is_one_sentence_and_status_2(flags: list[str], complaint: str, capsys: Any) -> None:
    try:
        status = main(["bench", *flags])
    except SystemExit as stopped:  # argparse's own
        status = int(stopped.code or 0)
    assert status == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "kind"), [([], ATARI), pytest.param(["--env", "CartPole-v1"], VECTORS, marks=needs_envpool)]
)
def test_list_shows_the_numbers_and_names_that_variants_takes(flags: list[str], kind: Kind, capsys: Any) -> None:
    assert main(["bench", "--list", *flags]) == 0
    rows = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    assert [description for _, _, description in rows] == [variant.name for variant in kind.variants.values()]
    for number, name, description in rows:
        assert kind.find(number) == kind.find(name) == name
        assert kind.variants[name].name == description


def test_variants_are_chosen_by_name_and_by_number(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(measuring, "measure", lambda cells: ((cell, figures(1.0)) for cell in cells))
    assert main(["bench", "--variants", "bf16", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == ["dummy", "subproc", "bf16"]
    assert [row["variant"] for row in rows] == [ATARI.variants[row["name"]].name for row in rows]


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("subproc", lambda v: v.vec_env == "subproc"),
        ("norm", lambda v: v.policy_kwargs == {"norm": "batch"}),
        ("channels_last", lambda v: "memory_format" in v.policy_kwargs and "precision" not in v.policy_kwargs),
        ("bf16", lambda v: "precision" in v.policy_kwargs and "compile" not in v.policy_kwargs),
        ("compile", lambda v: "compile" in v.policy_kwargs and not hasattr(v.algorithm, "guards")),
    ],
)
def test_a_name_is_that_of_what_its_variant_adds(name: str, differs: Any) -> None:
    assert differs(ATARI.variants[name])
