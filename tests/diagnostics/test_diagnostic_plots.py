import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from rnnjax.diagnostics.gates import gate_saturation
from rnnjax.diagnostics.plots import (
    COLORS,
    plot_clipping,
    plot_gate_saturation,
    plot_gradient_norms,
    plot_lyapunov_exponents,
    plot_memory_profiles,
    plot_singular_values,
)

RNG = np.random.default_rng(0)
FALLING = 0.8 ** np.arange(12)[:, None] * RNG.uniform(0.5, 1, (12, 4))
NORMS = RNG.uniform(0.1, 5, 30)


def gates(shift):
    values = RNG.uniform(0, 1, (9, 2, 5)) ** (1 + shift)
    return gate_saturation(values)


PLOTS = {
    "gradient_norms": (plot_gradient_norms, ({"lstm": FALLING, "elman": FALLING[:, 0] ** 2},), 2),
    "gates": (plot_gate_saturation, ({"forget": gates(0), "input": gates(3)},), 2),
    "memory": (plot_memory_profiles, ({"lstm": FALLING, "elman": FALLING[:, 0] ** 2},), 2),
    "singular_values": (plot_singular_values, (RNG.uniform(0, 2, (9, 3, 4)),), 3),
    "lyapunov": (
        plot_lyapunov_exponents,
        ({"lstm": -np.arange(6.0), "elman": np.asarray([[0.1, -np.inf], [0.2, -1.0]])},),
        2,
    ),
    "clipping": (plot_clipping, (NORMS, np.minimum(NORMS, 1)), 2),
}


@pytest.mark.parametrize("name", PLOTS)
def test_each_line_is_drawn_and_nothing_else_is_touched(name, tmp_path):
    draw, arguments, lines = PLOTS[name]
    backend = mpl.rcParams._get("backend")
    draw(*arguments, tmp_path / "picture.png")
    assert mpl.rcParams._get("backend") == backend
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    pixels = imread(tmp_path / "picture.png")[..., :3]
    for color in COLORS[:lines]:
        rgb = np.asarray([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        # Markers and bars are translucent over white.
        shades = [rgb * alpha + 1 - alpha for alpha in (1.0, 0.8, 0.5)]
        found = sum(np.all(np.abs(pixels - shade) < 0.02, axis=-1).sum() for shade in shades)
        assert found > 50, color


def test_what_a_logarithm_has_no_place_for_is_a_gap(tmp_path):
    nothing = np.full((5, 2), np.nan)
    for values in (np.zeros(5), nothing, np.asarray([1, 0, np.inf, 2, 3.0])):
        plot_gradient_norms({"some": np.ones(5), "other": values}, tmp_path / "picture.png")


def test_nothing_to_draw_is_said(tmp_path):
    png = tmp_path / "picture.png"
    for draw, message in (
        (lambda: plot_gradient_norms({}, png), r"^norms: got none"),
        (lambda: plot_gate_saturation({}, png), r"^gates: got none"),
        (lambda: plot_memory_profiles({}, png), r"^profiles: got none"),
        (lambda: plot_lyapunov_exponents({}, png), r"^exponents: got none"),
        (lambda: plot_singular_values(np.ones(3), png), r"^values: got shape \(3,\)"),
        (lambda: plot_clipping(np.ones(3), np.ones(2), png), r"^norms_before, norms_after: got"),
    ):
        with pytest.raises(ValueError, match=message):
            draw()
    assert not list(tmp_path.iterdir())
