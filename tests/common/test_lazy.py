"""Names that are imported when they are first asked for."""

import pytest

import sb3_stable_ppo
from helpers.processes import run_python
from sb3_stable_ppo.common.lazy import public

pytestmark = pytest.mark.slow(seconds=1)


def test_a_name_is_imported_once_and_found_without_help_from_then_on() -> None:
    code = (
        "import sys, sb3_stable_ppo\n"
        "assert 'StepLR' not in vars(sb3_stable_ppo)\n"
        "assert 'sb3_stable_ppo.schedules.learning_rate' not in sys.modules\n"
        "first = sb3_stable_ppo.StepLR\n"
        "print(vars(sb3_stable_ppo)['StepLR'] is first, 'sb3_stable_ppo.algorithms' in sys.modules)"
    )
    assert run_python(code).split() == ["True", "False"]


def test_a_room_is_an_attribute_before_anything_imports_it() -> None:
    code = "import sb3_stable_ppo; print(sb3_stable_ppo.schedules.StepLR(1e-3).initial)"
    assert run_python(code).strip() == "0.001"


def test_all_names_come_with_a_star_and_in_dir() -> None:
    namespace: dict[str, object] = {}
    exec("from sb3_stable_ppo import *", namespace)
    assert set(sb3_stable_ppo.__all__) <= namespace.keys()
    assert set(sb3_stable_ppo.__all__) | {"envs", "tuning", "schedules"} <= set(dir(sb3_stable_ppo))
    assert not {"keep_importable", "lazy_exports", "TYPE_CHECKING", "_old_names"} & set(dir(sb3_stable_ppo))


def test_a_name_that_is_not_there_is_pythons_own_error() -> None:
    with pytest.raises(AttributeError, match="module 'sb3_stable_ppo' has no attribute 'StablePP0'"):
        getattr(sb3_stable_ppo, "StablePP0")  # noqa: B009  # for its effect
    with pytest.raises(ImportError, match="cannot import name 'StablePP0' from 'sb3_stable_ppo'"):
        exec("from sb3_stable_ppo import StablePP0")
    assert not hasattr(sb3_stable_ppo.guards, "__wrapped__")


def test_a_public_class_names_the_package_as_its_module() -> None:
    @public
    class Policy:
        pass

    assert Policy.__module__ == "sb3_stable_ppo"
