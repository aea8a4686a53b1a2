"""Laws of the page's plots: what is drawn can be read back, and is what the records have."""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.made_up import grid, made_up
from vae_variants.evaluation import FIDELITIES, Evaluation
from vae_variants.harness.pictures import GRID, STEPS, UNITS, bytes_of, pictures
from vae_variants.report.dots import dot_panel
from vae_variants.report.entries import LOOKS, Entry, distinct, prominent
from vae_variants.report.grids import NUMBERS, SIDES, affordable, picture
from vae_variants.report.matrix import MOST, excludes
from vae_variants.report.placing import HEIGHT, MARK, Box, apart, beside
from vae_variants.report.plots import SECTIONS, plots
from vae_variants.report.svg import Scale, fitted, tick_labels, width_of
from vae_variants.report.tradeoffs import COSTS, front
from vae_variants.training import Population, Training
from vae_variants.variants import build, configure

HOSTILE = """x"><script>alert('&amp;')</script><b a='"""
COLOURS = re.compile(r"(var\(--(v[0-7]|ink|line|paper|muted)\)|none|rgba\([\d.,]+\))")
Element = ElementTree.Element


def entries(variants: int = 16, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Entry]:
    """Made up, with pictures of chance; one has a hostile label, one a seed only."""
    specs = grid(variants, seeds)
    specs[3] = replace(specs[3], seeds=seeds[:1])
    found = []
    for i, spec in enumerate(specs):
        chance = torch.Generator().manual_seed(i)
        images = torch.randint(0, 256, (4, 64), dtype=torch.uint8, generator=chance)
        shown = {"samples": images, "originals": torch.arange(128, dtype=torch.uint8).view(2, 64), "reconstructions": images[:2]}
        shown |= {"latent": torch.randn(30, 2, generator=chance), "latent_labels": torch.arange(30) % 10}
        shown |= {"traversal": images[:1].repeat(len(STEPS), 1), "traversal_units": torch.tensor([0])}
        shown |= {"latent_share": torch.tensor([0.5, 0.25])} if i % 2 else {"latent_grid": images[:1].repeat(GRID**2, 1)}
        found.append(Entry(HOSTILE if i == 5 else spec.label, made_up(spec), shown.copy, i))
    return found


def parsed(body: str) -> Element:
    return ElementTree.fromstring(f"<body>{body}</body>")


def svgs(found: list) -> list[tuple[str, Element]]:
    """(name of the plot, picture) of those that have a title."""
    return [(plot.name, svg) for plot in found for svg in parsed(plot.body).iter("svg") if svg.get("id")]


def title(svg: Element) -> str:
    return svg.findtext("title") or ""


def read(label: str) -> float:
    size = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}.get(label[-1], 1.0)
    return float(label.rstrip("kMGT").replace("−", "-")) * size


def inverse(svg: Element, axis: str = "x", log: bool = False):
    """Pixels -> value, by the ticks of an axis as one sees them."""
    group = next(g for g in svg.iter("g") if g.get("class") == f"{axis}-axis")
    labels = [t for t in group.iter("text") if re.fullmatch(r"−?[\d.]+[kMGT]?", t.text or "")]
    places = [float(line.get(f"{axis}1")) for line in group.iter("line")]
    values = [math.log10(read(t.text)) if log else read(t.text) for t in labels]
    slope = (values[-1] - values[0]) / (places[-1] - places[0])
    for place, value in zip(places, values, strict=True):
        assert values[0] + slope * (place - places[0]) == pytest.approx(value, abs=abs(slope) * 0.02)

    def back(pixel: float) -> float:
        value = values[0] + slope * (pixel - places[0])
        return 10**value if log else value

    return back, abs(slope) * 0.02


def place(element: Element) -> tuple[float, float]:
    x, y = re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")).groups()
    return float(x), float(y)


def of(svg: Element, kind: str) -> list[Element]:
    return [e for e in svg.iter() if e.get("class") == kind]


