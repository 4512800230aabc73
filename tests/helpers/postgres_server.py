"""
A real PostgreSQL on loopback, thrown away afterwards. By hand, until Ctrl-C:

    python tests/helpers/postgres_server.py --max-connections 300
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

USER, PASSWORD = "tuner", "s3cret/word"
MISSING = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs; Debian has them in none of PATH."""
    found = [Path(path).resolve().parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    return found[0] if found else None


def url(port: int, password: str = PASSWORD) -> str:
    return f"postgresql+psycopg://{USER}:{password.replace('/', '%2F')}@127.0.0.1:{port}/postgres"


@contextmanager
def server(max_connections: int = 100) -> Iterator[int]:
    """
    Run a server, as the user postgres where this is root: it refuses to be that.

    :param max_connections: PostgreSQL's setting
    :return: its port
    """
    programs = binaries()
    assert programs is not None, MISSING
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres_"))
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if user:
        shutil.chown(folder, user)
        shutil.chown(secret, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = str(folder / "data")
    make = ["-D", data, "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C"]
    subprocess.run([programs / "initdb", *make], user=user, cwd=folder, check=True, capture_output=True)
    settings = {"max_connections": max_connections, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), *flags],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(port, process, folder / "log")
        yield port
    finally:
        process.send_signal(signal.SIGINT)  # "fast": it does not wait for those who are connected
        process.wait(60)
        shutil.rmtree(folder)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(url(port).replace("+psycopg", ""), connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-connections", type=int, default=100)
    with server(parser.parse_args().max_connections) as port:
        print(url(port), flush=True)
        with suppress(KeyboardInterrupt):
            time.sleep(1e9)
