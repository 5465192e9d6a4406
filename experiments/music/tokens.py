"""A model of written music, one to many: its data, its score beside others, what it makes up."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.baselines import character_ngram
from experiments.music.checks import Corpus, Heard, counted, counts_table, heard_chorale, heard_tune
from experiments.music.config import Data, Generate, Train
from experiments.music.files import piano_roll_bytes, write_piece
from experiments.music.task import Task, make_nats_of
from experiments.music.windows import Steps, Window, training_windows, whole_windows
from experiments.trained_run import made_by, params_to_use
from rnnjax.losses.cross_entropy import cross_entropy_per_step
from rnnjax.models.language_model import (
    LanguageModelConfig,
    LanguageModelParams,
    apply_language_model,
    init_language_model,
    initial_state,
    language_model_loss,
    sample_language_model,
)
from rnnjax.text.streams import TextBatch
from rnnjax.text.vocabulary import END, UNKNOWN, Vocabulary
from rnnjax.training.files import replace_bytes, replace_text
from rnnjax.training.optimizer import build_optimizer
from rnnjax.training.run_folder import RunFolder
from rnnjax.training.step import TrainState, initial_train_state

METRIC = "bits_per_token"
UNIGRAM = "tokens by frequency"
ORDERS = {"order 3, modified Kneser–Ney": 3, "order 6, modified Kneser–Ney": 6}
SAMPLED_ORDER = "order 6, modified Kneser–Ney"
"""The baseline that makes up pieces too."""

HEARD: Mapping[str, Callable[[str, Sequence[str]], Heard]] = {
    "chorales": heard_chorale,
    "tunes": heard_tune,
}
ITEMS = {"chorales": "events", "tunes": "steps"}
"""What is compared with the training part, by corpus."""

LENGTHS = {"chorales": 900, "tunes": 500}
"""Tokens after which a piece of `generate` that has not ended is cut: nineteen of twenty have."""


class Written(NamedTuple):
    """A piece: its group, x<1>, and its tokens, y<1>, …, without the end."""

    group: str
    tokens: list[str]


Parts = dict[str, list[Written]]


def load_parts(data: Data) -> Parts:
    """The pieces of each part.

    Raises:
        ValueError: As the loader of the corpus.
    """
    from experiments.data import abc_tunes, chorales  # `datasets` takes seconds to import

    loaders = {"chorales": chorales.load, "tunes": abc_tunes.load}
    rows = loaders[data.corpus](data.source, data.path)
    return {
        str(split): [
            Written(group, tokens)
            for group, tokens in zip(rows[split]["group"], rows[split]["tokens"], strict=True)
        ]
        for split in rows
    }


def vocabulary_of(pieces: Sequence[Written]) -> Vocabulary:
    """Tokens, and groups by frequency, of the training part."""
    groups = Counter(piece.group for piece in pieces)
    tokens = sorted({token for piece in pieces for token in piece.tokens})
    named = [group_token(group) for group, _ in groups.most_common()]
    return Vocabulary((UNKNOWN, END, *named, *tokens), end=END)


def group_token(group: str) -> str:
    """The token that stands for a group; nothing else is spelled so."""
    return f"<{group}>"


def groups_of(vocabulary: Vocabulary) -> list[str]:
    """The groups that a vocabulary has tokens for, the most frequent first."""
    special = vocabulary.special_tokens
    return [
        token[1:-1]
        for token in vocabulary.tokens
        if token not in special and len(token) > 2 and token[0] == "<" and token[-1] == ">"
    ]


def as_steps(pieces: Sequence[Written], vocabulary: Vocabulary) -> Steps:
    """Pieces as inputs, the group and then each token, and targets, the tokens and then the end."""
    rows = [vocabulary.encode([group_token(p.group), *p.tokens, END]) for p in pieces]
    lengths = np.asarray([len(row) - 1 for row in rows])
    return Steps(
        np.concatenate([row[:-1] for row in rows]),
        np.concatenate([row[1:] for row in rows]),
        lengths,
    )


def model_config(config: Train, vocabulary: Vocabulary) -> LanguageModelConfig:
    """The model's own record."""
    model = config.model
    return LanguageModelConfig(
        len(vocabulary), model.recurrence, model.hidden_sizes, model.embedding_size
    )


