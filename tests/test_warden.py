"""A cluster ends with its warden, whatever ends that one."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_codexbench.backends.network import isolation
from pytest_codexbench.backends.warden import LOCK, MARK, sweep

PREFIX, WHY_NOT = isolation({})
ROOT = Path(__file__).parent.parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for leftovers in /proc")
isolated = pytest.param(
    True, id="namespaces", marks=pytest.mark.skipif(not PREFIX, reason=f"no network namespaces: {WHY_NOT}")
)
both_ways = pytest.mark.parametrize("apart", [isolated, pytest.param(False, id="loopback")])

# Shuts its ears to SIGTERM, has a child in a session of its own, as a node with an agent may, and keeps a folder that
# even its owner cannot write to.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
node = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
folder = os.path.join(os.environ["CODEXBENCH_FOLDER"], os.environ["NAME"])
os.makedirs(folder + "/blocks")
open(folder + "/blocks/1", "w").close()
os.chmod(folder + "/blocks", 0o500)
print("up", flush=True)
node.wait()
"""
# The same agent, as polite ones are.
POLITE = STUBBORN.replace("SIG_IGN", "SIG_DFL")


class Warden:
    """A warden under test, and what it leaves behind."""

    def __init__(self, tmp_path: Path, apart: bool, before: Sequence[str] = (), python: str = sys.executable) -> None:
        self.python = python
        self.folder = Path(tempfile.mkdtemp(prefix="codexbench-", dir=tmp_path))
        self.logs = Path(tempfile.mkdtemp(prefix="logs-", dir=tmp_path))
        self.apart = apart
        self.process = subprocess.Popen(
            [*before, *(PREFIX if apart else []), python, "-m", "pytest_codexbench.backends.warden"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
        )

    def order(self, programs: Sequence[str], **more: Any) -> str:
        """One line that asks for these Python programs, each at its seat."""
        processes = [
            {
                "name": f"n{seat:02d}",
                "argv": [self.python, "-c", program, "{address}"],
                "env": {"NAME": f"n{seat:02d}"},
                "log": str(self.logs / str(seat)),
                "seat": seat,
            }
            for seat, program in enumerate(programs)
        ]
        order = {"folder": str(self.folder), "link_bps": None, "isolated": self.apart, "processes": processes}
        return json.dumps(order | more) + "\n"

    def ask(self, order: str) -> Any:
        """The answer to the order."""
        assert self.process.stdin is not None
        self.process.stdin.write(order.encode())
        self.process.stdin.flush()
        return self.hear()

    def hear(self) -> Any:
        """The next line it says."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def up(self, *programs: str) -> None:
        """Returns when all of these programs have said so."""
        answer = self.ask(self.order(programs))
        assert "ready" in answer, answer
        for seat in range(len(programs)):
            wait_for(lambda seat=seat: "up" in self.said(seat), f"program {seat}: {self.said(seat)}")  # type: ignore[misc]

    def said(self, seat: int) -> str:
        """All that the program at this seat printed."""
        return (self.logs / str(seat)).read_text()

    def let_go(self) -> int:
        """The status it ends with once its standard input is closed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)

    @property
    def itself(self) -> int:
        """The process of the warden: behind its prefix, a child."""
        if not self.apart:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def running(self) -> list[int]:
        """The cluster's processes that are still there, seen from outside."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return found


def wait_for(done: Callable[[], bool], what: str, deadline_s: float = 15) -> None:
    """Returns when it is done; fails with what was waited for."""
    deadline = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def warden(tmp_path: Path) -> Iterator[Callable[..., Warden]]:
    """Makes wardens, and kills what a failed test leaves."""
    made: list[Warden] = []

    def make(apart: bool, folder: Path = tmp_path, **more: Any) -> Warden:
        made.append(Warden(folder, apart, **more))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.wait()
        for pipe in (each.process.stdin, each.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        for pid in each.running():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def nothing_new_on_the_host() -> Iterator[None]:
    """No interface more after the block than before: neither a bridge nor an end of a link."""
    before = socket.if_nameindex()
    yield
    assert before == socket.if_nameindex()


@linux
@both_ways
def test_a_cluster_ends_with_its_callers_pipe(warden: Callable[..., Warden], apart: bool) -> None:
    """When standard input closes, agents, their nodes, links and the folder are gone, and the status is 0."""
    with nothing_new_on_the_host():
        cluster = warden(apart)
        cluster.up(POLITE, POLITE)
        assert 4 == len(cluster.running())

        status = cluster.let_go()

        assert 0 == status
        assert [] == cluster.running()
        assert not cluster.folder.exists()


@linux
@both_ways
def test_who_ignores_the_signal_is_killed(warden: Callable[..., Warden], apart: bool) -> None:
    """An agent that does not end at SIGTERM is killed with its node after 2 s."""
    cluster = warden(apart)
    cluster.up(STUBBORN)

    status = cluster.let_go()

    assert 0 == status
    assert [] == cluster.running()
    assert not cluster.folder.exists()


@linux
@both_ways
def test_a_cluster_ends_with_its_killed_caller(warden: Callable[..., Warden], apart: bool) -> None:
    """SIGKILL of the process that holds the pipe, which can run no clean-up of its own, ends the cluster as well."""
    with nothing_new_on_the_host():
        cluster = warden(apart)
        holder = subprocess.Popen(["sleep", "60"], stdout=cluster.process.stdin)
        cluster.up(POLITE)
        assert cluster.process.stdin is not None
        cluster.process.stdin.close()  # now only the holder has it open
        assert cluster.process.poll() is None

        holder.kill()
        holder.wait()

        assert 0 == cluster.process.wait(20)
        assert [] == cluster.running()
        assert not cluster.folder.exists()


@linux
@both_ways
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_cluster_in_good_order(
    warden: Callable[..., Warden], apart: bool, number: signal.Signals
) -> None:
    """A signal does what the end of standard input does."""
    cluster = warden(apart)
    cluster.up(POLITE)

    os.kill(cluster.itself, number)

    assert 0 == cluster.process.wait(20)
    assert [] == cluster.running()
    assert not cluster.folder.exists()


@linux
@both_ways
def test_of_a_killed_warden_the_next_sweep_leaves_nothing(
    warden: Callable[..., Warden], apart: bool, tmp_path: Path
) -> None:
    """SIGKILL of the warden itself: its folder, and where there is no namespace its nodes, go with the next sweep."""
    with nothing_new_on_the_host():
        cluster = warden(apart)
        cluster.up(POLITE)

        os.kill(cluster.itself, signal.SIGKILL)
        cluster.process.wait(20)
        if apart:
            wait_for(lambda: not cluster.running(), "the kernel ends what is in the namespace")
        swept = sweep(tmp_path)

        assert [cluster.folder] == swept
        assert [] == cluster.running()
        assert not cluster.folder.exists()


@linux
@both_ways
def test_killing_the_prefix_ends_a_cluster(warden: Callable[..., Warden], apart: bool, tmp_path: Path) -> None:
    """SIGKILL of the process that the caller started, be it the warden or its prefix, leaves no agent behind."""
    cluster = warden(apart)
    cluster.up(POLITE)

    cluster.process.kill()
    cluster.process.wait(20)

    wait_for(lambda: not cluster.running() if apart else len(cluster.running()) <= 1, "agents end with their warden")
    assert [cluster.folder] == sweep(tmp_path)
    assert [] == cluster.running()


@both_ways
def test_a_sweep_spares_the_living(warden: Callable[..., Warden], apart: bool, tmp_path: Path) -> None:
    """Another run's cluster is none of a sweep's business."""
    cluster = warden(apart)
    cluster.up("import time; print('up', flush=True); time.sleep(60)")

    swept = sweep(tmp_path)

    assert [] == swept
    assert cluster.folder.exists()
    assert 0 == cluster.let_go()


def test_a_sweep_takes_only_what_a_dead_warden_left(tmp_path: Path) -> None:
    """Stays: a folder just made, one with its lock held, one of another name, a link. Goes: one whose lock is free."""
    for name in ("codexbench-new", "codexbench-held", "codexbench-dead", "results", "elsewhere"):
        (tmp_path / name).mkdir()
    for name in ("codexbench-held", "codexbench-dead", "results", "elsewhere"):
        (tmp_path / name / LOCK).touch()
    (tmp_path / "codexbench-link").symlink_to(tmp_path / "elsewhere")

    with (tmp_path / "codexbench-held" / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        swept = sweep(tmp_path)

    assert [tmp_path / "codexbench-dead"] == swept
    assert ["codexbench-held", "codexbench-link", "codexbench-new", "elsewhere", "results"] == sorted(
        path.name for path in tmp_path.iterdir()
    )


@both_ways
def test_addresses_are_told_and_filled_in(warden: Callable[..., Warden], apart: bool) -> None:
    """Each process learns its own address, in its environment and in its arguments; the caller learns all."""
    look = "import os, sys; print('up', os.environ['CODEXBENCH_ADDRESS'], *sys.argv[1:], flush=True)"
    cluster = warden(apart)
    log = str(cluster.logs / "tracker")
    order = json.loads(cluster.order([look, look]))
    order["processes"].append(
        {"name": "tracker", "argv": [sys.executable, "-c", look], "env": {}, "log": log, "seat": None}
    )

    answer = cluster.ask(json.dumps(order) + "\n")
    exits = sorted((cluster.hear()["exited"]["name"], 0) for _ in range(3))

    local = ["127.0.0.2", "127.0.0.3"] if sys.platform == "linux" else ["127.0.0.1"] * 2
    first, second = ["10.0.0.1", "10.0.0.2"] if apart else local
    tracker = "10.0.255.254" if apart else "127.0.0.1"
    assert {"ready": {"addresses": {"n00": first, "n01": second, "tracker": tracker}}} == answer
    assert [("n00", 0), ("n01", 0), ("tracker", 0)] == exits
    assert f"up {first} {first}\n" == cluster.said(0)
    assert f"up {tracker}\n" == Path(log).read_text()


@both_ways
def test_the_tracker_beside_the_bridge_is_reached_from_a_seat(warden: Callable[..., Warden], apart: bool) -> None:
    """A process without a seat serves the nodes at an address of its own."""
    serve = (
        "import os, socket; listener = socket.create_server((os.environ['CODEXBENCH_ADDRESS'], 0));"
        "open(os.environ['CODEXBENCH_FOLDER'] + '/port', 'w').write(str(listener.getsockname()[1]) + '.');"
        "listener.accept()[0].sendall(b'up')"
    )
    ask = (
        "import os, socket, sys, time\n"
        "path = os.environ['CODEXBENCH_FOLDER'] + '/port'\n"
        "while not os.path.exists(path) or not open(path).read().endswith('.'): time.sleep(0.01)\n"
        "host = '10.0.255.254' if os.environ['CODEXBENCH_ADDRESS'].startswith('10.') else '127.0.0.1'\n"
        "print(socket.create_connection((host, int(open(path).read()[:-1])), timeout=10).recv(2), flush=True)\n"
    )
    cluster = warden(apart)
    order = json.loads(cluster.order([ask, serve]))
    order["processes"][1]["seat"] = None

    assert "ready" in cluster.ask(json.dumps(order) + "\n")
    exits = {cluster.hear()["exited"]["name"] for _ in range(2)}

    assert {"n00", "n01"} == exits
    assert "b'up'\n" == cluster.said(0)


@both_ways
def test_who_ends_by_itself_is_told(warden: Callable[..., Warden], apart: bool) -> None:
    """A crash is told with its status, negative for a signal, while the others go on."""
    cluster = warden(apart)
    cluster.ask(cluster.order(["import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)"]))

    assert {"exited": {"name": "n00", "status": -signal.SIGKILL}} == cluster.hear()
    assert cluster.process.poll() is None


@linux
def test_a_caller_who_does_not_listen_holds_up_nothing(warden: Callable[..., Warden]) -> None:
    """News that nobody reads fills the pipe and is dropped; the end still comes."""
    cluster = warden(False)
    assert cluster.process.stdout is not None
    fcntl.fcntl(cluster.process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    names = [f"{'n' * 200}{seat}" for seat in range(40)]
    order = json.loads(cluster.order(["print('up', flush=True)"] * len(names)))
    for name, process in zip(names, order["processes"], strict=True):
        process["name"] = name
        process["argv"] = ["true"]
    assert cluster.process.stdin is not None
    cluster.process.stdin.write(json.dumps(order).encode() + b"\n")
    cluster.process.stdin.flush()
    assert "ready" in json.loads(cluster.process.stdout.readline())
    wait_for(lambda: _children(cluster.process.pid) == [], "all have ended and are reaped")

    assert 0 == cluster.let_go()
    assert not cluster.folder.exists()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@both_ways
def test_a_program_that_is_not_there_is_told_and_nothing_is_left(warden: Callable[..., Warden], apart: bool) -> None:
    """The error names the process and the program; those already started are ended, the folder is gone."""
    cluster = warden(apart)
    order = json.loads(cluster.order(["import time; time.sleep(60)", ""]))
    order["processes"][1]["argv"] = ["no-such-program"]

    answer = cluster.ask(json.dumps(order) + "\n")

    assert {"error": "NotReady: n01 cannot start: there is no program no-such-program"} == answer
    assert 1 == cluster.process.wait(20)
    assert not cluster.folder.exists()


@both_ways
def test_an_order_that_makes_no_sense_is_refused(warden: Callable[..., Warden], apart: bool) -> None:
    """What is missing is named, and the status is 1."""
    cluster = warden(apart)

    answer = cluster.ask('{"folder": "/nowhere"}\n')

    assert "'processes'" in answer["error"]
    assert 1 == cluster.process.wait(20)


def test_a_folder_has_one_warden(warden: Callable[..., Warden]) -> None:
    """A second warden keeps off the folder of the first, and does not clean it away."""
    first, second = warden(False), warden(False)
    first.up("import time; print('up', flush=True); time.sleep(60)")

    answer = second.ask(second.order([], folder=str(first.folder)))

    assert "FileExistsError" in answer["error"]
    assert 1 == second.process.wait(20)
    assert first.folder.exists()


def test_without_its_prefix_an_isolated_warden_refuses(warden: Callable[..., Warden]) -> None:
    """One wrong call does not wire the machine's own network, and does not kill its processes."""
    cluster = warden(False)

    answer = cluster.ask(cluster.order([], isolated=True))

    assert "prefix" in answer["error"]
    assert 1 == cluster.process.wait(20)


