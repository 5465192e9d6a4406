import jax
import pytest


def pytest_configure() -> None:
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True)
def strict_promotion():
    """No operation of ours may lean on implicit dtype promotion."""
    with jax.numpy_dtype_promotion("strict"):
        yield
