"""Nothing of ours leaves a tensor on the CPU, or waits for a number, where the policy lives on another device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("other_device.py")


@pytest.mark.slow(seconds=12)
def test_policies_and_advantages_stay_on_a_device_without_a_look_at_a_number() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    # that the device finds what it is there to find
    assert "device" in found.pop("a tensor left behind").lower()
    assert "DataDependentOutputException" in found.pop("a look at a number")
    assert len(found) == 37
    assert {name: problem for name, problem in found.items() if problem} == {}
