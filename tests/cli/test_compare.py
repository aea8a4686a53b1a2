"""`vae-variants compare`: words, exit codes, Markdown, JSON, folders of records, and what a report says of its baseline."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.analysis.test_comparison import METRICS, SEEDS, changed, frame
from tests.made_up import fill, grid, made_up
from vae_variants.analysis.comparison import KINDS
from vae_variants.analysis.entries import Entry
from vae_variants.analysis.tables import COLUMNS, results, write_csv
from vae_variants.cli.app import app
from vae_variants.harness import Store, load_suite
from vae_variants.harness.store import RECORD

pytestmark = pytest.mark.usefixtures("smaller_smoke")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["compare", *args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def report(folder: Path, table: pd.DataFrame, digest: str = "dddddddddddd", fidelity: str = "") -> Path:
    folder.mkdir(parents=True)
    write_csv(table[COLUMNS], folder / "results.csv")
    made = f"Made by `vae-variants bench digits{fidelity}` on 2026-01-01.\n\nData: `digits`, digest `{digest}`.\n"
    (folder / "README.md").write_text(made)
    return folder


def test_exit_codes_and_words(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    report(tmp_path / "a", frame())
    report(tmp_path / "better", changed(frame(), "b", "elbo", 1.0))
    report(tmp_path / "worse", changed(changed(frame(), "b", "elbo", -1.0), "c", "rate", 1.0))
    report(tmp_path / "smoke", changed(frame(), "b", "elbo", -1.0), fidelity=" --fidelity smoke")
    report(tmp_path / "other", changed(frame(), "b", "elbo", -1.0), digest="eeeeeeeeeeee")
    assert call("a", "a") == (0, f"{3 * len(METRICS)} unchanged\n", "")
    code, said, _ = call("a", "better/results.csv")
    assert code == 0 and "1 better" in said
    code, said, _ = call("a", "worse")
    assert code == 1 and re.search(r"^b +elbo \(nats\) .*−0\.998", said, re.MULTILINE) and "1 worse, 1 changed, 13 unchanged" in said
    for name, words in (("smoke", "different preset"), ("other", "different images")):
        code, said, _ = call("a", name)
        assert code == 0 and words in said and "3 not compared" in said


def test_markdown_is_a_comment_that_github_shows(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    hostile = "vae[x=1|2]"
    before = frame(("a", hostile, "c"))
    report(tmp_path / "a", before)
    report(tmp_path / "worse", changed(changed(before, hostile, "elbo", -1.0), "c", "rate", 1.0))
    code, page, _ = call("a", "worse", "--markdown")
    assert code == 1 and page.startswith("**Something is worse.** 1 worse, 1 changed, 13 unchanged")
    lines = page.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("| --"):
            width = len(re.findall(r"(?<!\\)\|", line))
            assert lines[i - 2] == "" and len(re.findall(r"(?<!\\)\|", lines[i - 1])) == width
            assert len(re.findall(r"(?<!\\)\|", lines[i + 1])) == width
    head, _, rest = page.partition("<details>")
    assert "vae[x=1\\|2]" in head and "rate (nats)" not in head and "rate (nats)" in rest
    assert page.count("<details>") == page.count("</details>") == 1
    assert lines[lines.index("<details>") + 2] == "", "an empty line, after which GitHub takes Markdown"
    assert call("a", "a", "--markdown")[1].startswith("**Nothing is worse.**")


def test_json_has_every_row(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    report(tmp_path / "a", frame())
    report(tmp_path / "worse", changed(frame(), "b", "elbo", -1.0))
    code, said, _ = call("a", "worse", "--json")
    rows = json.loads(said)["rows"]
    assert code == 1 and len(rows) == 3 * len(METRICS) and {row["kind"] for row in rows} <= set(KINDS)
    (worse,) = [row for row in rows if row["kind"] == "worse"]
    assert worse["difference"]["mean"] == pytest.approx(-1.0, abs=0.02) and worse["difference"]["n"] == SEEDS


def test_stores_are_compared_with_each_other_and_with_reports(call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    specs = grid(3, (0, 1, 2))
    fill(Store(tmp_path / "runs"), specs)
    fill(Store(tmp_path / "later"), specs)
    path = next(tmp_path.glob(f"later/*/*/{RECORD}"))
    record = Store(tmp_path / "later").read(path)
    assert record is not None
    rows = [{**row, "value": row["value"] - 100.0} if row["metric"] == "elbo" else row for row in record.rows]
    path.write_text(replace(record, rows=rows, status={**record.status, "2": "oom"}).to_json())
    assert call("runs", "runs")[0] == 0
    code, said, _ = call("runs", "later", "--json")
    found = [(row["variant"], row["metric"], row["kind"]) for row in json.loads(said)["rows"] if row["kind"] in ("failed", "worse")]
    assert code == 1 and found == [(record.label, "", "failed"), (record.label, "elbo", "worse")]
    entries = [Entry(spec.label, made_up(spec)) for spec in specs]
    (tmp_path / "page").mkdir()
    write_csv(results(entries), tmp_path / "page" / "results.csv")
    assert call("page", "runs")[0] == 0 and call("page", "later")[0] == 1
    code, _, said = call("runs", "later", "--suite", "digits")
    assert code == 2 and "no record of suite 'digits'" in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("absent", "a"), "'absent' does not exist; give a report's folder"),
        (("a", "empty"), "there is no record in 'empty'"),
        (("a", "text.csv"), "it has no column 'dataset'"),
        (("a", "rows.csv"), "has no rows"),
        (("a", "broken.csv"), "seeds and values must be numbers"),
        (("a", "elsewhere"), "in both: a has a on digits, b on digits, c on digits; elsewhere has z on digits"),
        (("a", "a", "--suite", "digits"), "--suite chooses from folders of records"),
        (("a", "a", "--markdown", "--json"), "exclude each other"),
        (("empty", "empty", "--suite", "digit"), "did you mean 'digits'"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line(args: tuple[str, ...], says: str, call: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    report(tmp_path / "a", frame())
    report(tmp_path / "elsewhere", frame(("z",)))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.csv").write_text("variant,x\na,1\n")
    write_csv(frame()[COLUMNS].iloc[:0], tmp_path / "rows.csv")
    write_csv(frame()[COLUMNS].assign(value="much"), tmp_path / "broken.csv")
    code, _, said = call(*args)
    (line,) = said.strip().splitlines()
    assert code == 2 and says in line


def test_a_report_with_a_baseline_says_what_changed_on_its_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    suite = 'dataset = "digits"\nseeds = 3\n[[runs]]\nvariants = ["vae-bernoulli", "iwae-8", "made"]\n'
    (tmp_path / "mine.toml").write_text(suite)
    fill(Store("runs"), load_suite("mine.toml").plan())
    made = CliRunner().invoke(app, ["report", "mine.toml"])
    assert made.exit_code == 0 and "Changes against the baseline" not in (tmp_path / "reports/mine/report.html").read_text()
    rows = pd.read_csv("reports/mine/results.csv")
    rows.loc[rows.variant == "iwae-8", "value"] += 1e3
    rows[rows.variant != "made"].to_csv("before.csv", index=False)
    made = CliRunner().invoke(app, ["report", "mine.toml", "--baseline", "before.csv"])
    assert made.exit_code == 0, made.output
    page = (tmp_path / "reports/mine/report.html").read_text()
    section = page.partition('id="changes"')[2].partition("</section>")[0]
    assert '<td>added</td><th scope="row">made</th>' in section and ">iwae-8<" in section and ">vae-bernoulli<" not in section
    (tmp_path / "mine.toml").write_text(suite + "[defaults]\nepochs = 7\n")
    fill(Store("longer"), load_suite("mine.toml").plan())
    made = CliRunner().invoke(app, ["report", "mine.toml", "--runs", "longer", "--baseline", "reports/mine"])
    assert made.exit_code == 0, made.output
    section = (tmp_path / "reports/mine/report.html").read_text().partition('id="changes"')[2].partition("</section>")[0]
    assert re.search(r"<td>altered</td><th scope=\"row\">made</th>.*<td>epochs: \d+ before, 7 after</td></tr>", section)
    wrong = CliRunner().invoke(app, ["report", "mine.toml", "--baseline", "nowhere"])
    assert wrong.exit_code == 2 and "'nowhere' does not exist" in wrong.stderr