def checkpoint_metadata(config: Train, vocabulary: Vocabulary) -> dict[str, Any]:
    """What a checkpoint must have been saved with, to be of this model."""
    tokens = sha256(vocabulary.to_json().encode()).hexdigest()
    return {"experiment": "music_generation", "of": config.data.corpus, "tokens": tokens} | (
        json.loads(json.dumps(asdict(model_config(config, vocabulary))))
    )


def new_state(config: Train, vocabulary: Vocabulary) -> TrainState:
    """The state before the first step."""
    model = model_config(config, vocabulary)
    key_params, key = jax.random.split(jax.random.key(config.seed))
    params = init_language_model(key_params, model)
    memory = initial_state(model, params, (config.batch_size,))
    return initial_train_state(params, build_optimizer(config.optimizer), memory, key)


def tokens_task(config: Train) -> Task:
    """The task of written music.

    Raises:
        ValueError: As `load_parts`.
    """
    parts = load_parts(config.data)
    vocabulary = vocabulary_of(parts["train"])
    model = model_config(config, vocabulary)
    train = as_steps(parts["train"], vocabulary)
    batches = training_windows(train, config.batch_size, config.window, config.seed)
    validation = whole_windows(
        as_steps(parts["validation"], vocabulary), config.batch_size, config.window
    )
    loss_function = partial(
        language_model_loss, model, dropout=config.model.dropout, plan=config.model.plan
    )
    nats_of = _nats_of(config, model)
    return Task(
        METRIC,
        "tokens",
        f"{len(train.targets):,} tokens of {len(train.lengths)} {config.data.corpus}, "
        f"{len(vocabulary)} distinct",
        {split: [list(piece) for piece in pieces] for split, pieces in parts.items()},
        {"vocabulary.json": vocabulary.to_json()},
        checkpoint_metadata(config, vocabulary),
        new_state(config, vocabulary),
        loss_function,
        lambda step: TextBatch(*batches(step)),
        lambda params: {METRIC: _bits(*nats_of(params, validation))},
        partial(_report, config, parts, vocabulary),
    )


def _nats_of(config: Train, model: LanguageModelConfig) -> Any:
    def losses_of(params: LanguageModelParams, state: Any, window: Window) -> Any:
        state, logits = apply_language_model(
            model, params, state, window.inputs, window.resets, plan=config.model.plan
        )
        return state, cross_entropy_per_step(logits, window.targets, window.weights)

    return make_nats_of(
        losses_of, lambda params: initial_state(model, params, (config.batch_size,))
    )


def _bits(of_firsts: float, of_others: float, firsts: int, others: int) -> float:
    return (of_firsts + of_others) / (firsts + others) / np.log(2)


# What is not a neural net


def as_documents(pieces: Sequence[Written], vocabulary: Vocabulary) -> list[str]:
    """Pieces as texts: group, tokens and end, a character each."""
    rows = (vocabulary.encode([group_token(p.group), *p.tokens, END]) for p in pieces)
    return ["".join(map(_character, row.tolist())) for row in rows]


def _character(token_id: int) -> str:
    return chr(0x100 + token_id)


def document_bits(model: character_ngram.CharacterNGram, documents: Sequence[str]) -> float:
    """Bits per token of documents; their first character, the group, is given."""
    probabilities = character_ngram.probabilities(model, documents)
    starts = np.cumsum([0, *map(len, documents[:-1])])
    return float(-np.mean(np.log2(np.delete(probabilities, starts))))


def sample_ngram(
    model: character_ngram.CharacterNGram,
    vocabulary: Vocabulary,
    groups: Sequence[str],
    longest: int,
    seed: int,
) -> list[Written]:
    """Pieces that an n-gram model makes up, of the groups given."""
    rng, end = np.random.default_rng(seed), _character(vocabulary.end_id)
    pieces = []
    for group in groups:
        (group_id,) = vocabulary.encode([group_token(group)]).tolist()
        text = character_ngram.sample_document(model, _character(group_id), end, longest, rng)
        ids = [ord(character) - 0x100 for character in text]
        pieces.append(Written(group, vocabulary.decode(ids)))
    return pieces


# What is made up