@pytest.mark.parametrize("metric", ["log_likelihood", "elbo", "probe_accuracy", "reconstruction_mse", "train_images_per_second"])
def test_every_variant_with_a_value_has_one_mark_where_its_mean_is(metric):
    group = [e for e in entries() if e.record.support == "binary"]
    svg = parsed(dot_panel("p", "a title", metric, group, group)).find("svg")
    back, error = inverse(svg)
    rows = {row.get("data-variant"): row for row in of(svg, "row")}
    expected = [e for e in group if e.interval(metric)]
    assert len(of(svg, "row")) == len(rows) == len(expected) > 3
    for e in expected:
        found, (mark,) = e.interval(metric), of(rows[e.label], "mark")
        x, y = place(mark)
        assert back(x) == pytest.approx(found.mean, abs=error)
        assert (mark.get("fill") == "var(--paper)") == (e.kind(metric) == "lower-bound")
        lines = of(rows[e.label], "interval")
        assert len(lines) == (found.low is not None and found.n > 2)
        beyond = of(rows[e.label], "beyond")
        for line in lines:
            assert float(line.get("y1")) == float(line.get("y2")) == pytest.approx(y)
            if not beyond:
                assert [back(float(line.get(end))) for end in ("x1", "x2")] == pytest.approx([found.low, found.high], abs=error)
        seeds = [back(float(x)) for d in of(rows[e.label], "seeds") for x in re.findall(r"M([\d.]+) ", d.get("d"))]
        if seeds:
            assert sorted(seeds) == pytest.approx(sorted(e.values(metric).values()), abs=6 * error)  # to a tenth of a pixel
        else:
            assert found.n == 1
    (line,) = of(svg, "baseline")
    assert back(float(line.get("x1"))) == pytest.approx(expected[0].interval(metric).mean, abs=error)


def test_an_interval_that_leaves_the_plot_says_so():
    group = [e for e in entries() if e.interval("elbo") and e.record.support == "binary" and len(e.record.seeds) > 2][:4]
    for i, e in enumerate(group):
        spread = 40 if i == 1 else 0.1
        rows = [{**r, "value": i + spread * (r["seed"] - 1)} if r["metric"] == "elbo" else r for r in e.record.rows]
        group[i] = Entry("wild" if i == 1 else e.label, replace(e.record, rows=rows), index=i)
    svg = parsed(dot_panel("p", "a title", "elbo", group, group)).find("svg")
    assert [bool(of(row, "beyond")) for row in of(svg, "row") if row.get("data-variant") != "wild"] == [False] * 3
    (row,) = [row for row in of(svg, "row") if row.get("data-variant") == "wild"]
    assert len(re.findall("M", of(row, "beyond")[0].get("d"))) == 2
    back, error = inverse(svg)
    assert back(place(of(row, "mark")[0])[0]) == pytest.approx(group[1].interval("elbo").mean, abs=error)


def test_values_that_differ_by_orders_are_shown_by_their_logarithm():
    group = [e for e in entries() if e.interval("train_seconds")][:5]
    far = [
        Entry(e.label, replace(e.record, rows=[{**r, "value": r["value"] * 10.0**i} for r in e.record.rows]), index=i)
        for i, e in enumerate(group)
    ]
    svg = parsed(dot_panel("p", "a title", "train_seconds", far, far)).find("svg")
    back, error = inverse(svg, log=True)
    for row, e in zip(of(svg, "row"), sorted(far, key=lambda e: e.interval("train_seconds").mean), strict=True):
        assert row.get("data-variant") == e.label
        assert math.log10(back(place(of(row, "mark")[0])[0])) == pytest.approx(math.log10(e.interval("train_seconds").mean), abs=error)


def test_what_cannot_be_told_from_the_best_is_marked():
    group = [e for e in entries() if e.record.support == "binary" and e.interval("log_likelihood")]
    up = [
        Entry(e.label, replace(e.record, rows=[{**r, "value": r["value"] + 200.0 * (e in group[1:3])} for r in e.record.rows]))
        for e in group
    ]
    from vae_variants.report.entries import best

    top = set(best(up, "log_likelihood"))
    svg = parsed(dot_panel("p", "a title", "log_likelihood", up, up)).find("svg")
    bold = {row.get("data-variant") for row in of(svg, "row") if any(t.get("font-weight") == "600" for t in row.iter("text"))}
    assert bold == top
    assert 0 < len(top) < len(up)
    assert all(label in svg.findtext("desc").partition("Cannot be told from the best: ")[2] for label in top)


