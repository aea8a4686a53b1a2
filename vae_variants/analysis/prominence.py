"""Which variants of very many a report shows."""

from collections.abc import Sequence
from itertools import zip_longest

from vae_variants.analysis.entries import Entry, distinct
from vae_variants.variants import VARIANTS


def family(entry: Entry) -> str:
    """The family of the variant that an entry is of; empty if it is of none."""
    name = entry.label.partition("[")[0]
    return VARIANTS[name].family if name in VARIANTS else ""


def prominent(entries: Sequence[Entry], most: int) -> list[Entry]:
    """All entries if there are at most `most`; else that many different runs with values, in their order.

    It takes the first of each family; then in turn the first and then the best of each pixel type by log p(x), and the first of those
    without log p(x).
    """
    if len(entries) <= most:
        return list(entries)
    runs = distinct(entries)
    queues, firsts = dict[str, list[Entry]](), dict[str, Entry]()
    for entry in (e for e in runs if e.rows):
        queues.setdefault(entry.record.support if entry.interval("log_likelihood") else "", []).append(entry)
        if title := family(entry):
            firsts.setdefault(title, entry)
    for support, queue in queues.items():
        if support:
            queue[1:] = sorted(queue[1:], key=lambda e: -e.mean("log_likelihood"))
    turns = [entry for turn in zip_longest(*queues.values()) for entry in turn if entry is not None]
    chosen = list(dict.fromkeys(e.record.key for e in (*firsts.values(), *turns)))[:most]
    return [entry for entry in runs if entry.record.key in set(chosen)]
