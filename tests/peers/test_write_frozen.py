"""The frozen arrays are what PyTorch computes today."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.testing as npt
import pytest

FOLDER = Path(__file__).parents[1] / "recurrences" / "frozen"

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def write_frozen() -> Any:
    return import_module("peers.write_frozen")


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_script_reproduces_the_stored_arrays(name, write_frozen):
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    written = write_frozen.frozen(name)
    for key in ("source", "inputs", "cotangents"):
        assert written[key] == stored[key]
    for key in ("outputs", "gradients"):
        assert jax.tree.structure(written[key]) == jax.tree.structure(stored[key])
        # Another processor may round the last bit otherwise.
        npt.assert_allclose(
            np.array(jax.tree.leaves(written[key])),
            np.array(jax.tree.leaves(stored[key])),
            rtol=0,
            atol=1e-14,
        )
