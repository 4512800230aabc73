"""
SB3's ``SubprocVecEnv`` when a process of it has ended: which one, why, and how the others are ended.
"""

from __future__ import annotations

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from sb3_stable_ppo.envs.exit_status import cause_of_end
from sb3_stable_ppo.envs.restarting_vec_env import RestartingVecEnv

CONNECTION_ERRORS = (EOFError, BrokenPipeError, ConnectionResetError)
"""What reading from a process raises that has ended, or writing to it."""
JOIN_TIMEOUT_S = 1.0


def ended_processes(env: VecEnv | None) -> str:
    """
    Which processes of an env have ended by themselves, in words.

    :param env: may be wrapped
    :return: empty where it has no processes, or all are alive
    """
    told = []
    for index, process in enumerate(getattr(env.unwrapped, "processes", ()) if env is not None else ()):
        if process.exitcode is None:
            continue
        told.append(f"the process of env {index} has ended ({cause_of_end(process.exitcode)})")
    return "; ".join(told)


def end_interrupted_step(env: VecEnv | None) -> None:
    """
    End the processes of an env that was interrupted while it waited for their answers. ``SubprocVecEnv.close`` would
    wait for them for ever where some have already been read.

    :param env: may be wrapped; nothing happens if it has no processes or does not wait, or ends them by itself
    """
    if env is None or not isinstance(env.unwrapped, SubprocVecEnv) or not env.unwrapped.waiting:
        return
    if isinstance(env.unwrapped, RestartingVecEnv):
        return
    for process in env.unwrapped.processes:
        process.terminate()
    for process in env.unwrapped.processes:
        process.join(JOIN_TIMEOUT_S)
