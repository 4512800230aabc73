"""Records on disk, fingerprints, and the words of a difference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch as th

from sb3_stable_ppo.determinism import Difference
from sb3_stable_ppo.determinism.comparison import compared
from sb3_stable_ppo.determinism.events import Event, Record, by_env, read_record, whole, write_record
from sb3_stable_ppo.determinism.fingerprint import fingerprint


def event(values: object, step: int = 0) -> Event:
    return Event("rollout", 0, step, "reward", "", *by_env(values))


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    gradient = Event("update", 0, 1, "gradient", "a.weight", *whole(th.tensor([[0.1, float("nan")]])))
    record = Record([event(np.array([1.0, 2.5])), gradient], {"seed": 1, "vec_env": "DummyVecEnv"})
    write_record(tmp_path / "record.jsonl", record)
    assert repr(read_record(tmp_path / "record.jsonl")) == repr(record)


def test_a_digest_knows_every_bit_the_type_and_the_shape() -> None:
    zeros = np.zeros(4, np.float32)
    digests = {whole(each)[0] for each in (zeros, -zeros, zeros.reshape(2, 2), zeros.astype(np.float64))}
    assert len(digests) == 4
    assert whole(th.zeros(4)) == whole(zeros)
    assert whole(th.zeros(4, dtype=th.bfloat16)) == whole(zeros)
    assert whole(np.array(1.0))[1] == ((1.0,),)


def test_the_size_of_a_difference_is_relative_to_the_values() -> None:
    one, other = Record([event(np.array([10.0, 4.0]))], {}), Record([event(np.array([10.0, 5.0]))], {})
    (difference,) = compared(one, other).differences
    assert (difference.envs, difference.n_envs, difference.size) == ((1,), 2, 0.1)
    assert str(difference) == "the reward at step 0 of rollout 0, in env 1, by 0.1 of its size"


def test_a_run_that_ends_before_the_other_differs_in_its_course() -> None:
    one, other = [event(np.array([1.0]))], [event(np.array([1.0])), event(np.array([1.0]), 1)]
    assert compared(Record(one, {}), Record(one, {})).differences == ()
    (difference,) = compared(Record(one, {}), Record(other, {})).differences
    assert str(difference) == "the course of the runs (one has ended, reward in the other) at step 1 of rollout 0"


def test_places_are_told_in_words() -> None:
    assert (
        Difference("observation", "image", "rollout", 2, 5, (0, 1), 2).where == "at step 5 of rollout 2, in all 2 envs"
    )
    assert Difference("observation", "image", "rollout", 2, 5).what == "the observation 'image'"
    assert Difference("value", "", "rollout", 0, 0, tuple(range(9)), 16).where.endswith(
        "in env 0, 1, 2, 3, 4, 5, 6, 7, …"
    )
    assert Difference("weight", "a.bias", "update", 3, -1).where == "after update 3"


def test_a_fingerprint_is_json_and_knows_threads_and_flags() -> None:
    found = fingerprint("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["threads"]["torch"] == th.get_num_threads()
    assert found["flags"]["deterministic_algorithms"] is False
    assert found["environment"]["OMP_NUM_THREADS"] == "1"
    assert found["cpu"]
