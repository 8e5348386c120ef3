"""A Pod's port, reached from outside the cluster: a Unix socket here, a forwarded stream for each connection."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

PIECE = 1 << 16
QUIET_S = 600.0

Open = Callable[[], AbstractContextManager[socket.socket]]
"""One stream to the Pod, open inside the block; raises whatever the cluster's client raises."""


@contextmanager
def forwarded(path: Path, open_stream: Open) -> Iterator[str]:
    """The URL of a socket at ``path`` whose connections go to the Pod, for as long as the block lasts.

    A stream that cannot be opened closes the connection: whoever asked sees that it broke off.
    """
    open_here: set[socket.socket] = set()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(64)
        arguments = (listener, open_stream, open_here)
        threading.Thread(target=_accept, args=arguments, name=f"forward {path.name}", daemon=True).start()
        try:
            yield f"unix:{path}"
        finally:
            # wakes the threads, which a plain close would leave in their waits
            for one in (listener, *open_here):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            path.unlink(missing_ok=True)


def _accept(listener: socket.socket, open_stream: Open, open_here: set[socket.socket]) -> None:
    while True:
        try:
            here, _ = listener.accept()
        except OSError:
            return
        open_here.add(here)

        def join(here: socket.socket = here) -> None:
            try:
                _join(here, open_stream)
            finally:
                open_here.discard(here)

        threading.Thread(target=join, name="forwarded", daemon=True).start()


def _join(here: socket.socket, open_stream: Open) -> None:
    with closing(here):
        try:
            with open_stream() as there:
                _pass_on(here, there)
        except Exception:  # noqa: BLE001 - the client's errors are of many kinds; the caller sees a closed connection
            return


def _pass_on(here: socket.socket, there: socket.socket) -> None:
    """Bytes both ways, until either side ends or nothing is said for ten minutes."""
    other = {here: there, there: here}
    while ready := select.select([here, there], [], [], QUIET_S)[0]:
        for side in ready:
            try:
                data = side.recv(PIECE)
                if not data:
                    return
                other[side].sendall(data)
            except OSError:
                return
