"""bfloat16 on every processor: where it is emulated it is slow, and what it computes is the same."""

import pytest

from sb3_stable_ppo.fast import config


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "why_no_bf16", lambda _: None)
