"""The OpenAPI document is true: each answer to schemathesis is one that it describes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from service_server import API, Server, made_index, serving

pytest.importorskip("fastapi", reason="the extra veduta[web] is not installed")
pytest.importorskip("python_multipart", reason="the extra veduta[web] is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)
EVERY_CHECK = (*CHECKS, "positive_data_acceptance")
"""Also: what fits the document is accepted. That can be asked where the document tells all rules.
It cannot tell that a cursor is one of this service, that a text is a date, or what goes
together."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(made_index(tmp_path_factory.mktemp("openapi"), scenes=2, views=2)) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paths", "checks"),
    [
        (r"/photos/\{|/groups/|/facets|/indexes", EVERY_CHECK),
        ("/photos$|/photos/ids|/groups$|/places", CHECKS),
        ("/jobs|/session|/health|/ready|/version|/metrics", CHECKS),
        ("/search|/match", CHECKS),
    ],
    ids=["photos", "lists", "service", "compare"],
)
def test_no_request_gets_an_answer_that_is_not_documented(
    server: Server, paths: str, checks: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{server.url}{API[1:]}/openapi.json",
            ),
            *("--include-path-regex", paths, "--phases", "coverage", "--max-examples", "1"),
            *("--checks", ",".join(checks), "--seed", "1", "--no-color"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested:" in done.stdout
