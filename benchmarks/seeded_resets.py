"""
Whether ALE's states come back exactly: by a reset with a seed, which ``AtariVecEnv(resumable=True)`` needs, and by
``cloneState``, with which SB3's own Atari envs are saved.

    python benchmarks/seeded_resets.py               # resets of all games
    python benchmarks/seeded_resets.py --clones      # states of all games, without and with sticky actions

A reset is complete if the same actions then lead to the same observations, rewards, ends and lives as in an env of a
new process that was reset with the same seed. Each of four envs in two threads has played at random before, for another
time in each round. Rounds are without and with sticky actions. A state is complete if it leads, in an emulator of a new
process, to the same memory, rewards and pictures. Each game is a line in results/seeded_resets.jsonl; the end prints
what is on record, and which games differed. ALE's state lacks the action that a sticky action repeats.
"""

from __future__ import annotations

import argparse
import multiprocessing
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np

from command import benchmark_parser, markdown, parsed
from record import finished, run_missing
from sb3_stable_ppo.envs.atari_ids import atari_spec
from sb3_stable_ppo.envs.atari_vec_env import AtariVecEnv

NAME = "seeded_resets"
N_ENVS, N_THREADS, ROUNDS, STEPS = 4, 2, 2, 200
STATES, FRAMES = 12, 250
STICKY = (0.0, 0.25)
"""Of even rounds, of odd ones."""
MOST_NAMED = 10
"""Games that the table names one by one."""


