"""
Whose time is over: what a call of ``learn()`` that broke off has left behind knows it by itself.
"""

from __future__ import annotations

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
