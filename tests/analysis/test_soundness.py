"""Rows that are flagged, with what to do, and never called best."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.test_advice import about, entry, found
from vae_variants.analysis.advice import Advice, advise
from vae_variants.analysis.cards import cards
from vae_variants.analysis.comparison import compare, table_of
from vae_variants.analysis.entries import Entry, best, ranks
from vae_variants.analysis.sample_quality import PLACE, placed
from vae_variants.analysis.soundness import UNUSED, flaws, spoilt
from vae_variants.analysis.statistics import top_group
from vae_variants.evaluation.layers import USED
from vae_variants.report.content import content
from vae_variants.report.html import page
from vae_variants.report.overview import overview

LABELS = ("vae-bernoulli", "iwae-8", "vae-free-bits", "vae-latent-10", "beta-vae-4")
GAUSSIAN = ("vae-gaussian-learnt", "vae-linear", "vae-gaussian-0.1")
SPOILERS = {  # metric -> its value in a seed that is dead
    "active_units": 0.0,
    "probe_codes": 0.0,
    "unexplained_variance": 1.02,
    "sigma_cost": 2000.0,
    "log_likelihood": -2427.0,
    "status": "diverged",
}


def brilliant(label: str, spoiler: str, seeds: set[int]) -> Entry:
    """The best by every metric, but for what spoils those seeds."""
    e = entry(label)
    rows = []
    for row in e.record.rows:
        scale = {"higher": 0.5 if row["value"] < 0 else 5.0, "lower": 5.0 if row["value"] < 0 else 0.2}.get(row["better"], 1.0)
        rows.append(row | {"value": row["value"] * scale})
    rows = [r | {"value": SPOILERS[spoiler]} if r["metric"] == spoiler and r["seed"] in seeds else r for r in rows]
    status = {s: SPOILERS[spoiler] if spoiler == "status" and int(s) in seeds else "ok" for s in e.record.status}
    return replace(e, record=replace(e.record, rows=rows, status=status))


def named(advice: Advice) -> set[str]:
    """Labels that the advice names otherwise than to set them aside."""
    return {label for c in advice.choices for label in (*c.best, *re.findall(r"`([^`]+)`", c.text))}


@settings(max_examples=25, deadline=None)
@given(
    dead=st.dictionaries(st.sampled_from(LABELS + GAUSSIAN), st.sampled_from(sorted(SPOILERS)), min_size=1, max_size=4),
    seeds=st.sets(st.integers(0, 4), min_size=1),
)
def test_what_is_dead_is_flagged_and_never_named(dead: dict[str, str], seeds: set[int]) -> None:
    """Whatever is wrong with it, in whichever seeds, and although it is first by every metric."""
    entries = []
    for label in LABELS + GAUSSIAN:
        made = brilliant(label, dead[label], seeds) if label in dead else entry(label)
        applies = label in dead and (dead[label] == "status" or dead[label] in made.rows)
        alone = label in dead and dead[label] == "log_likelihood" and len(seeds) > 1  # no outlier among others that are as bad
        if applies and not alone and not (label == "vae-gaussian-0.1" and dead[label] == "sigma_cost"):
            assert made.flaws, (label, dead[label])
        elif label in dead:
            made = entry(label)
        entries.append(made)
    flagged = {e.label for e in entries if e.flaws}
    assert flagged <= set(dead)
    advice = advise(entries)
    assert not flagged & named(advice)
    assert not flagged & {e.label for b in overview(content("mine", entries, "")).best for e in b.entries}
    for metric in ("log_likelihood", "precision", "reconstruction_mse"):
        for group in (entries[: len(LABELS)], entries[len(LABELS) :]):
            assert not flagged & (set(best(group, metric)) | set(ranks(group, metric)))
    for e in entries:
        said = " ".join(str(limit) for limit in advice.limits if "flagged" in limit.text)
        assert (f"`{e.label}` (" in said) == (e.label in flagged)
    for card in cards(entries):
        assert bool(card.flaws) == (card.entry.label in flagged)
        assert all(";" in flaw for flaw in card.flaws), "each has its remedy"


def test_each_table_marks_a_flagged_row() -> None:
    made = content("mine", [brilliant("vae-bernoulli", "active_units", {0}), entry("iwae-8")], "")
    text, tables = page(made), 1 + sum(any(e.flaws for e, _ in sheet.rows) for sheet in (*made.likelihood, *made.sheets))
    assert tables > 4
    for label, times in (("vae-bernoulli", tables), ("iwae-8", 0)):
        rows = re.findall(rf'<tr data-variant="{label}"[^>]*><th scope="row">(.*?)</th>', text)
        assert sum("†" in row for row in rows) == times


def test_a_dead_row_with_the_best_nats_is_not_advised() -> None:
    dead = entry("vae-gaussian-learnt", {"log_likelihood": about(900.0), "active_units": [0.0] * 5, "unexplained_variance": [1.01] * 5})
    alive = entry("vae-linear", {"log_likelihood": about(500.0, turn=1)})
    choice = found(advise([alive, dead]), "Likelihood, continuous pixels on the real line")
    assert choice.best == ("vae-linear",)
    assert choice.aside and choice.aside.items == ("`vae-gaussian-learnt` (no active unit)",)
    everyone = found(advise([dead]), "Likelihood, continuous pixels on the real line")
    assert (everyone.verdict, everyone.best) == ("none", ())


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        ({"active_units": [0, 0, 0]}, {"sigma": 1.0}, "no active unit; sigma=1 may be too large"),
        ({"active_units": [0, 3, 3]}, {"objective": "beta", "beta": 4.0}, "no active unit in 1 of 3 seeds; beta=4 may be too large"),
        ({"active_units": [0, 0, 0]}, {"lr": 0.01}, "no active unit; lower the learning rate (now lr=0.01)"),
        ({"unexplained_variance": [0.96, 1.0, 1.2]}, {}, "reconstructions no better than the mean training image; lower"),
        (
            {"unexplained_variance": [1.0, 1.0, 1.0]},
            {"posterior": "gumbel-softmax", "posterior.categories": 10},
            "reconstructions no better than the mean training image; the KL of relaxed categories",
        ),
        (
            {"unexplained_variance": [1.0, 1.0, 1.0]},
            {"posterior": "gumbel-softmax", "posterior.categories": 2},
            "reconstructions no better than the mean training image; lower",
        ),
        ({"unexplained_variance": [0.7, 0.7, 0.8]}, {}, "reconstructions little better than the mean training image (73% of its"),
        ({"unexplained_variance": [0.6, 0.6, 0.6]}, {}, ""),
        ({"sigma_cost": [0.2, 1.2, 0.1]}, {}, "learnt sigma not at its optimum (`sigma_cost`) in 1 of 3 seeds"),
        ({"sigma_cost": [0.2, 0.9, 0.1]}, {}, ""),
        ({"sigma_cost": [50.0, 50.0, 50.0]}, {"sigma": 1.0}, ""),
        ({"elbo": [-23.1, -23.4, -2427.0]}, {}, "diverged seed 2; lower the learning rate"),
        ({"elbo": [-23.1, -23.4, -26.0]}, {}, ""),
        ({"reconstruction_mse": [0.01, 0.011, 0.08]}, {}, "diverged seed 2"),
        ({"memorisation_ratio": [0.01, 0.01, 0.01]}, {}, "samples near copies of training images; train for fewer epochs"),
        ({"memorisation_ratio": [0.8, 0.9, 1.2]}, {}, ""),
        ({"code_perplexity": [1.0, 9.0, 9.0]}, {}, "one code for nearly all images in 1 of 3 seeds; lower the learning rate"),
        ({"code_perplexity": [2.0, 9.0, 9.0]}, {}, ""),
        ({"coverage": [0.01, 0.01, 0.0]}, {}, "samples near hardly any test image; train longer"),
        ({"coverage": [0.1, 0.2, 0.1]}, {}, ""),
        ({"rate_top": [0.01, 0.005, 0.3]}, {}, "top layer of latents not used in 2 of 3 seeds; try fewer layers"),
        ({"rate_top": [0.2, 0.3, 0.1]}, {}, ""),
        (  # one cause, one remedy
            {"active_units": [0] * 3, "probe_codes": [0] * 3, "unexplained_variance": [1.0] * 3, "coverage": [0.0] * 3},
            {"objective": "beta", "beta": 4.0},
            "no active unit; beta=4 may be too large",
        ),
        (  # of one seed
            {"active_units": [0, 3, 3], "probe_codes": [0, 3, 3], "unexplained_variance": [1.0, 0.1, 0.1], "coverage": [0.0, 0.5, 0.5]},
            {"lr": 0.01},
            "no active unit in 1 of 3 seeds; lower the learning rate (now lr=0.01), or try objective=warm-up",
        ),
        ({}, {"objective": "capacity", "keep": "best"}, "kept the weights of the best ELBO, although its objective moves away"),
        ({}, {"objective": "capacity", "keep": "last"}, ""),
        (
            {"unexplained_variance": [0.8, 0.8, 0.8]},
            {"objective": "log-cosh"},
            "reconstructions little better than the mean training image (80% of its squared error); its loss seeks medians",
        ),
    ],
)
def test_a_flaw_has_its_cause_and_its_remedy(values: dict[str, list[float]], options: dict[str, object], words: str) -> None:
    def of(metric: str) -> dict[int, float]:
        return dict(enumerate(values.get(metric, ())))

    told = flaws(of, {"epochs": 25, **options})
    assert len(told) == bool(words)
    assert not told or str(told[0]).startswith(words)
    assert flaws(of, options) == (), "a baseline is not trained"


def test_a_seed_that_ends_worse_than_it_began_has_diverged() -> None:
    status = dict.fromkeys("012", "ok")

    def told(train: list[list[float]], validation: list[list[float]]) -> str:
        curves = {"train_loss": train, "validation_log_prob": validation}
        return "; ".join(f.what for f in flaws(lambda _: {}, {"epochs": 2}, status, curves))

    falls, rises = [[50.0, 20.0]] * 3, [[-50.0, -20.0]] * 3
    assert told(falls, rises) == ""
    assert told([*falls[:2], [50.0, 900.0]], [*rises[:2], [-50.0, -900.0]]) == "diverged seed 2"
    assert told([[20.0, 50.0]] * 3, rises) == "", "a warm-up raises the loss"
    assert told(falls, [[-20.0, -50.0]] * 3) == "", "overfitting is no divergence"


def test_a_seed_that_loses_all_that_it_had_learnt_has_diverged_whatever_constant_its_loss_has() -> None:
    """As an autoencoder that falls back to the mean image: 720 nats of its loss are a constant."""
    status, good, lost = {"0": "ok", "1": "ok"}, [727.0, 724.0, 723.5], [727.0, 724.0, 746.0]

    def told(*curves: list[float]) -> str:
        found = {"train_loss": list(curves), "validation_loss": list(curves)}
        return "; ".join(f.what for f in flaws(lambda _: {}, {"epochs": 3, "keep": "best"}, status, found))

    assert told(good, lost) == "diverged seed 1"
    assert told(good, [727.0, 724.0, 728.0]) == "", "that is no more than a bad epoch"


def test_a_loss_that_must_rise_is_no_divergence() -> None:
    def told(options: dict[str, object], **curves: list[list[float]]) -> str:
        return "; ".join(f.what for f in flaws(lambda _: {}, {"epochs": 2} | options, {"0": "ok"}, curves))

    rises, falls = [[1.0, 12.0]], [[-28.0, -44.0]]
    assert told({}, train_loss=rises) == "diverged seed 0"
    assert told({}, train_loss=rises, train_critic_loss=[[2.0, 1.0]]) == "", "the critic became better"
    assert told({}, train_loss=rises, train_critic_loss=[[2.0, 1.0]], validation_log_prob=falls) == "diverged seed 0"
    assert told({"objective": "elbo"}, train_loss=rises, validation_log_prob=falls) == "diverged seed 0"
    assert told({"objective": "capacity"}, train_loss=rises, validation_log_prob=falls) == "", "the wanted rate rises"


def test_a_layer_that_is_not_used_is_a_caveat_with_the_limit_of_the_metric() -> None:
    (flaw,) = flaws(lambda metric: {0: 0.01} if metric == "rate_top" else {}, {"epochs": 2})
    assert not spoilt([flaw], "log_likelihood") and not spoilt([flaw], "coverage")
    assert UNUSED == USED


def test_training_that_ends_far_under_its_best_is_flagged_unless_it_keeps_the_best() -> None:
    def told(fall: float, sign: float = 1.0, name: str = "validation_log_prob", **options: object) -> str:
        """Flaws of two seeds that gain 20 nats in 20 epochs, then lose `fall` in 20; the noise is no loss."""
        rows = [[sign * (-80 + min(i, 20) - fall * max(0, i - 20) / 19 + 0.02 * (-1) ** (i + s)) for i in range(40)] for s in (0, 1)]
        return "; ".join(map(str, flaws(lambda _: {}, {"epochs": 40, "keep": "last"} | options, {"0": "ok", "1": "ok"}, {name: rows})))

    assert told(8.0) == "ended 7.6 nats under its best on validation, at epoch 22 of 40; keep=best, or train shorter"
    assert told(8.0, -1.0, "validation_loss").startswith("ended 11.2% of its loss under its best")
    assert told(4.0) == told(0.0) == told(-0.02) == ""
    assert told(8.0, keep="best") == told(8.0, patience=5) == "", "it ended with the weights of its best"
    assert told(8.0, samples=8) == told(8.0, objective="capacity") == "", "it does not train this bound"
    risen = [[-80.0 - 0.5 * i for i in range(40)]]
    assert "under its best" not in str(flaws(lambda _: {}, {"epochs": 40}, {"0": "ok"}, {"validation_log_prob": risen})), "it never gained"


def test_training_whose_last_tenth_still_gains_has_not_converged() -> None:
    def told(rise: float, level: float = -80.0, name: str = "validation_log_prob", epochs: int = 40) -> str:
        """Flaws of two seeds that gain `rise` in each tenth of training, with noise that is no gain."""
        rows = [[level + rise * (i // (epochs // 10)) + (-1) ** (i + seed) for i in range(epochs)] for seed in range(2)]
        return "; ".join(map(str, flaws(lambda _: {}, {"epochs": epochs}, {"0": "ok", "1": "ok"}, {name: rows})))

    assert told(0.2) == "not converged: the last tenth of training gained 0.2 nats on validation; train longer"
    assert told(0.05) == told(-0.2) == told(0.5, 3000.0) == ""
    assert told(5.0, 3000.0) != ""
    assert told(-0.5, 100.0, "validation_loss").startswith("not converged: the last tenth of training gained 0.5% of its loss")
    assert told(-0.05, 100.0, "validation_loss") == told(0.5, 100.0, "validation_loss") == ""
    flat = [-80.0 + 0.6 * min(i, 33) for i in range(40)]  # it rose until the last tenth began
    assert flaws(lambda _: {}, {"epochs": 40}, {"0": "ok"}, {"validation_log_prob": [flat]}) == ()
    both = {"validation_log_prob": [[float(i) for i in range(40)]], "validation_loss": [[22.0] * 40]}
    assert flaws(lambda _: {}, {"epochs": 40}, {"0": "ok"}, both) == (), "the loss is of as many samples as in training"
    short = {"validation_log_prob": [[-9.0, -1.0]]}
    assert flaws(lambda _: {}, {"epochs": 2}, {"0": "ok"}, short) == (), "too short to tell"


def test_a_choice_at_the_edge_is_a_flaw() -> None:
    def told(edge: list[str]) -> str:
        return "; ".join(map(str, flaws(lambda _: {}, {"epochs": 9}, tuning={"edge": edge, "chosen": {"lr": 0.03, "beta": 4.0}})))

    assert told([]) == ""
    assert told(["lr"]).startswith("lr=0.03 chosen at the edge of the values tried; try values beyond it")


def test_copies_spoil_samples_alone() -> None:
    copied = entry("gan", {"memorisation_ratio": [0.01] * 5, "fd-digitscnn": [0.1] * 5})
    others = [
        entry(v, {"fd-digitscnn": about(m, 0.01), "precision": about(3 / m, 0.01), "coverage": about(3 / m, 0.01)})
        for v, m in (("vae-bernoulli", 5.0), ("ae-gmm", 4.0))
    ]
    choice = found(advise([*others, copied]), "Samples")
    assert choice.best == ("ae-gmm",)
    assert choice.aside and choice.aside.items == ("`gan` (samples near copies of training images)",)
    assert not copied.sound("precision") and copied.sound("sample_images_per_second")


def test_distance_precision_and_coverage_decide_on_samples_together() -> None:
    """Of two, one is nearer and the other has more precision and coverage; a flawed third changes no place."""
    near = {"fd-digitscnn": about(4.0, 0.01), "precision": about(0.8, 0.01), "coverage": about(0.7, 0.01)}
    rich = {"fd-digitscnn": about(5.0, 0.01), "precision": about(0.95, 0.01), "coverage": about(0.9, 0.01)}
    gan, gmm = entry("gan", near), entry("ae-gmm", rich)
    copied = entry("vae-bernoulli", {"memorisation_ratio": [0.01] * 5, "fd-digitscnn": [0.1] * 5, "precision": [1.0] * 5})
    places = {e.label: list(e.values(PLACE).values()) for e in placed([gan, gmm, copied], "fd-digitscnn")}
    assert places["gan"] == pytest.approx([5 / 3] * 5) and places["ae-gmm"] == pytest.approx([4 / 3] * 5)
    choice = found(advise([gan, gmm, copied]), "Samples")
    assert (choice.verdict, choice.best, choice.behind) == ("told", ("ae-gmm",), "gan")
    assert choice.margin is not None and choice.margin.mean == pytest.approx(1 / 3)
    even = found(advise([gan, entry("ae-gmm", rich | {"coverage": near["coverage"]})]), "Samples")
    assert (even.verdict, set(even.best)) == ("tied", {"gan", "ae-gmm"}), "nearer, less precise, of one coverage"


def test_a_noisy_variant_is_not_in_the_top_group_where_a_better_one_is_not() -> None:
    best_ = {s: 0.96 + 0.001 * s for s in range(5)}
    close = {s: v - 0.02 for s, v in best_.items()}
    noisy = {s: v + d for (s, v), d in zip(best_.items(), (0.03, -0.2, 0.02, -0.1, 0.03), strict=True)}
    assert top_group({"best": best_, "noisy": noisy}, "higher") == ["best", "noisy"]
    assert top_group({"best": best_, "close": close, "noisy": noisy}, "higher") == ["best"]


def test_compare_flags_what_died() -> None:
    before = entry("vae-gaussian-learnt", {"log_likelihood": about(500.0)})
    dead = entry("vae-gaussian-learnt", {"log_likelihood": about(900.0), "active_units": [0.0] * 5})
    changes = compare(table_of([before]), table_of([dead]))
    assert next(row.note for row in changes.of("flagged")).startswith("no active unit; lower the learning rate")
    assert changes.worse
    assert "log_likelihood" not in {row.metric for row in changes.of("better")}
    assert "log_likelihood" in {row.metric for row in changes.of("perhaps")}
    back = compare(table_of([dead]), table_of([before]))
    assert not back.of("flagged")
    assert not compare(table_of([dead]), table_of([dead])).of("flagged")
