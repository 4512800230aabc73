"""
Callbacks that observe: activation snapshots and the layers' health. They change nothing: a run with them ends in the
very weights of a run without.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.metrics import dormant_fraction, live_units
from sb3_stable_ppo.pictures import central_motion, channel_grid, colour_scale
from sb3_stable_ppo.probes import ActivationProbe
from sb3_stable_ppo.runs import Array, RunReader, RunWriter

ONE = "observation"
"""The name under which an observation that is no Dict is stored."""


class RunCallback(BaseCallback):
    """
    Base of the callbacks that write to a run folder.

    What an earlier run left in the folder is set aside (``snapshots.1``), unless this one goes on with it
    (``reset_num_timesteps=False``).

    :param folder: the run folder; None: the logger's (``tensorboard_log``, or the run's own under our command line)
    :param max_snapshots: when there are more, every second is dropped
    :param verbose: SB3's verbosity
    """

    part: ClassVar[str]
    """The file or folder within the run folder that is this callback's own."""

    def __init__(self, folder: str | Path | None = None, max_snapshots: int = 500, verbose: int = 0) -> None:
        super().__init__(verbose)
        if int(max_snapshots) < 1:
            raise ValueError(f"max_snapshots must be at least 1, not {max_snapshots!r}.")
        self.folder = folder
        self.max_snapshots = int(max_snapshots)

    def _on_training_start(self) -> None:
        # A logger that nobody asked for has a temporary folder, in which nobody would look.
        asked_for = self.model.tensorboard_log is not None or self.model._custom_logger
        folder = self.folder or (self.logger.get_dir() if asked_for else None)
        if folder is None:
            name = type(self).__name__
            raise ValueError(
                f"{name} has no folder to write to: give it one, {name}(folder=...), "
                "or give the algorithm a tensorboard_log."
            )
        self.writer = RunWriter(folder, self.max_snapshots)
        if self.locals.get("reset_num_timesteps", True):
            self.writer.set_aside(self.part)

    def _on_step(self) -> bool:
        return True


class ActivationSnapshotCallback(RunCallback):
    """
    Every 1000 steps the activations of each convolution, for one fixed observation, go to ``snapshots/`` of the run
    folder and as pictures to TensorBoard (``activations/<layer>``).

    The observation is the first in whose whole frame stack something moves in the middle of the picture (in Pong: the
    ball is in play). Each layer keeps the colour scale of its first snapshot, so that a dying layer goes dark. Old
    snapshots are thinned: beyond ``max_snapshots`` every second is dropped and the interval doubles; 500 of Pong's
    take about 9 MB.

    :param every: environment steps between two snapshots
    :param folder: see :class:`RunCallback`
    :param max_snapshots: how many are kept
    :param verbose: SB3's verbosity
    :raises ValueError: if a number is below 1, or the policy has no convolutions
    """

    part = "snapshots"

    def __init__(
        self, every: int = 1000, folder: str | Path | None = None, max_snapshots: int = 500, verbose: int = 0
    ) -> None:
        super().__init__(folder, max_snapshots, verbose)
        if int(every) < 1:
            raise ValueError(f"every must be at least 1 step, not {every!r}.")
        self.every = int(every)
        self.observation: dict[str, Array] | None = None

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.probe = ActivationProbe(self.model.policy, kinds=("conv",))
        if not self.probe.layers:
            raise ValueError(
                f"ActivationSnapshotCallback draws convolutional layers; {type(self.model.policy).__name__} has none. "
                "Leave the callback out, or use a Cnn policy."
            )
        reader = RunReader(self.writer.folder)
        steps = reader.snapshot_steps()
        self.last_step = steps[-1] if steps else -1
        self.scales = {name: colour_scale(array) for name, array in reader.snapshot(steps[0]).items()} if steps else {}
        self.observation = reader.observation() if steps else None
        self._check_stored_observation()
        self.motion = -1.0
        self._plan_next()

    def _on_step(self) -> bool:
        due = self.num_timesteps >= self.next_step
        if self.observation is None:
            self._look_for_observation(settle=due)
        if due:
            self._take()
            self._plan_next()
        return True

    def _on_training_end(self) -> None:
        if self.observation is not None and self.num_timesteps > self.last_step:
            self._take()

    def _check_stored_observation(self) -> None:
        space = self.model.observation_space
        spaces_by_key = space.spaces if isinstance(space, spaces.Dict) else {ONE: space}
        for key, array in (self.observation or {}).items():
            if key not in spaces_by_key or array.shape != spaces_by_key[key].shape:
                raise ValueError(
                    f"{self.writer.folder} holds snapshots of another env, whose observation {key!r} has shape "
                    f"{array.shape}. Give this run a folder of its own."
                )

    def _plan_next(self) -> None:
        self.next_step = self.num_timesteps + self.every - self.num_timesteps % self.every

    def _look_for_observation(self, settle: bool) -> None:
        """Take the first observation with motion throughout; failing that, the liveliest when one is due."""
        new_obs = self.locals["new_obs"]
        observations = new_obs if isinstance(new_obs, dict) else {ONE: new_obs}
        key = _image_key(self.model.observation_space)
        rows = next(iter(observations.values())) if key is None else observations[key]
        motions = [0.0 if key is None else central_motion(frames) for frames in rows]
        liveliest = int(np.argmax(motions))
        if motions[liveliest] > self.motion:
            self.motion = motions[liveliest]
            self.candidate = {key: np.array(array[liveliest]) for key, array in observations.items()}
        if settle or self.motion > 0:
            self.observation = self.candidate
            self.writer.observation(self.observation)

    def _take(self) -> None:
        assert self.observation is not None
        batch = {key: array[None] for key, array in self.observation.items()}
        is_dict = isinstance(self.model.observation_space, spaces.Dict)
        observation = obs_as_tensor(batch if is_dict else batch[ONE], self.model.device)
        activations = {name: tensor[0].float().cpu().numpy() for name, tensor in self.probe(observation).items()}
        self.last_step = self.num_timesteps
        dropped = self.writer.snapshot(self.num_timesteps, activations)
        if dropped:
            self.every *= 2
        for name, array in activations.items():
            self.scales.setdefault(name, colour_scale(array))
            log_picture(self.logger, f"activations/{name}", channel_grid(array, self.scales[name]), self.num_timesteps)


