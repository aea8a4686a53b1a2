"""How the options of a variant were chosen: in words, and as a small figure on its card."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vae_variants.analysis.formatting import short

WIDTH, HEIGHT, MARGIN = 220.0, 64.0, 8.0
SHOWN = 0.75  # share of the trials whose scores fill the height; worse ones stand at its foot


class Point(NamedTuple):
    """A trial in the figure, with what it tried and how it scored."""

    x: float
    y: float
    chosen: bool
    outside: bool
    text: str


class Tuned(NamedTuple):
    """Sentences; and the points, their ends in words, and the size of the figure."""

    text: str
    trials: tuple[tuple[str, int, str], ...]  # values, epochs, score
    points: tuple[Point, ...]
    ends: tuple[str, str]
    name: str
    size: tuple[float, float] = (WIDTH, HEIGHT)

    @property
    def line(self) -> list[Point]:
        """The best point at each place, less those outside."""
        best = {p.x: p for p in sorted(self.points, key=lambda p: -p.y)}
        return [best[x] for x in sorted(best) if not best[x].outside]


def tuned(tuning: Mapping[str, Any]) -> Tuned | None:
    """None if nothing was chosen."""
    if not tuning:
        return None
    seeds = ", ".join(map(str, tuning["seeds"]))
    how = f"by `{tuning['metric']}` of {tuning['images']} validation images, seeds {seeds}, in {len(tuning['tried'])} trials"
    chosen = named(tuning["chosen"])
    text = f"Chosen {how}: `{chosen}`." if chosen else f"No trial of options ended ({how}): the suite's own."
    trials = tuple((named(t["values"]), t["epochs"], shown(t)) for t in tuning["tried"])
    points, ends, name = drawn(tuning)
    return Tuned(text, trials, points, ends, name)


def named(values: Mapping[str, Any]) -> str:
    return ",".join(f"{key}={short(value)}" for key, value in values.items())


def shown(trial: Mapping[str, Any]) -> str:
    return str(trial["reason"]) if trial["score"] is None else f"{trial['score']:.5g}".replace("-", "−")


def drawn(tuning: Mapping[str, Any]) -> tuple[tuple[Point, ...], tuple[str, str], str]:
    """The trials of the longest round by the first number that was tried with several values: up is better."""
    scored = [t for t in tuning["tried"] if t["score"] is not None]
    longest = max((t["epochs"] for t in scored), default=0)
    last = [t for t in scored if t["epochs"] == longest or "epochs" in t["values"]]
    names = [key for key, value in (last[0]["values"] if last else {}).items() if type(value) in (int, float)]
    name = next((key for key in names if len({t["values"][key] for t in last}) > 1), "")
    if not name:
        return (), ("", ""), ""
    sign = -1.0 if tuning["better"] == "lower" else 1.0
    numbers, scores = [float(t["values"][name]) for t in last], [sign * t["score"] for t in last]
    log = min(numbers) > 0
    places = [math.log(v) if log else v for v in numbers]
    foot = sorted(scores, reverse=True)[max(1, math.ceil(SHOWN * len(scores)) - 1)]
    left, right, high = min(places), max(places), max(scores)

    def at(value: float, low: float, top: float, length: float) -> float:
        return MARGIN + (length - 2 * MARGIN) * (0.5 if top == low else (min(max(value, low), top) - low) / (top - low))

    points = tuple(
        Point(
            round(at(place, left, right, WIDTH), 1),
            round(HEIGHT - at(score, foot, high, HEIGHT), 1),
            t["values"] == tuning["chosen"],
            score < foot,
            f"{named(t['values'])}: {shown(t)}",
        )
        for place, score, t in zip(places, scores, last, strict=True)
    )
    return tuple(sorted(points)), (short(min(numbers)), short(max(numbers))), name
