"""
The check of observations and rewards put into an env from within, so that its wrappers stay as they are.

A wrapper around the env would be one more in the chain that SB3 walks: ``EvalCallback`` compares the wrappers of the
training env with those of its own, and a replay buffer takes what ``VecNormalize`` was given. So the envs stay, and
their ``step_wait`` is shadowed while a run lasts, or a rollout of :class:`StablePPO`, below ``VecNormalize`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack, VecNormalize

from sb3_stable_ppo.common.patching import patched
from sb3_stable_ppo.guards.checked_env import CURE as CURE_OF_STABLE_PPO, CheckedVecEnv, WarnOnce
from sb3_stable_ppo.guards.one_learn import OneLearn

CURE = "set GuardCallback(on_nonfinite_obs='repeat_last')"
WINDOW = 1000
"""Steps of an env of which one at least has to be finite."""


class CheckedStep:
    """
    Stands in for ``step_wait`` of one VecEnv until :meth:`remove`. A copy of the env has its own ``step_wait`` again.

    :param venv: with or without wrappers around it; relies on ``VecEnv.step`` to call ``step_wait``
    :param rule: ``raise`` or ``repeat_last``
    :param learn: the call of ``learn()`` that it is for; the first step after it takes the check away
    :param warn_once: takes a kind of event and a sentence about it, for the user
    :param at_error: is called before an error leaves the step
    :param cure: how a user lets the last observation be repeated, for the error
    """

    def __init__(
        self,
        venv: VecEnv,
        rule: str,
        learn: OneLearn,
        warn_once: WarnOnce,
        at_error: Callable[[], None],
        cure: str = CURE,
    ) -> None:
        self.venv, self.rule, self.learn, self.at_error = venv, rule, learn, at_error
        self.step_wait = venv.step_wait
        self.checked = CheckedVecEnv(venv, self._note, cure)
        self._warn_once, self._is_new = warn_once, False
        self._steps: int | None = None
        self._told = (0, 0)
        self._undo = ExitStack()

    def begin(self, step: int, observations: Any) -> Any:
        """
        Check from now on.

        :param step: timesteps so far
        :param observations: the last that the env gave; None if they are not known
        :return: the same, finite
        :raises CollapseError: with rule ``raise``
        """
        observations = self.checked.begin(self.rule, step, observations)
        self._undo.enter_context(patched(self.venv, "step_wait", self))
        return observations

    def __call__(self) -> Any:
        """In place of ``step_wait``."""
        before, self._steps = self._steps, self.learn.num_timesteps
        # Where the model's steps stand still, it evaluates; or its run broke off, and another model trains in this env
        if self.learn.is_over() or (before == self._steps and not self.learn.is_calling()):
            self.remove()
            return self.step_wait()
        try:
            return self.checked.check(*self.step_wait())
        except BaseException:
            self.at_error()
            raise

    def remove(self) -> None:
        """Give the env its own ``step_wait`` back; can be done more than once."""
        self._undo.close()

    def new_counts(self) -> tuple[int, int]:
        """
        Rewards and observations that were not finite since the last call.

        :raises CollapseError: if an env gave nothing finite for a thousand steps
        """
        checked, new = self.checked, (0, 0)
        if self._is_new:
            found = (int(checked.bad_rewards.sum()), int(checked.bad_observations.sum()))
            new = (found[0] - self._told[0], found[1] - self._told[1])
            self._is_new, self._told = False, found
        if checked.steps >= WINDOW:
            checked.end()
            checked.begin(self.rule, checked.step_count, checked.last)
            self._told = (0, 0)
        return new

    def _note(self, kind: str, text: str) -> None:
        self._is_new = True
        self._warn_once(kind, text)

    def __reduce__(self) -> tuple[Any, ...]:
        """The method of the copy's class: pickle and copy ask for it before the copy has attributes of its own."""
        return getattr, (self.venv, "step_wait")


def places_of(env: VecEnv) -> list[VecEnv]:
    """
    Where to check, from within: the innermost env; what ``VecFrameStack`` is given, which would show a bad value for
    several steps; what ``VecNormalize`` is given, whose statistics one bad value spoils for good; and the whole, for
    what a wrapper breaks.

    :param env: with whatever wrappers
    """
    chain = _chain(env)
    below = [wrapper.venv for wrapper in chain if isinstance(wrapper, (VecNormalize, VecFrameStack))]
    return [each for each in reversed(chain) if each in (env, chain[-1], *below)]


@contextmanager
def checked_below(
    env: VecEnv, rule: str, step: int, learn: OneLearn, warn_once: WarnOnce, before: Sequence[CheckedVecEnv] = ()
) -> Iterator[list[CheckedVecEnv]]:
    """
    A context in which what each ``VecNormalize`` and each ``VecFrameStack`` is given is checked, for a rollout: the
    latter would show a bad value for several steps.

    :param env: with whatever wrappers
    :param rule: ``raise`` or ``repeat_last``
    :param step: timesteps so far
    :param learn: the call of ``learn()`` that it is for
    :param warn_once: takes a kind of event and a sentence about it, for the user
    :param before: the checks of the rollout before, which know the last observations
    :return: the checks, with what they counted
    :raises CollapseError: with rule ``raise``
    """
    remove_leftovers(env)
    checks = []
    with ExitStack() as stack:
        for wrapper in _chain(env):
            if isinstance(wrapper, (VecNormalize, VecFrameStack)):
                check = CheckedStep(wrapper.venv, rule, learn, warn_once, stack.close, CURE_OF_STABLE_PPO)
                stack.callback(check.remove)
                last = vars(wrapper).get("old_obs")  # a normaliser's, from its first reset on
                if last is None:
                    last = next((each.last for each in before if each.venv is wrapper.venv), None)
                check.begin(step, last)
                checks.append(check.checked)
        yield checks


def remove_leftovers(env: VecEnv) -> None:
    """
    Take off what runs that broke off have left.

    :param env: with whatever wrappers
    """
    for place in places_of(env):
        left = place.__dict__.get("step_wait")
        if isinstance(left, CheckedStep):
            left.remove()


def _chain(env: VecEnv) -> list[VecEnv]:
    """An env with its wrappers, the outermost first."""
    chain = [env]
    while isinstance(chain[-1], VecEnvWrapper):
        chain.append(chain[-1].venv)
    return chain
