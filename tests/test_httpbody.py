"""The body of an HTTP answer, stamped piece by piece as it arrives."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_codexbench import httpbody
from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.httpbody import read_body

NS = 10**9
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Act = Callable[[socket.socket], None]


def head(length: int, status: str = "200 OK") -> bytes:
    """The beginning of an answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One piece of a chunked answer; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextmanager
def origin(act: Act) -> Iterator[str]:
    """The URL of a file at a server that reads the request, does ``act`` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            wire, _ = listener.accept()
            with wire:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += wire.recv(65536)
                assert asked.startswith(b"GET /file HTTP/1.1\r\n")
                try:
                    act(wire)
                except ConnectionError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"
        thread.join(20)


def says(*pieces: bytes) -> Act:
    """Sends these and no more."""

    def act(wire: socket.socket) -> None:
        for piece in pieces:
            wire.sendall(piece)

    return act


def in_s(seconds: float) -> int:
    """A deadline."""
    return time.perf_counter_ns() + round(seconds * NS)


def body(url: str, total: int, within_s: float = 20) -> bytes:
    """All bytes, put together."""
    return b"".join(bytes(piece) for _, piece in read_body(url, total, in_s(within_s)))


# --- whole bodies ---


@pytest.mark.parametrize("total", [1, 1000, (1 << 20) - 1, 1 << 20, (5 << 20) + 3])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_comes_whole(total: int, chunked: bool) -> None:
    """Every byte once, in order, of answers with a length and of chunked ones, whatever their size."""
    data = bytes(range(251)) * (total // 251 + 1)
    data = data[:total]
    cuts = [data[at : at + 70_000] for at in range(0, total, 70_000)]
    answer = says(CHUNKED, *map(chunk, cuts), chunk(b"")) if chunked else says(head(total), *cuts)
    with origin(answer) as url:
        assert data == body(url, total)


def test_a_body_that_ends_with_its_connection_comes_whole() -> None:
    """Servers of old say no length at all."""
    with origin(says(b"HTTP/1.0 200 OK\r\n\r\n", b"0123", b"456789")) as url:
        assert b"0123456789" == body(url, 10)


def test_bytes_that_come_with_the_header_are_not_lost() -> None:
    """Header and the beginning of the body in one packet."""
    with origin(says(head(10) + b"01234", b"56789")) as url:
        assert b"0123456789" == body(url, 10)


def test_no_more_than_the_file_is_read() -> None:
    """A server that keeps the connection open is not waited for after the last byte."""
    done = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(head(10) + b"0123456789")
        done.wait(20)

    with origin(act) as url:
        got = body(url, 10)
        done.set()

    assert b"0123456789" == got


# --- moments ---


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bytes_are_stamped_when_they_arrive(chunked: bool) -> None:
    """A piece's moment is after it was sent and before the next one was; it is given at once, not when more came."""
    sent: list[int] = []
    heard = threading.Semaphore(0)

    def act(wire: socket.socket) -> None:
        wire.sendall(CHUNKED if chunked else head(3))
        for piece in (b"a", b"b", b"c"):
            sent.append(time.perf_counter_ns())
            wire.sendall(chunk(piece) if chunked else piece)
            assert heard.acquire(timeout=20)
        wire.sendall(chunk(b"") if chunked else b"")

    stamps, pieces = [], []
    asked = time.perf_counter_ns()
    with origin(act) as url:
        for moment, piece in read_body(url, 3, in_s(20)):
            if piece:
                stamps.append(moment)
                pieces.append(bytes(piece))
                heard.release()
    ended = time.perf_counter_ns()

    assert [b"a", b"b", b"c"] == pieces
    moments = [asked, sent[0], stamps[0], sent[1], stamps[1], sent[2], stamps[2], ended]
    assert sorted(moments) == moments


