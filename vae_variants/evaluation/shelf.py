"""What follows from a data set alone and takes long, such as its classifier: computed once, and kept where the harness says."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Tensors = Mapping[str, Tensor]
Compute = Callable[[], Tensors]
Shelf = Callable[[str, Compute], Tensors]  # what is asked for, which names its data by their digest -> what was kept of it, or is computed

_shelf: ContextVar[Shelf | None] = ContextVar("shelf", default=None)


@contextmanager
def keeping(shelf: Shelf) -> Iterator[None]:
    """A context in which `kept` asks this shelf."""
    token = _shelf.set(shelf)
    try:
        yield
    finally:
        _shelf.reset(token)


def kept(what: str, compute: Compute) -> Tensors:
    """The tensors that `compute` gives, from the shelf if there is one."""
    shelf = _shelf.get()
    return compute() if shelf is None else shelf(what, compute)