class HealthCallback(RunCallback):
    """
    After each rollout, how alive each layer is on 64 of its observations: live units and the dormant fraction, logged
    under ``health/`` and appended to ``health.jsonl`` in the run folder.

    :param every: rollouts between two measurements
    :param rows: observations per measurement, spread evenly over steps and envs
    :param folder: see :class:`RunCallback`
    :param verbose: SB3's verbosity
    :raises ValueError: if the algorithm collects no rollouts (off-policy), or a number is below 1
    """

    part = "health.jsonl"

    def __init__(self, every: int = 1, rows: int = 64, folder: str | Path | None = None, verbose: int = 0) -> None:
        super().__init__(folder, verbose=verbose)
        if int(every) < 1 or int(rows) < 1:
            raise ValueError(f"every and rows must be at least 1, not {every!r} and {rows!r}.")
        self.every, self.rows = int(every), int(rows)
        self.n_rollouts = 0

    def _on_training_start(self) -> None:
        super()._on_training_start()
        if not hasattr(self.model, "rollout_buffer"):
            raise ValueError(f"HealthCallback reads rollouts; {type(self.model).__name__} is off-policy and has none.")
        self.probe = ActivationProbe(self.model.policy)

    def _on_rollout_end(self) -> None:
        self.n_rollouts += 1
        if (self.n_rollouts - 1) % self.every:
            return
        rows = strided_observations(self.model.rollout_buffer, self.rows)  # type: ignore[attr-defined]
        figures = layer_figures(self.probe(obs_as_tensor(rows, self.model.device)))
        if not figures and self.n_rollouts == 1:
            warnings.warn(
                f"HealthCallback finds no layer with an activation in {type(self.model.policy).__name__} that it can "
                "read (behind an LSTM it reads the features extractor only).",
                stacklevel=2,
            )
        for layer, values in figures.items():
            self.logger.record(f"health/{layer}/live_fraction", values["live"] / values["units"])
            self.logger.record(f"health/{layer}/dormant_fraction", values["dormant_fraction"])
        self.writer.health(self.num_timesteps, figures)


def layer_figures(activations: Mapping[str, th.Tensor]) -> dict[str, dict[str, float]]:
    """
    The figures of ``health.jsonl``.

    :param activations: by layer, shape (batch, units, ...)
    :return: by layer: ``units``, ``live`` (units) and ``dormant_fraction``
    """
    return {
        layer: {
            "units": tensor.shape[1],
            "live": live_units(tensor),
            "dormant_fraction": round(dormant_fraction(tensor), 6),
        }
        for layer, tensor in activations.items()
    }


def strided_observations(buffer: RolloutBuffer, rows: int) -> Any:
    """
    Some observations of a full rollout, evenly spread over steps and envs.

    :param buffer: before ``train()``, which flattens its arrays in place
    :param rows: how many; fewer if the rollout is shorter
    :return: an array, or for Dict observations one per key, shape (rows, ...)
    """
    size = buffer.buffer_size * buffer.n_envs
    chosen = np.linspace(0, size - 1, min(rows, size)).astype(int)
    steps, envs = np.divmod(chosen, buffer.n_envs)
    observations: Any = buffer.observations
    if isinstance(observations, dict):
        return {key: array[steps, envs] for key, array in observations.items()}
    return observations[steps, envs]


def log_picture(logger: Logger, name: str, picture: Array, step: int) -> None:
    """
    Send a picture to TensorBoard, if the logger has it, at its very step (SB3's own way waits for the next dump).

    :param logger: SB3's logger
    :param name: the picture's tag
    :param picture: shape (height, width, 3), uint8
    :param step: environment steps so far
    """
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_image(name, picture, step, dataformats="HWC")


def _image_key(observation_space: spaces.Space[Any]) -> str | None:
    """The key of the first image (``ONE`` where observations are no Dict), None where there is none."""
    by_key = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {ONE: observation_space}
    return next((key for key, space in by_key.items() if len(space.shape or ()) == 3), None)
