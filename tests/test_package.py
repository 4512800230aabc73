"""What is shipped: the wheel, its data, its types, the pins; and the house: rooms, layers, lazy names."""

import ast
import doctest
import importlib
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sb3_stable_ppo
from helpers.processes import ROOT, run_python
from helpers.project import PYPROJECT

pytestmark = pytest.mark.slow(seconds=1)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_configurations_and_types_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"sb3_stable_ppo/py.typed", "sb3_stable_ppo/zoo_configs/stable_ppo.yml"} < set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "zoo_configs"))]


@pytest.mark.slow
def test_the_installed_wheel_trains_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import sb3_stable_ppo; print(sb3_stable_ppo.__file__)\n"
        "from sb3_stable_ppo.cli.app import main\n"
        "sys.exit(main(['train', '--env', 'CartPole-v1', '-n', '256', '--eval-freq', '-1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert "site/sb3_stable_ppo/zoo_configs/stable_ppo.yml" in done.stdout
    assert (tmp_path / "logs/stable_ppo/CartPole-v1_1/CartPole-v1.zip").is_file()


def test_all_names_that_are_exported_exist() -> None:
    assert sorted(sb3_stable_ppo.__all__) == sb3_stable_ppo.__all__
    assert all(hasattr(sb3_stable_ppo, name) for name in sb3_stable_ppo.__all__)


def test_four_policies_are_listed_and_all_twelve_can_be_imported() -> None:
    kinds = ("StableCnnPolicy", "StableMlpPolicy", "StableMultiInputPolicy", "StablePongPolicy")
    listed = [name for name in sb3_stable_ppo.__all__ if name.endswith("Policy")]
    assert listed == list(kinds)
    for kind in kinds:
        for form in ("", "Maskable", "Recurrent"):
            name = kind.replace("Stable", f"Stable{form}")
            assert getattr(sb3_stable_ppo, name) is getattr(sb3_stable_ppo.policies, name)


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{sb3_stable_ppo.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_pin_is_exact_and_torch_takes_the_cpu_wheel() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+==[\w.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins


# -- the house ---------------------------------------------------------------------------------------------------------

PACKAGE = ROOT / "sb3_stable_ppo"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE.rglob("*.py") if path.stem != "__main__"
)
"""Every module of the package by its dotted name, rooms as ``room.__init__``."""


def imported_for_type_checkers(room: str) -> dict[str, str]:
    """The names that a room's ``__init__`` imports under TYPE_CHECKING, and from which module."""
    tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or "": str(node.module) for node in imports for alias in node.names}


UNLISTED = re.compile(r"Stable(Maskable|Recurrent)\w+Policy|make_atari_env")
"""Forms of our policies that an algorithm chooses, and an old name: importable, but on no list."""


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_rooms_lazy_names_are_those_that_type_checkers_see(room: str) -> None:
    module = importlib.import_module(f"sb3_stable_ppo.{room}".rstrip("."))
    seen = imported_for_type_checkers(room)
    assert [name for name in sorted(seen) if not UNLISTED.fullmatch(name)] == module.__all__
    assert set(module.__all__) <= set(dir(module))
    assert not [name for name in dir(module) if UNLISTED.fullmatch(name)]
    assert not set(seen) & {path.stem for path in (PACKAGE / room).iterdir()}, "a module hides a name once imported"
    for name, place in seen.items():
        assert getattr(module, name) is getattr(importlib.import_module(place), name)


def test_every_room_says_what_it_is_for() -> None:
    for room in ROOMS:
        docstring = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text()))
        assert docstring, room
        assert f"`{room}/`" in (ROOT / "docs" / "architecture.md").read_text(), room


def test_few_modules_stand_beside_the_rooms() -> None:
    beside = {path.stem for path in PACKAGE.glob("*.py")}
    assert beside == {"__init__", "__main__", "_old_names"}


def test_every_room_has_tests_of_its_own() -> None:
    for room in ROOMS:
        assert list((ROOT / "tests" / room).glob("test_*.py")), room


def test_the_contract_of_layers_is_kept_and_names_every_room() -> None:
    """import-linter's; ``exhaustive`` makes a room that it does not name an error."""
    done = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout
    (contract,) = PYPROJECT["tool"]["importlinter"]["contracts"]
    named = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    assert contract["exhaustive"]
    assert named == {*ROOMS, "__main__", "_old_names"}


LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def test_classes_that_users_import_say_so_wherever_they_are_defined() -> None:
    """What is pickled names them as ``sb3_stable_ppo.StepLR``, so that the next move breaks nothing that was saved."""
    exported = [getattr(sb3_stable_ppo, name) for name in sb3_stable_ppo.__all__]
    classes = [value for value in exported if isinstance(value, type)]
    assert len(classes) >= 17
    assert {cls.__module__ for cls in classes} == {"sb3_stable_ppo"}
    assert all(pickle.loads(pickle.dumps(cls)) is cls for cls in classes)


@pytest.mark.parametrize("module", [name for name in MODULES if not name.endswith("__init__")])
def test_the_examples_in_docstrings_are_right(module: str) -> None:
    found = importlib.import_module(module)
    own = [value for value in vars(found).values() if getattr(value, "__module__", "") in (module, "sb3_stable_ppo")]
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for value in [found, *(value for value in own if isinstance(value, type))]:
        # module=False: an exported class says that it is of the package, and would be passed over as another module's
        for test in finder.find(value, value.__name__, module=None if value is found else False, globs=vars(found)):
            runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], *([command, "--help"] for command in ("doctor", "report", "tune", "bench"))],
)
def test_help_and_version_import_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from sb3_stable_ppo.cli.app import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert end.code in (0, None)\n"
        "heavy = {'torch', 'stable_baselines3', 'gymnasium', 'rl_zoo3'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    assert run_python(code, *arguments).splitlines()[-1] == "[]"


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import sys, sb3_stable_ppo; print({'torch', 'numpy', 'stable_baselines3'} & set(sys.modules))"
    assert run_python(code).strip() == "set()"


def test_studies_need_no_torch() -> None:
    """What a hundred workers and ``benchmarks/storage_traffic.py`` import."""
    code = "import sys, sb3_stable_ppo.studies.study, sb3_stable_ppo.studies.space; print('torch' in sys.modules)"
    assert run_python(code).strip() == "False"
