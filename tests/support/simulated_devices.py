"""Checks that need several devices: functions `check_…` of a test file, run in a child process.

with_devices = simulated_devices(__file__, 8)     # a fixture: starts the child when first asked

@pytest.mark.parametrize("check", checks_in(globals()))
def test_with_eight_devices(check, with_devices):
    with_devices(check)
"""

import importlib.util
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import pytest

TESTS = Path(__file__).resolve().parent.parent
LIGHTLY = "--xla_backend_optimization_level=0"
"""What is checked does not depend on how hard LLVM tries; the time of the suite does."""


def checks_in(names: Mapping[str, Any]) -> list[Any]:
    """The checks of a module, those called `check_slow_…` marked as slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if name.startswith("check_slow_") else ())
        for name in names
        if name.startswith("check_")
    ]


def environment(*flags: str) -> dict[str, str]:
    """Of a child process that compiles lightly and finds the packages of the tests."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": path,
        "XLA_FLAGS": " ".join([LIGHTLY, *flags]),
    }


def simulated_devices(file: str, devices: int) -> Any:
    """A fixture: a function that fails as a check of the file did, all run in one child."""

    @pytest.fixture(scope="module", name="with_devices")
    def with_devices(request: pytest.FixtureRequest) -> Any:
        wanted = [
            item.callspec.params["check"]  # type: ignore[attr-defined]
            for item in request.session.items
            if item.path == Path(file) and "with_devices" in getattr(item, "fixturenames", ())
        ]
        child = subprocess.run(
            [sys.executable, "-W", "error", __file__, file, *wanted],
            env=environment(f"--xla_force_host_platform_device_count={devices}"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        failures = json.loads(child.stdout.splitlines()[-1])

        def outcome(check: str) -> None:
            assert failures[check] is None, failures[check]

        return outcome

    return with_devices


def _run(file: str, names: list[str]) -> dict[str, str | None]:
    spec = importlib.util.spec_from_file_location("checks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    failures: dict[str, str | None] = {}
    for name in names:
        try:
            with jax.numpy_dtype_promotion("strict"):
                getattr(module, name)()
        except BaseException:  # noqa: BLE001  told to the test that asked
            failures[name] = traceback.format_exc()
        else:
            failures[name] = None
    return failures


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(_run(sys.argv[1], sys.argv[2:])))
