"""Who measures on which host, as all runs on a cluster agree by leases."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from clusters import Kube

from pytest_codexbench.backends.kubernetes import owners
from pytest_codexbench.backends.kubernetes.api import Api
from pytest_codexbench.backends.kubernetes.owners import Process, Register, census


@pytest.fixture
def api(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The cluster's API; the test leaves no lease."""
    monkeypatch.setenv("KUBECONFIG", kube.env["KUBECONFIG"])
    yield Api()
    assert [] == kube.left()


def test_one_host_is_one_runs_at_a_time(api: Api) -> None:
    """Another one waits, and hears for whom; on another host it need not."""
    first, second = Register(api, "first"), Register(api, "second")
    heard: list[str] = []
    order: list[str] = []
    waits = threading.Event()

    def waiting(other: str) -> None:
        heard.append(other)
        waits.set()

    def other() -> None:
        with second.entered(), second.alone_on(["b"], heard.append), second.alone_on(["c", "a"], waiting, look_s=0.1):
            order.append("second")

    with first.entered(), first.alone_on(["a", "a"], heard.append):
        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join(30)

    assert ["first", "second"] == order
    assert {"first"} == set(heard)


def test_a_process_that_died_holds_no_host(api: Api, kube: Kube) -> None:
    """On the same machine that is known at once, though its leases are there."""
    code = (
        "import os\n"
        "from pytest_codexbench.backends.kubernetes.api import Api\n"
        "from pytest_codexbench.backends.kubernetes.owners import Register\n"
        "dead = Register(Api(), 'dead')\n"
        "with dead.entered(), dead.alone_on(['a'], print):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=kube.env, check=False)
    known, leases = census(api)
    heard: list[str] = []
    mine = Register(api, "mine")
    with mine.entered(), mine.alone_on(["a"], heard.append, look_s=0.1):
        pass

    assert ["dead"] == [owner.run for owner in known.values()]
    assert 2 == len(leases)
    assert ["dead"] == heard
    assert [True] == [owner.gone(owners.DEAD_S) for owner in known.values()]
    for lease in leases:
        owners.remove_lease(api, str(lease.metadata.name if lease.metadata else ""))


def test_a_process_elsewhere_is_gone_when_it_was_silent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's clock: while it renews its lease it lives, whatever its own clock says."""
    monkeypatch.setattr(owners, "RENEW_S", 0.5)
    elsewhere = replace(Process.this(), where="elsewhere")
    monkeypatch.setattr(Process, "this", classmethod(lambda cls: elsewhere))
    other = Register(api, "other")
    with other.entered() as name:
        first = census(api)[0][name]
        threading.Event().wait(3.5)
        later = census(api)[0][name]

    assert first.process == elsewhere
    assert first.silent_s <= 2.0
    assert later.silent_s <= 2.0
    assert not later.gone(owners.SILENT_S)
    assert replace(later, silent_s=owners.SILENT_S + 1).gone(owners.SILENT_S)
    assert name not in census(api)[0]
