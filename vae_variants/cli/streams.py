"""Output that fails is no failed run: a closed terminal, a full disk, or a console that lacks a character. No text controls a terminal."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from vae_variants.registry import visible


class Lenient:
    """A stream that is silent after its first failure, and shows what controls a terminal as an escape such as `\\x1b`.

    Tables and progress bars, which rich draws, go through `rich_proxied_file`: rich colours and moves, and its texts are `visible`.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream: Any = stream or open(os.devnull, "w")  # noqa: SIM115  (None: it was closed when the program began)
        self.error: OSError | None = None
        self.rich_proxied_file = Drawn(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.draw(visible(text))
        return len(text)

    def draw(self, text: str) -> None:
        if self.error is None:
            self.attempt(self.stream.write, text)

    def flush(self) -> None:
        if self.error is None:
            self.attempt(self.stream.flush)

    def attempt(self, method: Any, *args: Any) -> None:
        try:
            method(*args)
        except OSError as error:
            self.error = error
            with suppress(OSError, ValueError):  # what is still in its buffer goes nowhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


class Drawn:
    """The stream for rich, which looks it up by the name of the attribute."""

    def __init__(self, lenient: Lenient) -> None:
        self.lenient, self.write = lenient, lenient.draw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lenient, name)


def make_lenient() -> None:
    """Replaces the standard output and error of this process."""
    sys.stdout, sys.stderr = Lenient(sys.stdout), Lenient(sys.stderr)


def escape_unknown() -> None:
    """Has the standard output and error write characters that their encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def report_failure() -> None:
    """Says in one line that the standard output is not complete, unless its reader ended by itself (`| head`)."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is not None and not isinstance(error, BrokenPipeError):
        print(f"warning: the output is not complete: {error.strerror}; what was measured is kept", file=sys.stderr)