def test_nothing_in_nats_is_drawn_beside_that_of_other_pixels():
    group = entries(24)
    supports = {e.label: e.record.support for e in group}
    seen = 0
    for name, svg in svgs(plots(group)):
        if "nats" in title(svg) or "log p(x)" in title(svg) or "ELBO" in title(svg) or "L_K" in title(svg):
            drawn = {supports[g.get("data-variant")] for g in svg.iter("g") if g.get("data-variant")}
            assert len(drawn) <= 1, (name, title(svg))
            seen += 1
    assert seen > 12


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12),
    st.tuples(*[st.sampled_from(["higher", "lower"])] * 2),
)
def test_the_pareto_front_is_that_of_brute_force(points, better):
    signs = [1 if b == "higher" else -1 for b in better]
    score = [(signs[0] * x, signs[1] * y) for x, y in points]
    expected = {i for i, p in enumerate(score) if not any(q != p and q[0] >= p[0] and q[1] >= p[1] for q in score)}
    found = front(points, better)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [points[i] for i in found] == sorted(points[i] for i in found)


@pytest.mark.parametrize("cost", list(COSTS))
def test_the_front_is_drawn_through_the_variants_that_are_on_it(cost):
    group = [e for e in entries(24) if e.record.support == "binary" and e.interval("log_likelihood")]
    for metric in ("train_seconds", "sample_images_per_second", "parameters"):
        if not all(e.interval(metric) for e in group):
            pytest.fail(f"no {metric}")
    (plot,) = [p for p in plots(group) if p.name == "cost-likelihood-binary"]
    (svg,) = [s for s in parsed(plot.body).iter("svg") if s.get("id").endswith(cost)]
    better = ("higher" if cost == "sample_images_per_second" else "lower", "higher")
    on = [group[i] for i in front([(e.interval(cost).mean, e.interval("log_likelihood").mean) for e in group], better)]
    across, error = inverse(svg)
    up, error_up = inverse(svg, "y")
    marks = {g.get("data-variant"): place(of(g, "mark")[0]) for g in svg.iter("g") if g.get("data-variant")}
    assert set(marks) == {e.label for e in group}
    for e in group:
        assert across(marks[e.label][0]) == pytest.approx(e.interval(cost).mean, abs=error)
        assert up(marks[e.label][1]) == pytest.approx(e.interval("log_likelihood").mean, abs=error_up)
    line = [tuple(map(float, p.split())) for p in of(svg, "front")[0].get("d")[1:].split("L")]
    corners = [tuple(round(v, 1) for v in marks[e.label]) for e in on]
    assert line[::2] == pytest.approx(np.array(corners), abs=0.11)
    for (x0, y0), (x, y), (x1, y1) in zip(line[::2], line[1::2], line[2::2], strict=False):  # what is certain to be had at that cost
        assert (x, y) == ((x1, y0) if better[0] == "lower" else (x0, y1))


def test_curves_end_where_the_means_end_and_labels_do_not_meet():
    group = [e for e in entries(24) if e.record.support == "binary" and e.interval("log_likelihood")]
    (plot,) = [p for p in plots(group) if p.name == "curves-binary"]
    svg = parsed(plot.body).find("div").find("svg")
    (up, error), (across, error_across) = inverse(svg, "y"), inverse(svg)
    for e in group:
        (g,) = [g for g in svg.iter("g") if g.get("data-variant") == e.label]
        points = [tuple(map(float, p.split())) for p in of(g, "curve")[0].get("d")[1:].split("L")]
        mean = np.array(e.record.curves["validation_log_prob"]).mean(0)
        assert [across(x) for x, _ in points] == pytest.approx(np.arange(1, len(mean) + 1), abs=6 * error_across)
        assert [up(y) for _, y in points] == pytest.approx(mean, abs=6 * error)
        assert len(of(g, "band")) == (len(e.record.seeds) > 2)
    places = sorted(float(t.get("y")) for t in of(svg, "label"))
    assert len(places) == len(group)
    assert min(np.diff(places)) > HEIGHT - 0.02


