"""compile: auto, tried out on the minibatches of a run."""

import copy
import logging
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.envs import make_cartpole
from helpers.fast_path import policy_with
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.fast import compiled_calls, config
from sb3_stable_ppo.fast.compile_trial import MEASURED, WARM_UP, CompileTrial


class Minibatches:
    """A clock of a machine on which minibatches take so many seconds."""

    def __init__(self, compiled: float, eager: float, first: float = 30.0) -> None:
        self.now, self.seconds, self.first = 0.0, {True: compiled, False: eager}, first

    def __call__(self) -> float:
        return self.now

    def run(self, trial: CompileTrial, minibatches: int, rows: int = 64) -> Iterator[bool]:
        for _ in range(minibatches):
            trial.next_minibatch(rows)
            self.now += self.seconds[trial.compiles] + self.first
            self.first = 0.0
            yield trial.compiles


@pytest.mark.parametrize(("compiled", "eager"), [(1.0, 2.0), (2.0, 1.0)])
def test_the_faster_of_both_is_kept(compiled: float, eager: float, caplog: pytest.LogCaptureFixture) -> None:
    clock = Minibatches(compiled, eager)
    trial = CompileTrial(clock)
    needed = 2 * (WARM_UP + MEASURED)
    with caplog.at_level(logging.INFO, "sb3_stable_ppo.fast"):
        assert list(clock.run(trial, needed)) == [True, False] * (needed // 2)
        assert not trial.is_over
        assert set(clock.run(trial, 10)) == {compiled < eager}
    assert trial.is_over
    kept = "compiled" if compiled < eager else "uncompiled"
    times = f"{1000 * compiled:.3g} ms compiled, {1000 * eager:.3g} ms uncompiled"
    assert caplog.messages == [f"compile: auto goes on {kept}: a minibatch of 64 takes {times}"]


def test_what_lies_between_updates_and_minibatches_of_another_size_do_not_count() -> None:
    clock = Minibatches(1.0, 2.0)
    trial = CompileTrial(clock)
    for _ in range(2 * (WARM_UP + MEASURED)):
        list(clock.run(trial, 1))
        list(clock.run(trial, 1, rows=16))
        trial.pause()
        clock.now += 1000.0
    assert trial._seconds == {True: [31.0, *[1.0] * 9], False: [2.0] * 10}


@pytest.mark.parametrize("way", [copy.deepcopy, lambda trial: pickle.loads(pickle.dumps(trial))])
def test_a_copy_tries_anew(way: Any) -> None:
    trial = CompileTrial()
    trial.end(False)
    twin = way(trial)
    assert (trial.is_over, trial.compiles) == (True, False)
    assert (twin.is_over, twin.compiles) == (False, True)


@pytest.mark.parametrize("compiled_is_faster", [True, False])
def test_a_run_tries_both_in_its_first_update_and_goes_on_with_the_faster(
    compiled_is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def compile_layers(layers: Any, device: Any) -> Any:  # noqa: ARG001
        return lambda inputs: (calls.append(len(inputs)), layers(inputs))[1]

    monkeypatch.setattr(compiled_calls, "compile_layers", compile_layers)
    monkeypatch.setattr(config, "why_no_compile", lambda _: None)
    numbers = {"n_steps": 64, "batch_size": 16, "n_epochs": 10, "seed": 0}
    model = StablePPO("StableMlpPolicy", make_cartpole(), policy_kwargs={"compile": "auto"}, **numbers)
    trial = model.policy._compile_trial
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0 if trial.compiles == compiled_is_faster else 2.0
        return now

    trial.clock = clock
    model.learn(64)
    assert trial.is_over
    assert trial.compiles == compiled_is_faster
    in_trial, minibatches = 2 * (WARM_UP + MEASURED), 10 * 64 * model.n_envs // 16
    compiled = in_trial // 2 + (minibatches - in_trial if compiled_is_faster else 0)
    assert calls == [16] * 2 * compiled  # actor and critic each have a network that is compiled


def test_compile_true_is_not_tried_out() -> None:
    policy = policy_with(compile=True)
    assert policy._compile_trial is None
    assert policy_with(compile="auto")._compile_trial is not None
