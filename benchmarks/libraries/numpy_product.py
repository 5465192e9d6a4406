"""NumPy: its product of matrices alone, for the machine's rate."""

import numpy as np

from benchmarks.libraries.tasks import Prepare, Prepared, Product

VERSION = np.__version__


def product(task: Product) -> Prepared:
    """BLAS's, with as many threads as it takes by itself."""
    a, b = np.random.default_rng(0).standard_normal((2, task.size, task.size), np.float32)
    return Prepared(lambda: a @ b, lambda found: {"product": found})


PREPARE: Prepare = {Product: product}
