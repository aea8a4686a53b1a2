"""Boards of variants over several tasks, one for each purpose and pixel type: a pure function of the tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vae_variants.analysis.aggregates import Estimate, improvement, overall, places, resampled_means
from vae_variants.analysis.cards import foreign
from vae_variants.analysis.entries import RANK_SEEDS, Entry
from vae_variants.analysis.scores import PURPOSES, Purpose, Scored, names, scored
from vae_variants.analysis.statistics import LEAST_SEEDS
from vae_variants.analysis.tasks import Task

MOST = 12  # groups of a board


class Place(NamedTuple):
    """A rank, and its 95 % interval; both ends are None for fewer runs than `RANK_SEEDS`."""

    rank: int
    low: int | None
    high: int | None


@dataclass(frozen=True)
class Row:
    """A variant on the tasks of its group. It has a `place`, or `unranked` says why not. `chance` is to be better than the default."""

    label: str
    entries: tuple[Entry, ...]
    scores: tuple[np.ndarray, ...]
    estimate: Estimate
    chance: Estimate | None
    unranked: str
    note: str
    place: Place | None = None

    @property
    def runs(self) -> int:
        return sum(map(len, self.scores))


@dataclass(frozen=True)
class Group:
    """The variants that were measured on all of these tasks, the best first, then those without a rank."""

    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]

    @property
    def ranked(self) -> list[Row]:
        return [row for row in self.rows if row.place]

    @property
    def leaders(self) -> list[Row]:
        """The first, then those whose interval reaches its rank; none if only one variant has a rank or intervals are unknown."""
        found = self.ranked
        if len(found) < 2 or found[0].place is None or found[0].place.low is None:
            return []
        return [found[0], *(row for row in found[1:] if row.place and row.place.low == 1)]


@dataclass(frozen=True)
class Board:
    """A purpose, within a pixel type or over all. `missing` says why some tasks are not in it.

    There is a group for each set of tasks that is exactly what some variant was measured on. Of many sets, `more` are left out.
    """

    purpose: Purpose
    support: str
    tasks: tuple[Task, ...]
    groups: tuple[Group, ...]
    missing: tuple[tuple[str, str], ...]
    more: int = 0


def leaderboard(tasks: Sequence[Task]) -> list[Board]:
    """A board for each purpose and pixel type in which two variants have a score."""
    found = [board(purpose, support, tasks) for purpose in PURPOSES for support in purpose.supports or ("",)]
    return [each for each in found if sum(len(group.rows) for group in each.groups) > 1]


def board(purpose: Purpose, support: str, tasks: Sequence[Task]) -> Board:
    tried = [(task, scored(purpose, task, support)) for task in tasks]
    used = [(task, found) for task, found in tried if isinstance(found, Scored)]
    members = dict[str, list[int]]()
    for i, (_, found) in enumerate(used):
        for label in found.scores:
            members.setdefault(label, []).append(i)
    order = sorted({tuple(own) for own in members.values()}, key=lambda own: (-len(own), own))
    groups = {own: [label for label, there in members.items() if set(own) <= set(there)] for own in order[:MOST]}
    return Board(
        purpose,
        support,
        tuple(task for task, _ in used),
        tuple(group_of(purpose, [used[i] for i in own], labels) for own, labels in groups.items()),
        tuple((task.name, found) for task, found in tried if isinstance(found, str)),
        len(order) - len(groups),
    )


def group_of(purpose: Purpose, used: Sequence[tuple[Task, Scored]], labels: Sequence[str]) -> Group:
    """The rows of a group, which all have a score on each task that is `used`."""
    tasks, rows, seen = tuple(task for task, _ in used), list[Row](), dict[tuple[object, ...], str]()
    means = dict[str, np.ndarray]()
    for label in labels:
        scores = tuple(np.array(list(found.scores[label].values())) for _, found in used)
        anchors = [np.array(list(found.scores[found.anchor].values())) for _, found in used]
        chance = None if label == used[0][1].anchor else improvement(scores, anchors)
        means[label] = resampled_means(scores)
        entries = tuple(task.by_label[label] for task in tasks)
        same = seen.setdefault(signature(purpose, tasks, entries), label)
        unranked = why_not(purpose, tasks, entries, scores) or (f"the model of {same}" if same != label else "")
        rows.append(Row(label, entries, scores, overall(scores, means[label]), chance, unranked, noted(entries)))
    return Group(tasks, (*ranked([row for row in rows if not row.unranked], means), *(row for row in rows if row.unranked)))


def ranked(rows: Sequence[Row], means: dict[str, np.ndarray]) -> list[Row]:
    """The rows with their places, the best first. Intervals are from runs that are resampled alike for all of them."""
    if not rows:
        return []
    values = np.array([[row.estimate.value] for row in rows])
    spread = np.quantile(places(np.stack([means[row.label] for row in rows])), (0.025, 0.975), axis=1, method="inverted_cdf").T
    found = [
        replace(row, place=Place(int(rank), *map(int, ends)) if row.runs >= RANK_SEEDS else Place(int(rank), None, None))
        for row, (rank,), ends in zip(rows, places(values), spread, strict=True)
    ]
    return sorted(found, key=lambda row: (row.place or Place(0, None, None)).rank)


def why_not(purpose: Purpose, tasks: Sequence[Task], entries: Sequence[Entry], scores: Sequence[np.ndarray]) -> str:
    """Why a variant has no rank; empty if it may have one."""
    for task, e, x in zip(tasks, entries, scores, strict=True):
        where = f" on {task.name}" if len(tasks) > 1 else ""
        flaw = next((flaw.what for flaw in e.flaws if not all(e.sound(metric) for metric in names(purpose, task))), "")
        if flaw:
            return f"flagged{where}: {flaw}"
        if not task.judges:
            return f"the preset {task.fidelity} is too short for a verdict"
        if len(x) < LEAST_SEEDS:
            return f"{len(x)} of {LEAST_SEEDS} seeds{where}"
    return ""


def noted(entries: Sequence[Entry]) -> str:
    """Failed seeds, bounds and parts from plug-ins."""
    failed = sum(status != "ok" for e in entries for status in e.record.status.values())
    own = next((said for e in entries if (said := foreign(e))), "")
    return "; ".join([*([f"{failed} failed seed{'s' * (failed > 1)}"] if failed else []), *([f"from a plug-in: {own}"] if own else [])])


def signature(purpose: Purpose, tasks: Sequence[Task], entries: Sequence[Entry]) -> tuple[object, ...]:
    """Equal for a model under two names: the same run, or the same values and errors of every seed."""
    found = list[object]()
    for task, e in zip(tasks, entries, strict=True):
        fine = [tuple(sorted(e.values(metric).items())) for metric in ("reconstruction_mse", "log_likelihood")]
        found.append((*fine, *(tuple(sorted(e.values(m).items())) for m in names(purpose, task))) if any(fine) else e.record.key)
    return tuple(found)
