"""
``sb3-stable-ppo doctor``: whether the network of a saved model lives.
"""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

from sb3_stable_ppo.cli.arguments import non_negative_int, parser_of, positive_int
from sb3_stable_ppo.common.errors import UsageError
from sb3_stable_ppo.common.files import json_ready
from sb3_stable_ppo.common.packages import import_packages
from sb3_stable_ppo.doctor.findings import Diagnosis


def run(argv: list[str]) -> int:
    """tell whether the network of a saved model lives; exit status 0 if nothing critical is found, 1 otherwise"""
    parser = parser_of("doctor", run.__doc__)
    parser.add_argument("model", type=Path, help="zip of any model of SB3, sb3-contrib or ours")
    parser.add_argument("--env", help="where it plays; without it only its weights are examined")
    parser.add_argument("--algo", help="its algorithm's class, such as PPO, where it cannot be found out")
    parser.add_argument("--rows", type=positive_int, default=512, help="observations to look at (%(default)s)")
    parser.add_argument("--seed", type=non_negative_int, default=0, help="of the env (%(default)s)")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="modules that register the env")
    parser.add_argument(
        "--weights-only", action="store_true", help="execute nothing in the zip: for files of strangers"
    )
    parser.add_argument("--json", action="store_true", help="the diagnosis as JSON")
    args = parser.parse_args(argv)
    if args.weights_only and args.env:
        raise UsageError(
            "--weights-only looks at weights alone: leave --env out, or --weights-only if you trust the file."
        )
    from sb3_stable_ppo.doctor.examination import examine  # here, so that --help does not wait for torch
    from sb3_stable_ppo.envs.registry import check_env

    import_packages(args.gym_packages)
    if args.env:
        check_env(args.env)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diagnosis, subject = examine(args.model, args.env, args.algo, args.rows, args.seed, args.weights_only)
    if args.json:
        print(as_json(diagnosis, subject))
    else:
        show(diagnosis, subject)
    return 0 if diagnosis.is_healthy or diagnosis.is_open else 1


def as_json(diagnosis: Diagnosis, subject: str) -> str:
    """The diagnosis for machines; NaN and infinity are ``null``."""
    return json.dumps(json_ready({"subject": subject, **diagnosis.as_dict()}), indent=2, allow_nan=False)


def show(diagnosis: Diagnosis, subject: str) -> None:
    """Print the verdict, the findings and the layers."""
    if find_spec("rich") is None:
        print(f"{subject}\n{diagnosis}")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    colour = "green" if diagnosis.is_healthy else "yellow" if diagnosis.is_open else "red"
    console.print(escape(subject), highlight=False)
    console.print(f"[bold {colour}]{diagnosis.verdict}[/]")
    for finding in diagnosis.findings:
        console.print(f"  [bold]{finding.severity}[/] {finding.name}: {escape(finding.evidence)}", highlight=False)
        console.print(f"    {escape(finding.remedy)}", highlight=False)
    layers = diagnosis.figures.get("layers") or {}
    if layers:
        table = Table("layer", *("units", "live", "dead, linear or saturated", "dormant"))
        for name, layer in layers.items():
            faulty = f"{layer['fault_fraction']:.0%} {layer['fault']}"
            table.add_row(name, str(layer["units"]), str(layer["live"]), faulty, f"{layer['dormant_fraction']:.0%}")
        console.print(table)
    features, acting = (diagnosis.figures.get(part) or {} for part in ("features", "policy"))
    if features:
        ranks = f"srank {features['srank']} of {features['width']}, effective rank {features['effective_rank']:.1f}"
        console.print(f"features of {features['layer']}: {ranks}", highlight=False)
    if acting:
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in acting.items())
        console.print(f"policy: {figures}", highlight=False)
