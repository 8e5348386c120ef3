"""The body of an HTTP answer, stamped piece by piece as it arrives."""

import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from pytest_codexbench import httpbody
from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.httpbody import BEGINNING, PIECE, read_answer, read_body

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
def origin(act: Act, line: str = "GET /file") -> Iterator[str]:
    """The URL of a file at a server that reads the request, does ``act`` and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            wire, _ = listener.accept()
            with wire:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += wire.recv(65536)
                assert f"{line} HTTP/1.1" == asked.partition(b"\r\n")[0].decode()
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


def body(url: str, total: int, method: str = "GET") -> bytes:
    """All bytes, put together."""
    return b"".join(bytes(piece) for _, piece in read_body(url, total, in_s(20), method=method))


def last(moments: Generator[int, None, bytes]) -> bytes:
    """A short answer's body, when all its moments have passed."""
    while True:
        try:
            next(moments)
        except StopIteration as end:
            got: bytes = end.value
            return got


READERS = {
    "file": lambda url, method="GET": body(url, 10, method=method),
    "answer": lambda url, method="GET": last(read_answer(url, in_s(20), method=method)),
}
each_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


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


@each_reader
@pytest.mark.parametrize("line", ["GET /file", "POST /file", "POST /file?arg=zDv1&offset=0", "GET /file?arg=a/b"])
def test_a_file_is_asked_for_as_it_is_given(read: Callable[..., bytes], line: str) -> None:
    """The method, and the whole of the path with its query: IPFS names the file there."""
    method, _, path = line.partition(" ")
    with origin(says(head(10), b"0123456789"), line) as url:
        assert b"0123456789" == read(url.removesuffix("/file") + path, method)


@pytest.mark.parametrize("size", [0, 1, 1000, PIECE])
def test_a_short_answer_comes_whole(size: int) -> None:
    """Every byte, also if there is none, up to 1 MiB."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    with origin(says(head(size), data)) as url:
        assert data == last(read_answer(url, in_s(20)))


def test_a_header_in_the_manner_of_old_is_understood() -> None:
    """Lines that end without a return, which are not waited past."""
    done = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(b"HTTP/1.1 200 OK\nContent-Length: 10\n\n0123456789")
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


def test_moments_of_a_short_answer_are_of_the_given_clock() -> None:
    """One at least for what came."""
    ticks = iter(range(100, 10_000, 100))
    with origin(says(head(4), b"0123")) as url:
        moments = list(read_answer(url, 10**12, lambda: next(ticks)))

    assert moments
    assert moments == sorted(moments)
    assert all(100 <= moment < 10_000 for moment in moments)


# --- stalls ---


@pytest.fixture
def quick_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that says every 50 ms that it is still there."""
    monkeypatch.setattr(httpbody, "BEAT_S", 0.05)


ANSWERS = {
    "before the header": (b"", head(10) + b"0123456789"),
    "in the status": (head(10)[:8], head(10)[8:] + b"0123456789"),
    "in the header": (head(10)[:-7], head(10)[-7:] + b"0123456789"),
    "before the header's end": (head(10)[:-1], head(10)[-1:] + b"0123456789"),
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


SHORT = [(before, after) for name, (before, after) in ANSWERS.items() if "chunk" not in name]


@pytest.mark.usefixtures("quick_beat")
@pytest.mark.parametrize("before, after", SHORT)
def test_a_pause_of_a_short_answer_is_told_and_survived(before: bytes, after: bytes) -> None:
    """A node that looks a manifest up: moments meanwhile, and then the answer."""
    beats = 0
    go_on = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(before)
        assert go_on.wait(20)
        wire.sendall(after)

    def beaten(moments: Generator[int, None, bytes]) -> Generator[int, None, bytes]:
        nonlocal beats
        while True:
            try:
                yield next(moments)
            except StopIteration as end:
                got: bytes = end.value
                return got
            beats += 1
            if beats == 5:
                go_on.set()

    with origin(act) as url:
        try:
            got = last(beaten(read_answer(url, in_s(20))))
        finally:
            go_on.set()

    assert b"0123456789" == got
    assert beats >= 5


@pytest.mark.usefixtures("quick_beat")
@pytest.mark.parametrize("before", [before for before, _ in SHORT])
def test_a_short_answer_that_never_comes_ends_at_the_deadline(before: bytes) -> None:
    """Codex looks for ever for what nobody has: moments until then, none of them late; then what there was."""
    go_on = threading.Event()
    moments: list[int] = []

    def act(wire: socket.socket) -> None:
        wire.sendall(before)
        go_on.wait(20)

    def read(url: str) -> None:
        moments.extend(read_answer(url, 20 * NS, lambda: len(moments) if len(moments) < 3 else 21 * NS))

    with origin(act) as url:
        try:
            with pytest.raises(BadTransfer) as caught:
                read(url)
        finally:
            go_on.set()

    there = "no answer" if b"\r\n\r\n" not in before else f"{before.count(b'01234') * 5} of 10 bytes"
    assert f"GET {url}: the deadline passed with {there}" == str(caught.value)
    assert [0, 1, 2] == moments


def test_a_header_that_drips_ends_at_the_deadline() -> None:
    """Bytes that trickle in before there is an answer do not keep it alive; moments are given all the time."""
    moments: list[int] = []
    done = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(200):
            if done.wait(0.05):
                return
            wire.sendall(b"x")

    def read(url: str) -> None:
        moments.extend(read_answer(url, 20 * NS, lambda: len(moments) if len(moments) < 3 else 21 * NS))

    with origin(act) as url:
        with pytest.raises(BadTransfer) as caught:
            read(url)
        done.set()

    assert f"GET {url}: the deadline passed with no answer" == str(caught.value)
    assert [0, 1, 2] == moments


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


@each_reader
@pytest.mark.parametrize("answer", ["206 Partial Content", "301 Moved", "500 Oh"])
def test_any_status_but_200_is_no_file(read: Callable[[str], bytes], answer: str) -> None:
    """Not even a part of it, nor the way to it."""
    with origin(says(head(10, answer), b"0123456789")) as url, pytest.raises(BadTransfer) as caught:
        read(url)

    assert f"GET {url}: status {answer[:3]}, expected 200: b'0123456789'" == str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 500 Oh\r\n\r\nquota",
        head(1000, "500 Oh") + b"quota",
        CHUNKED.replace(b"200 OK", b"500 Oh") + chunk(b"quota"),
    ],
    ids=["no length", "length", "chunked"],
)
@pytest.mark.parametrize("end", ["hangs up", "resets", "stands"])
@pytest.mark.usefixtures("quick_beat")
def test_a_refusal_that_breaks_off_is_told_as_far_as_it_came(said: bytes, end: str) -> None:
    """The status and the beginning of the body say more than how the connection ended; they are not waited for long."""
    done = threading.Event()

    def act(wire: socket.socket) -> None:
        wire.sendall(said)
        if end == "stands":
            done.wait(20)
        elif end == "resets":
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with origin(act) as url:
        began = time.perf_counter()
        with pytest.raises(BadTransfer) as caught:
            body(url, 10)
        took_s = time.perf_counter() - began
        done.set()

    assert f"GET {url}: status 500, expected 200: b'quota'" == str(caught.value)
    assert took_s < 10


