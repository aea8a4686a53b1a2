"""Cards of repositories on the Hub, made from records alone: what was trained and measured, and how to load it."""

from collections.abc import Sequence
from typing import Any

from vae_variants.analysis.advice import advise
from vae_variants.analysis.entries import SUPPORTS, Entry, entries_of
from vae_variants.analysis.formatting import number
from vae_variants.analysis.tables import metrics_of
from vae_variants.evaluation.metrics import data_name
from vae_variants.harness.sources import Source

TAGS = ["vae-variants", "variational-autoencoder", "benchmark"]
MAIN = {  # metric -> its column in the card of a report
    "log_likelihood": "log p(x), nats",
    "bits_per_dim": "bits/dim",
    "reconstruction_mse": "MSE per pixel",
    "fd-{data}cnn": "Fréchet distance",
    "probe_accuracy": "probe accuracy",
}
INSTALL = "python -m pip install 'vae-variants[hub]'"


def results_card(source: Source, repo: str) -> str:
    """The card of a report or a folder of records."""
    from huggingface_hub import DatasetCardData

    entries = entries_of(source.runs)
    data = list(dict.fromkeys(e.record.dataset["name"] for e in entries))
    meta = DatasetCardData(pretty_name=f"{source.name}: a comparison of VAE variants", tags=TAGS)
    said = [f"`vae-variants pull {repo}` fetches the records, checks every byte, and writes the report again."]
    if command := source.report.get("command"):
        said.insert(0, f"Made by `{command}`. `results/report.html` is the report; open it from the disk.")
    blocks = [
        f"# {plain(source.name)}",
        f"{len(entries)} rows on {', '.join(f'`{name}`' for name in data)}, {conditions(entries)}.",
        *said,
        f"```sh\n{INSTALL}\nvae-variants pull {repo}\nvae-variants leaderboard {repo.rpartition('/')[2]} reports/digits\n```",
    ]
    if len(data) == 1:
        blocks += ["## Best by purpose", "\n".join(f"- **{choice.purpose}.** {choice.text}" for choice in advise(entries).choices)]
    blocks += ["## Results", results_table(entries), "† marks a flagged row, which is never best. Nats compare within one pixel type only."]
    return written(meta, blocks)


def model_card(source: Source, repo: str) -> str:
    """The card of a run with its models."""
    from huggingface_hub import EvalResult, ModelCardData

    (entry,) = entries_of(source.runs)
    r, name = entry.record, entry.record.dataset["name"]
    measured = [m for m in metrics_of([entry]) if entry.interval(m)]
    results = [EvalResult("unconditional-image-generation", data_name(name), name, m, entry.mean(m), metric_name=m) for m in measured]
    meta = ModelCardData(library_name="vae-variants", tags=TAGS, model_name=entry.label, eval_results=results)
    folder = repo.rpartition("/")[2]
    rows = [[f"`{m}`", ("≥ " if entry.kind(m) == "lower-bound" else "") + number(entry.interval(m)), entry.unit(m)] for m in measured]
    blocks = [
        f"# {plain(entry.label)}",
        f"`{entry.label}`, trained by vae-variants on `{name}`: {SUPPORTS[r.support]}, {conditions([entry])}.",
        *(f"**{flaw}**" for flaw in entry.flaws),
        f"```sh\n{INSTALL}\nvae-variants pull {repo}\n```",
        f'```python\nimport vae_variants as vv\n\nmodel = vv.load("{folder}", seed={r.seeds[0]})\n```',
        f"Seeds: {', '.join(map(str, r.seeds))}. `pull` checks every byte of the record and of the models.",
        "## Metrics on the test images",
        "Means over seeds ± the half-width of a 95 % interval; of timings median ± half of the interquartile range.",
        table(["metric", "value", "unit"], rows),
        "## Configuration",
        " ".join(f"`{key}={value}`" for key, value in r.values.items()),
        f"Machine: {r.environment.get('device', 'unknown')}. Digest of the data: `{r.dataset['digest']}`.",
    ]
    return written(meta, blocks)


def conditions(entries: Sequence[Entry]) -> str:
    """Presets, seeds and machines."""
    presets = ", ".join(dict.fromkeys(e.record.fidelity for e in entries))
    machines = ", ".join(dict.fromkeys(str(e.record.environment.get("device", "unknown")) for e in entries))
    most = max(len(e.record.seeds) for e in entries)
    return f"preset {presets}, {'' if len(entries) == 1 else 'up to '}{most} seed{'s' * (most > 1)}, measured on {machines}"


def results_table(entries: Sequence[Entry]) -> str:
    """The main metrics of every row."""
    several = len({e.record.dataset["name"] for e in entries}) > 1
    found = []
    for e in entries:
        data = e.record.dataset["name"]
        values = [e.interval(metric.replace("{data}", data_name(data))) for metric in MAIN]
        marks = ["≥ " if metric == "log_likelihood" and e.kind(metric) == "lower-bound" else "" for metric in MAIN]
        label = f"`{e.label}`{' †' * bool(e.flaws)}" + (f" on `{data}`" if several else "")
        found.append([label, e.record.support, *(mark * bool(v) + number(v) for mark, v in zip(marks, values, strict=True))])
    return table(["variant", "pixels", *MAIN.values()], found)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells)


def plain(text: str) -> str:
    """Text without characters that mean something in Markdown or YAML."""
    return "".join(c if c.isprintable() and c not in "<>`*_#[]" else " " for c in text)


def written(meta: Any, blocks: Sequence[str]) -> str:
    return f"---\n{meta.to_yaml()}\n---\n\n" + "\n\n".join(blocks) + "\n"
