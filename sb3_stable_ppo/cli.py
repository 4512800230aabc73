"""
The command line: ``sb3-stable-ppo train | doctor | bench``. Exit status 0: done; 1: training collapsed, or a model that
is unhealthy; 2: a mistake in the call; 130: interrupted before training began.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sb3_stable_ppo import __version__
from sb3_stable_ppo.env_ids import check_env
from sb3_stable_ppo.guard_config import CollapseError
from sb3_stable_ppo.hyperparams import UsageError
from sb3_stable_ppo.patching import replaced
from sb3_stable_ppo.runs import RunReader

PROGRAM = "sb3-stable-ppo"


def main(argv: Sequence[str] | None = None) -> int:
    """
    :param argv: the arguments; None: those of the process
    :return: the exit status
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Keeps PPO's networks alive. Each command takes --help.",
        epilog="\n".join(f"  {name:8}{command.__doc__}" for name, command in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="command", help=", ".join(COMMANDS))
    args = parser.parse_args(argv[:1])
    try:
        return COMMANDS[args.command](argv[1:])
    except UsageError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except CollapseError as error:
        print(f"{PROGRAM}: training collapsed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130


def train(argv: list[str]) -> int:
    """train an agent through rl_zoo3; all flags of rl_zoo3's train work"""
    if importlib.util.find_spec("rl_zoo3") is None:
        raise UsageError("train needs rl_zoo3: pip install 'sb3-stable-ppo[zoo]'.")
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--algo", default="stable_ppo")
    own.add_argument("--env", default="CartPole-v1")
    own.add_argument("--gym-packages", nargs="+", default=[])
    own.add_argument("-i", "--trained-agent", default="")
    own.add_argument("--no-progress", action="store_true")
    own.add_argument("--vec-env")
    own.add_argument("-h", "--help", action="store_true")
    args, _ = own.parse_known_args(argv)
    if args.help:
        print(
            "Beside rl_zoo3's own flags below: --no-progress (tables instead of a progress bar).\n"
            "Defaults that differ: --algo stable_ppo, its --conf-file from this package, --progress.\n"
        )

    import rl_zoo3.train

    from sb3_stable_ppo import zoo

    zoo.register()
    if not args.help:
        import_packages(args.gym_packages)
        check_env(args.env)
        if args.trained_agent and not (args.trained_agent.endswith(".zip") and Path(args.trained_agent).is_file()):
            raise UsageError(f"--trained-agent {args.trained_agent}: no such .zip file.")
    defaults, vec_env = ["--algo", args.algo], args.vec_env
    if args.algo in zoo.ALGORITHMS:
        defaults += ["--conf-file", str(zoo.config_file(args.algo))]
    if not args.no_progress:
        defaults += ["--progress"]
    flags = [flag for flag in argv if flag != "--no-progress"]
    managers: list[zoo.StableExperimentManager] = []

    def make_manager(*args: object, **kwargs: object) -> zoo.StableExperimentManager:
        managers.append(zoo.StableExperimentManager(*args, **kwargs))  # type: ignore[arg-type]
        managers[-1].vec_env_flag = vec_env
        return managers[-1]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        replaced(rl_zoo3.train, "ExperimentManager", make_manager),
        replaced(sys, "argv", [f"{PROGRAM} train", *defaults, *flags]),
        handled(signal.SIGTERM, stop),  # a scheduler's polite end of a job saves the model as Ctrl-C does
    ):
        try:
            rl_zoo3.train.train()
        except Exception as error:
            if isinstance(error, UsageError) or any(manager.is_set_up for manager in managers):
                raise
            raise UsageError(f"train: {type(error).__name__}: {' '.join(str(error).split())}") from error
        finally:
            for manager in managers:
                print_results(Path(manager.save_path))
    return 0