def test_the_matrix_is_antisymmetric_and_what_is_compared():
    group = [e for e in entries(24) if e.interval("log_likelihood")]
    found = [p for p in plots(group) if p.name.startswith("differences-")]
    assert len(found) == 2
    for plot in found:
        rows = parsed(plot.body).find("div/table/tbody").findall("tr")
        own = {e.label: e for e in group if e.record.support == plot.name.partition("-")[2]}
        labels = [row.get("data-variant") for row in rows]
        assert sorted(labels) == sorted(own)
        heads = [th.get("title") for th in parsed(plot.body).findall("div/table/thead/tr/th")]
        assert heads == labels
        cells = {(row.get("data-variant"), head): td for row in rows for head, td in zip(heads, row.findall("td"), strict=True)}
        assert len(cells) == len(labels) ** 2
        for a, b in combinations(labels, 2):
            one, other = cells[a, b], cells[b, a]
            expected = own[a].compared("log_likelihood", own[b])
            assert read(one.text.replace("+", "")) == pytest.approx(expected.difference.mean, abs=0.006)
            assert read(one.text.replace("+", "")) == -read(other.text.replace("+", ""))
            assert one.get("class") == other.get("class") == ("clear" if excludes(expected) else "unclear")
            assert ("font-weight:600" in one.get("style")) == excludes(expected)
            shades = re.search(r"rgba\(([\d,]+),", one.get("style"))[1], re.search(r"rgba\(([\d,]+),", other.get("style"))[1]
            assert shades[0] != shades[1]


def test_a_large_matrix_shows_the_first_and_the_best():
    group = [e for e in entries(120, (0, 1)) if e.record.support == "binary" and e.interval("log_likelihood")]
    (plot,) = [p for p in plots(group) if p.name == "differences-binary"]
    labels = {row.get("data-variant") for row in parsed(plot.body).find("div/table/tbody")}
    assert labels == {e.label for e in prominent(prominent(group, LOOKS), MOST)}
    assert f"{MOST} of" in plot.caption


def test_plots_are_the_same_twice_and_keep_to_the_rules_of_the_page():
    found, again = plots(entries()), plots(entries())
    assert found == again
    assert len({p.name for p in found}) == len(found) > 12
    assert [p.section for p in found] == sorted((p.section for p in found), key=SECTIONS.index)
    assert {p.section for p in found} == set(SECTIONS)
    ids: Counter[str] = Counter()
    for plot in found:
        assert "<script" not in plot.body
        assert HOSTILE not in plot.body + plot.caption + plot.title
        root = parsed(plot.body)
        here = [e.get("id") for e in root.iter() if e.get("id")]
        ids.update(here)
        for element in root.iter():
            for name in ("fill", "stroke"):
                assert COLOURS.fullmatch(element.get(name, "none")), element.attrib
            if element.get("aria-labelledby"):
                assert all(i in here for i in element.get("aria-labelledby").split())
            if element.tag == "svg":
                assert element.get("role") == "img" and element.get("viewBox")
                assert element.get("aria-label") or (element.findtext("title") and element.findtext("desc"))
            if element.tag == "img":
                assert element.get("alt") and element.get("src").startswith("data:image/png;base64,")
    assert max(ids.values()) == 1
    assert all(i.startswith("plot-") for i in ids)
    assert any(e.get("data-variant") == HOSTILE for p in found for e in parsed(p.body).iter())


def test_what_is_not_there_is_not_drawn():
    assert plots([]) == []
    (entry, *_) = entries(4)
    bare = replace(entry.record, rows=[], curves={}, series={}, status={"0": "error"}, seeds=[0])
    assert plots([Entry("failed", bare)]) == []
    older = {name: value for name, value in entry.pictures.items() if not name.startswith(("traversal", "latent_share"))}
    names = {p.name for p in plots([Entry("of-before", entry.record, older.copy)])}
    assert {"samples", "reconstructions", "latent-plane"} <= names
    assert "traversals" not in names


