"""rl_zoo3's own tuning on a database."""

from pathlib import Path

import pytest

from helpers.processes import LIMIT, begin
from helpers.servers import needs_postgres
from helpers.tuning import config_with


@needs_postgres
@pytest.mark.xdist_group("postgres")
@pytest.mark.slow
def test_rl_zoo3s_own_tuning_keeps_no_password_either(where: str, tmp_path: Path) -> None:
    config = config_with(tmp_path)
    storage = ["--storage", where, "--study-name", "zoo"]
    call = ["train", "--env", "CartPole-v1", "-n", "64", "-f", str(tmp_path / "logs"), "--no-report", *config, *storage]
    once = ["-optimize", "--n-trials", "1", "--n-evaluations", "1", "--eval-episodes", "1", "--no-optim-plots"]
    assert begin(*call, *once).wait(LIMIT) == 0
    assert begin(*call, "--trial-id", "0", "--eval-freq", "-1").wait(LIMIT) == 0
    (saved,) = (tmp_path / "logs").glob("stable_ppo/CartPole-v1_*/CartPole-v1/command.txt")
    assert "tuner:***@127.0.0.1" in saved.read_text()
    assert "tuner:***@127.0.0.1" in (saved.parent / "args.yml").read_text()
    for path in (tmp_path / "logs").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
