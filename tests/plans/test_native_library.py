"""The compiled library: found or missed by name, and how exact its activations are."""

import subprocess
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.activations import FUNCTIONS, errors_in_ulps
from rnnjax.plans import native_library
from rnnjax.plans.native_library import Library, activation, instruction_sets, library

needs_library = pytest.mark.skipif(
    library().missing is not None, reason="installed without compiled kernels"
)

# A bit more than the largest errors over all float32 numbers, see docs/results/activations.
# Baseline rounds products before it adds them.
MOST_ULPS = {"tanh": 5.0, "sigmoid": 2.5}
MOST_ULPS_OF_BASELINE = {"tanh": 7.0, "sigmoid": 2.5}
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 88.0, -88.0], np.float32)


@needs_library
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activations_are_exact_to_some_units_in_the_last_place_everywhere(name):
    # Every 4099th number of all that there are, and those around where e^x or tanh end.
    every = np.arange(0, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    edges = np.concatenate(
        [
            np.linspace(sign * low, sign * high, 20_000, dtype=np.float32)
            for sign in (-1, 1)
            for low, high in ((7.8, 9.1), (85, 89), (0, 1e-37), (0, 1e-44))
        ]
    )
    values = np.concatenate([every[~np.isnan(every)], edges])
    for instructions in instruction_sets():
        results = activation(name, instructions, values)
        most = (MOST_ULPS_OF_BASELINE if instructions == "baseline" else MOST_ULPS)[name]
        assert errors_in_ulps(name, values, results).max() <= most, instructions
        assert np.abs(results).max() <= 1


@needs_library
@pytest.mark.parametrize("name", FUNCTIONS)
def test_infinities_and_nan_are_what_xla_makes_of_them(name):
    of_xla = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[name](SPECIAL)
    for instructions in instruction_sets():
        results = activation(name, instructions, SPECIAL)
        np.testing.assert_allclose(results, of_xla, rtol=0, atol=1e-37, err_msg=instructions)
        np.testing.assert_array_equal(np.signbit(results[:4]), np.signbit(of_xla[:4]))


@needs_library
def test_every_count_of_numbers_is_written_whole_and_no_further():
    for count in range(40):
        values = np.linspace(-3, 3, count, dtype=np.float32)
        for instructions in instruction_sets():
            np.testing.assert_allclose(
                activation("tanh", instructions, values), np.tanh(values), rtol=1e-6
            )


@needs_library
def test_instruction_sets_are_those_of_the_processor_best_first():
    names = instruction_sets()
    assert names[-1] == "baseline"
    assert list(names) == [name for name in ("avx512", "avx2", "baseline") if name in names]


@needs_library
def test_an_instruction_set_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match=r"instructions: got 'mmx', expected one of .*baseline"):
        activation("tanh", "mmx", SPECIAL)


@needs_library
def test_nothing_is_exported_but_what_is_looked_up():
    path = native_library._found()
    try:
        listed = subprocess.run(
            ["nm", "--dynamic", "--defined-only", "--extern-only", str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        pytest.skip("nm is not installed")
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    expected = {*native_library.HANDLERS, "rnnjax_instructions", "rnnjax_activation"}
    assert names - {"_init", "_fini"} == expected


@needs_library
def test_it_is_loaded_once_by_many_threads():
    library.cache_clear()
    found: list[Library] = []
    threads = [threading.Thread(target=lambda: found.append(library())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(one.handle) for one in found}) == 1


def test_a_missing_library_says_why(monkeypatch):
    monkeypatch.setattr(native_library, "library", lambda: native_library._loaded(None))
    missing = native_library.library().missing
    assert missing is not None
    assert "there was no C++ compiler" in missing
    assert instruction_sets() == ()
    with pytest.raises(ValueError, match="activation: rnnjax was installed without its compiled"):
        activation("tanh", "baseline", SPECIAL)


def test_a_file_that_is_no_library_says_so(tmp_path):
    broken = tmp_path / "_native.so"
    broken.write_text("not a library")
    found = native_library._loaded(broken)
    assert found.handle is None
    assert found.missing is not None
    assert "its compiled kernels cannot be loaded" in found.missing
    assert str(broken) in found.missing
