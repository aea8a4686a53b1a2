"""Fits a suite into a time: how long its runs take by measured costs, which of them to make, how many epochs, and which preset."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vae_variants.evaluation import Fidelity, fidelity
from vae_variants.harness.progress import in_words
from vae_variants.registry import UserError

EPOCHS = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1)  # parts of the suite's epochs that are tried
ENOUGH = 0.4  # of the suite's epochs: rows are left out before training is shorter, since short training decides nothing
QUICK = "quick"  # the preset if no careful one fits
PASSES = ((250, 250), (100, 100))  # images and samples of z of the bound, which takes most of the evaluation of a large network
EXTENSIONS = 1  # trials beyond the grid that a row is expected to need
BASELINE, FIRST, MORE = range(3)  # importance of a row: a baseline, the first of its family, another one


@dataclass(frozen=True)
class Cost:
    """What a run takes in one process, in seconds.

    Attributes:
        start: Building its models, the first step, what is timed after training, its pictures.
        epoch: One epoch of all its seeds, with validation.
        scoring: All metrics of one seed but its importance-weighted bound.
        sample: One image and one sample of z of that bound.
        trial_start, trial_epoch, trial_scoring: The same of one trial with all seeds of tuning: its share if trials train in one stack.
            Scoring is all of it.
        adversarial: Whether its trials are scored by the classifier.
        shared: What metrics need of the data alone, once in each process.
    """

    start: float = 0.0
    epoch: float = 0.0
    scoring: float = 0.0
    sample: float = 0.0
    trial_start: float = 0.0
    trial_epoch: float = 0.0
    trial_scoring: float = 0.0
    adversarial: bool = False
    shared: float = 0.0


@dataclass(frozen=True)
class Row:
    """A run of a suite. `trials` counts those of whole length in the grid; `epochs` is 0 if it does not train."""

    label: str
    importance: int
    seeds: int
    epochs: int
    trials: float
    cost: Cost


@dataclass(frozen=True)
class Machine:
    """How many processes make runs, and what each call of an engine and the report add, in seconds."""

    jobs: int
    start: float  # of a process, until it has the data
    classifier: float  # once in each process that scores, as is what metrics need of the data alone
    report: float


@dataclass(frozen=True)
class Setting:
    """A preset with what it leaves of training and scoring. `share` and `extend` are those of tuning, of which there may be none."""

    preset: str
    passes: int  # images times samples of z of the bound
    cap: int | None = None  # epochs
    training: float = 1.0  # share of the training images
    scoring: float = 1.0  # share of the test images
    share: float = 0.0
    extend: int = 0

    @property
    def words(self) -> str:
        return f"preset {self.preset}, {'options chosen by trials' if self.share else 'without trials of options'}"


@dataclass(frozen=True)
class Choice:
    """What fits: labels in the suite's order, and why others are left out."""

    labels: tuple[str, ...]
    left: Mapping[str, str]
    epochs: int
    setting: Setting
    seconds: float


def settings(preset: str, sizes: Mapping[str, int], tuning: tuple[float, int] | None, fixed: bool) -> list[Setting]:
    """The settings to try, the most careful first: with fewer samples for the bound, then without tuning, then `quick`.

    Args:
        preset: That of the suite or command.
        sizes: Images of each part.
        tuning: The share of epochs of a trial and the most trials beyond the grid, if the suite is tuned.
        fixed: Whether the command names the preset, so that no other comes into question; nor does one for a preset that limits training.
    """
    level, base = fidelity(preset), preset.partition("[")[0]
    share, extend = tuning if tuning and level.epochs is None else (0.0, 0)
    first = setting(level, sizes, share, extend)
    if fixed or level.epochs is not None:
        return [first]
    fewer = [f"{base}[bound_images={images},bound_samples={samples}]" for images, samples in PASSES]
    levels = [fidelity(text) for text in fewer if preset == base]
    less = [found for found in (setting(each, sizes, share, extend) for each in levels) if found.passes < first.passes]
    plain = [setting(fidelity(less[-1].preset), sizes, 0.0, 0)] if less and share else []
    return [first, *less, *plain, setting(fidelity(QUICK), sizes, 0.0, 0)]


def setting(level: Fidelity, sizes: Mapping[str, int], share: float, extend: int) -> Setting:
    """A preset on data of these sizes."""
    training = min(1.0, (level.train_images or sizes["train"]) / sizes["train"])
    test = min(level.evaluation_images or sizes["test"], sizes["test"])
    passes = min(level.bound_images, test) * level.bound_samples
    return Setting(level.name, passes, level.epochs, training, test / sizes["test"], share, extend)


