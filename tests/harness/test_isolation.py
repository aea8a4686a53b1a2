"""Ten hostile plug-ins beside the project's own variants: the figures of these stay bit for bit what they are without the plug-ins."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import vae_variants as vv
from tests.harness.test_runner import CPU, spec
from tests.trying import forget
from vae_variants.checks import checks_of
from vae_variants.checks.base import outcomes
from vae_variants.cli.status import planned_rows
from vae_variants.evaluation.metrics import METRICS
from vae_variants.evaluation.speed import TIMINGS
from vae_variants.harness import Record, RunSpec, Store, run_all
from vae_variants.harness.engines import Workers
from vae_variants.harness.fingerprint import fingerprint
from vae_variants.harness.worker import Worker
from vae_variants.isolation import Snapshot
from vae_variants.plugins import load_plugin, load_plugins
from vae_variants.registry import UserError

ACTS = {  # plug-in -> what it does, and the words of its refusal; without them the act is undone, because no figure depends on it
    "functions": (
        "real = F.linear; F.linear = lambda x, w, b=None: 1.5 * real(x, w, b)\n"
        "torch.nn.init.kaiming_uniform_ = lambda t, *_, **__: t.data.fill_(0.1)\nvae_variants.models.vae.VAE.decode = lambda self, z: z",
        "torch.nn.functional.linear",
    ),
    "dtype": ("torch.set_default_dtype(torch.float64)", "the default type of tensors"),
    "switches": ("torch.use_deterministic_algorithms(True); torch.set_flush_denormal(True)", "choice of algorithms"),
    "directory": ("os.chdir('/')", "the working directory"),
    "limits": ("resource.setrlimit(resource.RLIMIT_FSIZE, (9, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))", "limits of the process"),
    "signals": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "signal handlers"),
    "seeds": ("torch.manual_seed(1); np.random.seed(1); random.seed(1)", ""),
    "environment": ("os.environ.update(VAE_VARIANTS_DATA='/nowhere', OMP_NUM_THREADS='7')", ""),
    "style": ("import matplotlib; matplotlib.rcParams['font.size'] = 77", ""),
    "copies": ("if os.fork() == 0:\n    signal.signal(signal.SIGALRM, signal.SIG_DFL); signal.alarm(100)", ""),  # a stuck copy would stay
}
HEAD = """
import os, random, resource, signal
import numpy as np, torch
import torch.nn.functional as F
import vae_variants
from vae_variants import DATASETS, MODELS, OBJECTIVES, load_dataset, metric
from vae_variants.models.vae import VAE
"""
OBJECTIVE = """
def hostile(draws):
    if not hasattr(hostile, "done"):
        hostile.done = True
        act()
    return OBJECTIVES["elbo"](draws)

hostile.__doc__ = "What no plug-in may do"
OBJECTIVES.add(hostile, name=NAME)
"""
IN_PLACE = """
@MODELS.add
class InPlace(VAE):
    \"\"\"A VAE that shifts its images in place\"\"\"

    def infer(self, x, k, t):
        x -= 0.25
        return super().infer(x, k, t)

@metric(unit="nats", better="none")
def of_changed_images(e):
    \"\"\"A metric that shifts images and a parameter, through an array\"\"\"
    e.data.test.numpy()[:] += 1
    e.dataset.test.numpy()[:] = 0
    return 1.0

@metric(unit="nats", better="none")
def of_images(e):
    \"\"\"A metric that leaves them as they are\"\"\"
    return e.test.mean().item()
"""


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


FUNCTIONS = "global real\n"  # which is what the act of that name replaces
ALL = indented("\n".join([FUNCTIONS, *(act for act, _ in ACTS.values())]))
EVERYTHING = f"{HEAD}\nNAME = 'everything'\ndef act():\n{ALL}\n{OBJECTIVE}"  # a plug-in that does all acts
BASELINES = ["vae[hidden=8,latent=2,epochs=2]", "reference-pca-2"]


def figures(record: Record) -> list:
    """Everything but clocks, memory and a plug-in's metrics."""
    rows = [row for row in record.rows if not row["metric"].endswith(TIMINGS) and row["metric"] not in METRICS.foreign]
    return [rows, record.curves, record.status, record.series, record.classifier]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Some of the digits, without labels, so that no classifier is trained after each change."""
    path = tmp_path_factory.mktemp("data") / "some.npz"
    np.savez(path, x=load_digits().images[:150] / 16)
    return f"npz:{path}"


@pytest.fixture(scope="module")
def baselines(data) -> list[RunSpec]:
    return [spec(selector, dataset=data) for selector in BASELINES]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, baselines) -> list[list]:
    """The figures of the baselines without a plug-in."""
    return [figures(record) for record in run_all(baselines, Store(tmp_path_factory.mktemp("plain")), CPU)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A plug-in for each act, one that does all acts, and one that changes images in place."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (act, _) in ACTS.items():
        text = f"{HEAD}\nNAME = {name!r}\ndef act():\n{indented(FUNCTIONS + act)}\n{OBJECTIVE}"
        (folder / f"{name}.py").write_text(text)
    (folder / "everything.py").write_text(EVERYTHING)
    (folder / "in_place.py").write_text(HEAD + IN_PLACE)
    yield folder
    forget(folder)


@pytest.fixture
def hostile(folder):
    """All of them, loaded, and the state of the process, which is the same afterwards."""
    paths = tuple(sorted(folder.glob("*.py")))
    load_plugins(paths)
    before = Snapshot()
    yield paths
    if "ray" not in sys.modules:  # which handles signals itself
        assert not {*before.changes()} - {"images of a data set or its classifier, in place"}  # the changed ones are left, others are read
    forget(folder)


def run_of(objective: str, data: str) -> RunSpec:
    return spec(f"vae[hidden=8,latent=2,epochs=6,objective={objective}]", seeds=(0,), dataset=data)


def shows(record: Record, plain: list) -> None:
    """A baseline that a plug-in's metrics measured has its own figures, and the metric that changed images is an error."""
    assert record.ok
    assert figures(record) == plain
    rows = {row["metric"]: row for row in record.rows if row["seed"] == record.seeds[0]}
    assert rows["of_changed_images"]["value"] is None
    assert "images of a data set" in rows["of_changed_images"]["reason"]
    assert 0 < rows["of_images"]["value"] < 1