def in_forks(call: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Each call in a process of its own, which has had no emulator before."""
    with multiprocessing.get_context("fork").Pool(maxtasksperchild=1) as pool:
        return pool.starmap(call, tasks, chunksize=1)


def games() -> list[str]:
    """All that ALE has for one player, as in `ALE/<game>-v5`."""
    names = [name.removeprefix("ALE/").removesuffix("-v5") for name in gym.registry if name.startswith("ALE/")]
    return sorted(name for name in names if not name.endswith("-ram"))


def trajectory(game: str, sticky: float, seed: int, steps: int, before: int) -> list[list[int]]:
    """
    Checksums of all that each env gives after a reset with a seed, step by step.

    :param before: steps at random that have been played in the env
    """
    env = AtariVecEnv(f"ALE/{game}-v5", N_ENVS, action_repeat_probability=sticky, num_threads=N_THREADS)
    if before:
        env.reset()
    n_actions = env.action_space.n  # type: ignore[attr-defined]
    other, same = np.random.default_rng((seed, before)), np.random.default_rng(seed)
    for _ in range(before):
        env.step(other.integers(0, n_actions, N_ENVS))
    env.seed(seed)
    observations = env.reset()
    found = [[checksum(each.tobytes(), info) for each, info in zip(observations, env.reset_infos, strict=True)]]
    for _ in range(steps):
        observations, rewards, dones, infos = env.step(same.integers(0, n_actions, N_ENVS))  # type: ignore[assignment]
        row = []
        for index, info in enumerate(infos):
            last = info.pop("terminal_observation", np.zeros(0, np.uint8))
            info.get("episode", {}).pop("t", None)
            row.append(checksum(observations[index].tobytes() + last.tobytes(), rewards[index], dones[index], info))
        found.append(row)
    env.close()
    return found


def checksum(content: bytes, *others: Any) -> int:
    return zlib.crc32(repr(others).encode(), zlib.crc32(content))


def resets(game: str, steps: int = STEPS, rounds: int = ROUNDS) -> dict[str, Any]:
    """How many resets there were, in how many anything differed, and at which step at the earliest."""
    different, first = 0, None
    tasks = [
        (game, STICKY[each % 2], each, steps, before) for each in range(rounds) for before in (0, 100 + 150 * each)
    ]
    played = in_forks(trajectory, tasks)
    for fresh, used in zip(played[::2], played[1::2], strict=True):
        differs = np.array(fresh) != np.array(used)
        different += int(differs.any(axis=0).sum())
        if differs.any():
            step = int(differs.any(axis=1).argmax())
            first = step if first is None else min(first, step)
    return {"tries": rounds * N_ENVS, "different": different, "first": first}


def frames(ale: Any, actions: list[Any], count: int, seed: int) -> list[int]:
    """Checksums of memory, rewards and pictures of frames at random."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        reward = ale.act(actions[rng.integers(len(actions))])
        over = ale.game_over()
        found.append(checksum(ale.getRAM().tobytes() + ale.getScreen().tobytes(), reward, over, ale.lives()))
        if over:
            ale.reset_game()
    return found


def emulator(rom: str, sticky: float) -> tuple[Any, list[Any]]:
    """As Gymnasium's env of the game makes it."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", 0)
    ale.setFloat("repeat_action_probability", sticky)
    ale.loadROM(str(ale_py.roms.get_rom_path(rom)))
    ale.reset_game()
    return ale, ale.getMinimalActionSet()


def saved(rom: str, sticky: float, count: int, states: int) -> list[tuple[Any, list[int]]]:
    """States along a game that is played at random, and what came after each."""
    ale, actions = emulator(rom, sticky)
    found = []
    for number in range(states):
        frames(ale, actions, 97, number)
        state = ale.cloneState(include_rng=True)
        found.append((state, frames(ale, actions, count, 1000 + number)))
    return found


def restored(rom: str, sticky: float, state: Any, count: int, number: int) -> list[int]:
    """What comes after a state in another emulator."""
    ale, actions = emulator(rom, sticky)
    ale.restoreState(state)
    return frames(ale, actions, count, 1000 + number)


def clones(game: str, steps: int = FRAMES, rounds: int = STATES, sticky: float = STICKY[0]) -> dict[str, Any]:
    """How many states there were, after how many anything differed, and at which frame at the earliest."""
    different, first = 0, None
    rom = str(atari_spec(f"ALE/{game}-v5").kwargs["game"])
    (found,) = in_forks(saved, [(rom, sticky, steps, rounds)])
    after = in_forks(restored, [(rom, sticky, state, steps, number) for number, (state, _) in enumerate(found)])
    for (_, expected), other in zip(found, after, strict=True):
        differs = np.array(expected) != np.array(other)
        different += bool(differs.any())
        if differs.any():
            first = min(int(differs.argmax()), steps if first is None else first)
    return {"tries": rounds, "different": different, "first": first}


CHECKS: dict[str, Callable[..., dict[str, Any]]] = {
    "reset": resets,
    "clone": clones,
    "clone, sticky actions": partial(clones, sticky=STICKY[1]),
}


def table() -> str:
    """Games, tries, and the games in which anything differed."""
    lines = []
    for check in CHECKS:
        rows = [row for row in finished(NAME) if row["cell"]["check"] == check]
        odd = [f"{row['cell']['game']} ({row['different']} of {row['tries']})" for row in rows if row["different"]]
        if rows:
            told = ", ".join(odd) or "none" if len(odd) <= MOST_NAMED else f"{len(odd)} games"
            lines.append([check, len(rows), sum(row["tries"] for row in rows), told])
    return markdown(["", "games", "tries", "differed in"], lines)


def options() -> argparse.ArgumentParser:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clones", action="store_true", help="restored states in place of resets")
    return parser


def main() -> None:
    args = parsed(options())
    checks = [check for check in CHECKS if check.startswith("clone") == args.clones]
    cells: list[dict[str, Any]] = [{"check": check, "game": game} for check in checks for game in games()]
    if args.smoke:
        cells = [{"check": checks[0], "game": "Pong", "steps": 20, "rounds": 1}]

    def run(cell: dict[str, Any]) -> dict[str, Any]:
        return CHECKS[cell["check"]](**{key: value for key, value in cell.items() if key != "check"})

    run_missing(NAME, cells if not args.table else (), run)
    print(table())


if __name__ == "__main__":
    main()
