"""Records that strangers send: each is refused in a line or shown as text, whatever it says, and the others are shown beside it.

`FUZZ=10000 nox -s faults` tries as many records.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from tests.made_up import grid, made_up
from vae_variants.cli.app import app
from vae_variants.harness import Record, Store
from vae_variants.harness.files import seal, unseal
from vae_variants.harness.store import RECORD
from vae_variants.report import write_report

MANY, TOGETHER = int(os.environ.get("FUZZ", "40")), 20  # records, and records of a report
SUITE = 'dataset = "digits"\nseeds = 2\n[defaults]\nepochs = 25\n[[runs]]\nvariants = {}\n'
SPECS = grid(TOGETHER, (0, 1))
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "# title", "a | b", "[x](javascript:y)", "![i](http://i)", "=1+1",
    "`code` and `", "@SUM(A1)", "-2+3", "| --- |", "a\n\n# b\n- c", "\x1b[31mred", "\ud800", "nan", "null", "", "x" * 3000, "{{ 7 * 7 }}",
    "</style>", "https://evil.example", "www.evil.example", "&lt;b&gt;", "*a* _b_ ~~c~~", "$x$", "__proto__", "٣", "%s %(x)s {0}", "1. a",
]  # fmt: skip
NUMBERS = [0.0, -0.0, 1e100, -1e100, 1e99, 5e-324, 1e-300, 0, 1, -1, 2**40, 0.5, -3.7, 1e308, 2**63, 10**400, True]
METRICS = ["elbo", "log_likelihood", "reconstruction_mse", "sharpness_ratio", "active_units", "parameters", "mine", "x|y", "=x", *HOSTILE]
PARTS = {  # of a record, as paths in it
    "environment": ["device", "python", "commit", "versions", "step", "jobs", "mine"],
    "dataset": ["name", "digest", "shape", "levels", "sizes", "classes", "class_names"],
    "values": ["likelihood", "latent", "hidden", "epochs", "samples", "lr", "objective", "network", "model", "mine", "=x", "<b>"],
    "failure": ["epoch", "traceback", "tries"],
    "classifier": ["digest", "test_accuracy"],
    "": ["label", "fidelity", "support", "key", "started", "seconds", "code", "epoch_seconds", "trained", "meaning", "seeds"],
}
PICTURES = {"latent": torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), "latent_labels": torch.arange(30) % 10 - 1}


class Stranger(random.Random):
    """Who changes parts of records."""

    def text(self) -> str:
        return self.choice(HOSTILE)

    def number(self) -> float:
        return self.choice(NUMBERS)

    def anything(self) -> object:
        """Mostly text, which a schema can let through."""
        odd = [self.number(), [self.number(), self.text()], [self.text() for _ in range(12)], {self.text(): self.text()}, {}, [], None]
        return self.text() if self.random() < 0.7 else self.choice(odd)

    def rows(self) -> list[dict]:
        return [
            {
                "seed": self.choice([0, 1, 1, 7]), "metric": self.choice(METRICS), "value": self.choice([None, self.number()]),
                "unit": self.choice(["nats", "s", "images/s", self.text()]), "better": self.choice(["higher", "lower", "none"]),
                "kind": self.choice(["exact", "lower-bound", "estimate"]), "status": self.choice(["ok", "ok", "skipped", "error"]),
                "reason": self.text(),
            }
            for _ in range(self.randint(0, 6))
        ]  # fmt: skip

    def curves(self) -> dict:
        names = ["train_loss", "validation_log_prob", "train_loss.critic", self.text()]
        return {self.choice(names): [[self.choice([None, self.number()]) for _ in range(self.randint(0, 4))] for _ in range(2)]}

    def change(self, content: dict) -> None:
        """Changes one part of a record."""
        match self.randint(0, 9):
            case 0:
                content["rows"] += self.rows()
            case 1:
                content["rows"] = self.rows()
            case 2:
                content["curves"] = self.curves()
            case 3:
                content["series"] = {"kl_units": {self.choice("01x"): [self.number() for _ in range(self.randint(0, 3))]}}
            case 4:
                content["status"] = {"0": self.choice(["ok", "error", "diverged"]), "1": "error"}
                content["reason"] = {"1": self.text()}
            case 5:
                for row in self.sample(content["rows"], min(5, len(content["rows"]))):
                    row[self.choice(["value", "unit", "reason"])] = self.choice([self.number(), self.text()])
            case _:
                place = self.choice(list(PARTS))
                (content[place] if place else content)[self.choice(PARTS[place])] = self.anything()

    def record(self, turn: int) -> str:
        """A sealed record that looks like that of a run, of which some parts are changed."""
        text = seal(json.dumps(asdict(made_up(SPECS[turn])), indent=1))
        for _ in range(self.randint(2, 8)):
            content = json.loads(unseal(text))
            self.change(content)
            changed = seal(json.dumps(content, indent=1))
            if accepted(changed) or self.random() < 0.05:
                text = changed
        return text


def accepted(text: str) -> bool:
    try:
        return bool(Record.from_json(text))
    except ValueError:
        return False


class Tags(HTMLParser):
    """Tags of a page, and attributes that lead somewhere or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.targets, self.events = set[str](), set[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets |= {re.split(r"[#,;]", value or "")[0] for name, value in attrs if name in ("href", "src", "action")}
        self.events += [name for name, _ in attrs if name.startswith("on")]


def looked_at(folder: Path) -> None:
    """Nothing in a report is markup, a link, a heading, a break of a table or a formula that a record brought."""
    tokens = MarkdownIt().enable("table").parse((folder / "README.md").read_text(encoding="utf-8"))
    inner = [child for token in tokens for child in token.children or ()]
    assert {t.content for t in (*tokens, *inner) if "html" in t.type} <= {"<code>", "</code>"}
    targets = {str(t.attrs.get("href", t.attrs.get("src"))) for t in inner if t.type in ("link_open", "image")}
    assert all(re.fullmatch(r"(summary|results)\.csv|figures/\w+\.png", target) for target in targets), targets
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", above)) == len(re.findall(r"(?<!\\)\|", line)), line
    page = Tags((folder / "report.html").read_text(encoding="utf-8"))
    assert not page.events
    assert not page.tags & {"img", "iframe", "object", "embed", "base", "link"}
    assert all(
        target in ("", "data:text/csv", "data:image/png") or re.fullmatch(r"[\w./-]+\.(csv|md)", target) for target in page.targets
    ), page.targets
    for name in ("results.csv", "summary.csv"):
        with open(folder / name, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert all(len(row) == len(header) for row in rows)
        for cell in (cell for row in (header, *rows) for cell in row):
            assert not cell.startswith(("=", "@")) and (
                not cell.startswith(("+", "-")) or re.fullmatch(r"[-+\d.e]+", cell) or cell in "+-"
            ), cell


@pytest.fixture(autouse=True)
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SUITE.format(json.dumps([spec.label for spec in SPECS])))


def test_a_record_is_refused_or_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    read = 0
    for chance in range(max(1, MANY // TOGETHER)):
        stranger, store = Stranger(chance), Store(f"runs-{chance}")
        for turn in range(TOGETHER):
            folder = store.root / "digits" / f"vae-{turn}"
            folder.mkdir(parents=True)
            (folder / RECORD).write_text(stranger.record(turn), encoding="utf-8")
        runs = [(record.label, record, PICTURES.copy) for _, record in store.records()]
        said = capsys.readouterr().err.splitlines()
        assert len(said) + len(runs) == TOGETHER
        assert all("is damaged and was set aside" in line for line in said)
        read += len(runs)
        stale = [label for label, record, _ in runs if not record.current]
        write_report("mine", runs, Path("reports/mine"), command="vae-variants bench mine", stale=stale)
        looked_at(Path("reports/mine"))
        program("report", "mine.toml", "--runs", str(store.root))
        program("status", "mine.toml", "--runs", str(store.root))
        program("compare", str(store.root), "reports/mine", "--markdown")
        program("export", runs[0][0], "--to", "safetensors", "--runs", str(store.root))
    assert read > 0.5 * MANY


def program(*words: str) -> None:
    """A command that may find nothing, and says that in a line."""
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SystemExit | None), (words, result.exception)
    assert result.exit_code in (0, 1, 2)
