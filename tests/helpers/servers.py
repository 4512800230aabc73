"""Fixtures of servers that take long to start: a PostgreSQL and a Ray cluster, once a session."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import postgres_server
from helpers.processes import TESTS

needs_postgres = pytest.mark.skipif(
    postgres_server.binaries() is None and "CI_NEEDS_POSTGRES" not in os.environ, reason=postgres_server.MISSING
)


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """Of a PostgreSQL server."""
    with postgres_server.server(max_connections=40) as found:
        yield found


@pytest.fixture
def where(port: int, request: pytest.FixtureRequest) -> str:
    """A database of the test's own on the server."""
    import psycopg

    name = f"d{abs(hash(request.node.name)) % 10**9}"
    with psycopg.connect(postgres_server.url(port).replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"create database {name}")
    return f"{postgres_server.url(port).rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """
    Two nodes of a CPU each, which know the tests' callbacks. Their workers have the priority of any process: with
    Ray's own, a niceness of 15, they hardly run beside other tests.
    """
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("RAY_worker_niceness", "0")
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        found.add_node(num_cpus=1)
        yield found
        found.shutdown()