def test_bytes_that_come_with_the_header_are_stamped_at_once() -> None:
    """The first byte does not wait for the second: the time to the first byte is its own."""
    heard = threading.Event()
    sent: list[int] = []

    def act(wire: socket.socket) -> None:
        wire.sendall(head(10) + b"a")
        heard.wait(20)
        sent.append(time.perf_counter_ns())
        wire.sendall(b"123456789")

    stamps = []
    with origin(act) as url:
        try:
            for moment, piece in read_body(url, 10, in_s(20)):
                if piece:
                    stamps.append((moment, bytes(piece)))
                    heard.set()
        finally:
            heard.set()

    assert b"a" == stamps[0][1]
    assert stamps[0][0] < sent[0]


def test_moments_are_of_the_given_clock() -> None:
    """Seconds count from where the caller says."""
    ticks = iter(range(100, 10_000, 100))
    with origin(says(head(4), b"0123")) as url:
        moments = [moment for moment, _ in read_body(url, 4, 10**12, lambda: next(ticks))]

    assert moments == sorted(moments)
    assert all(100 <= moment < 10_000 for moment in moments)


# --- stalls ---


@pytest.fixture
def quick_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that says every 50 ms that it is still there."""
    monkeypatch.setattr(httpbody, "BEAT_S", 0.05)


ANSWERS = {
    "before the header": (b"", head(10) + b"0123456789"),
    "before the body": (head(10), b"0123456789"),
    "in the body": (head(10) + b"01234", b"56789"),
    "before the first chunk": (CHUNKED, chunk(b"0123456789") + chunk(b"")),
    "between chunks": (CHUNKED + chunk(b"01234"), chunk(b"56789") + chunk(b"")),
    "in a chunk": (CHUNKED + b"a\r\n01234", b"56789\r\n" + chunk(b"")),
}


@pytest.mark.usefixtures("quick_beat")
@pytest.mark.parametrize("before, after", ANSWERS.values(), ids=ANSWERS)
def test_a_pause_is_told_and_survived(before: bytes, after: bytes) -> None:
    """A server that pauses for longer than a beat, and then again: empty pieces meanwhile, and then the rest."""
    beats = 0
    go_on = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(before)
        assert go_on.wait(20)
        wire.sendall(after)

    got = b""
    with origin(act) as url:
        try:
            for _, piece in read_body(url, 10, in_s(20)):
                got += bytes(piece)
                beats += not piece
                if beats == 3:
                    go_on.set()
        finally:
            go_on.set()

    assert b"0123456789" == got
    assert beats >= 3


@pytest.mark.usefixtures("quick_beat")
@pytest.mark.parametrize("before", [before for before, _ in ANSWERS.values()], ids=ANSWERS)
def test_a_pause_without_end_ends_at_the_deadline(before: bytes) -> None:
    """Beats until then, none of them late; then the URL, the deadline, and how much was there."""
    go_on = threading.Event()
    moments: list[int] = []
    beats: list[int] = []

    def act(wire: socket.socket) -> None:
        wire.sendall(before)
        go_on.wait(20)

    def clock() -> int:
        return len(beats) if len(beats) < 3 else 21 * NS

    def read(url: str) -> None:
        for moment, piece in read_body(url, 10, 20 * NS, clock):
            moments.append(moment)
            beats.extend([] if piece else [moment])

    with origin(act) as url:
        try:
            with pytest.raises(BadTransfer) as caught:
                read(url)
        finally:
            go_on.set()

    there = 5 if before.endswith((b"01234", b"01234\r\n")) else 0
    assert f"GET {url}: the deadline passed with {there} of 10 bytes" == str(caught.value)
    assert 3 == len(beats)
    assert moments == sorted(moments)


def test_a_transfer_that_goes_on_too_long_ends_at_the_deadline() -> None:
    """Bytes that trickle in do not keep it alive."""
    pieces: list[bytes] = []

    def act(wire: socket.socket) -> None:
        wire.sendall(head(10**9))
        while True:
            wire.sendall(b"x")

    def read(url: str) -> None:
        clock = lambda: 0 if len(pieces) < 3 else 21 * NS  # noqa: E731 - it is one
        for _, piece in read_body(url, 10**9, 20 * NS, clock):
            pieces.append(bytes(piece))

    with origin(act) as url, pytest.raises(BadTransfer, match="the deadline passed with"):
        read(url)


# --- what is not the file ---


def test_another_status_is_told_with_the_beginning_of_the_body() -> None:
    """What the server says of it is what helps; not all of it, if it says a lot."""
    text = b"no such file: x" + b"." * 5000
    with origin(says(head(len(text), "404 Not Found"), text)) as url, pytest.raises(BadTransfer) as caught:
        body(url, 10)

    assert f"GET {url}: status 404, expected 200" in str(caught.value)
    assert "no such file: x" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("answer", ["206 Partial Content", "301 Moved", "500 Oh"])
def test_any_status_but_200_is_no_file(answer: str) -> None:
    """Not even a part of it, nor the way to it."""
    with origin(says(head(10, answer), b"0123456789")) as url, pytest.raises(BadTransfer, match=answer[:3]):
        body(url, 10)


@pytest.mark.parametrize("length", [0, 9, 11])
def test_another_length_is_refused(length: int) -> None:
    """A file of another size is another file, and both sizes are named."""
    with origin(says(head(length), b"0" * length)) as url, pytest.raises(BadTransfer) as caught:
        body(url, 10)

    assert f"{length} bytes" in str(caught.value)
    assert "10" in str(caught.value)


@pytest.mark.parametrize(
    "pieces",
    [
        (head(10), b"01234"),
        (CHUNKED, chunk(b"01234"), chunk(b"")),
        (CHUNKED, chunk(b"01234")),
        (CHUNKED, chunk(b"0123456789")[:8]),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"01234"),
    ],
    ids=["length", "chunks", "chunks without end", "half a chunk", "no length"],
)
def test_a_short_body_is_told(pieces: tuple[bytes, ...]) -> None:
    """The server hung up too early: it is no whole file."""
    got: list[bytes] = []

    def read(url: str) -> None:
        got.extend(bytes(piece) for _, piece in read_body(url, 10, in_s(20)))

    with origin(says(*pieces)) as url, pytest.raises(BadTransfer) as caught:
        read(url)

    assert f"GET {url}: " in str(caught.value)
    assert "deadline" not in str(caught.value)
    assert b"01234" == b"".join(got)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"nonsense\r\n\r\n", CHUNKED + b"zz\r\n"])
def test_what_is_no_http_is_told(answer: bytes) -> None:
    """Whatever listens there."""
    with origin(says(answer)) as url, pytest.raises(BadTransfer) as caught:
        body(url, 10)

    assert f"GET {url}: " in str(caught.value)


def test_a_reset_is_told() -> None:
    """A server that died in the middle."""

    def act(wire: socket.socket) -> None:
        wire.sendall(head(10) + b"01234")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with origin(act) as url, pytest.raises(BadTransfer) as caught:
        body(url, 10)

    assert f"GET {url}: " in str(caught.value)
    assert "Connection reset" in str(caught.value)


def test_a_refused_connection_is_told() -> None:
    """Nobody listens: URL and reason."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"

    with pytest.raises(BadTransfer) as caught:
        body(url, 10)
    assert f"GET {url}: ConnectionRefusedError" in str(caught.value)


def test_a_reader_that_stops_lets_go_of_the_connection() -> None:
    """A fetch that was given up does not go on behind the back."""
    closed = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(head(10**9) + b"x")
        wire.settimeout(20)
        if wire.recv(1) == b"":
            closed.set()

    with origin(act) as url:
        arrivals = read_body(url, 10**9, in_s(20))
        first = next(piece for _, piece in arrivals if piece)
        arrivals.close()  # type: ignore[attr-defined]  # a generator

    assert 1 == len(first)
    assert closed.is_set()
