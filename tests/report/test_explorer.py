"""The data of the page's explorer, the libraries that draw it, and colours that are the same on every report."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import pytest

from tests.report.test_page import COMMAND, HOSTILE, entries
from vae_variants.analysis.entries import COLOURS, looks_of
from vae_variants.report import html
from vae_variants.report.content import content
from vae_variants.report.explorer import explorer
from vae_variants.variants import VARIANTS


def test_the_data_are_those_of_the_records():
    group = entries(16)
    found = json.loads(explorer(content("digits", group, COMMAND)))
    names = [metric["name"] for metric in found["metrics"]]
    for e, row in zip(group, found["variants"], strict=True):
        assert row["label"] == e.label and {names[int(i)] for i in row["means"]} == {m for m in e.rows if e.interval(m)}
        for i, (mean, low, high) in row["means"].items():
            interval = e.interval(names[int(i)])
            assert (mean, low, high) == pytest.approx((interval.mean, interval.low, interval.high), rel=1e-5)
            assert dict(zip(row["of"], row["seeds"][i], strict=True)) == pytest.approx(e.values(names[int(i)]), rel=1e-5)
    assert set(found["axes"]) <= set(names)


def test_no_name_ends_the_element_of_the_data():
    text = explorer(content("digits", [replace(entries(1)[0], label=HOSTILE + "</script>"), *entries(3)[1:]], COMMAND))
    assert "<" not in text and json.loads(text)["variants"][0]["label"] == HOSTILE + "</script>"


def test_libraries_are_as_published():
    readme = html.asset("vendor/README.md")
    found = re.findall(r"\| (\S+\.js) \| \S+ \| \S+ \| .* \| `(\w{64})` \|", readme)
    assert {f"vendor/{name.removesuffix('.js')}" for name, _ in found} == {name for name in html.SCRIPTS if name.startswith("vendor/")}
    for name, digest in found:
        assert hashlib.sha256(html.asset(f"vendor/{name}").encode()).hexdigest() == digest
    assert all("Permission to use" in html.asset(file) for file in html.LICENCES.values())


def test_a_variant_has_one_colour_on_every_report():
    names = list(VARIANTS)
    alone = {name: looks_of([name])[0] % len(COLOURS) for name in names}
    for some in (names, names[::3], names[::-1], ["vae[latent=3]", *names[5:9]]):
        found = looks_of(some)
        assert len(set(found)) == len(some)
        assert all(index % len(COLOURS) == alone[name] for name, index in zip(some, found, strict=True) if name in alone)
