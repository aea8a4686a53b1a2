"""Every claim judged on the tables that are committed in `reports/claims/data`: verdicts are those that the reports show."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from vae_variants.studies import STUDIES
from vae_variants.studies.record import StudyRecord

CLAIMS = Path(__file__).parents[2] / "reports" / "claims"
VERDICTS = {  # study -> verdict on digits at the preset `quick`, on MNIST at `full`
    "one-sample": ("supported", "inconclusive"),
    "posterior-shape": ("not supported", "inconclusive"),
    "elbo-gap": ("supported", "supported"),
    "features": ("inconclusive", "supported under conditions"),
    "sampling-speed": ("supported", "supported"),
    "blur": ("inconclusive", "supported"),
    "likelihood-choice": ("supported under conditions", "supported under conditions"),
    "better-elbo-better-samples": ("inconclusive", "inconclusive"),
}


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.parametrize("data", ["digits-quick", "mnist"])
def test_a_committed_table_has_its_verdict_and_its_effects(name: str, data: str):
    record = StudyRecord.from_json((CLAIMS / "data" / f"{data}-{name}.json").read_text(encoding="utf-8"))
    study = STUDIES[name]()
    judgement = study.judge(record.tables)
    assert judgement.verdict == record.judgement.verdict == VERDICTS[name][data == "mnist"]
    known = {str(effect.where): effect for effect in record.judgement.effects}  # some of which have no vote, and are judged no more
    both = [(effect, known[str(effect.where)]) for effect in judgement.effects if str(effect.where) in known]
    assert both
    for now, before in both:
        assert now._replace(value=0.0, low=None, high=None) == before._replace(value=0.0, low=None, high=None)
        pairs = [(now.value, before.value), (now.low, before.low), (now.high, before.high)]
        assert all(a is b is None or a == pytest.approx(b, rel=1e-9, abs=1e-12) for a, b in pairs)


def test_the_table_of_effects_has_the_same_verdicts():
    shown = pd.read_csv(CLAIMS / "claims.csv").groupby(["study", "dataset"])["claim_verdict"].unique()
    expected = {(name, data): [v] for name, both in VERDICTS.items() for data, v in zip(("digits", "mnist"), both, strict=True)}
    luck = {("disentanglement-is-luck", "sprites?size=32&train=20000"): ["inconclusive"]}
    assert {key: list(found) for key, found in shown.items()} == expected | luck


def test_the_readme_has_the_same_verdicts():
    text = (CLAIMS.parents[1] / "README.md").read_text(encoding="utf-8").partition("| claim | MNIST |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")] for line in text.splitlines()[2:]]
    assert [(digits, mnist) for _, mnist, digits in rows] == list(VERDICTS.values())


def test_a_record_of_an_earlier_version_is_read():
    """It has no SHA-256, and parts that are no longer written."""
    text = (Path(__file__).parents[1] / "data" / "study-record-1.json").read_text(encoding="utf-8")
    assert '"more"' in text and '"folded"' in text and "sha256" not in text
    record = StudyRecord.from_json(text)
    assert STUDIES[record.name]().judge(record.tables).verdict == record.judgement.verdict == "supported"
    assert StudyRecord.from_json(record.to_json()).to_json() == record.to_json()
