"""Proves that clusters are real ones, and that nothing is left of them: it brings several up and takes them down."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cluster import api, build
from cluster.members import first, members
from cluster.places import CGROUP, CGROUPS, HERE, PORT, STATE
from cluster.progress import Failed, say, wait

PROJECT = HERE.parent.parent
TOOL = str(HERE / "kube")
IMAGE = "localhost/check:1"
ANSWER_S = 300.0
RATE_BITS_PER_S = 20e6
BODY = 5_000_000


class Check:
    """Counts what is as it should be, and what is not."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def expect(self, what: str, pattern: str, look: Callable[[], object]) -> None:
        """What it looks at, as text, must hold the pattern."""
        try:
            got = str(look())
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the other checks are to follow
            got = f"{type(error).__name__}: {error}"
        if re.search(pattern, got):
            self.passed += 1
            say(f"ok    {what}")
        else:
            self.failed += 1
            say(f"FAIL  {what}: wanted /{pattern}/, got: {got.strip()[-2000:]}")


def check() -> None:
    """Run all checks.

    Raises:
        Failed: if one of them failed.
    """
    try:
        importlib.import_module("kubernetes")
    except ImportError as error:
        raise Failed(f"{sys.executable} has no `kubernetes`: run this by a Python that has, from a venv") from error
    if STATE.exists() or any(members()):
        raise Failed(f"a cluster is up, or remains of one are there: take it down first ({TOOL} down)")
    outcome = Check()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "check.tar")
        kubeconfig = Path(folder, "kubeconfig")
        outcome.expect("an image with this project's wheel", "MB", lambda: _image(image, Path(folder)))
        for story in (_one_node, _usual_burst, _three_nodes, _killed):
            with _leaving_nothing(outcome):
                story(outcome, image, kubeconfig)
            outcome.expect("not even its kubeconfig", "False", kubeconfig.exists)
    say(f"{outcome.passed} passed, {outcome.failed} failed")
    if outcome.failed:
        raise Failed("not all is as it should be")


# --- stories ----------------------------------------------------------------------------------------------------------


def _one_node(outcome: Check, image: Path, kubeconfig: Path) -> None:
    expect = outcome.expect
    expect("one node comes up", "all nodes are ready", lambda: _kube("up", "--kubeconfig", kubeconfig, image))
    expect("a second cluster is refused", "a cluster is up", lambda: _kube("up", image))
    with _environment(kubeconfig):
        expect("the node is there", r"node0 +Ready", lambda: _run("kubectl", "get", "nodes"))
        _restricted_namespace()
        forbidden = ["kubectl", "run", "root", f"--image={IMAGE}"]
        expect("Pods must be restricted", 'violates PodSecurity "restricted', lambda: _run(*forbidden))
        _peers_run(expect)
        _peers_are_restricted(expect)
        _python_client(expect)
        _volumes(expect)
        _api_server_stops(expect)
        expect("helm uninstalls", "uninstalled", lambda: _run("helm", "uninstall", "peers", "--wait"))


def _peers_run(expect: Callable[[str, str, Callable[[], object]], None]) -> None:
    install = ["helm", "install", "peers", str(HERE / "peers/chart"), "--wait", "--timeout=90s"]
    expect("helm installs three peers", "STATUS: deployed", lambda: _run(*install))
    expect("a Pod finds another by its name", "this is peers-2", lambda: _fetch("peers-2.peers:8080/"))
    expect("and by a service", r"this is peers-\d", lambda: _fetch("peers-any.check.svc.cluster.local/"))
    expect("its link is limited to its rate", "right: ", lambda: _rate_of("peers-1.peers"))
    expect("kubectl logs", "listening on 8080", lambda: _run("kubectl", "logs", "peers-0"))
    copy = ["kubectl", "cp", str(HERE / "peers/peer.py"), "peers-0:/tmp/copied"]
    expect("kubectl cp", "A peer to try", lambda: (_run(*copy), _in_peer("head", "-n1", "/tmp/copied")))
    limit = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    expect("its memory is limited", f"^{128 * 2**20}$", lambda: _in_peer("cat", limit))
    expect("no way leads out", "unreachable", lambda: _in_node("ip", "route", "get", "192.0.2.1"))


