import signal
from functools import cache

import jax
import pytest


def pytest_configure() -> None:
    jax.config.update("jax_enable_x64", True)
    # A job that a script starts in the background is born with SIGINT ignored, and so would be the
    # processes that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files marked `xdist_group` run in one process each, all other tests wherever there is room.

    `--dist loadgroup` is to do that, but pytest 9.2 does not show the groups that xdist 3.8 writes
    into the names of tests.
    """
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def is_group(file):
        return "xdist_group(" in (config.rootpath / file).read_text("utf-8")

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, _ = nodeid.partition("::")
            return file if is_group(file) else nodeid

    return Groups(config, log)


@pytest.fixture(autouse=True)
def strict_promotion():
    """No operation of ours may lean on implicit dtype promotion."""
    with jax.numpy_dtype_promotion("strict"):
        yield