def run_seconds(row: Row, epochs: int, how: Setting) -> float:
    """A run without its trials: training of all its seeds, and scoring."""
    cost, epochs = row.cost, min(epochs, row.epochs)
    scoring = cost.scoring * how.scoring + cost.sample * how.passes
    return cost.start + epochs * cost.epoch * how.training + row.seeds * scoring


def trial_seconds(row: Row, epochs: int, how: Setting) -> float:
    """One trial of whole length."""
    return row.cost.trial_start + max(1, round(how.share * min(epochs, row.epochs))) * row.cost.trial_epoch + row.cost.trial_scoring


def makespan(seconds: Iterable[float], jobs: int) -> float:
    """The time of tasks on `jobs` processes, each of which takes the longest that is left."""
    ends = [0.0] * jobs
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def total(rows: Sequence[Row], epochs: int, how: Setting, machine: Machine) -> float:
    """Seconds from the first trial to the end of the report. Trials of the grid, those beyond it, and runs follow one another."""
    tuned = [row for row in rows if row.trials and row.epochs and how.share]
    phases = [[trial_seconds(row, epochs, how) for row in tuned for _ in range(max(1, round(row.trials)))]]
    phases += [[trial_seconds(row, epochs, how) for row in tuned]] * min(EXTENSIONS, how.extend)
    told = [any(row.cost.adversarial for row in tuned)] * len(phases)
    phases += [[run_seconds(row, epochs, how) for row in part] for part in (tuned, [row for row in rows if row not in tuned])]
    told += [True, True]
    found = [(makespan(phase, machine.jobs), scored) for phase, scored in zip(phases, told, strict=True) if phase]
    return machine.report + sum(machine.start + machine.classifier * scored + seconds for seconds, scored in found)


def candidates(ways: Sequence[Setting], most: int, enough: bool, parts: Sequence[float]) -> Iterator[tuple[int, Setting]]:
    """Epochs with each setting, the best first; those of at least `ENOUGH` of what the setting allows, or the others."""
    for part in parts:
        if (part >= ENOUGH) == enough:
            yield from ((max(1, round(part * min(most, way.cap or most))), way) for way in ways)


def choose(
    rows: Sequence[Row], budget: float, epochs: int, ways: Sequence[Setting], machine: Machine, parts: Sequence[float] = EPOCHS
) -> Choice:
    """What fits into `budget` seconds.

    All rows stay as long as 40 % of the epochs fit in a careful setting. Else baselines and the first row of each family
    stay, and as many other rows, in order, as 40 % of the epochs leave time for. If these do not fit, the last setting takes the place
    of the careful ones, then training becomes shorter, and at last rows go from the end of the order: baselines, one row of each family,
    the others.

    Args:
        rows: In the suite's order.
        budget: Seconds.
        epochs: The suite's.
        ways: Settings, the most careful first.
        machine: What surrounds the runs.
        parts: Shares of the epochs that come into question, the greatest first.

    Raises:
        UserError: If not even one trained row fits.
    """
    order = sorted(rows, key=lambda row: row.importance)
    core = [row for row in order if row.importance != MORE]
    careful, last = (list(ways[:-1]) or list(ways)), list(ways[-1:])
    stages = [(order, careful, True), (core, careful, True), (order, last, True), (core, last, True), (core, last, False)]
    for wanted, which, enough in stages:
        fits = [pair for pair in candidates(which, epochs, enough, parts) if total(wanted, *pair, machine) <= budget]
        if fits:  # `max` returns the first of several
            return max((filled(order, wanted, budget, *pair, machine) for pair in fits), key=lambda found: len(found.labels))
    length, way = max(1, round(parts[-1] * min(epochs, last[0].cap or epochs))), last[0]
    found = filled(order, [], budget, length, way, machine)
    if not any(row.epochs for row in rows if row.label in found.labels):
        least = min((row for row in rows if row.epochs), key=lambda row: run_seconds(row, length, way), default=None)
        needed = "" if least is None else f"; {least.label} alone needs {in_words(total([least], length, way, machine))}"
        raise UserError(f"a budget of {in_words(budget)} is too short for any variant of this suite{needed}")
    return found


def filled(order: Sequence[Row], wanted: Sequence[Row], budget: float, epochs: int, way: Setting, machine: Machine) -> Choice:
    """The rows of `wanted` and, in order, whichever other rows fit beside them."""
    taken, left = list(wanted), dict[str, str]()
    for row in order:
        if row in wanted:
            continue
        if (needed := total([*taken, row], epochs, way, machine)) <= budget:
            taken.append(row)
        else:
            left[row.label] = f"with it, the runs would take {in_words(needed)}"
    return Choice(tuple(row.label for row in taken), left, epochs, way, total(taken, epochs, way, machine))
