"""Markdown in which the text of records, files and libraries stays text."""

import re
from collections.abc import Sequence
from functools import lru_cache

from jinja2 import Environment
from markupsafe import Markup

from vae_variants.report.html import environment

# what begins markup: a bracket before a target, an underscore at the end of a word, and at the start of a line a sign before a space
SPECIAL = re.compile(
    r"[\\`*~$#]|<(?=[a-z/!?])|^>|(?<!\w)_|_(?!\w)|\](?=[(\[:])|&(?=#?\w+;)"
    r"|(?<=:)/(?=/)|(?<=www)\.|^[-+=](?=[ =])|(?<=^\d)[.)](?= )",
    re.IGNORECASE,
)


def escaped(text: str) -> str:
    """A line of Markdown that shows `text`; `code` in it stays code."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:  # a backtick without its other half
        parts = ["`".join(parts)]
    return "".join(code(part) if i % 2 else SPECIAL.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def code(text: str) -> str:
    """`text` as code, also in a table; whatever a code span cannot hold is written as entities."""
    line = " ".join(text.split())
    if line and not {"`", "|"} & set(line):
        return f"`{line}`"
    return f"<code>{''.join(c if c.isalnum() or c in ' .,:=-/' else f'&#{ord(c)};' for c in line)}</code>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: bool = True) -> Markup:
    """A table; the columns after the first are aligned right if `right`. `Markup` in it stays as it is."""
    first, *others = [[str(shown(cell)).replace("|", r"\|") for cell in line] for line in (header, *rows)]
    rule = ["---", *["--:" if right else "---"] * (len(header) - 1)]
    return Markup("".join(f"| {' | '.join(line)} |\n" for line in (first, rule, *others)))


def shown(value: object) -> Markup:
    """A value of a template: text is escaped, `Markup` is not."""
    return value if isinstance(value, Markup) else Markup(escaped(str(value)))


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The environment of Markdown templates: what they print is `shown`."""
    found = environment().overlay(finalize=shown, autoescape=True)
    found.filters = {**found.filters, "code": lambda text: Markup(code(text))}
    return found