def _peers_are_restricted(expect: Callable[[str, str, Callable[[], object]], None]) -> None:
    expect("a Pod is not root", "uid=10001", lambda: _in_peer("id"))
    expect("and cannot write", "Read-only file system", lambda: _in_peer("touch", "/file"))
    imports = "import libtorrent, pytest_codexbench.agent as agent; print(agent.__file__)"
    expect("it has this project", "/dist-packages/pytest_codexbench/", lambda: _in_peer("python3", "-c", imports))
    # with -v, Python says of each module that its compiled form fits, or that it does not
    stale = "could not create.*|.*is stale.*"
    verbose = ["python3", "-v", "-c", "import json, pydantic"]
    expect("all of it is compiled", "right", lambda: re.search(stale, _in_peer(*verbose)) or "right")


def _python_client(expect: Callable[[str, str, Callable[[], object]], None]) -> None:
    # by name, so that the tools which read this file need no kubernetes
    client = importlib.import_module("kubernetes.client")
    stream = importlib.import_module("kubernetes.stream")
    importlib.import_module("kubernetes.config").load_kube_config(os.environ["KUBECONFIG"])
    core = client.CoreV1Api()

    def forwarded() -> str:
        forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "peers-1", "check", ports="8080")
        with closing(forward.socket(8080)) as connection:
            connection.setblocking(True)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b"")).decode()

    def executed() -> Any:
        call = core.connect_get_namespaced_pod_exec
        return stream.stream(call, "peers-1", "check", command=["hostname"], stdout=True, stderr=True)

    expect("the Python client: exec", "peers-1", executed)
    expect("the Python client: port-forward", "this is peers-1", forwarded)
    expect("the Python client: log", "listening", lambda: core.read_namespaced_pod_log("peers-1", "check"))


def _volumes(expect: Callable[[str, str, Callable[[], object]], None]) -> None:
    _run("kubectl", "--namespace=default", "apply", "-f", str(HERE / "peers/volume.yaml"))
    wait = ["kubectl", "--namespace=default", "wait", "job/writer", "--for=condition=complete", "--timeout=60s"]
    expect("a volume claim is met", "condition met", lambda: _run(*wait))


def _api_server_stops(expect: Callable[[str, str, Callable[[], object]], None]) -> None:
    _kube("stop", "api")
    expect("the API server stops", "refused", lambda: _run("kubectl", "get", "nodes"))
    # for as long as it takes the others to notice
    time.sleep(10)
    expect("and starts", "api is started", lambda: _kube("start", "api"))
    expect("to the same Pods", r"peers-0 +1/1 +Running +0 ", lambda: _run("kubectl", "get", "pods"))
    # the watches of kubelet come back within some seconds
    expect(
        "which still answer", "this is peers-2", lambda: _patiently(lambda: _fetch("peers-2.peers:8080/"), "this is")
    )


def _usual_burst(outcome: Check, image: Path, kubeconfig: Path) -> None:
    _kube("up", "--usual-burst", "--kubeconfig", kubeconfig, image)
    with _environment(kubeconfig):
        _restricted_namespace()
        _run("helm", "install", "peers", str(HERE / "peers/chart"), "--wait", "--timeout=90s")
        outcome.expect("with the usual burst no link is limited", "fast: ", lambda: _rate_of("peers-1.peers"))


