import signal

import jax
import pytest


def pytest_configure() -> None:
    jax.config.update("jax_enable_x64", True)
    # A job that a script starts in the background is born with SIGINT ignored, and so would be the
    # processes that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def strict_promotion():
    """No operation of ours may lean on implicit dtype promotion."""
    with jax.numpy_dtype_promotion("strict"):
        yield
