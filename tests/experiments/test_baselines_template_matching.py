"""Time warping against every way to bend a template."""

from itertools import pairwise, product

import numpy as np
import pytest

from experiments.baselines.template_matching import match, match_string, templates_of

RNG = np.random.default_rng(0)
WORDS = [RNG.normal(size=(length, 2)) for length in (2, 3, 4)]


def cheapest(template, heard):
    """Over every path of templates' frames: the first one first, the last last, steps of 0 to 2."""
    best = np.inf
    for moves in product((0, 1, 2), repeat=len(heard) - 1):
        path = np.cumsum((0, *moves))
        if path[-1] == len(template) - 1:
            best = min(best, float(((template[path] - heard) ** 2).sum()))
    return best


def test_the_cost_is_the_cheapest_way_to_bend_a_template():
    templates = templates_of(WORDS)
    for length in range(1, 7):
        heard = RNG.normal(size=(length, 2))
        expected = [cheapest(word, heard) for word in WORDS]
        np.testing.assert_allclose(match(templates, heard), expected, rtol=1e-4)


def test_a_string_is_the_cheapest_row_of_templates():
    templates = templates_of(WORDS)
    for penalty in (0.0, 3.0):
        for length in range(1, 6):
            heard = RNG.normal(size=(length, 2))
            best, cost = [], np.inf
            for count in range(1, length + 1):
                for words in product(range(3), repeat=count):
                    for cuts in product(range(1, length), repeat=count - 1):
                        ends = (0, *cuts, length)
                        if list(ends) == sorted(set(ends)):
                            parts = [heard[a:b] for a, b in pairwise(ends)]
                            total = penalty * (count - 1) + sum(
                                cheapest(WORDS[w], p) for w, p in zip(words, parts, strict=True)
                            )
                            if total < cost - 1e-9:
                                best, cost = list(words), total
            assert match_string(templates, heard, penalty) == best


def test_a_row_of_templates_is_found_again_and_nothing_in_nothing():
    templates = templates_of(WORDS)
    heard = np.concatenate([WORDS[2], WORDS[0], WORDS[1]])
    assert match_string(templates, heard, 0.1) == [2, 0, 1]
    assert match_string(templates, heard[:0], 0.0) == []
    assert match_string(templates_of(WORDS[2:]), heard[:1], 0.0) == []  # 4 frames in one
    with pytest.raises(ValueError, match=r"recordings: got lengths \[0\]"):
        templates_of([np.zeros((0, 2))])
