"""
Whose time is over: what a call of ``learn()`` that broke off has left behind knows it by itself.
"""

from __future__ import annotations

import sys
import weakref

from stable_baselines3.common.base_class import BaseAlgorithm


class OneLearn:
    """
    The call of ``learn()`` that is running now. SB3 tells callbacks of its end only where no exception ended it.

    Relies on ``BaseAlgorithm._setup_learn``, which sets ``start_time`` anew at the start of each call.

    :param model: in training; it is not kept alive
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = weakref.ref(model)
        self._started = model.start_time

    def is_over(self) -> bool:
        """Whether the model is gone, or another call of ``learn()`` has begun."""
        model = self._model()
        return model is None or model.start_time != self._started

    @property
    def num_timesteps(self) -> int | None:
        """The model's environment steps; None if it is gone."""
        model = self._model()
        return None if model is None else model.num_timesteps

    def is_calling(self) -> bool:
        """
        Whether a ``learn()`` of the model is among the calls that led here, be it by an evaluation. It takes a look at
        the whole stack, so ask only where there is reason to doubt it.
        """
        model, frame = self._model(), sys._getframe()
        while model is not None and frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_name == "learn" and frame.f_locals.get("self") is model:
                return True
        return False
