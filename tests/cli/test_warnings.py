"""Warnings on the command line."""

from __future__ import annotations

import warnings

import pytest

from sb3_stable_ppo.cli import app


def test_a_warning_to_the_user_is_its_text_without_a_line_of_code_and_others_keep_their_place() -> None:
    assert app.one_line_warning("it is dark", UserWarning, __file__, 1) == "sb3-stable-ppo: warning: it is dark\n"
    divided = app.one_line_warning("divide by zero", RuntimeWarning, __file__, 1)
    assert divided == warnings.formatwarning("divide by zero", RuntimeWarning, __file__, 1)
    assert "RuntimeWarning" in divided


def test_a_command_prints_warnings_so_and_leaves_them_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(argv: list[str]) -> int:
        seen.append((argv, warnings.formatwarning))
        return 0

    before = warnings.formatwarning
    monkeypatch.setattr("sb3_stable_ppo.cli.doctor.run", run)
    assert app.main(["doctor", "a.zip"]) == 0
    assert seen == [(["a.zip"], app.one_line_warning)]
    assert warnings.formatwarning is before
