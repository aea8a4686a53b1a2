"""What a variant is: its description, formulas and reference from the registries, and what it chose."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vae_variants.analysis.entries import Entry
from vae_variants.analysis.formatting import short
from vae_variants.analysis.run_summary import collapsed
from vae_variants.models.base import MODELS
from vae_variants.models.likelihoods import LIKELIHOODS
from vae_variants.models.objectives import OBJECTIVES
from vae_variants.registry import Registry, UserError
from vae_variants.variants import Configuration, complete, configure

__all__ = ["Card", "cards", "common", "foreign"]

CHOSEN: dict[str, Registry[Any]] = {"model": MODELS, "likelihood": LIKELIHOODS, "objective": OBJECTIVES}
# of an objective that says so: `bound = False`
NO_BOUND = "No bound on log p(x), nor meant to be one: it trains, and every bound on this page is estimated alike for all variants."


@dataclass(frozen=True)
class Card:
    """`documents` are (what it is, its name, paragraphs of its documentation); `differs` and `values` are of the configuration.

    `silent` says that its codes carry nothing, of those that do not.
    """

    entry: Entry
    description: str
    reference: str
    documents: tuple[tuple[str, str, tuple[str, ...]], ...]
    differs: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str], ...]
    silent: str = ""


def cards(entries: Sequence[Entry]) -> list[Card]:
    shared = dict(common(entries))
    found = []
    for card in map(card_of, entries):
        own = [pair for pair in card.differs if pair not in shared.items()]
        instead = [(key, value) for key, value in card.values if shared.get(key, value) != value and (key, value) not in own]
        found.append(replace(card, differs=(*own, *instead)))
    return found


def common(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """What most of those that know an option have set it to, though it is not the default: a suite's own choice."""
    differs = Counter(pair for e in entries for pair in differences(e.record.values))
    knows = Counter(key for e in entries for key in e.record.values)
    return [pair for pair, times in differs.items() if times > knows[pair[0]] / 2 and times > 1]


def card_of(entry: Entry) -> Card:
    values, known = entry.record.values, configured(entry)
    documents = []
    for kind, registry in CHOSEN.items():
        name = str(values.get(kind))
        if name in registry:
            text = inspect.getdoc(registry[name]) or ""
            paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
            no_bound = [] if getattr(registry[name], "bound", True) else [NO_BOUND]
            documents.append((kind, name, (*paragraphs, *no_bound)))
    pairs = tuple((key, short(value)) for key, value in values.items())
    reference = known.reference if known else ""
    found = collapsed(entry)
    silent = f"{'In some seeds its' if ' in ' in found else 'Its'} codes carry nothing: {found}." if found else ""
    return Card(entry, known.description if known else "", reference, tuple(documents), tuple(differences(values)), pairs, silent)


def foreign(entry: Entry) -> str:
    """What of its model, likelihood and objective a plug-in has registered; nothing where it is all built in, or not known here."""
    names = {kind: str(entry.record.values.get(kind, "")) for kind in CHOSEN}
    places = {kind: CHOSEN[kind].places.get(name) for kind, name in names.items()}
    return ", ".join(f"{kind} {names[kind]}" for kind, place in places.items() if place is not None and not place.own)


def configured(entry: Entry) -> Configuration | None:
    """What the label says today, if it names anything: it may be a plug-in's, or from another time."""
    try:
        return configure(entry.label)[0]
    except UserError:
        return None


def differences(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Options that are not the defaults of their model, likelihood and objective, those two included. The model itself is none."""
    try:
        usual = complete({"model": values["model"]})
        defaults = complete({key: values[key] for key in CHOSEN if key in values})
    except UserError:
        return []
    found = [(key, str(values[key])) for key in ("likelihood", "objective") if key in values and values[key] != usual.get(key)]
    return found + [(key, short(value)) for key, value in values.items() if key not in CHOSEN and value != defaults.get(key, value)]