def bench(argv: list[str]) -> int:
    """measure training speed here: stock SB3, then the fast path one option after the other"""
    if importlib.util.find_spec("ale_py") is None:
        raise UsageError("bench needs the Atari emulator: pip install 'sb3-stable-ppo[atari]'.")
    import torch as th

    from sb3_stable_ppo.bench import BASE, VARIANTS, measure, table
    from sb3_stable_ppo.envs import atari_spec, frame_skip_of
    from sb3_stable_ppo.speed import Speed

    parser = argparse.ArgumentParser(prog=f"{PROGRAM} bench", description=bench.__doc__, allow_abbrev=False)
    parser.add_argument("--env", default="PongNoFrameskip-v4", help="an Atari game (%(default)s)")
    parser.add_argument("--n-envs", type=_positive, default=8, help="games (%(default)s)")
    parser.add_argument("--steps", type=_positive, default=4096, help="steps that are timed (%(default)s)")
    parser.add_argument("--rounds", type=_positive, default=1, help="how often each is measured (%(default)s)")
    parser.add_argument("--seed", type=_natural, default=0, help="of the first round (%(default)s)")
    parser.add_argument("--variants", type=_positive, nargs="+", metavar="N", help="only these, and 1, the base")
    parser.add_argument("--list", action="store_true", help="the variants and their numbers, and no more")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each measurement in place of the table")
    args = parser.parse_args(argv)
    names = list(VARIANTS)
    if args.list:
        print("\n".join(f"{number:2} {name}" for number, name in enumerate(names, start=1)))
        return 0
    if args.variants and max(args.variants) > len(names):
        raise UsageError(f"--variants: there are {len(names)}; --list shows them.")
    try:
        frame_skip_of(atari_spec(args.env))
    except ValueError as error:
        raise UsageError(f"bench: {error}") from error
    chosen = [name for number, name in enumerate(names, start=1) if number in (args.variants or [number])]
    chosen = list(dict.fromkeys([BASE, *chosen]))
    device = th.device("cuda" if th.cuda.is_available() else "cpu")
    picked = Speed("channels_last", "auto", "auto").pick(device)
    print(
        f"{args.env}, {args.n_envs} envs, {th.get_num_threads()} threads, torch {th.__version__}, {device}; auto is "
        f"{'bf16' if picked.bf16 else 'fp32'}, {'compiled' if picked.compiled else 'eager'} here. "
        f"{len(chosen)} variants, half a minute each or so on two cores.",
        file=sys.stderr,
    )
    cells = [
        {"variant": name, "env_id": args.env, "n_envs": args.n_envs, "steps": args.steps, "seed": args.seed + number}
        for number in range(args.rounds)
        for name in (chosen if number % 2 == 0 else reversed(chosen))
    ]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    try:
        for cell, figures in measure(cells):
            rows[str(cell["variant"])].append(figures)
            print(f"{cell['variant']}: {figures['steps_per_s']:.0f} steps/s", file=sys.stderr)
            if args.json:
                print(json.dumps({**cell, **figures}), flush=True)
    except RuntimeError as error:
        print(f"{PROGRAM}: bench: {error}", file=sys.stderr)
        return 1
    if not args.json:
        print(table((name, figures) for name in chosen for figures in rows[name]))
    return 0


def doctor(argv: list[str]) -> int:
    """tell whether the network of a saved model lives; exit status 0 if it does, 1 if not"""
    from sb3_stable_ppo.doctor import as_json, examine, show

    parser = argparse.ArgumentParser(prog=f"{PROGRAM} doctor", description=doctor.__doc__, allow_abbrev=False)
    parser.add_argument("model", type=Path, help="zip of any model of SB3, sb3-contrib or ours")
    parser.add_argument("--env", help="where it plays; left out: only its weights are looked at")
    parser.add_argument("--algo", help="its algorithm's class, such as PPO, where it cannot be found out")
    parser.add_argument("--rows", type=_positive, default=512, help="observations to look at (%(default)s)")
    parser.add_argument("--seed", type=_natural, default=0, help="of the env (%(default)s)")
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


def import_packages(names: Sequence[str]) -> None:
    """
    Import the modules that register a user's envs.

    :param names: of modules
    :raises UsageError: if one cannot be imported
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"--gym-packages {name}: {error}.") from error


def _natural(text: str, least: int = 0) -> int:
    """A whole number of at least ``least``, or the error that argparse shows."""
    if not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def _positive(text: str) -> int:
    return _natural(text, 1)


@contextmanager
def handled(number: signal.Signals, handler: Callable[..., None]) -> Iterator[None]:
    """
    Handle a signal, in the main thread, and hand it back.

    :param number: the signal
    :param handler: what is called
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def print_results(folder: Path) -> None:
    """
    Where a run's results are, and how its layers fared.

    :param folder: the run folder; nothing is printed if there is none
    """
    if not folder.is_dir():
        return
    from rich.console import Console
    from rich.table import Table

    reader = RunReader(folder)
    console = Console()
    console.print(f"\nResults ({reader.facts.get('status', 'unknown')}): [bold]{folder}[/bold]")
    health = list(reader.health())
    if not health:
        return
    first, last = health[0], health[-1]
    table = Table(title="Live units per layer (a positive output on some of 64 observations)")
    table.add_column("layer")
    table.add_column("units", justify="right")
    table.add_column(f"step {first['step']:,}", justify="right")
    table.add_column(f"step {last['step']:,}", justify="right")
    for layer, figures in last["layers"].items():
        before = first["layers"].get(layer, figures)
        table.add_row(layer, *(str(int(n)) for n in (figures["units"], before["live"], figures["live"])))
    console.print(table)


COMMANDS: dict[str, Callable[[list[str]], int]] = {"train": train, "doctor": doctor, "bench": bench}

if __name__ == "__main__":
    sys.exit(main())