def test_a_page_of_many_is_no_larger_and_loads_no_more_pictures():
    loaded: list[str] = []
    group = [replace(e, load=lambda e=e: loaded.append(e.label) or e.pictures) for e in entries(3 * LOOKS, (0, 1))]
    found = plots(group)
    assert len(loaded) == LOOKS
    assert sum(len(p.body) for p in found) < 2_000_000
    shown = {e.get("data-variant") for p in found for e in parsed(p.body).iter() if e.get("data-variant")}
    assert shown == {e.label for e in prominent(group, LOOKS)}
    assert all(f"{LOOKS} of {len(group)} variants" in p.caption for p in found if p.name != "latent-size")


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e6, 1e6, allow_subnormal=False), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_few_round_and_say_where_they_are(low, span, most):
    scale = Scale(low, low + span, 50.0, 350.0)
    ticks = scale.ticks(most)
    assert len(ticks) <= most
    assert all(scale.low - 1e-6 * span <= t <= scale.high + 1e-6 * span for t in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)
    for value, label in zip(ticks, labels, strict=True):
        assert read(label) == pytest.approx(value, rel=1e-5, abs=1e-5 * span)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 400, allow_subnormal=False), min_size=1, max_size=30))
def test_labels_at_the_side_are_apart_in_order_and_stay_when_they_can(wanted):
    found = apart(wanted, 0, 400)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    gaps = np.diff([found[i] for i in order])
    assert all(gaps > HEIGHT - 1e-6)
    assert min(found) >= 0 and max(found) <= 400 + 1e-6
    if len(wanted) == 1:
        assert found == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(60, 390), st.floats(40, 320)), min_size=1, max_size=20), st.data())
def test_labels_of_a_scatter_meet_neither_each_other_nor_a_mark(points, data):
    words = [data.draw(st.text("abm-", min_size=1, max_size=18)) for _ in points]
    within = Box(50, 30, 400, 330)
    found = beside(points, words, within, 11.5)
    boxes = [
        Box(p.x - width_of(w, 11.5) / 2, p.y - HEIGHT / 2, p.x + width_of(w, 11.5) / 2, p.y + HEIGHT / 2)
        for p, w in zip(found, words, strict=True)
        if p is not None
    ]
    assert not any(a.meets(b) for a, b in combinations(boxes, 2))
    assert not any(b.meets(Box(x - MARK, y - MARK, x + MARK, y + MARK)) for b in boxes for x, y in points)
    assert all(b.left >= within.left and b.right <= within.right and b.top >= within.top and b.bottom <= within.bottom for b in boxes)
    assert found[0] is not None or len(points) > 1