def sample_pieces(
    config: LanguageModelConfig,
    params: LanguageModelParams,
    vocabulary: Vocabulary,
    key: jax.Array,
    groups: Sequence[str],
    longest: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[Written]:
    """Pieces that the model makes up, one of each group given, each from the zero state.

    Raises:
        ValueError: A group is unknown, or as `sample_language_model`.
    """
    known = groups_of(vocabulary)
    for group in groups:
        if group not in known:
            raise ValueError(f"group: got {group!r}, expected one of {', '.join(known)}")
    never = vocabulary.encode([UNKNOWN, *map(group_token, known)])
    tokens = sample_language_model(
        config,
        params,
        key,
        vocabulary.encode([group_token(group) for group in groups])[None],
        longest,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        forbidden=np.isin(np.arange(len(vocabulary)), never),
    )
    pieces = []
    for group, row in zip(groups, np.asarray(tokens).T, strict=True):
        ends = np.flatnonzero(row == vocabulary.end_id)
        kept = row[: ends[0]] if len(ends) else row
        pieces.append(Written(group, vocabulary.decode(kept)))
    return pieces


def longest_of(pieces: Sequence[Written]) -> int:
    """Tokens after which a piece is cut: as many as all but a twentieth of real ones have."""
    return int(np.quantile([len(piece.tokens) for piece in pieces], 0.95))


def _heard(corpus: str, pieces: Sequence[Written]) -> list[Heard]:
    return [HEARD[corpus](piece.group, piece.tokens) for piece in pieces]


def _report(
    config: Train,
    parts: Parts,
    vocabulary: Vocabulary,
    params: LanguageModelParams,
    step: int,
    run: RunFolder,
) -> dict[str, Any]:
    """Score held-out pieces beside the baselines, draw, make up pieces, and count what they are."""
    from rnnjax.training.plots import plot_training

    folder, corpus = run.path, config.data.corpus
    model, held_out = model_config(config, vocabulary), parts[config.split]
    windows = whole_windows(as_steps(held_out, vocabulary), config.batch_size, config.window)
    score = _bits(*_nats_of(config, model)(params, windows))
    documents = {split: as_documents(pieces, vocabulary) for split, pieces in parts.items()}
    n_grams = {
        name: character_ngram.fit(documents["train"], order)
        for name, order in {UNIGRAM: 0, **ORDERS}.items()
    }
    baselines = {
        split: {name: document_bits(n_gram, documents[split]) for name, n_gram in n_grams.items()}
        for split in ("validation", config.split)
    }
    groups = [held_out[place % len(held_out)].group for place in range(config.samples)]
    known = groups_of(vocabulary)
    groups = [group for group in groups if group in known] or known[:1]
    longest = longest_of(parts["train"])
    made_up = {
        "this model": sample_pieces(
            model,
            params,
            vocabulary,
            jax.random.key(config.seed),
            groups,
            longest,
            temperature=config.temperature,
        ),
        SAMPLED_ORDER: sample_ngram(
            n_grams[SAMPLED_ORDER], vocabulary, groups, longest, config.seed
        ),
    }
    trained = Corpus([heard.items for heard in _heard(corpus, parts["train"])])
    counts = {name: counted(_heard(corpus, pieces), trained) for name, pieces in made_up.items()}
    counts["held-out pieces"] = counted(_heard(corpus, held_out), trained)
    first = made_up["this model"][0]
    summary = run.start | {
        "seconds": run.seconds(),
        "metric": METRIC,
        "lower_is_better": True,
        "step": step,
        "corpus": corpus,
        "split": config.split,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "pieces": {part: len(pieces) for part, pieces in parts.items()},
        "tokens": sum(len(piece.tokens) + 1 for piece in held_out),
        "groups": len(groups_of(vocabulary)),
        config.split: {METRIC: score},
        "baselines": baselines,
        "counts": counts,
        "temperature": config.temperature,
        "sample": text_of(corpus, first),
    }
    replace_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False))
    replace_text(folder / "report.md", report_page(summary))
    plot_training(
        folder / "metrics.jsonl",
        folder / "training.png",
        baselines["validation"],
        quantity=METRIC,
        clip_norm=config.optimizer.clip_norm,
    )
    drawn = [
        (f"this model, {first.group}", first),
        (f"of the {config.split} part, {held_out[0].group}", held_out[0]),
    ]
    write_roll(folder / "piano_roll.png", corpus, drawn)
    for number, piece in enumerate(made_up["this model"][:3], 1):
        write_piece(folder, f"sample_{number}", HEARD[corpus](*piece).notes)
    print(f"\n{scores_table(summary)}\n{counts_table(counts, ITEMS[corpus])}")
    print(f"{summary['sample']}\n")
    print(f"In {folder}: report.md, training.png, piano_roll.png, sample_1.mid, sample_1.wav, …")
    return summary


