"""Zips from strangers: nothing in them is executed, and what is no model is refused."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch as th

from helpers.doctor import doctor
from sb3_stable_ppo.common.console import Console
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.doctor.untrusted_zip import read_weights

pytestmark = pytest.mark.slow(seconds=1)


class Hostile:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def rewritten(source: Path, target: Path, **files: bytes) -> Path:
    """A copy of a zip with other contents of some of its files."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, files.get(info.filename.replace(".pth", ""), old.read(info)))
    return target


def test_nothing_in_a_hostile_zip_is_executed(cartpole_zip: Path, tmp_path: Path) -> None:
    mark, buffer = tmp_path / "executed", io.BytesIO()
    th.save({"weight": Hostile(mark)}, buffer)
    serialized = {":type:": "x", ":serialized:": __import__("base64").b64encode(pickle.dumps(Hostile(mark))).decode()}
    data = json.dumps({"policy_class": serialized, "num_timesteps": 5}).encode()
    for name, zip_file in {
        "weights": rewritten(cartpole_zip, tmp_path / "a.zip", policy=buffer.getvalue()),
        "pickle": rewritten(cartpole_zip, tmp_path / "b.zip", policy=pickle.dumps(Hostile(mark))),
    }.items():
        with pytest.raises(UsageError, match="its weights are not tensors alone"):
            read_weights(zip_file)
        assert doctor(zip_file, "--weights-only") == 2, name
        assert doctor(zip_file) == 2, "without an env nothing else is looked at"
    harmless = rewritten(cartpole_zip, tmp_path / "c.zip", data=data)
    assert doctor(harmless, "--weights-only") == 0
    assert read_weights(harmless)[1] == {"num_timesteps": 5}
    assert not mark.exists()
    load = f"from stable_baselines3 import PPO; PPO.load({str(harmless)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", load], check=False, capture_output=True)
    assert mark.exists(), "the zip would have done it"


def test_a_zip_that_grows_a_thousandfold_is_not_unpacked(cartpole_zip: Path, tmp_path: Path) -> None:
    bomb = rewritten(cartpole_zip, tmp_path / "bomb.zip", data=b"[" * 50_000_000)
    with pytest.raises(UsageError, match=r"data would take 50,000,000 bytes from [\d,]+: not unpacked"):
        read_weights(bomb)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 50_000_000)
    with pytest.raises(UsageError, match="not unpacked"):
        read_weights(rewritten(cartpole_zip, tmp_path / "nested.zip", policy=inner.getvalue()))
    deep = rewritten(cartpole_zip, tmp_path / "deep.zip", data=b"[" * 5_000 + os.urandom(200).hex().encode())
    with pytest.raises(UsageError, match="its data is no JSON"):
        read_weights(deep)
    with pytest.raises(UsageError, match="its data is no JSON object"):
        read_weights(rewritten(cartpole_zip, tmp_path / "list.zip", data=b"[1, 2]"))


@pytest.mark.parametrize(
    "weights",
    [
        [1, 2],
        {},
        {"weight": 3},
        {"weight": th.zeros(1).expand(10**13)},
        {"weight": th.zeros(3, 3).to_sparse()},
        {"weight": th.zeros(3, device="meta")},
        {"\x1b[2J": th.zeros(3)},
    ],
)
def test_weights_that_are_no_tensors_by_name_are_refused(weights: Any, cartpole_zip: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    th.save(weights, buffer)
    with pytest.raises(UsageError, match="its weights are not plain tensors by name"):
        read_weights(rewritten(cartpole_zip, tmp_path / "a.zip", policy=buffer.getvalue()))


def test_a_reader_that_has_had_enough_is_no_error(cartpole_zip: Path) -> None:
    command = f"{sys.executable} -m sb3_stable_ppo doctor {cartpole_zip} --json | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_reader_of_the_coloured_verdict_that_has_had_enough_does_not_make_the_model_unhealthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        Console().print("healthy")
