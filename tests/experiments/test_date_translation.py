"""The experiment as its user runs it: train, report again, translate, and what it refuses."""

import json
import random
from datetime import date, timedelta
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import date_translation as experiment
from experiments.attention_pictures import AttentionMap, draw_attention
from experiments.baselines.date_rules import (
    Example,
    fit_counts,
    parts_of,
    read_by_babel,
    read_by_counts,
)
from experiments.date_translation import (
    GREEDY,
    METRIC,
    RUN,
    Dates,
    Decoding,
    attention_on_year,
    decodings_of,
    encode_sources,
    exact_match,
    is_day,
    locales_of,
    look,
    normalised,
    shares_by,
    text_of,
    variants,
    write,
)

pytestmark = pytest.mark.xdist_group("date_translation")  # they share one run

FLAGS = ["--preset=smoke", "--data.source=path", "--batch-size=64", "--evaluate-every=50"]
STEPS = 150


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The days of two months, in one locale as they are and in another one from behind."""
    days = [date(2020, 1, 1) + timedelta(days) for days in range(60)]
    rows = [f"plain\t{day}\t{day}" for day in days]
    rows += [f"behind\t{day:%d} {day:%m} {day:%Y}\t{day}" for day in days]
    path = tmp_path_factory.mktemp("data") / "dates.tsv"
    path.write_text("locale\ttext\tiso\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def command(table, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    flags = [f"--run={run}", f"--data.path={table}", f"--optimizer.total-steps={STEPS}"]
    return ["train", *FLAGS, *flags]


@pytest.fixture(scope="module")
def run(command):
    """The folder of a finished run."""
    experiment.main(command)
    config = experiment.parse(command)
    assert isinstance(config, experiment.Train)
    return config.run


@pytest.fixture(scope="module")
def corpus(table):
    return experiment.load_corpus(experiment.Data("path", table))


@pytest.fixture(scope="module")
def trained(run):
    return experiment.load_trained(run)


def test_a_run_learns_and_leaves_its_record(run, corpus):
    report = json.loads((run / "report.json").read_text())
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["train/loss"] for record in records if "train/loss" in record]
    assert losses[-1] < 0.3 * losses[0]
    test = corpus.test
    for name, shares in report["by_locale"].items():
        sizes = [test.locales.count(locale) for locale in shares]
        mean = np.average(list(shares.values()), weights=sizes)
        whole = {**report["decodings"], **report["baselines"]["test"]}[name]
        assert mean == pytest.approx(whole if isinstance(whole, float) else whole[METRIC])
    assert report["test"][METRIC] == report["decodings"]["greedy"][METRIC]
    assert report["baselines"]["test"][experiment.COUNTS] == 1
    wrong = len(test.isos) * (1 - report["test"][METRIC])
    assert len(report["samples"]) == min(12, round(wrong))
    assert 0 <= report["attention_on_year"] <= 1
    page = (run / "report.md").read_text()
    assert "| `behind` | `" in page
    assert f"{report['machine']['cores']} cores" in page
    for picture in ("training.png", "attention.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_finished_run_is_reported_again_not_trained_again(run, command, capsys):
    log, report = (run / "metrics.jsonl").read_text(), json.loads((run / "report.json").read_text())
    experiment.main(command)
    assert f"resuming from step {STEPS}" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_text() == log
    again = json.loads((run / "report.json").read_text())
    for part in ("test", "by_locale", "baselines", "samples", "attention_on_year"):
        assert again[part] == report[part]


def test_a_date_is_written_alike_whatever_stands_beside_it(trained, corpus):
    sources = encode_sources(trained.vocabulary, corpus.train)
    assert len(sources) < experiment.ROWS_AT_A_TIME
    for decoding in (GREEDY, Decoding(2)):
        together = write(trained, sources, decoding)
        for few in (slice(0, 1), slice(5, 12), slice(None, None, -1)):
            assert write(trained, sources[few], decoding).texts == together.texts[few]
        many = write(trained, sources * 4, decoding)  # more than are written at a time
        assert many.texts == together.texts * 4
        expected = [min(len(text) + 1, experiment.LENGTH) for text in many.texts]
        assert many.characters == sum(expected)


def test_attention_is_shared_out_over_the_date_alone(trained, corpus):
    sources = encode_sources(trained.vocabulary, corpus.test)
    maps = look(trained, sources, corpus.test.isos)
    for one, source in zip(maps, sources, strict=True):
        assert one.shape == (experiment.LENGTH, len(source))
        np.testing.assert_allclose(one.sum(-1), 1, rtol=1e-5)
    year = np.zeros((11, 11))
    year[:4, 6:10] = 1 / 4  # «<plain> 01.02.2020» without the marks
    dates = Dates(["0102.2020", "5.1."], ["plain"] * 2, [""] * 2, ["2020-02-01", "2020-01-05"])
    assert attention_on_year(dates, [year[:, :10], year[:, :5]]) == pytest.approx(1)
    assert attention_on_year(Dates([], [], [], []), []) is None


def test_translate_prints_days_with_their_probabilities(run, tmp_path, capsys):
    def translate(*flags):
        experiment.main(["translate", f"--run={run}", "--beam-width=2", *flags])
        return capsys.readouterr().out.splitlines()

    picture = tmp_path / "looked.png"
    alone = translate("2020-02-03", "--locale=plain", f"--picture={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "  2020-02-03" in alone[0]
    (tmp_path / "dates.txt").write_text("2020-02-03\n\n2020-01-ż4\n")
    several = translate(f"--file={tmp_path / 'dates.txt'}", "--locale=plain", "--count=2")
    assert several[0] == alone[0]
    assert several[-1] == "    unknown to the model, read as <unk>: 'ż'"
    sure = [float(line.split()[1].rstrip("%")) for line in several[:2]]
    assert sure[0] >= sure[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["translate", "1.1.2020", "--run=nowhere"], "error: run: got nowhere, expected the fold"),
        (["translate", "1", "--run={run}"], "error: locale: got 'en', expected one of plain, beh"),
        (["translate", "--run={run}"], "error: texts: got an empty text or none, expected at le"),
        (["translate", "1", " ", "--run={run}"], "error: texts: got an empty text or none, expe"),
        (
            ["translate", "1" * 400, "--run={run}", "--locale=plain"],
            "error: texts: got one of 400 characters, expected at most 10, the length of the long",
        ),
        (["translate", "1", "--run={run}", "--beam-width=0"], "error: beam_width: got 0, expected"),
        (["translate", "1", "--run={run}", "--length-exponent=-1"], "error: length_exponent: got "),
        (["translate", "1", "--run={run}", "--count=0"], "error: count: got 0, expected an integ"),
        (["translate", "1", "--run={run}", "--picture=a.jpg"], "error: picture: got 'a.jpg', exp"),
        (["translate", "--file={run}/training.png", "--run={run}"], "error: file: '{run}/trainin"),
        (["train", "--data.source=path", "--run={tmp}"], "error: path: got None with source='pat"),
        (["train", "--data.locales", "xx", "--run={tmp}"], "error: locales: got 'xx', expected o"),
        (["train", "--data.training-days=0", "--run={tmp}"], "error: data.training_days: got 0, "),
        (["train", "--own-tokens=2", "--run={tmp}"], "error: own_tokens: got 2.0, expected 0 … 1"),
        (["train", "--growth=1", "--run={tmp}"], "error: growth: got 1.0, expected above 1"),
        (["train", "--model.plan=fast", "--run={tmp}"], "error: plan: got 'fast', expected one of"),
        (
            ["train", *FLAGS, "--data.path={table}", "--run={tmp}", "--model.recurrence=slstm"],
            "error: recurrence: got 'slstm', whose carry no dense layer can make",
        ),
        (
            ["train", *FLAGS, "--data.path={table}", "--run={tmp}", "--model.attention=dot",
             "--model.decoder-hidden-sizes", "5"],
            "error: attention: got 'dot' of the decoder's outputs of size 5 and the encoder's of",
        ),
        (
            ["train", *FLAGS, "--data.path={table}", "--run={run}", "--batch-size=5"],
            "error: config: the run in {run} was made with another one: ",
        ),
        (["compare", "--scheduled-own-tokens=2", "--run={tmp}"], "error: scheduled_own_tokens: g"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, message, run, table, tmp_path, capsys):
    places = {"run": run, "table": table, "tmp": tmp_path / "new"}
    with pytest.raises(SystemExit) as stopped:
        experiment.main([argument.format(**places) for argument in arguments])
    assert stopped.value.code == 2
    assert not places["tmp"].exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(message.format(**places))


def test_a_model_of_another_vocabulary_is_refused(run, tmp_path, capsys):
    for name in ("config.json", "task.json", "checkpoints"):
        (tmp_path / name).symlink_to(run / name)
    vocabulary = json.loads((run / "vocabulary.json").read_text())
    tokens = vocabulary["tokens"]
    one, two = tokens.index("1"), tokens.index("2")
    tokens[one], tokens[two] = "2", "1"
    (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary))
    with pytest.raises(SystemExit):
        experiment.main(["translate", "1", f"--run={tmp_path}", "--locale=plain"])
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "tokens" in error


def test_scheduled_sampling_begins_as_teacher_forcing_and_ends_as_asked(monkeypatch):
    config = experiment.PRESETS["smoke"]
    given = []

    def loss(model: Any, params: Any, memory: Any, batch: Any, key: Any, **options: Any) -> Any:
        given.append(float(options["truth_probability"]))
        return jnp.zeros(()), ((), {})

    monkeypatch.setattr(experiment, "scheduled_sampling_loss", loss)
    sampled = experiment.replace(config, own_tokens=0.25)
    function = experiment.loss_function(sampled, None)  # pyright: ignore[reportArgumentType]
    total = config.optimizer.total_steps
    steps = jnp.zeros((), jnp.float32)
    for step in range(total + 1):
        assert float(steps) == step
        _, (steps, _) = function(None, steps, None, None)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(given, 1 - 0.25 * np.arange(total + 1) / total, rtol=1e-6)


def test_what_is_read_has_one_form():
    assert normalised(" Sonntag,\u00a05.\u202fJULI ２０２６\u200f ") == "sonntag, 5. juli 2026"
    vocabulary = experiment.Vocabulary(("<unk>", "5", "<de>", "<en_GB>"))
    assert locales_of(vocabulary) == ["de", "en_GB"]
    assert vocabulary.encode(experiment.tokens_of("en_GB", "5x")).tolist() == [3, 1, 0]


def test_what_is_written_ends_and_is_counted():
    (ids,) = experiment.encode_targets(["2026-07-05"])
    assert len(ids) == experiment.LENGTH
    assert text_of(ids) == text_of(np.concatenate([ids, ids])) == "2026-07-05"
    assert [is_day(text) for text in ("2024-02-29", "2023-02-29", "20240229", "")] == [
        True, False, False, False
    ]  # fmt: skip
    assert exact_match(["a", None, "c"], ["a", "b", "d"]) == pytest.approx(1 / 3)
    found = shares_by(["x", "y", "x"], ["a", "b", "c"], ["a", "b", "d"])
    assert found == {"x": 0.5, "y": 1.0}
    names = [decoding.name for decoding in decodings_of(Decoding(5, 0.7))]
    assert names[0] == "greedy"
    assert len(names) == len(set(names)) == 4
    assert [decoding.name for decoding in decodings_of(GREEDY)] == ["greedy", "beam of 2, α = 0.7"]


def test_variants_differ_in_one_thing():
    template = experiment.PRESETS["smoke"]
    found = variants(experiment.Compare(template))
    assert list(found) == ["none", "additive", "dot", "general", "general, scheduled sampling"]
    for name, one in found.items():
        same = experiment.replace(
            one,
            run=template.run,
            own_tokens=0.0,
            model=experiment.replace(one.model, attention=template.model.attention),
        )
        assert same == template, name
        assert name.startswith(one.model.attention)
    assert len({one.run for one in found.values()}) == len(found)
    assert template.run.parent == RUN.parent


@pytest.mark.slow
def test_a_comparison_leaves_its_record_and_goes_on(table, tmp_path, capsys):
    folder = tmp_path / "compared"
    command = ["compare", *FLAGS, f"--data.path={table}", f"--run={folder}"]
    experiment.main(command)
    report = json.loads((folder / "report.json").read_text())
    assert list(report["cells"]) == [
        "none", "additive", "dot", "general", "general, scheduled sampling"
    ]  # fmt: skip
    assert report["cells"]["none"]["attention_on_year"] is None
    page = (folder / "report.md").read_text()
    for name in report["cells"]:
        assert f"\n| {name} | " in page
    for picture in ("curves.png", "attention.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    experiment.main(command)
    assert capsys.readouterr().err.count("resuming from step") == 5


def test_a_picture_of_attention_shows_what_the_font_lacks_as_a_box(tmp_path):
    one = AttentionMap("$日$", ["日", "$"], ["2"], np.asarray([[0.25, 0.75]]))
    draw_attention(tmp_path / "a.png", [one, one, one], columns=2)  # a missing glyph is a warning
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for maps, columns in (([], 1), ([one], 0)):
        with pytest.raises(ValueError, match=r"maps: got \d in \d columns, expected at least one"):
            draw_attention(tmp_path / "b.png", maps, columns)
    with pytest.raises(ValueError, match=r"weights: got shape \(1, 2\) of 'a', expected \(1, 1\)"):
        draw_attention(tmp_path / "b.png", [one._replace(title="a", source=["日"])])
    assert not (tmp_path / "b.png").exists()


def written_by_hand(count: int) -> list[Example]:
    """Two locales of numbers in different orders, one of them with months in words."""
    rng, months = random.Random(0), ["uno", "due", "tre", "quattro", "cinque", "sei", "sette",
                                     "otto", "nove", "dieci", "undici", "dodici"]  # fmt: skip
    rows = []
    for _ in range(count):
        day = date(2000, 1, 1) + timedelta(rng.randrange(9000))
        rows.append(Example("words", f"{day.day} {months[day.month - 1]} {day.year}", str(day)))
        rows.append(Example("numbers", f"{day.month}/{day.day}/{day.year}", str(day)))
    return rows


def test_counting_learns_orders_and_the_names_of_months():
    counts = fit_counts(written_by_hand(300))
    for locale, text, iso in written_by_hand(500)[600:]:
        assert read_by_counts(counts, locale, text) == iso
    assert read_by_counts(counts, "numbers", "2/3/2050") == "2050-02-03"
    assert read_by_counts(counts, "words", "3 due") is None
    assert read_by_counts(counts, "other", "2/3/2050") is None
    assert parts_of("Am 5. Mai, mai 2020") == ([5, 2020], ["am", "mai"])


def test_babels_parser_knows_the_order_of_numbers():
    assert read_by_babel("de", "05.07.2026") == "2026-07-05"
    for locale, text in (("en", "no date"), ("en", "Jul 5, 2026"), ("behind", "1.1.2020")):
        assert read_by_babel(locale, text) is None
