"""
``sb3-stable-ppo doctor``: whether the network of a saved model lives.
"""

from __future__ import annotations

import argparse
import json
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from sb3_stable_ppo.cli.arguments import add_gym_packages, non_negative_int, parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import json_ready
from sb3_stable_ppo.common.packages import import_packages
from sb3_stable_ppo.doctor.findings import Diagnosis
from sb3_stable_ppo.runs.models import model_of_run

DESCRIPTION = """\
Tell whether the network of a saved model lives, with evidence and what helps.
Exit status: 0 if nothing critical is found, 1 if something is, 2 for a mistake in the call."""


def parser() -> argparse.ArgumentParser:
    """The flags of ``doctor``."""
    found = parser_of("doctor", DESCRIPTION, "logs/stable_ppo/CartPole-v1_1")
    found.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="zip of any model of SB3, sb3-contrib or this package; or a run folder, whose last model is examined",
    )
    found.add_argument(
        "--env",
        help="id of the env in which the model plays for its observations (default: of a run folder its env; of a zip "
        "none: its weights alone are examined)",
    )
    found.add_argument(
        "--algo",
        help="the model's algorithm, by its class (PPO) or by rl_zoo3's name (ppo) (default: that of run.json beside "
        "the zip, or else found out from the zip)",
    )
    found.add_argument(
        "--rows", type=positive_int, default=512, metavar="N", help="observations to look at (default: %(default)s)"
    )
    found.add_argument(
        "--seed", type=non_negative_int, default=0, metavar="SEED", help="seed of the env (default: %(default)s)"
    )
    add_gym_packages(found, "those that the model's run has imported")
    found.add_argument(
        "--weights-only",
        action="store_true",
        help="examine the weights and execute nothing that is in the zip: for files of strangers",
    )
    found.add_argument("--json", action="store_true", help="print the diagnosis as JSON")
    return found


def run(argv: list[str]) -> int:
    """tell whether the network of a saved model lives; exit status 0 if nothing critical is found, 1 otherwise"""
    args = parser().parse_args(argv)
    if args.weights_only and args.env:
        raise UsageError(
            "--weights-only looks at weights alone: leave --env out, or --weights-only if you trust the file."
        )
    from sb3_stable_ppo.cli.doctor_next import what_next  # here, so that --help does not wait for torch
    from sb3_stable_ppo.doctor.examination import examine

    model, env = args.model, args.env
    env_of_run = None
    if model.is_dir():
        model, env_of_run = model_of_run(model)
        env = None if args.weights_only else env or env_of_run
    import_packages(args.gym_packages)
    if env:
        missing = None if args.gym_packages else _import_packages_of_run(env, model)
        _check_env(env, None if args.env else args.model, missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diagnosis, subject = examine(model, env, args.algo, args.rows, args.seed, args.weights_only)
    if args.json:
        print(as_json(diagnosis, subject))
    else:
        show(diagnosis, subject)
        for line in what_next(diagnosis, args.model, env_of_run):
            print(line)
    return 0 if diagnosis.is_healthy or diagnosis.is_open else 1


def _import_packages_of_run(env: str, model: Path) -> str | None:
    """
    Import what the run has imported to register its env.

    :param env: in which the model will play, which executes what is in its zip
    :param model: its zip
    :return: what is wrong, where something cannot be imported; the env may be there without it
    """
    from sb3_stable_ppo.cli.gym_packages import packages_of_model

    try:
        import_packages(packages_of_model(model, env))
    except UsageError as error:
        return f"{str(error).rstrip('.')}, which the run has imported"
    return None


def _check_env(env: str, folder: Path | None, missing: str | None) -> None:
    """
    :param env: a Gymnasium id
    :param folder: of the run whose env it is; None: the user has named it
    :param missing: what could not be imported
    :raises UsageError: if it does not exist here, with what helps
    """
    from sb3_stable_ppo.envs.registry import check_env

    if folder is not None:
        with suppress(ImportError):
            import rl_zoo3.import_envs  # noqa: F401  # registers rl_zoo3's envs
    try:
        check_env(env)
    except UsageError as error:
        told = f"{str(error).rstrip('.')}{'' if missing is None else f' ({missing})'}."
        if folder is not None:
            told += (
                f" It is the env of the run in {folder}: --gym-packages MODULE registers an env of your own, "
                "--weights-only examines the weights without one."
            )
        raise UsageError(told) from None


def as_json(diagnosis: Diagnosis, subject: str) -> str:
    """The diagnosis for machines; NaN and infinity are ``null``."""
    return json.dumps(json_ready({"subject": subject, **diagnosis.as_dict()}), indent=2, allow_nan=False)


def show(diagnosis: Diagnosis, subject: str) -> None:
    """Print the verdict, the findings and the layers."""
    if find_spec("rich") is None:
        print(f"{subject}\n{diagnosis}")
        return
    from rich.markup import escape

    from sb3_stable_ppo.cli.doctor_table import show_figures
    from sb3_stable_ppo.common.console import Console

    console = Console()
    colour = "green" if diagnosis.is_healthy else "yellow" if diagnosis.is_open else "red"
    console.print(escape(subject), highlight=False, soft_wrap=True)  # whole, for a path that one copies
    console.print(f"[bold {colour}]{diagnosis.verdict}[/]")
    remedies: list[str] = []
    for finding in diagnosis.findings:
        console.print(f"  [bold]{finding.severity}[/] {finding.name}: {escape(finding.evidence)}", highlight=False)
        if finding.remedy not in remedies:  # several findings have one cause
            console.print(f"    {escape(finding.remedy)}", highlight=False)
        remedies.append(finding.remedy)
    show_figures(console, diagnosis.figures)