def _three_nodes(outcome: Check, image: Path, kubeconfig: Path) -> None:
    expect = outcome.expect
    expect("three nodes come up", "all nodes are ready", lambda: _kube("up", "-n3", "--kubeconfig", kubeconfig))
    expect("an image is loaded into all", "done in", lambda: _kube("load", image))
    with _environment(kubeconfig):
        _restricted_namespace()
        _run("helm", "install", "peers", str(HERE / "peers/chart"), "--wait", "--timeout=90s")
        places = ["kubectl", "get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]
        expect("each has a peer", "node0 node1 node2", lambda: " ".join(sorted(_run(*places).split())))
        away = _run("kubectl", "get", "pods", "-o", "jsonpath={.items[?(@.spec.nodeName=='node2')].metadata.name}")
        home = _run("kubectl", "get", "pods", "-o", "jsonpath={.items[?(@.spec.nodeName=='node1')].metadata.name}")
        expect("Pods of two nodes meet", f"this is {away}", lambda: _fetch(f"{away}.peers:8080/", home))
        expect("between nodes too links are limited", "right: ", lambda: _rate_of(f"{away}.peers", home))
        expect("a node is killed", "node2 is stopped", lambda: _kube("stop", "node2"))
        unreachable = f"import socket; socket.create_connection(('{_address(away)}', 8080), 3)"
        expect("its Pod is gone", "No route|timed out", lambda: _in_peer("python3", "-c", unreachable, peer=home))
        ready = ["kubectl", "wait", "node/node2", "--timeout=120s"]
        expect("Kubernetes notices", "condition met", lambda: _run(*ready, "--for=condition=Ready=Unknown"))
        expect("the node comes back", "node2 is started", lambda: _kube("start", "node2"))
        expect("and is ready", "condition met", lambda: _run(*ready, "--for=condition=Ready"))
        again = ["kubectl", "wait", f"pod/{away}", "--for=condition=Ready", "--timeout=60s"]
        expect("so is its Pod", "condition met", lambda: _run(*again))
        expect(
            "which answers", f"this is {away}", lambda: _patiently(lambda: _fetch(f"{away}.peers:8080/", home), "this")
        )


def _killed(outcome: Check, image: Path, kubeconfig: Path) -> None:
    """`up` is killed at one moment and another, then a whole cluster is."""
    moments: list[tuple[str, Callable[[], object]]] = [
        ("its certificates are made", (STATE / "pki/inside.conf").exists),
        ("its node has started", lambda: first(0)),
        ("its programs have", (STATE / "api.sock").exists),
        ("its API server is ready", api.is_ready),
    ]
    for when, reached in moments:
        with _leaving_nothing(outcome):
            _kill_when(when, reached, image, kubeconfig)
    for when, reached in moments[::2]:
        _kill_when(when, reached, image, kubeconfig)
        up = partial(_kube, "up", "--kubeconfig", kubeconfig, image)
        outcome.expect(f"up, after one that was killed when {when}", "all nodes are ready", up)
    for pid in list(members()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    outcome.expect("up, after all its processes were killed", "all nodes are ready", up)


def _kill_when(when: str, reached: Callable[[], object], image: Path, kubeconfig: Path) -> None:
    _kube("down")
    argv = [TOOL, "up", "--kubeconfig", str(kubeconfig), str(image)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait(f"the moment when {when}", ANSWER_S, lambda: bool(reached()), STATE / "log/node0")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    say(f"      up is killed when {when}")


# --- what they are made of --------------------------------------------------------------------------------------------


def _image(image: Path, folder: Path) -> str:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)]
    subprocess.run(pip, check=True, capture_output=True)
    (wheel,) = map(str, folder.glob("*.whl"))
    peer = f"{HERE / 'peers/peer.py'}:/srv/peer.py"
    options = ["--layer", peer, "--pip", wheel, "--user", "10001", "--env", "HOME=/tmp", "--env", "PYTHONUNBUFFERED=1"]
    return _kube("image", image, IMAGE, *options, "--", "python3", "/srv/peer.py")


@contextmanager
def _leaving_nothing(outcome: Check) -> Iterator[None]:
    """A story, after which `down` must leave the machine as it was."""
    before = _machine()
    try:
        yield
    finally:
        networks = _networks(members())
        outcome.expect("down", "done in", lambda: _kube("down"))
        everybody = (path.name for path in Path("/proc").glob("[0-9]*"))
        left = (_machine() - before) | (networks & _networks(everybody))
        outcome.expect("nothing is left", r"^\[\]$", lambda: sorted(left))


def _kube(*arguments: object) -> str:
    output = _run(TOOL, *map(str, arguments))
    for line in output.splitlines():
        say(f"      | {line.strip()}")
    return output


def _run(*argv: str) -> str:
    """What a program says, be it good or bad."""
    run = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    return run.stdout


@contextmanager
def _environment(kubeconfig: Path) -> Iterator[None]:
    """The programs, and the cluster they talk to, as a user has them."""
    before = dict(os.environ)
    os.environ["PATH"] = f"{build.programs().get()}:{before['PATH']}"
    os.environ["KUBECONFIG"] = str(kubeconfig)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _restricted_namespace() -> None:
    _run("kubectl", "create", "namespace", "check")
    _run("kubectl", "label", "namespace", "check", "pod-security.kubernetes.io/enforce=restricted")
    _run("kubectl", "config", "set-context", "--current", "--namespace=check")


def _in_peer(*argv: str, peer: str = "peers-0") -> str:
    return _run("kubectl", "exec", peer, "--", *argv).strip()


def _in_node(*argv: str) -> str:
    return _run("nsenter", "--target", str(first(0)), "--net", *argv)


def _fetch(address: str, peer: str = "peers-0") -> str:
    url = f"http://localhost:8080/fetch?http://{address}"
    return _in_peer(
        "python3", "-c", f"import urllib.request as u; print(u.urlopen('{url}').read().decode())", peer=peer
    )


def _rate_of(address: str, peer: str = "peers-0") -> str:
    seconds = float(json.loads(_fetch(f"{address}:8080/bytes/{BODY}", peer))["seconds"])
    ideal = BODY * 8 / RATE_BITS_PER_S
    # less than the ideal by the bursts of both ends, more by the headers of packets
    word = "right" if 0.9 * ideal < seconds < 1.15 * ideal else "fast" if seconds < 0.5 * ideal else "wrong"
    return f"{word}: {BODY} bytes took {seconds:.2f} s, and at its rate they take {ideal:.2f} s"


def _patiently(look: Callable[[], str], pattern: str) -> str:
    deadline = time.monotonic() + ANSWER_S
    while not re.search(pattern, got := look()) and time.monotonic() < deadline:
        time.sleep(1)
    return got


def _address(pod: str) -> str:
    return _run("kubectl", "get", "pod", pod, "-o", "jsonpath={.status.podIP}")


COULD_BE_LEFT = (
    STATE,
    *map(Path, ("/opt/kubernetes", "/opt/tests", "/tmp/hostpath_pv", "/var/log/containers", "/var/log/pods")),
    *(Path("/run", name) for name in ("cluster", "cni", "containerd", "netns", "node")),
    *(Path("/var/lib", name) for name in ("cni", "containerd", "kubelet")),
)
INTERFACES = re.compile("nodes|to-node|cni|veth|bwp")
LISTENING = re.compile(rf"0100007F:{PORT:04X} \S+ 0A ")


def _machine() -> set[str]:
    """What of a cluster the machine shows."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    interfaces = [path.name for path in Path("/sys/class/net").iterdir()]
    sockets = Path("/proc/net/tcp").read_text()
    return {
        *(f"mount {line.split()[4]}" for line in mounts),
        *(f"interface {name}" for name in interfaces if INTERFACES.match(name)),
        *(f"control group {path}" for path in CGROUPS.glob(f"*/{CGROUP}")),
        *(f"process {pid}" for pid in members()),
        *(f"file {path}" for path in COULD_BE_LEFT if path.exists()),
        *(f"socket {found}" for found in LISTENING.findall(sockets)),
    }


def _networks(pids: Iterable[int | str]) -> set[str]:
    """The network namespaces of processes, without the machine's own."""
    found = set()
    for pid in pids:
        # processes come and go
        with suppress(OSError):
            found.add(str(Path(f"/proc/{pid}/ns/net").readlink()))
    return found - {str(Path("/proc/self/ns/net").readlink())}
