"""The parts of the documentation that are read off the code and the recorded results.

    python docs/generated.py    # the table in README.md, docs/reference/public_names.md, figures,
                                # what the docstrings of experiments say of recorded runs

A test fails where they differ from what this makes.
"""

import ast
import inspect
import re
from functools import partial
from itertools import product, zip_longest
from pathlib import Path
from types import ModuleType

import figures
import jax
import jax.numpy as jnp
import recorded

import rnnjax

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PUBLIC_NAMES = ROOT / "docs" / "reference" / "public_names.md"
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"

TIME_STEPS, BATCH, SIZE = 4, 2, 3
OPTIONS = ("lengths", "resets", "reverse")


def registry_table() -> str:
    """The recurrences × plans and the plans themselves, as Markdown."""
    recurrences, plans = rnnjax.recurrences.REGISTRY, rnnjax.plans.REGISTRY
    head = ("recurrence", "states `mix`", "linear in the carry")
    by_recurrence: list[tuple[str, ...]] = [(*head, *(f"`{name}`" for name in plans))]
    for name, recurrence in recurrences.items():
        cells = [_served(recurrence, plan) for plan in plans]
        said = ("yes" if part is not None else "no" for part in (recurrence.mix, recurrence.linear))
        by_recurrence.append((f"`{name}`", *said, *cells))
    of_recurrences = [("recurrence", "what it is")]
    of_recurrences += [(f"`{r.name}`", r.summary) for r in recurrences.values()]
    of_plans = [("plan", "idea", "derivatives", "cost")]
    of_plans += [(f"`{p.name}`", p.summary, p.derivatives, p.cost) for p in plans.values()]
    return "\n\n".join(map(_markdown_table, (by_recurrence, of_recurrences, of_plans)))


def _served(recurrence: rnnjax.Recurrence, plan: str) -> str:
    """Which options a plan serves for a recurrence; asked of the door, nothing is run."""
    params = jax.eval_shape(
        partial(recurrence.init, input_size=SIZE, hidden_size=SIZE), jax.random.key(0)
    )
    arrays = {
        "lengths": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
        "resets": jax.ShapeDtypeStruct((TIME_STEPS, BATCH), jnp.bool_),
        "reverse": True,
    }
    features = recurrence.input_shape(params)
    xs = jax.ShapeDtypeStruct((TIME_STEPS, BATCH, *features), jnp.float32)
    refused: list[str] = []
    for flags in product((False, True), repeat=len(OPTIONS)):
        asked = {name: arrays[name] for name, flag in zip(OPTIONS, flags, strict=True) if flag}
        try:
            rnnjax.explain_plan(recurrence, params, xs, plan=plan, **asked)
        except ValueError:
            refused.append(" + ".join(asked) or "no option")
    if len(refused) == 2 ** len(OPTIONS):
        return "no"
    return "all options" if not refused else "not " + ", ".join(refused)


def _markdown_table(rows: list[tuple[str, ...]]) -> str:
    head, *body = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *body))


def readme_with_table(readme: str) -> str:
    """The README with the table between its markers made anew.

    Raises:
        ValueError: The markers are not there, once each and in order.
    """
    parts = re.split(f"({re.escape(BEGIN)}|{re.escape(END)})", readme)
    if parts[1::2] != [BEGIN, END]:
        raise ValueError(f"README.md: got markers {parts[1::2]}, expected {[BEGIN, END]}")
    before, _, _, _, after = parts
    return f"{before}{BEGIN}\n{registry_table()}\n{END}{after}"


def public_names_page() -> str:
    """Every public name with its summary, module by module, as Markdown."""
    sections = [
        "# Public names\n\n"
        "Written by `python docs/generated.py` from the docstrings; do not edit it. "
        "Shapes, equations, sources and errors are in the docstrings themselves: "
        "`python -c 'import rnnjax; help(rnnjax.scan)'`.",
        _section("rnnjax", rnnjax.__doc__ or "", [(n, _summary(n)) for n in rnnjax.__all__]),
    ]
    for path in sorted((ROOT / "rnnjax").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path == ROOT / "rnnjax" / "__init__.py":
            continue
        tree = ast.parse(path.read_text("utf-8"))
        names = _names(tree)
        if names:
            title = module.removesuffix(".__init__")
            sections.append(_section(title, ast.get_docstring(tree) or "", names))
    return "\n\n".join(sections) + "\n"


def _summary(name: str) -> str:
    value = getattr(rnnjax, name)
    if isinstance(value, rnnjax.Recurrence):
        return f"{value.summary}."
    if isinstance(value, ModuleType) or callable(value):
        return inspect.getdoc(value) or ""
    raise TypeError(f"rnnjax.{name}: got {type(value).__name__}, expected something documented")


def _names(tree: ast.Module) -> list[tuple[str, str]]:
    """Public functions and classes, and assignments that a string explains, in the file's order."""
    names: list[tuple[str, str]] = []
    for node, after in zip_longest(tree.body, tree.body[1:]):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append((node.name, ast.get_docstring(node) or ""))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                names.append((target.id, inspect.cleandoc(str(text.value))))
    return [(name, text) for name, text in names if not name.startswith("_")]


def _section(title: str, text: str, names: list[tuple[str, str]]) -> str:
    lines = [f"- `{name}`: {_first_paragraph(summary)}" for name, summary in names]
    return f"## `{title}`\n\n{_first_paragraph(text)}\n\n" + "\n".join(lines)


def _first_paragraph(docstring: str) -> str:
    text = " ".join(docstring.split("\n\n")[0].split())
    # `<t>` outside of code would be taken for an HTML tag, `*` and `_` for emphasis.
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([<*_])", r"\\\1", p) for p in pieces)


def pages_with_figures() -> dict[Path, str]:
    """Every page that quotes a figure, with its figures as the records have them."""
    pages = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
    texts = {page: page.read_text("utf-8") for page in pages}
    return {page: figures.with_figures(text) for page, text in texts.items() if "<!-- fig" in text}


def main() -> None:
    """Write all."""
    README.write_text(readme_with_table(README.read_text("utf-8")), "utf-8")
    for page, text in (pages_with_figures() | recorded.sources_with_paragraphs()).items():
        page.write_text(text, "utf-8")
    PUBLIC_NAMES.parent.mkdir(exist_ok=True)
    PUBLIC_NAMES.write_text(public_names_page(), "utf-8")


if __name__ == "__main__":
    main()
