"""The head of a Ray cluster: whether one answers, how Ray is imported for it, and whether it is lost."""

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vae_variants.registry import UserError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # a gRPC client begins so, with empty settings
SETTINGS = 4  # type of the frame that a gRPC server answers with
ANSWER = 4.0  # seconds that a head has to answer
PATIENCE = 15.0  # seconds without an answer after which a head is lost
QUICK = {  # Ray itself would try for minutes
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_gcs_server_request_timeout_seconds": "8",
}
# Ray ends this process at once if it loses its connection
LAST_WORDS = "error: Ray was lost on this machine, or this command was killed; start Ray and the same command again to resume"
WITNESS = 'read answer; [ "$answer" = left ] || echo "$0" >&2'


def reach(address: str) -> None:
    """Raises `OSError` unless a gRPC server answers at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
            return
        connection.sendall(PREFACE)
        with suppress(ConnectionError, TimeoutError):
            answer = connection.recv(9)
            if len(answer) == 9 and answer[3] == SETTINGS:
                return
    raise ConnectionError("what answers there is not Ray")


def imported(address: str | None) -> Any:
    """The module ray, imported with the settings for a cluster at `address`, or for one of this process's own. Raises `UserError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray leaves one in the home folder
        wanted = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # its way to say: listen on 127.0.0.1 only
    else:
        wanted = QUICK | ({"RAY_AUTH_MODE": "token"} if has_token() else {})  # as `ray start` does
    if "ray" not in sys.modules:
        os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: python -m pip install 'vae-variants[ray]'") from error
    return ray


def has_token() -> bool:
    return any(os.environ.get(f"RAY_AUTH_TOKEN{end}") for end in ("", "_PATH")) or Path("~/.ray/auth_token").expanduser().is_file()


class Head:
    """The head at an address. It is looked at now and then, and a shell says so if Ray ends this process for want of it."""

    def __init__(self, address: str) -> None:
        self.address, self.answered, self.looked = address, time.monotonic(), time.monotonic()
        self.witness = subprocess.Popen(["sh", "-c", WITNESS, LAST_WORDS], stdin=subprocess.PIPE, start_new_session=True)

    @property
    def lost(self) -> bool:
        """Whether it has not answered for `PATIENCE` seconds."""
        if time.monotonic() - self.looked > ANSWER:
            with suppress(OSError):
                reach(self.address)
                self.answered = time.monotonic()
            self.looked = time.monotonic()
        return self.looked - self.answered > PATIENCE

    def leave(self) -> None:
        """Is called before this process ends its connection itself."""
        self.witness.communicate(b"left\n")
