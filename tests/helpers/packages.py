"""Marks of tests that need what not every installation has."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

needs_envpool = pytest.mark.skipif(find_spec("envpool") is None, reason="EnvPool has no wheel for Python 3.10")
needs_numpy_2 = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.0.0", reason="NumPy 1 cannot read the arrays that NumPy 2 has pickled"
)
