"""
The model as it was when it was last healthy.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_stable_ppo.common.errors import described
from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.common.tensors import copied


class LastHealthy:
    """
    A copy of a model's weights in memory, saved as ``last_healthy.zip`` when it is asked for.

    :param folder: of the zip; None: nothing is kept or saved
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._state: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._saved_step: int | None = None
        self._is_before_update = False

    @property
    def is_missing(self) -> bool:
        """Whether a first healthy model has still to come."""
        return self.folder is not None and self._state is None

    def keep(self, model: BaseAlgorithm, before_update: bool = False) -> None:
        """
        Copy the model's weights, in place of those kept before.

        :param model: which is healthy now
        :param before_update: whether it is about to be updated at this step
        """
        if self.folder is None:
            return
        self._is_before_update = before_update
        attributes, parameters = self._state or ({}, None)
        variables = model._get_torch_save_params()[1]  # beside the state dicts, such as SAC's log_ent_coef
        names = ["num_timesteps", "_n_updates", *variables]
        found = {name: getattr(model, name) for name in names if hasattr(model, name)}
        self._state = copied(found, attributes), copied(model.get_parameters(), parameters)

    def save(self, model: BaseAlgorithm) -> str:
        """
        Save the model as it was, with the weights of then; its own are not touched.

        :param model: the same one
        :return: a sentence that says where it is
        """
        if self.folder is None:
            return "The last healthy model is not kept, as there is no folder to save it in."
        if self._state is None:
            return "No healthy model was seen before."
        path = self.folder / "last_healthy.zip"
        attributes, parameters = self._state
        step = attributes["num_timesteps"]
        named = f"The last healthy model ({'before the update of ' if self._is_before_update else ''}step {step:,})"
        if step != self._saved_step:
            partial = path.with_name(f".{path.stem}.{os.getpid()}.part.zip")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with ExitStack() as stack:
                    for name, value in {"get_parameters": lambda: parameters, **attributes}.items():
                        stack.enter_context(patched(model, name, value))
                    model.save(partial, exclude=["get_parameters"])
                partial.replace(path)
            except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
                return f"{named} could not be saved ({described(error, 200)})."
            finally:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
            self._saved_step = step
        return f"{named} is in {path}."
