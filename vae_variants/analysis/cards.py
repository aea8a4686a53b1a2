"""What a variant is: its description, formulas and reference from the registries, and what it chose."""

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vae_variants.analysis.entries import Entry
from vae_variants.analysis.formatting import short
from vae_variants.analysis.prominence import family
from vae_variants.components import chosen, parts
from vae_variants.registry import UserError
from vae_variants.variants import Configuration, complete, configure
from vae_variants.variants.published import PUBLISHED, Published

# of an objective that says `bound = False`
NO_BOUND = "No bound on log p(x), nor meant to be one: it trains, and every bound on this page is estimated alike for all variants."


@dataclass(frozen=True)
class Card:
    """What a report shows of a variant.

    Args:
        documents: (kind, name, paragraphs of its documentation) of its model and parts.
        differs: Options that are not defaults, and their values.
        values: All options and their values.
        flaws: A sentence for each flaw, with its remedy.
    """

    entry: Entry
    description: str
    reference: str
    documents: tuple[tuple[str, str, tuple[str, ...]], ...]
    differs: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str], ...]
    flaws: tuple[str, ...] = ()


def cards(entries: Sequence[Entry]) -> list[Card]:
    shared, found = dict(common(entries)), []
    for card in map(card_of, entries):
        own = [pair for pair in card.differs if pair not in shared.items()]
        instead = [(key, value) for key, value in card.values if shared.get(key, value) != value and (key, value) not in own]
        found.append(replace(card, differs=(*own, *instead)))
    return found


def common(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Options that most entries which have them set to one value that is not the default: the suite's own choice."""
    differs = Counter(pair for e in entries for pair in differences(e.record.values))
    knows = Counter(key for e in entries for key in e.record.values)
    return [pair for pair, times in differs.items() if times > knows[pair[0]] / 2 and times > 1]


def card_of(entry: Entry) -> Card:
    values, known = entry.record.values, configured(entry)
    named = [(kind, str(values[kind.key])) for kind in chosen() if kind.key in values]
    documents = tuple((kind.name, name, document(kind.registry[name])) for kind, name in named if name in kind.registry)
    pairs = tuple((key, short(value)) for key, value in values.items())
    flaws = tuple(f"Flagged: {flaw}." for flaw in entry.flaws)
    description, reference = (known.description, known.reference) if known else ("", "")
    return Card(entry, description, reference, documents, tuple(differences(values)), pairs, flaws)


def document(component: Any) -> tuple[str, ...]:
    """The paragraphs of its documentation."""
    text = getattr(component, "description", None) or inspect.getdoc(component) or ""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    return (*paragraphs, *([] if getattr(component, "bound", True) else [NO_BOUND]))


def foreign(entry: Entry) -> str:
    """The model and parts of an entry that plug-ins registered; empty if all are built in or not registered."""
    names = {kind: str(entry.record.values.get(kind.key)) for kind in chosen()}
    places = {kind: kind.registry.places.get(name) for kind, name in names.items()}
    return ", ".join(f"{kind.name} {names[kind]}" for kind, place in places.items() if place is not None and not place.own)


def configured(entry: Entry) -> Configuration | None:
    """The configuration that the label names now; None if it names none, for example because its plug-in is not loaded."""
    try:
        return configure(entry.label)[0]
    except UserError:
        return None


def tags(entry: Entry) -> tuple[str, ...]:
    """What an entry can be found by, beside its name: family, parts that are not the model's usual ones, kind of likelihood, flags."""
    values, names = entry.record.values, {part.key for part in parts()}
    chosen_parts = [value for key, value in differences(values) if key in names]
    likelihood = {"exact": "exact", "lower-bound": "bound"}.get(entry.kind("log_likelihood"), "no-likelihood" if entry.rows else "failed")
    return (*filter(None, [family(entry)]), str(values["model"]), *chosen_parts, likelihood, *(["flagged"] if entry.flaws else []))


def published(entry: Entry) -> Published | None:
    """The published figure of a variant as it is named, without other options, on this data set."""
    return PUBLISHED.get((entry.label, entry.record.dataset["name"]))


def differences(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Parts that are not the model's defaults, then options that are not the defaults of the model and its parts."""
    keys = [part.key for part in parts()]
    try:
        usual = complete({"model": values["model"]})
        defaults = complete({key: values[key] for key in ("model", *keys) if key in values})
    except UserError:
        return []
    found = [(key, str(values[key])) for key in keys if key in values and values[key] != usual.get(key)]
    return found + [(key, short(value)) for key, value in values.items() if key not in keys and value != defaults.get(key, value)]