@both_ways
def test_a_caller_who_goes_before_the_order_is_no_error(warden: Callable[..., Warden], apart: bool) -> None:
    """End of input in the middle of the first line: nothing was started, so nothing is to be told."""
    cluster = warden(apart)
    assert cluster.process.stdin is not None
    cluster.process.stdin.write(b'{"folder"')

    assert 0 == cluster.let_go()


@linux
@both_ways
@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_an_ordinary_user_needs_no_rights(warden: Callable[..., Warden], apart: bool) -> None:
    """A user without any privilege has bridges, links and namespaces, and a clean end, all the same."""
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]
    python = next((path for path in (sys.executable, "/usr/bin/python3") if _runs(become, path)), None)
    if python is None:
        pytest.skip("neither this Python nor /usr/bin/python3 is one that others may use with this folder")
    with tempfile.TemporaryDirectory() as theirs:
        os.chown(theirs, 65534, 65534)
        cluster = warden(apart, Path(theirs), before=become, python=python)
        for folder in (cluster.folder, cluster.logs):
            os.chown(folder, 65534, 65534)

        cluster.up(POLITE, POLITE)

        assert {65534} == {Path(f"/proc/{pid}").stat().st_uid for pid in cluster.running()}
        assert 0 == cluster.let_go()
        assert [] == cluster.running()
        assert not cluster.folder.exists()


def _runs(become: Sequence[str], python: str) -> bool:
    # through `env`: only what is started after setpriv itself lacks root's right to every folder
    command = [*become, "env", python, "-c", "import enum, pytest_codexbench.backends.warden; enum.StrEnum"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not PREFIX, reason=f"no network namespaces: {WHY_NOT}")
def test_a_cluster_of_32_is_wired_in_a_moment(warden: Callable[..., Warden]) -> None:
    """32 limited links cost about what 32 starts of `true` cost, not seconds."""
    cluster = warden(True)
    order = json.loads(cluster.order([""] * 32, link_bps=10**8))
    for process in order["processes"]:
        process["argv"] = ["true"]

    started = time.perf_counter()
    assert "ready" in cluster.ask(json.dumps(order) + "\n")

    assert time.perf_counter() - started < 10  # 0.4 s here; a hundred other processes may be at work