def test_a_huge_refusal_is_neither_shown_nor_read_whole() -> None:
    """300 bytes of it; what comes behind them is not waited for, and not kept."""
    page = b"<p>" + b"x" * 10**6

    def act(wire: socket.socket) -> None:
        wire.sendall(head(1000 * len(page), "500 Oh"))
        for _ in range(1000):
            wire.sendall(page)

    with origin(act) as url:
        tracemalloc.start()
        try:
            with pytest.raises(BadTransfer) as caught:
                body(url, 10)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert f"GET {url}: status 500, expected 200: {page[:BEGINNING]!r}" == str(caught.value)
    assert peak < 10 * 10**6


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


@pytest.mark.parametrize("length", [PIECE + 1, 10**12])
def test_an_answer_that_is_too_long_is_refused(length: int) -> None:
    """Before it is read: it is to be held in memory."""
    with origin(says(head(length))) as url, pytest.raises(BadTransfer) as caught:
        last(read_answer(url, in_s(20)))

    assert f"GET {url}: an answer of {length} bytes; 1048576 at most were expected" == str(caught.value)


@pytest.mark.parametrize("begins", [CHUNKED + chunk(b"yes"), b"HTTP/1.0 200 OK\r\n\r\nyes"], ids=["chunked", "old"])
def test_an_answer_without_a_length_is_refused(begins: bytes) -> None:
    """How much is to come is not known, nor when it was whole."""
    with origin(says(begins)) as url, pytest.raises(BadTransfer) as caught:
        last(read_answer(url, in_s(20)))

    assert f"GET {url}: an answer of unknown bytes; 1048576 at most were expected" == str(caught.value)


def test_a_short_answer_that_breaks_off_is_told() -> None:
    """It is not given as if it were whole."""
    with origin(says(head(10), b"01234")) as url, pytest.raises(BadTransfer) as caught:
        last(read_answer(url, in_s(20)))

    assert f"GET {url}: the body ended after 5 of 10 bytes" == str(caught.value)


@each_reader
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        b"nonsense\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10**6,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10**5 + b"\r\n",
        b"SSH-2.0-" + b"x" * 10**4 + b"\r\n",
    ],
    ids=["nothing", "half", "no http", "no chunk", "long", "headers", "ssh"],
)
def test_what_is_no_http_is_told(read: Callable[[str], bytes], answer: bytes) -> None:
    """Whatever listens there, on one line that one can read."""
    with origin(says(answer)) as url, pytest.raises(BadTransfer) as caught:
        read(url)

    assert str(caught.value).startswith(f"GET {url}: ")
    assert "deadline" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@each_reader
def test_a_reset_is_told(read: Callable[[str], bytes]) -> None:
    """A server that died in the middle."""

    def act(wire: socket.socket) -> None:
        wire.sendall(head(10) + b"01234")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with origin(act) as url, pytest.raises(BadTransfer) as caught:
        read(url)

    assert f"GET {url}: " in str(caught.value)
    assert "Connection reset" in str(caught.value)


@each_reader
def test_a_refused_connection_is_told(read: Callable[[str], bytes]) -> None:
    """Nobody listens: URL and reason."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"

    with pytest.raises(BadTransfer) as caught:
        read(url)
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
