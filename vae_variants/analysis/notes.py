"""Sentences that end in a list, such as which rows are flagged: a page folds a long list, and shows how long it is."""

from collections.abc import Sequence
from typing import NamedTuple

SHOWN, MOST = 6, 100  # items in a sentence, and in a note
SHORT = 160  # letters of a note that is shown as it is


class Note(NamedTuple):
    """A statement, then the `items` that it is about; `after` says what follows from them. Labels are in backticks."""

    text: str
    items: tuple[str, ...] = ()
    after: str = ""

    def __str__(self) -> str:
        return joined(f"{self.text}: {self.list}." if self.items else self.text, self.after)

    @property
    def list(self) -> str:
        """The items, of very many the first."""
        return listed(self.items, "", MOST)

    @property
    def brief(self) -> str:
        """The statement with the first items."""
        return joined(f"{self.text}: {listed(self.items, '')}." if self.items else self.text, self.after)

    @property
    def folded(self) -> bool:
        """Whether a page shows the items only on demand."""
        return len(self.items) > 1 and len(self.list) > SHORT


def listed(names: Sequence[str], mark: str = "`", most: int = SHOWN) -> str:
    """`a`, `b` and `c`; of many, the first and a count."""
    shown, more = [f"{mark}{name}{mark}" for name in names[:most]], len(names) - most
    last = f"{more} more" if more > 0 else shown.pop() if len(shown) > 1 else ""
    return f"{', '.join(shown)} and {last}" if last else shown[0]


def joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def counted(count: int, one: str, many: str) -> str:
    """`1 row is` or `3 rows are`."""
    return f"{count} {one if count == 1 else many}"
