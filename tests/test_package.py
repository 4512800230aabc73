"""What is shipped: the wheel, its data, its types, the pins."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import sb3_stable_ppo
from helpers.processes import ROOT


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
        "from sb3_stable_ppo.cli import main\n"
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


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{sb3_stable_ppo.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_pin_is_exact_and_torch_takes_the_cpu_wheel() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.\-]+==[\w.]+", pin) for pin in pins)
    assert "torch==2.13.0" in pins


def test_no_module_imports_one_that_imports_it() -> None:
    """The house of design: imports run one way."""
    modules = {
        path.stem: path.read_text() for path in (ROOT / "sb3_stable_ppo").glob("*.py") if path.stem != "__init__"
    }
    imports = {
        name: {found for found in re.findall(r"sb3_stable_ppo\.(\w+)", code) if found in modules and found != name}
        for name, code in modules.items()
    }

    def reachable(start: str, seen: frozenset[str] = frozenset()) -> set[str]:
        return {start}.union(*(reachable(n, seen | {start}) for n in imports[start] - seen - {start}))

    for name in modules:
        for imported in imports[name]:
            assert name not in reachable(imported), f"{name} and {imported} import each other"
