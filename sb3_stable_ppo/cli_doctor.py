"""
``sb3-stable-ppo doctor``: whether the network of a saved model lives.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from sb3_stable_ppo.cli_arguments import import_packages, natural, parser_of, positive
from sb3_stable_ppo.doctor import as_json, examine, show
from sb3_stable_ppo.env_ids import check_env
from sb3_stable_ppo.errors import UsageError


def run(argv: list[str]) -> int:
    """tell whether the network of a saved model lives; exit status 0 if it does, 1 if not"""
    parser = parser_of("doctor", run.__doc__)
    parser.add_argument("model", type=Path, help="zip of any model of SB3, sb3-contrib or ours")
    parser.add_argument("--env", help="where it plays; left out: only its weights are looked at")
    parser.add_argument("--algo", help="its algorithm's class, such as PPO, where it cannot be found out")
    parser.add_argument("--rows", type=positive, default=512, help="observations to look at (%(default)s)")
    parser.add_argument("--seed", type=natural, default=0, help="of the env (%(default)s)")
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
    return 0 if diagnosis.is_healthy else 1
