"""Settings of every test."""

from __future__ import annotations

import asyncio

import hypothesis
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Start without an implicit event loop.

    pytest-asyncio asks for the current loop before each test; the one that asyncio then makes is never closed, and
    its ResourceWarning would fail whichever test the garbage collector runs in.
    """
    asyncio.set_event_loop(None)
    # How long an example takes says more of the machine than of the code, and health checks measure the same.
    hypothesis.settings.register_profile(
        "pybrix", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
    )
    hypothesis.settings.load_profile("pybrix")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        default="",
        help="run tests/contract against this cluster instead of the embedded API server",
    )
