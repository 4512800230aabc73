"""
Activation snapshots while a run goes on. They change nothing: a run with them ends in the very weights of a run
without.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.utils import obs_as_tensor

from sb3_stable_ppo.common.files import UNREADABLE, Array
from sb3_stable_ppo.common.lazy import public
from sb3_stable_ppo.probes.activations import ActivationProbe
from sb3_stable_ppo.runs.callback import RunCallback
from sb3_stable_ppo.runs.folder import RunReader
from sb3_stable_ppo.runs.interval import Interval, UpdateCounter
from sb3_stable_ppo.runs.no_folder import NoReader
from sb3_stable_ppo.snapshots.pictures import central_motion, channel_grid, colour_scale

ONE = "observation"
"""The name under which an observation that is no Dict is stored."""


@public
class ActivationSnapshotCallback(RunCallback):
    """
    Every 1000 steps the activations of each convolution, for one fixed observation, go to ``snapshots/`` of the run
    folder and as pictures to TensorBoard (``activations/<layer>``). The last ones are in ``activations``, by layer.

    The observation is the first in whose whole frame stack something moves in the middle of the picture (in Pong: the
    ball is in play). Each layer keeps the colour scale of its first snapshot, so that a dying layer goes dark. Old
    snapshots are thinned: beyond ``max_snapshots`` every second is dropped and the interval doubles (in a folder that
    an earlier run has filled, first where they are densest); 500 of Pong's take about 9 MB.

    :param every: environment steps between two snapshots; None: 1000, or see ``every_updates``
    :param folder: see :class:`RunCallback`; without any, there are pictures alone, where the logger has TensorBoard
    :param max_snapshots: how many are kept
    :param verbose: SB3's verbosity
    :param every_updates: updates between two snapshots, in place of ``every``; an update is one ``train()``
    :raises ValueError: if a number is below 1, both intervals are given, or the policy has no convolutions
    """

    parts = ("snapshots",)

    def __init__(
        self,
        every: int | None = None,
        folder: str | Path | None = None,
        max_snapshots: int = 500,
        verbose: int = 0,
        *,
        every_updates: int | None = None,
    ) -> None:
        super().__init__(folder, max_snapshots, verbose)
        self.interval = self._first_interval = Interval.of(every, every_updates) or Interval(1000, "steps")
        self.observation: dict[str, Array] | None = None
        self.scales: dict[str, float] = {}
        self.activations: dict[str, Array] = {}
        self._updates = UpdateCounter()

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.probe = ActivationProbe(self.model.policy, kinds=("conv",))
        if not self.probe.layers:
            raise ValueError(
                f"ActivationSnapshotCallback draws convolutional layers; {type(self.model.policy).__name__} has none. "
                "Leave the callback out, or use a Cnn policy."
            )
        self._read_folder(self.writer.reader)
        self._check_stored_observation()
        self.motion = -1.0
        self._updates.begin(self.model)
        self._plan_next()

    def _without_folder(self) -> str:
        if any(isinstance(output, TensorBoardOutputFormat) for output in self.logger.output_formats):
            return "its pictures go to TensorBoard, and no snapshot is stored"
        return "snapshots are neither stored nor drawn, and training goes on (callback.activations has the last one)"

    def _on_step(self) -> bool:
        if self.observation is None:
            self._look_for_observation()
        if self.interval.unit == "steps" and self.num_timesteps >= self.next_step:
            self._take()
            self._plan_next()
        return True

    def _on_rollout_start(self) -> None:
        self._after_update()

    def _after_update(self) -> None:
        is_new = self._updates.look()
        if is_new and self.interval.unit == "updates" and self._updates.count % self.interval.number == 0:
            self._take()

    def _on_training_end(self) -> None:
        self._after_update()
        if self.observation is not None and self.num_timesteps > self.last_step:
            self._take()

    def _read_folder(self, reader: RunReader | NoReader) -> None:
        """What an earlier part of the run has left; a file that is damaged counts for nothing."""
        steps = reader.snapshot_steps()
        self.last_step, self.scales, self.observation = (steps[-1] if steps else -1), {}, None
        if not steps:
            self.interval = self._first_interval
        for step in steps:
            with suppress(*UNREADABLE):
                self.scales = {name: colour_scale(array) for name, array in reader.snapshot(step).items()}
                break
        if steps:
            with suppress(*UNREADABLE):
                self.observation = reader.observation()

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
        self.next_step = self.num_timesteps + self.interval.number - self.num_timesteps % self.interval.number

    def _look_for_observation(self) -> None:
        """Take the first observation with motion throughout; the liveliest is the candidate until then."""
        new_obs = self.locals["new_obs"]
        observations = new_obs if isinstance(new_obs, dict) else {ONE: new_obs}
        key = _image_key(self.model.observation_space)
        rows = next(iter(observations.values())) if key is None else observations[key]
        motions = [0.0 if key is None else central_motion(frames) for frames in rows]
        liveliest = int(np.argmax(motions))
        if motions[liveliest] > self.motion:
            self.motion = motions[liveliest]
            self.candidate = {key: np.array(array[liveliest]) for key, array in observations.items()}
        if self.motion > 0:
            self._settle()

    def _settle(self) -> dict[str, Array]:
        self.observation = self.candidate
        self.writer.observation(self.observation)
        return self.observation

    def _take(self) -> None:
        observed = self._settle() if self.observation is None else self.observation
        batch = {key: array[None] for key, array in observed.items()}
        is_dict = isinstance(self.model.observation_space, spaces.Dict)
        observation = obs_as_tensor(batch if is_dict else batch[ONE], self.model.device)
        self.activations = {name: tensor[0].float().cpu().numpy() for name, tensor in self.probe(observation).items()}
        self.last_step = self.num_timesteps
        dropped = self.writer.snapshot(self.num_timesteps, self.activations)
        if dropped:
            self.interval = self.interval._replace(number=self.interval.number * 2)
        for name, array in self.activations.items():
            self.scales.setdefault(name, colour_scale(array))
            log_picture(self.logger, f"activations/{name}", channel_grid(array, self.scales[name]), self.num_timesteps)


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