@pytest.mark.parametrize("name", ACTS)
def test_what_a_plugin_changes_when_it_is_imported_is_refused_or_undone(tmp_path, name):
    act, words = ACTS[name]
    path = tmp_path / f"{name}_at_import.py"
    path.write_text(f"{HEAD}\n{act}\nOBJECTIVES.add(lambda draws: draws.kl, name='at-import')\n")
    before = Snapshot()
    try:
        if words:
            with pytest.raises(UserError, match=f"the import changes .*{words}"):
                load_plugin(path)
            assert "at-import" not in vv.OBJECTIVES
        else:
            load_plugin(path)
        assert before.changes() == []
        assert os.environ.get("VAE_VARIANTS_DATA") != "/nowhere"
    finally:
        forget(tmp_path)


def test_in_one_process_each_hostile_run_fails_or_is_undone_and_the_rest_is_as_without(plain, hostile, baselines, data, tmp_path):
    before = vv.load_dataset(data)
    in_place = spec("in-place[hidden=8,latent=2,epochs=1]", seeds=(0,), dataset=data)
    plan = [in_place, *(run_of(name, data) for name in ACTS), *baselines]
    in_place, *runs, first, second = run_all(plan, Store(tmp_path), CPU)
    assert set(in_place.status.values()) == {"error"}
    assert "images of a data set or its classifier, in place" in in_place.reason["0"]
    assert not list(tmp_path.glob("*/in-place*/model.safetensors"))
    for record, (_, words) in zip(runs, ACTS.values(), strict=True):
        assert record.ok is not bool(words)
        assert words in record.reason.get("0", "")
    shows(first, plain[0])
    shows(second, plain[1])
    assert vv.load_dataset(data) is not before


def test_by_the_library(plain, hostile, data, tmp_path):
    known = {"dataset": data, "fidelity": "smoke", "runs": tmp_path}
    (record,) = vv.run("vae[hidden=8,latent=2,epochs=6,objective=everything]", seeds=1, **known)
    assert not record.ok
    for _ in range(2):
        (record,) = vv.run(BASELINES[0], seeds=2, retry="all", **known)
        shows(record, plain[0])
    with pytest.raises(UserError, match="choices"):
        vv.run(BASELINES[0], runs=tmp_path, retry="sometimes")


def test_in_processes(plain, hostile, baselines, data, tmp_path):
    """A hostile run, and after it the baselines; on Ray, `test_cluster.py` has both."""
    loaded: list[object] = []
    real, engine = Worker.spawn, Workers(1, hostile)
    with pytest.MonkeyPatch.context() as patch:  # undone before `hostile` looks for what has changed
        patch.setattr(Worker, "spawn", lambda self: (loaded.append(self.plugins), real(self))[1])
        try:
            failed, first, second = run_all([run_of("everything", data), *baselines], Store(tmp_path), CPU, engine=engine)
        finally:
            engine.close()
    assert not failed.ok
    shows(first, plain[0])
    shows(second, plain[1])
    assert loaded[0] == hostile and None in loaded


def test_a_check_refuses_what_a_run_would(hostile):
    found = {outcome.check.name: outcome for outcome in outcomes("model", "in-place")}
    assert any("images of a data set" in outcome.found for outcome in found.values() if outcome.state == "broken")
    found = {outcome.check.name: outcome for outcome in outcomes("objective", "dtype")}
    assert any("default type of tensors" in outcome.found for outcome in found.values() if outcome.state == "broken")
    assert len(found) == len(checks_of("objective"))


def test_a_plugin_or_a_file_that_is_edited_is_another_one(tmp_path):
    path, data = tmp_path / "edited.py", tmp_path / "a.npz"
    codes, digests = [], []
    try:
        for i in range(2):
            path.write_text(f"from vae_variants import OBJECTIVES\nOBJECTIVES.add(lambda draws: draws.kl * {i + 1}, name='edited')\n")
            load_plugin(path)
            np.savez(data, x=np.random.default_rng(i).random((40, 4, 4)))
            one = spec("vae[hidden=8,latent=2,epochs=1,objective=edited]", seeds=(0,), dataset=f"npz:{data}")
            codes.append(fingerprint(one.configuration.values))
            (record,) = run_all([one], Store(tmp_path / "runs"), CPU)
            digests.append(record.dataset["digest"])
            assert record.current
            assert record.started not in [r.started for _, r in Store(tmp_path / "runs").records() if r.key != record.key]
        assert len({*codes}) == len({*digests}) == 2
        states = [row["state"] for row in planned_rows(Store(tmp_path / "runs"))]
        assert sorted(states) == ["ok", "ok, stale, its data has changed"]
        forget(tmp_path)
        for row in planned_rows(Store(tmp_path / "runs")):  # nobody can tell whether they are stale
            assert row["state"].startswith("ok, its plug-in is not loaded")
            assert not row["stale"]
    finally:
        forget(tmp_path)
