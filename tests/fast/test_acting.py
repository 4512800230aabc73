"""Acting on the fast path: weights cast to bfloat16 once per rollout, and one thread for few observations."""

from contextlib import nullcontext

import pytest
import torch as th

from helpers.fast_path import images, model_with, policy_with, settled
from sb3_stable_ppo import StablePPO
from sb3_stable_ppo.fast import threads
from sb3_stable_ppo.fast.threads import single_threaded_inference


def test_weights_cast_once_act_as_weights_cast_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cached, uncached = settled(policy_with(precision="bf16")), settled(policy_with(precision="bf16"))
    monkeypatch.setattr(uncached.features_extractor._fast_path._casts, "swapped_in", nullcontext)
    for _ in range(2):
        with th.no_grad():
            assert th.equal(cached.predict_values(images(4)), uncached.predict_values(images(4)))
            assert len(cached.features_extractor._fast_path._casts._casts) == 3  # conv2, conv3 and the linear layer
            for policy in (cached, uncached):
                policy.features_extractor.linear.fc.weight.mul_(0.5)
    assert all(isinstance(p, th.nn.Parameter) and p.dtype == th.float32 for p in cached.parameters())


@pytest.mark.parametrize("fused", [True, False])
def test_a_rollout_acts_with_the_weights_of_the_last_update(fused: bool) -> None:
    model = model_with(StablePPO, precision="bf16", optimizer_kwargs={"fused": fused}).learn(32)
    policy = settled(model.policy)
    with th.no_grad():
        policy(images(4))
    model.learn(16)
    settled_again = settled(model.policy)
    with th.no_grad():
        values = settled_again.predict_values(images(4))
        policy.features_extractor._fast_path.forget_weights()
        assert th.equal(values, policy.predict_values(images(4)))


def test_weights_written_past_torchs_count_are_seen_where_the_mode_is_set() -> None:
    policy = settled(policy_with(precision="bf16"))
    with th.no_grad():
        before = policy.predict_values(images(4))
    policy.features_extractor.linear.fc.weight.data.zero_()
    with th.no_grad():
        assert not th.equal(settled(policy).predict_values(images(4)), before)


def test_weights_are_put_back_where_a_layer_fails() -> None:
    policy = settled(policy_with(precision="bf16"))
    with th.no_grad(), pytest.raises(RuntimeError):
        policy.features_extractor(images(4)[:, :3])
    assert all(isinstance(p, th.nn.Parameter) for p in policy.parameters())


@pytest.mark.parametrize(
    ("count", "rows", "expected"), [(2, 8, 1), (4, threads.FEW_ROWS, 1), (2, 17, 2), (5, 8, 5), (1, 8, 1)]
)
def test_few_threads_act_on_few_rows_as_one(
    count: int, rows: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [count]
    monkeypatch.setattr(th, "get_num_threads", lambda: now[-1])
    monkeypatch.setattr(th, "set_num_threads", now.append)
    with single_threaded_inference(rows, th.device("cpu")):
        assert now[-1] == expected
    assert now[-1] == count


def test_a_plain_policy_acts_on_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(th, "set_num_threads", seen.append)
    settled(policy_with())(images(2))
    assert not seen
