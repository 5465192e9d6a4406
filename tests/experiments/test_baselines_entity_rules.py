from experiments.baselines.entity_rules import (
    features,
    fit_linear,
    most_frequent_tags,
    shape,
    tag_by_word,
    tag_linear,
)
from experiments.data.tagged_rows import Sentence

TRAIN = [
    Sentence(["Harry", "Potter", "left"], ["B-person", "I-person", "O"]),
    Sentence(["the", "Potter", "makes", "pots"], ["O", "O", "O", "O"]),
    Sentence(["Ron", "saw", "Potter"], ["B-person", "O", "B-person"]),
    Sentence(["Potter", "left"], ["B-person", "O"]),
]


def test_each_word_has_the_tag_it_had_most_often_and_unknown_ones_have_none():
    table = most_frequent_tags(TRAIN)
    assert table["Potter"] == "B-person"
    assert tag_by_word(table, ["Ron", "Potter", "Weasley"]) == ["B-person", "B-person", "O"]


def test_tags_are_mended():
    table = most_frequent_tags([Sentence(["of", "Hogwarts"], ["I-place", "I-place"])])
    assert tag_by_word(table, ["Hogwarts", "of"]) == ["B-place", "I-place"]


def test_the_linear_model_tells_names_by_shape_and_neighbours():
    """No word of the test sentences is in the training text."""
    train = []
    for a, b in ("AC", "DE", "FG", "HI", "KL", "MN", "PQ"):
        name, other = f"{a}{b.lower()}{a.lower()}", f"{b}{a.lower()}"
        train.append(Sentence(["he", "met", name], ["O", "O", "B-person"]))
        train.append(Sentence(["in", other, "it", "rains"], ["O", "B-place", "O", "O"]))
        train.append(Sentence(["he", "met", b.lower() * 3], ["O", "O", "O"]))
    model = fit_linear(train * 5)
    unseen = [["he", "met", "Ror"], ["in", "Uv", "it", "rains"], ["he", "met", "zzz"]]
    assert tag_linear(model, unseen) == [
        ["O", "O", "B-person"],
        ["O", "B-place", "O", "O"],
        ["O", "O", "O"],
    ]


def test_shapes_and_features():
    assert [shape(word) for word in ("Harry", "McDonald's", "B52", "...", "江")] == [
        "Xx", "XxXx'x", "X0", ".", "x",
    ]  # fmt: skip
    first, second = features(["Ron", "ran"])
    assert {"w=Ron", "lower=ron", "shape=Xx", "begin=r", "end=n", "-1:<s>", "1:ran"} <= set(first)
    assert {"-1:ron", "-1:shape=Xx", "1:</s>", "-1,0:ron ran"} <= set(second)
