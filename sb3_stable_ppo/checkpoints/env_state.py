"""
The state of an env, wrapper by wrapper: what pickle loses (EzPickle makes a fresh env) and what SB3's ``save`` deletes
(VecNormalize's returns) is kept.

Every layer's attributes go into one pickle, so that what layers share, such as a generator, stays shared. The layers
themselves, and what cannot be pickled, stand in it as names: the new env's own take their place.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import EzPickle
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from sb3_stable_ppo.checkpoints.foreign import BY_NAME, is_code, is_inert, kind_of
from sb3_stable_ppo.common.errors import UsageError, described

INNER: tuple[tuple[type, str], ...] = ((VecEnvWrapper, "venv"), (DummyVecEnv, "envs"), (gym.Wrapper, "env"))
"""Where each kind of layer has the next."""
STRUCTURE = frozenset(
    {"class_attributes", "spec", "_cached_spec", "step_wait", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs"}
)
"""Attributes that say how the layers were made, and the guards' check of a rollout; the new env has its own."""

OUTSIDE = frozenset({"asyncio", "concurrent", "multiprocessing", "socket", "subprocess"})
"""Packages of objects whose state is in another process."""


class EnvState(NamedTuple):
    """
    :param content: the pickle
    :param problems: what could not be saved, in words; empty: the env goes on exactly
    """

    content: bytes
    problems: list[str]


def env_state(env: VecEnv, action_space: spaces.Space[Any] | None = None) -> EnvState:
    """
    :param env: any VecEnv; whole are only DummyVecEnv, and VecEnvs with ``state_dict`` and ``load_state_dict``
    :param action_space: a model's, which may be the env's own
    """
    layers = list(_layers(env))
    names: dict[int, tuple[Any, ...]] = {id(layer): ("layer", number) for number, layer in enumerate(layers)}
    saved: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, layer in enumerate(layers):
        kept: dict[str, Any] = {}
        foreign: dict[str, Any] = {}
        (own, problem), is_outside = _own_state(layer), _is_outside(layer)
        problems += [problem] if problem else []
        is_closed = is_outside and own is None
        if is_closed:
            problems.append(f"the state of the envs in {type(layer).__name__} cannot be saved")
        for name, value in vars(layer).items():
            if name in STRUCTURE or is_closed or any(isinstance(layer, cls) and name == at for cls, at in INNER):
                continue
            kind = kind_of(value)
            if kind is not None:
                foreign[name] = (kind.__name__, kind.save(value))
                problems += filter(None, [kind.problem(layer)])
            if kind is not None or is_inert(value):
                names[id(value)] = ("attribute", number, name)
            elif not is_outside:  # what such a VecEnv has in Python goes with what it has elsewhere
                kept[name] = value
        saved.append({"class": type(layer).__name__, "kept": kept, "foreign": foreign, "own": own})
    content = {"layers": saved, "action_space": action_space}
    try:
        return EnvState(_pickled(content, names), problems)
    except Exception:  # pickle raises whatever an object's own code raises
        for layer, entry in zip(layers, saved, strict=True):
            has_own = entry["own"] is not None
            problems += [found for found in _drop_unpicklable(layer, entry["kept"], names) if not has_own]
        return EnvState(_pickled(content, names), problems)


def set_env_state(env: VecEnv, content: bytes) -> spaces.Space[Any] | None:
    """
    :param env: built as the one before
    :param content: of :func:`env_state`
    :return: the action space that was given to it
    :raises UsageError: if the env has other layers
    """
    layers = list(_layers(env))
    found = _Unpickler(io.BytesIO(content), layers).load()
    saved: list[dict[str, Any]] = found["layers"]
    before, now = [entry["class"] for entry in saved], [type(layer).__name__ for layer in layers]
    if before != now:
        raise UsageError(
            f"The env differs from that of the checkpoint, which consists of {', '.join(before)}; this one of "
            f"{', '.join(now)}. Build it as in the first run."
        )
    for layer, entry in zip(layers, saved, strict=True):
        n_envs = entry["kept"].get("num_envs")
        if isinstance(layer, VecEnv) and n_envs is not None and n_envs != layer.num_envs:
            raise UsageError(
                f"The env of the checkpoint has {n_envs} envs, and this one has {layer.num_envs}. Build it as in the "
                "first run."
            )
    for layer, entry in zip(layers, saved, strict=True):
        vars(layer).update(entry["kept"])
        for name, (kind, state) in entry["foreign"].items():
            live = vars(layer).get(name)
            if live is not None:
                BY_NAME[kind].load(live, state)
        if entry["own"] is not None:
            layer.load_state_dict(entry["own"])
    space: spaces.Space[Any] | None = found["action_space"]
    return space


def _layers(env: Any) -> Iterator[Any]:
    """From the outermost wrapper to the envs."""
    yield env
    if isinstance(env, VecEnvWrapper):
        yield from _layers(env.venv)
    elif isinstance(env, DummyVecEnv):
        for each in env.envs:
            yield from _layers(each)
    elif isinstance(env, gym.Wrapper):
        yield from _layers(env.env)


def _is_outside(layer: Any) -> bool:
    """Whether it is a VecEnv whose envs are in other processes, or in C++."""
    return isinstance(layer, VecEnv) and not isinstance(layer, (VecEnvWrapper, DummyVecEnv))


def _own_state(layer: Any) -> tuple[Any, str | None]:
    """
    Of an env that knows by itself how it is saved; not a wrapper, which may pass on its inner env's methods.

    :return: its state, and why it cannot be saved, in words, or None
    """
    if isinstance(layer, (gym.Wrapper, VecEnvWrapper)):
        return None, None
    if not (hasattr(type(layer), "state_dict") and hasattr(type(layer), "load_state_dict")):
        return None, None
    try:
        own = layer.state_dict()
        pickle.dumps(own)
    except Exception as error:  # a user's code
        return None, f"the state_dict() of {type(layer).__name__} cannot be saved ({described(error, 100)})"
    return own, None


def _drop_unpicklable(layer: Any, kept: dict[str, Any], names: dict[int, tuple[Any, ...]]) -> list[str]:
    problems = []
    for name in list(kept):
        try:
            _pickled(kept[name], names)
        except Exception as error:
            value = kept.pop(name)
            if is_code(value):
                continue
            problems.append(f"{name} of {type(layer).__name__} cannot be saved ({described(error, 100)})")
    return problems


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, names: dict[int, tuple[Any, ...]]) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.names = names

    def persistent_id(self, value: Any) -> Any:
        name = self.names.get(id(value))
        if name is None and isinstance(value, EzPickle):
            raise pickle.PicklingError(f"{type(value).__name__} is an EzPickle, which pickles its arguments alone")
        if name is None and type(value).__module__.partition(".")[0] in OUTSIDE:
            # Some of them can be pickled: as the number of a file, which then belongs to something else.
            raise pickle.PicklingError(f"{type(value).__name__} reaches out of this process")
        return name


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, layers: list[Any]) -> None:
        super().__init__(file)
        self.layers = layers

    def persistent_load(self, name: Any) -> Any:
        layer = self.layers[name[1]] if name[1] < len(self.layers) else None
        return layer if name[0] == "layer" else getattr(layer, name[2], None)


def _pickled(value: Any, names: dict[int, tuple[Any, ...]]) -> bytes:
    file = io.BytesIO()
    _Pickler(file, names).dump(value)
    return file.getvalue()
