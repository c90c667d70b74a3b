"""Settings of every test."""

from __future__ import annotations

import asyncio

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Start without an implicit event loop.

    pytest-asyncio asks for the current loop before each test; the one that asyncio then makes is never closed, and
    its ResourceWarning would fail whichever test the garbage collector runs in.
    """
    asyncio.set_event_loop(None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubeconfig",
        default="",
        help="run tests/contract against this cluster instead of the embedded API server",
    )
