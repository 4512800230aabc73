"""Values as JSON can hold them: one function for run folders and for the doctor's output."""

import json
import math

import numpy as np

from sb3_stable_ppo.common.files import json_ready


def test_nan_and_infinity_become_null_at_any_depth_and_numpys_numbers_pythons() -> None:
    found = json_ready({1: (math.nan, [np.float32(0.5), {"kl": np.float64("inf")}]), "units": np.int64(3), "ok": "nan"})
    assert found == {"1": [None, [0.5, {"kl": None}]], "units": 3, "ok": "nan"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
