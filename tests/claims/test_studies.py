"""The framework of studies: verdicts on planted claims, records, the page."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy import stats

from vae_variants.analysis.verdicts import all_of, checked, compared, mixed, one_sided_p, tost_p
from vae_variants.harness import Store
from vae_variants.registry import UserError
from vae_variants.report.drawing import axes
from vae_variants.studies import STUDIES, Findings, Judgement, Lab, Picture, Study, Verdict, by_seed, rows, select, table
from vae_variants.studies.page import cell, claims_on, reasoned, rewrite_claims, verdict, write_claims
from vae_variants.studies.record import StudyRecord, run_study

CPU = torch.device("cpu")
D = [0.31, 0.12, 0.44, 0.27, 0.19]


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        (D, 0.0, Verdict.SUPPORTED),
        ([-d for d in D], 0.0, Verdict.REFUTED),
        ([*D, -1.0], 0.0, Verdict.INCONCLUSIVE),
        (D[:2], 0.0, Verdict.INCONCLUSIVE),  # two that agree are not enough
        ([5.0, 5.0], 0.0, Verdict.INCONCLUSIVE),
        ([5.0], 0.0, Verdict.INCONCLUSIVE),
        (D, 0.2, Verdict.INCONCLUSIVE),  # the threshold is within the interval
    ],
)
def test_a_planted_claim_gets_its_verdict(values: list[float], above: float, verdict: Verdict):
    effect = compared({}, values, above=above)
    assert effect.verdict == verdict
    mirrored = compared({}, [-v for v in values], below=-above)
    assert mirrored.verdict == verdict and mirrored.value == -effect.value
    if len(set(values)) > 1:
        ends = stats.t.interval(0.95, len(values) - 1, statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values)))
        assert (effect.low, effect.high) == pytest.approx(ends)


def test_an_identity_holds_or_does_not():
    assert checked({}, 1e-9, below=1e-6, n=4, of="images").verdict == Verdict.SUPPORTED
    assert checked({}, 1e-3, below=1e-6, n=4, of="images").verdict == Verdict.REFUTED
    assert checked({}, 0.0, below=1e-6, n=0, of="images").verdict == Verdict.INCONCLUSIVE


def test_non_inferiority_is_scipys_one_sided_test():
    for margin in (-0.2, 0.1, 0.3, 1.0):
        assert one_sided_p(D, margin) == pytest.approx(stats.ttest_1samp(D, margin, alternative="less").pvalue)
    two = max(stats.ttest_1samp(D, 0.5, alternative="less").pvalue, stats.ttest_1samp(D, -0.5, alternative="greater").pvalue)
    assert tost_p(D, 0.5) == pytest.approx(two)
    assert tost_p([d + 3 for d in D], 0.5) > 0.99  # far off on either side
    assert tost_p([d - 3 for d in D], 0.5) > 0.99
    assert one_sided_p(D[:2], 1.0) == 1.0  # too few
    assert one_sided_p([0.3] * 4, 1.0) == 0.0 and one_sided_p([1.0] * 4, 1.0) == 1.0


def test_verdicts_combine():
    yes, no = checked({}, 0.0, below=1.0, n=1, of="x"), checked({}, 2.0, below=1.0, n=1, of="x")
    unknown = compared({}, D[:2], above=0.0)
    assert all_of([yes, yes]) == Verdict.SUPPORTED
    assert all_of([yes, unknown]) == Verdict.INCONCLUSIVE
    assert all_of([yes, no, unknown]) == Verdict.REFUTED
    assert all_of([]) == mixed([]) == Verdict.INCONCLUSIVE
    assert mixed([yes, no]) == Verdict.CONDITIONAL
    assert mixed([yes, unknown]) == Verdict.INCONCLUSIVE
    assert mixed([no, no]) == Verdict.REFUTED


class Planted(Study):
    """Differences that were written down.

    Nothing is trained.
    """

    claim = "Planted | with a bar, is above zero."
    source = "this test"
    criterion = "Supported if the mean is above zero."
    values: tuple[float, ...] = tuple(D)
    measured = 0

    def measure(self, lab: Lab) -> Findings:
        type(self).measured += 1
        found = [{"seed": s, "Δ (nats)": v, "label": "a|b", "none": None} for s, v in enumerate(self.values)]
        return Findings({"differences": table("Differences", found)}, {"grid": torch.eye(2)})

    def judge(self, tables) -> Judgement:
        effect = compared({"of": "planted"}, by_seed(tables["differences"], "Δ (nats)").tolist(), above=0.0, unit="nats")
        return Judgement(effect.verdict, f"The mean is {cell(effect.value)}.", (effect,))

    def draw(self, found: Findings) -> list[Picture]:
        figure, (ax,) = axes(1, 1, 3.0, 2.0)
        ax.imshow(found.arrays["grid"].numpy())
        return [Picture("grid", "A grid.", figure)]


class Failing(Planted):
    """Fails."""

    def measure(self, lab: Lab) -> Findings:
        raise ZeroDivisionError("<nothing> to divide by")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    for name, study in (("planted", Planted), ("failing", Failing)):
        monkeypatch.setitem(STUDIES, name, study)
    monkeypatch.setattr(Planted, "measured", 0)
    return Lab("digits", "smoke", None, Store(tmp_path / "runs"), CPU)


def test_a_study_is_measured_once_and_judged_each_time(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    first, found = run_study("planted", lab, "do it")
    assert first.judgement is not None and first.judgement.verdict == Verdict.SUPPORTED and Planted.measured == 1
    again, kept = run_study("planted", lab, "do it")
    assert again.to_json() == first.to_json() and Planted.measured == 1
    assert torch.equal(kept.arrays["grid"], found.arrays["grid"])
    assert StudyRecord.from_json(first.to_json()).to_json() == first.to_json()
    run_study("planted", lab, "do it", fresh=True)
    assert Planted.measured == 2
    monkeypatch.setattr(Planted, "version", 2)
    run_study("planted", lab, "do it")
    assert Planted.measured == 3
    next(lab.store.root.glob("*/study-planted-*/arrays.safetensors")).unlink()  # what figures need has to be there
    run_study("planted", lab, "do it")
    assert Planted.measured in (3, 4)
    for text in ("{}", "[]", first.to_json().replace('"schema": 1', '"schema": 99'), first.to_json().replace("Nothing", "Something")):
        with pytest.raises(ValueError, match="record of a study"):
            StudyRecord.from_json(text)


def test_a_table_that_was_changed_by_hand_in_the_store_is_not_used(lab: Lab):
    first, _ = run_study("planted", lab, "do it")
    (path,) = lab.store.root.glob("*/study-planted-*/study.json")
    whole = json.loads(path.read_text())
    assert StudyRecord.from_json(path.read_text(), sealed=True).to_json() == first.to_json()
    for changed in ({**whole, "tables": {}}, {**whole, "claim": "More."}, {k: v for k, v in whole.items() if k != "sha256"}):
        path.write_text(json.dumps(changed))
        times = Planted.measured
        assert run_study("planted", lab, "do it")[0].claim == first.claim and Planted.measured == times + 1


def test_a_study_that_fails_is_kept_with_its_reason_and_tried_again(lab: Lab, tmp_path: Path):
    record, found = run_study("failing", lab, "do it")
    assert record.judgement is None and "ZeroDivisionError: <nothing> to divide by" in record.error
    write_claims(record, found, tmp_path / "reports")
    page = (tmp_path / "reports" / "claims" / "README.md").read_text()
    assert "There is no verdict" in page and "\\<nothing> to divide by" in page
    assert not list(lab.store.root.glob("*/study-failing-*"))


def test_the_page_shows_every_figure_that_a_verdict_rests_on(lab: Lab, tmp_path: Path):
    for values in (D, [-d for d in D]):  # measured again, it replaces what was there
        Planted.values = tuple(values)
        write_claims(*run_study("planted", lab, "vae-variants study planted --dataset digits", fresh=True), tmp_path / "reports")
        folder = tmp_path / "reports" / "claims"
        page, table = (folder / "README.md").read_text(), (folder / "claims.csv").read_text().splitlines()
        details = (folder / "digits-smoke-planted.md").read_text()
        assert list(pd.read_csv(folder / "data" / "digits-smoke-planted" / "differences.csv")["Δ (nats)"]) == list(values)
        assert "(data/digits-smoke-planted/differences.csv)" in details and f"| {cell(statistics.mean(values))} nats |" in details
        assert "(digits-smoke-planted.md)" in page and Planted.criterion in details
        assert len(table) == 2 and table[0].startswith("study,dataset,fidelity,claim_verdict,where,value,low,high")
        assert page.count("only tried out") == 1 and ("It would be: supported" in page) == (values is D)  # smoke is no evidence
        assert (page.count("Planted | with a bar"), page.count("Planted \\| with a bar")) == (1, 1)
        assert "vae-variants study planted --dataset digits" in details
        assert [path.name for path in (folder / "figures").iterdir()] == ["digits-smoke-planted-grid.png"]
    assert "[claims](claims/README.md) | `vae-variants study --dataset digits`" in (tmp_path / "reports" / "README.md").read_text()
    Planted.values = tuple(D)


def test_pages_are_rewritten_without_measuring(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_claims(*run_study("planted", lab, "do it"), tmp_path)
    drawn = (tmp_path / "claims" / "figures" / "digits-smoke-planted-grid.png").read_bytes()
    monkeypatch.setattr(Planted, "criterion", "Supported if the mean is above one half.")
    monkeypatch.setattr(Planted, "judge", lambda self, tables: Judgement(Verdict.REFUTED, "Too small."))
    (record,) = rewrite_claims(["planted"], tmp_path)
    page = (tmp_path / "claims" / "digits-smoke-planted.md").read_text()
    assert record.judgement.verdict == Verdict.REFUTED and "Too small." in page and "one half" in page and Planted.measured == 1
    assert (tmp_path / "claims" / "figures" / "digits-smoke-planted-grid.png").read_bytes() == drawn  # its array is not kept
    with pytest.raises(UserError, match="no tables of elbo-gap"):
        rewrite_claims(["elbo-gap"], tmp_path)


def test_too_few_seeds_are_inconclusive(lab: Lab):
    study = Planted()
    differences = study.measure(lab).tables["differences"]
    for n in (1, 2):
        assert study.judge({"differences": differences[:n]}).verdict == Verdict.INCONCLUSIVE


def test_a_table_finds_its_rows():
    plain = [{"seed": 0, "k": 1, "x": 2.0}, {"seed": 1, "k": 1, "x": None}, {"seed": 1, "k": 8, "x": 3.0}, {"seed": 2, "k": None, "x": 1.0}]
    found = table("t", plain)
    assert by_seed(found, "x", k=1).to_dict() == {0: 2.0} and by_seed(found, "x", k=8).to_dict() == {1: 3.0}
    assert rows(found) == plain and [type(row["k"]) for row in rows(found)] == [int, int, int, type(None)]
    assert list(select(found, k=None)["seed"]) == [2] and rows(found, seed=1, k=8) == [plain[2]]
    assert found.attrs["caption"] == "t" and by_seed(table("none", []), "x", k=1).empty and rows(pd.DataFrame(), k=1) == []
    with pytest.raises(KeyError):
        select(found, q=1)


def test_cells_read_well():
    shown = {
        1.0: "1",
        -0.25: "−0.25",
        1e-7: "1e−07",
        12345.6: "12346",
        3: "3",
        None: "–",
        "a|b": "a|b",
        0.123456: "0.1235",
        -1234.5: "−1234",
    }
    assert {value: cell(value) for value in shown} == shown


def test_a_lab_shares_what_was_trained(lab: Lab):
    configuration = lab.configurations("vae-latent-2", epochs=1)[0]
    assert configuration.values["hidden"] == [64] and configuration.values["epochs"] == 1  # the suite's, and what was chosen
    first = lab.models(configuration, (0, 1))
    assert list(first) == [0, 1]
    paths = list(lab.store.root.glob("*/*/model.safetensors"))
    assert len(paths) == 1
    stamp = paths[0].stat().st_mtime_ns
    again = lab.models(configuration, (0, 1))
    x = lab.evaluation(first[1], 1).test
    assert torch.equal(first[1].encode(x), again[1].encode(x)) and not torch.equal(first[0].encode(x), first[1].encode(x))  # type: ignore[operator]
    records = lab.records(["vae-latent-2", "vae[latent=3]", "reference-pixels"], seeds=2)
    assert {label: r.seeds for label, r in records.items()} == {"vae-latent-2": [0, 1], "vae[latent=3]": [0, 1], "reference-pixels": [0]}
    assert records["vae-latent-2"].values["epochs"] == 2 and paths[0].stat().st_mtime_ns >= stamp
    with lab.noise("a"):
        a = torch.rand(3)
    with lab.noise("a"):
        assert torch.equal(a, torch.rand(3))
    with lab.noise("b"):
        assert not torch.equal(a, torch.rand(3))


def test_a_lab_knows_the_suite_for_its_data(lab: Lab):
    assert lab.suite.dataset == "digits"
    assert (lab.choose(smoke=1, quick=2, full=3), lab.seeds(2)) == (1, (0, 1))


def test_the_command_names_what_is_not_there(lab: Lab):
    from vae_variants.studies.study import chosen

    with pytest.raises(UserError, match="unknown study 'plant'; did you mean 'planted'"):
        chosen(["plant"])
    with pytest.raises(UserError, match="named twice"):
        chosen(["planted", "planted"])
    assert set(chosen([])) == set(STUDIES)


def test_records_of_studies_are_plain_json(lab: Lab):
    record, _ = run_study("planted", lab, "do it")
    found = json.loads(record.to_json())
    assert found["judgement"]["effects"][0]["verdict"] == "supported" and found["tables"]["differences"]["columns"][0] == "seed"


class Blind(Planted):
    """Has figures that cannot be drawn."""

    def draw(self, found: Findings) -> list[Picture]:
        raise KeyError("grid")


class Biased(Planted):
    """Cannot judge."""

    def judge(self, tables) -> Judgement:
        raise IndexError("no effect")


class Endless(Planted):
    """Measures what is not finite."""

    def measure(self, lab: Lab) -> Findings:
        return Findings({"x": table("Values", [{"seed": 0, "v": math.nan}])})


@pytest.mark.parametrize(("study", "says"), [(Blind, "KeyError: 'grid'"), (Biased, "IndexError: no effect"), (Endless, "column 'v'")])
def test_whatever_a_study_does_wrong_is_one_line(study, says: str, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STUDIES, "planted", study)
    record = write_claims(*run_study("planted", lab, "do it"), tmp_path)
    assert record.judgement is None and says in record.error


def test_a_careful_verdict_is_not_replaced_by_a_quick_one_or_by_a_failure(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    careful = Lab("digits", "full", None, lab.store, CPU)
    write_claims(*run_study("planted", careful, "carefully"), tmp_path)
    write_claims(*run_study("planted", lab, "quickly"), tmp_path)
    page = tmp_path / "claims" / "README.md"
    assert "carefully" in page.read_text() and "quickly" in page.read_text() and "digits (smoke)" in page.read_text()
    monkeypatch.setitem(STUDIES, "planted", Biased)
    record = write_claims(*run_study("planted", careful, "carefully", fresh=True), tmp_path)
    assert record.error and "There is no verdict" not in page.read_text() and page.read_text().count("✔ supported") == 2


def test_a_report_is_told_the_claims_on_its_data(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert claims_on("digits", tmp_path) == []
    write_claims(*run_study("planted", Lab("digits", "full", None, lab.store, CPU), "carefully"), tmp_path)
    write_claims(*run_study("planted", lab, "quickly"), tmp_path)  # at smoke fidelity, which is no evidence
    (found,) = claims_on("digits", tmp_path)
    assert (found.name, found.claim, found.verdict, found.place) == ("planted", Planted.claim, "✔ supported", "digits")
    assert (tmp_path / "digits" / found.link).resolve().is_file()
    assert claims_on("mnist", tmp_path) == []
    record, _ = run_study("planted", lab, "do it")
    trial = record.model_copy(update={"fidelity": "quick[elbo_samples=5]"})
    assert verdict(trial) == "trial: supported" and "A trial" in reasoned(trial) and "supported" in reasoned(trial)
    write_claims(trial, Findings(trial.tables), tmp_path)
    assert [c.verdict for c in claims_on("digits", tmp_path)] == ["✔ supported"], "a trial gives way to a verdict"
    (tmp_path / "claims" / "data" / "digits-planted.json").unlink()
    assert [c.verdict for c in claims_on("digits", tmp_path)] == ["trial: supported"]
    (tmp_path / "claims" / "data" / "damaged.json").write_text("{}")
    assert claims_on("digits", tmp_path) == [] and "damaged.json" in capsys.readouterr().err


class Asking(Planted):
    """Asks for configurations and records."""

    def measure(self, lab: Lab) -> Findings:
        lab.configurations("vae-latent-2", epochs=1)
        lab.specs("gan", None)
        lab.specs("vae[latent=3]", 2)
        return super().measure(lab)


def test_a_study_is_measured_again_where_a_suite_has_changed(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STUDIES, "planted", Asking)
    monkeypatch.setattr(Asking, "measured", 0)
    for _ in range(2):
        run_study("planted", lab, "do it")
    assert Asking.measured == 1
    suite = lab.suite
    for defaults, times in (({**suite.defaults, "lr": 3e-3}, 2), ({**suite.defaults, "lr": 3e-3}, 2), (suite.defaults, 3)):
        monkeypatch.setattr(Lab, "suite", replace(suite, defaults=defaults))
        run_study("planted", lab, "do it")
        assert Asking.measured == times