def test_a_long_label_loses_its_middle():
    long = "vae[likelihood=gaussian,sigma=0.1,latent=2,samples=64]"
    short = fitted(long, 120)
    assert width_of(short) <= 120 and "…" in short
    head, _, tail = short.partition("…")
    assert long.startswith(head) and long.endswith(tail) and min(len(head), len(tail)) > 3
    assert fitted("vae", 120) == "vae"


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 6, 6)])
def test_a_picture_holds_the_images_as_they_are(shape):
    images = torch.randint(0, 256, (5, math.prod(shape)), dtype=torch.uint8)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', picture(images, shape, 3, "words"))[1]))))
    c, h, w = shape
    assert found.shape == (2 * h + 1, 3 * w + 2, c + 1)
    for i, image in enumerate(images):
        top, left = (i // 3) * (h + 1), (i % 3) * (w + 1)
        assert (found[top : top + h, left : left + w, :c] == image.view(shape).permute(1, 2, 0).numpy()).all()
    assert (found[:h, :w, c] == 255).all()
    assert (found[h, :, c] == 0).all() and (found[h + 1 :, 2 * (w + 1) :, c] == 0).all()


@given(st.integers(1, 20_000), st.integers(1, LOOKS))
def test_pictures_of_many_variants_show_fewer_images(size, variants):
    n = affordable([s * s for s in SIDES], size, variants)
    assert n * size * variants <= NUMBERS or n == 1
    more = [s * s for s in SIDES if s * s > n]
    assert all(m * size * variants > NUMBERS for m in more)


def evaluated(selector: str, dataset, seed: int = 0) -> Evaluation:
    """Barely trained: what it draws must not depend on that."""
    (configuration,) = configure(selector)
    population = Population(lambda: build(configuration, dataset), (seed,))
    training = Training(population, dataset.as_(configuration.support), replace(configuration.recipe, epochs=1), dataset.digest)
    training.run_epoch()
    (member,) = training.population.members()
    return Evaluation(member, dataset, seed, FIDELITIES["smoke"])


@pytest.fixture(scope="module")
def small():
    from vae_variants.datasets import load_dataset

    return load_dataset("digits").subset(200, 60)


@pytest.mark.parametrize("selector", ["vae[hidden=8,latent=12]", "ae[hidden=8,latent=3]", "vae[likelihood=gaussian,hidden=8,latent=2]"])
def test_a_traversal_goes_through_the_reconstruction_of_the_first_test_image(selector, small):
    e = evaluated(selector, small)
    found, x = pictures(e), small.grey()[:1]
    units = found["traversal_units"].tolist()
    codes = e.codes["test"]
    assert len(units) == min(UNITS, codes.shape[1]) == len(set(units))
    spread = codes.std(0, correction=0)
    assert spread[units].tolist() == sorted(spread.tolist(), reverse=True)[: len(units)]
    steps = found["traversal"].unflatten(0, (len(units), len(STEPS))).int()
    with torch.no_grad():
        z = e.model.encode(x)
        for row, unit in zip(steps, units, strict=True):
            for image, step in zip(row, STEPS, strict=True):
                moved = z.clone()
                moved[:, unit] += step * spread[unit]
                assert (bytes_of(e.model.decode(moved))[0].int() - image).abs().max() <= 1  # a batch rounds differently
        middle = bytes_of(e.model.decode(z))[0].int()
    assert (steps[:, STEPS.index(0.0)] - middle).abs().max() <= 1
    assert (found["reconstructions"][0].int() - middle).abs().max() <= 1
    assert (steps[0, 0] != steps[0, -1]).any()


def test_variants_show_the_same_images_made_of_the_same_noise(small):
    one, other = evaluated("vae[hidden=8,latent=6]", small), evaluated("vae[objective=iwae,samples=4,hidden=16,latent=6]", small)
    found = [pictures(e) for e in (one, other)]
    assert (found[0]["originals"] == found[1]["originals"]).all()
    assert (found[0]["originals"] == bytes_of(small.grey()[: len(found[0]["originals"])])).all()
    for e, shown in zip((one, other), found, strict=True):
        with one.noise("samples"):
            z = one.model.prior(e.fidelity.image_samples)
        with torch.no_grad():
            expected = bytes_of(e.model.decode(z))[: len(shown["samples"])]
        assert (expected.int() - shown["samples"].int()).abs().max() <= 1
    assert (found[0]["samples"] != found[1]["samples"]).any()
    again = pictures(evaluated("vae[hidden=8,latent=6]", small))
    assert all((found[0][name] == again[name]).all() for name in found[0])


def test_the_plane_is_of_the_codes_or_of_their_principal_components(small):
    from sklearn.decomposition import PCA

    for latent in (2, 9):
        e = evaluated(f"ae[hidden=8,latent={latent}]", small)
        found, codes = pictures(e), e.codes["test"].numpy()
        assert (found["latent_labels"] == small.labels["test"]).all()
        if latent == 2:
            assert found["latent"].numpy() == pytest.approx(codes, rel=1e-5)
            assert "latent_share" not in found
        else:
            pca = PCA(2).fit(codes)
            assert np.abs(found["latent"].numpy()) == pytest.approx(np.abs(pca.transform(codes)), abs=1e-4)
            assert found["latent_share"].numpy() == pytest.approx(pca.explained_variance_ratio_, rel=1e-4)


def test_codes_that_cannot_be_moved_or_have_no_decoder_are_not_traversed(small):
    assert "traversal" not in pictures(evaluated("vae-categorical[hidden=8,categories=4]", small))
    (projection,) = configure("reference-random-projection")
    found = pictures(Evaluation(build(projection, small), small, 0, FIDELITIES["smoke"]))
    assert set(found) == {"latent", "latent_share", "latent_labels"}


def test_grids_show_what_the_records_have():
    group = entries(8)
    by_name = {p.name: parsed(p.body) for p in plots(group)}
    for name, key in (("samples", "samples"), ("reconstructions", "reconstructions"), ("traversals", "traversal")):
        drawn = {e.get("data-variant"): e.find(".//img") for e in by_name[name].iter() if e.get("data-variant")}
        assert set(drawn) == {e.label for e in distinct(group)}
        for e in group:
            found = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn[e.label].get("src").partition(",")[2]))))
            assert (found[:8, :8, 0].ravel() == e.pictures[key][0].numpy()).all()