def text_of(corpus: str, piece: Written) -> str:
    """A piece to read: an ABC file of a tune, the tokens of a chorale by bars."""
    if corpus == "tunes":
        metre, unit, key = piece.group.split(" ")
        return f"X:1\nM:{metre}\nL:{unit}\nK:{key}\n{''.join(piece.tokens)}\n"
    return " ".join(piece.tokens).replace(" | ", " |\n") + "\n"


def write_roll(path: Path, corpus: str, pieces: Sequence[tuple[str, Written]]) -> None:
    """A picture of pieces, each with its title; there is a line every four quarter notes."""
    drawn = [(title, HEARD[corpus](*piece).notes, 4.0) for title, piece in pieces]
    replace_bytes(path, piano_roll_bytes(drawn))


def scores_table(summary: Mapping[str, Any]) -> str:
    """Bits per token of each model, the best first."""
    split = summary["split"]
    scores = {"**this model**": summary[split][METRIC]} | summary["baselines"][split]
    lines = [
        f"| bits per token, {summary['tokens']:,} tokens of {summary['pieces'][split]} pieces "
        f"({split} part) | |",
        "| --- | ---: |",
    ]
    lines += [
        f"| {name} | {scores[name]:.3f} |" for name in sorted(scores, key=lambda n: scores[n])
    ]
    return "\n".join(lines) + "\n"


def report_page(summary: Mapping[str, Any]) -> str:
    """The report as a page, with the command, the machine and the versions."""
    parts = ", ".join(f"{count} {part}" for part, count in summary["pieces"].items())
    return f"""# Music made up: {summary["corpus"]}

{made_by(summary)} {summary["parameters"]:,} parameters, the best model (step {summary["step"]:,}).

{scores_table(summary)}
Pieces: {parts}, of {summary["groups"]} groups. The end of a piece is a token, its group is given.
The best step was chosen by the validation part.

![bits per token, loss, learning rate and gradient norm](training.png)

Pieces made up at temperature {summary["temperature"]}, beside real ones that were held out; the
groups asked for are those of the held-out pieces:

{counts_table(summary["counts"], ITEMS[summary["corpus"]])}
The first of them ([MIDI](sample_1.mid)), and a real piece below it:

![piano rolls](piano_roll.png)

```
{summary["sample"]}```
"""


def generate(
    config: Generate, trained: Train, state: TrainState, vocabulary: Vocabulary
) -> list[Path]:
    """Write pieces, what can be read of them, and a picture of them all.

    Raises:
        ValueError: As `sample_pieces`.
    """
    corpus = trained.data.corpus
    group = config.group or groups_of(vocabulary)[0]
    pieces = sample_pieces(
        model_config(trained, vocabulary),
        params_to_use(trained, state),
        vocabulary,
        jax.random.key(config.seed),
        [group] * config.count,
        LENGTHS[corpus] if config.length is None else config.length,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    )
    folder = config.output or config.run / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "abc" if corpus == "tunes" else "txt"
    written = []
    for number, piece in enumerate(pieces, 1):
        heard = HEARD[corpus](*piece)
        name = f"piece_{number}"
        written += write_piece(folder, name, heard.notes, config.quarters_per_minute)
        written.append(folder / f"{name}.{suffix}")
        replace_text(written[-1], text_of(corpus, piece))
        print(
            f"{name}: {len(heard.notes)} notes, {heard.valid_bars} of {heard.bars} bars valid, "
            f"{heard.in_key / max(1, len(heard.notes)):.0%} of notes in key"
        )
    titled = [(f"piece {number}, {group}", piece) for number, piece in enumerate(pieces, 1)]
    write_roll(folder / "piano_roll.png", corpus, titled)
    return [*written, folder / "piano_roll.png"]
