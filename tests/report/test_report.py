"""What a report is made of."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vae_variants.harness import Record, RunSpec, Store, run_all
from vae_variants.variants import configure


def test_a_report_does_not_mix_data_of_one_name(tmp_path, monkeypatch, capsys):
    from vae_variants.cli.reporting import make_report

    monkeypatch.chdir(tmp_path)
    store, specs = Store("runs"), [RunSpec(configure(f"vae[hidden=4,latent=2,epochs={n}]")[0], "npz:a.npz", (0,), "smoke") for n in (1, 2)]
    for i, due in enumerate((specs, specs[:1])):
        np.savez("a.npz", x=np.random.default_rng(i).random((90, 6, 6)))
        for record in run_all(due, store, device=torch.device("cpu")):
            assert isinstance(record, Record)
    make_report("digits", specs, tmp_path / "runs", tmp_path / "reports", {})
    page = (tmp_path / "reports" / "digits" / "README.md").read_text()
    assert "1 variant has not run yet: `vae[hidden=4,latent=2,epochs=2]`" in page
    capsys.readouterr()


def test_a_timing_is_a_median_that_one_bad_moment_does_not_move():
    from vae_variants.analysis.entries import Entry

    rows = [
        {"seed": s, "metric": m, "unit": u, "value": v}
        for m, u in (("speed", "images/s"), ("loss", "nats"))
        for s, v in enumerate((10, 12, 1000))
    ]
    entry = Entry("x", SimpleNamespace(rows=rows))  # type: ignore[arg-type]
    assert entry.interval("speed")[:3] == (12, 11, 506)
    assert entry.interval("loss").mean == pytest.approx(1022 / 3)
