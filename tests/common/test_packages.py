"""How this program is called, so that a printed command works where it is pasted."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.packages import command_line, import_packages

FOLDER = Path(sys.executable).parent


def test_a_printed_command_is_the_name_where_a_shell_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(FOLDER))
    assert command_line("train", "--env", "My Env") == "sb3-stable-ppo train --env 'My Env'"


@pytest.mark.parametrize("python", ["this", "another"])
def test_a_printed_command_runs_where_a_shell_does_not_find_the_name(
    python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(tmp_path)
    if python == "another":  # an environment without our script
        (tmp_path / "python").symlink_to(sys.executable)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        assert shlex.split(command_line("--version")) == [str(tmp_path / "python"), "-m", "sb3_stable_ppo", "--version"]
        return
    done = subprocess.run(["bash", "-c", command_line("--version")], capture_output=True, text=True)
    assert done.stdout.startswith("sb3-stable-ppo 0"), done.stderr


def test_a_script_below_the_current_folder_is_named_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(FOLDER.parent)
    assert command_line("--version") == f"{FOLDER.name}/sb3-stable-ppo --version"


def test_a_module_in_the_current_folder_is_found_as_python_m_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "envs_in_this_folder.py").write_text("import no_such_module_of_theirs")
    with pytest.raises(UsageError, match=r"envs_in_this_folder: No module named 'no_such_module_of_theirs'"):
        import_packages(["envs_in_this_folder"])
    (tmp_path / "broken_in_this_folder.py").write_text("def (")
    with pytest.raises(UsageError, match=r"broken_in_this_folder: SyntaxError: invalid syntax"):
        import_packages(["broken_in_this_folder"])
