"""What the curves of a training say of its seeds: which of them ended far worse than they began."""

from collections.abc import Mapping, Sequence

MOVING = ("capacity",)  # objectives that want something else at the end of training than at its start
OWN = ("train_loss", "validation_loss", "validation_log_prob")
FAR, SOME = 0.1, 0.02  # of the value after the first epoch

Curves = Mapping[str, Sequence[Sequence[float | None]]]  # name -> seed -> epoch


def fallen(curves: Curves, objective: object = None) -> list[int]:
    """Places of the seeds whose curves all ended worse than after the first epoch.

    They did so by a tenth of that value or, if the training loss did too, by as much as they had gained and a fiftieth of it. Weights of
    the best epoch may be kept, but of such a training they are those of a chance moment. The loss of a player against others is no such
    curve by itself: it rises as they become better.
    """
    own = {name: rows for name, rows in curves.items() if name in OWN}
    if objective in MOVING or (list(own) == ["train_loss"] and any(name.startswith("train_") for name in curves.keys() - own)):
        return []
    seeds = range(max(map(len, own.values()), default=0))
    rows = {i: [(mine[i], name.endswith("log_prob")) for name, mine in own.items() if i < len(mine) and len(mine[i]) > 1] for i in seeds}
    return [i for i, found in rows.items() if found and all(fell(row, higher, "train_loss" in own) for row, higher in found)]


def fell(row: Sequence[float | None], higher: bool, trained: bool) -> bool:
    """Whether a curve, of which `higher` values are better or lower ones, ended far worse than it began; `trained` if training is known."""
    values = [(v if higher else -v) for v in row if v is not None]
    if row[0] is None or row[-1] is None:
        return False
    fall, gain = values[0] - values[-1], max(values) - values[0]
    far, some = FAR * abs(values[0]), SOME * abs(values[0])
    return fall > (min(far, max(gain, some)) if trained else far)
