"""IPFS on real Kubo nodes, where the program is there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from benches import Bench
from daemons import fetch, publish, running

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.matrix import BUILT_IN, Variant
from pytest_codexbench.systems import Driver, Handle
from pytest_codexbench.systems.ipfs import Ipfs

MB = 10**6
PROGRAM = os.environ.get("CODEXBENCH_IPFS_BIN") or shutil.which("ipfs")
needs_kubo = pytest.mark.skipif(PROGRAM is None, reason="no `ipfs` on PATH, nor in CODEXBENCH_IPFS_BIN")
ABSENT = Handle("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[Driver]]:
    """Two nodes of one swarm."""
    with running(Ipfs(), tmp_path, [{"bin": str(PROGRAM)}] * 2) as drivers:
        yield drivers


@needs_kubo
def test_a_swarm_is_measured(bench: Bench) -> None:
    """The same experiments as for every system: all bytes arrive, checked, and the counters tell who sent them."""
    bench.matrix(f'shapes = [[2, 1], [4, 2]]\nsizes = ["3MB"]\nrounds = 2\n[systems.ipfs]\nbin = "{PROGRAM}"\n')

    bench.run().assert_outcomes(passed=2)

    rounds = list(bench.story().measured())
    assert [2, 2, 4, 4] == [len(round_.nodes) for round_ in rounds]
    assert 4 == len({round_.handle for round_ in rounds})
    for round_ in rounds:
        assert round_.success
        assert () == round_.left_on
        assert {"contiguous"} == {view for transfer in round_.transfers for view in transfer.timelines}
        leechers = [counters for name, counters in round_.nodes.items() if name not in round_.seeders]
        assert all((counters.payload_rx_bytes or 0) >= 3 * MB for counters in leechers)
        assert sum(counters.payload_tx_bytes or 0 for counters in round_.nodes.values()) >= 3 * MB * len(leechers)
        assert round_.environment.versions["ipfs"].startswith("kubo ")


@needs_kubo
def test_nothing_reaches_beyond_the_swarm(pair: list[Driver], tmp_path: Path) -> None:
    """No bootstrap, no router, no resolver, no relay, no telemetry; a key of the swarm's own: nobody else is asked."""
    config = json.loads((tmp_path / "n00" / "data" / "ipfs" / "config").read_text())
    key = (tmp_path / "n00" / "data" / "ipfs" / "swarm.key").read_text()
    log = (tmp_path / "n00" / "log").read_text()

    assert "auto" not in json.dumps(config)
    assert [] == config["Bootstrap"]
    assert {"Type": "none", "DelegatedRouters": []} == config["Routing"]
    assert key == (tmp_path / "n01" / "data" / "ipfs" / "swarm.key").read_text()
    assert "Swarm is limited to private network" in log
    assert [f"Swarm listening on 127.0.0.1:{_swarm_port(config)} (TCP)"] == [
        line.strip() for line in log.splitlines() if line.startswith("Swarm listening")
    ]


def _swarm_port(config: dict[str, dict[str, list[str]]]) -> str:
    (address,) = config["Addresses"]["Swarm"]
    return address.rpartition("/")[2]


@needs_kubo
def test_nodes_with_another_key_stay_out(tmp_path: Path) -> None:
    """Two clusters of one run, or of two, never serve each other's bytes."""
    with running(Ipfs(), tmp_path, [{"bin": str(PROGRAM)}] * 2, swarms=[1, 2]) as (one, other):
        handle, _ = publish(one, tmp_path, MB, seed=1)
        with pytest.raises(BadTransfer):
            other.join([_reach(one)])
        with pytest.raises(BadTransfer, match=rf"POST http.*/cat\?arg={handle.id}: the deadline passed with"):
            fetch(other, handle, MB, deadline_s=2)


def _reach(driver: Driver) -> dict[str, str]:
    contact = driver.ready()
    assert contact is not None
    return {**contact, "name": ""}


@needs_kubo
def test_bytes_arrive_in_order_and_are_deleted(pair: list[Driver], tmp_path: Path) -> None:
    """A file is fetched whole; both nodes forget it, and what was there before is all that is left."""
    seeder, leecher = pair

    handle, digest = publish(seeder, tmp_path, 3 * MB + 7, seed=1)
    seen, fetched = fetch(leecher, handle, 3 * MB + 7)

    assert digest == fetched.digest
    assert 3 * MB + 7 == seen[-1].held["contiguous"]
    assert sorted(one.received for one in seen) == [one.received for one in seen]
    for node in pair:
        assert node.holds(handle)
        node.delete(handle)
        assert not node.holds(handle)
        assert not node.holds(None)


@needs_kubo
def test_seeders_agree_on_the_handle(pair: list[Driver], tmp_path: Path) -> None:
    """The same bytes have the same CID on every node, whatever the file is called."""
    (tmp_path / "other").mkdir()

    handles = [
        publish(node, folder, MB, seed=1)[0] for node, folder in zip(pair, (tmp_path, tmp_path / "other"), strict=True)
    ]

    assert handles[0] == handles[1]


@needs_kubo
def test_content_that_nobody_has_ends_at_the_deadline(pair: list[Driver]) -> None:
    """Kubo looks for it for ever; the deadline is ours, and the reader beats until then."""
    with pytest.raises(BadTransfer, match=rf"/cat\?arg={ABSENT.id}: the deadline passed with 0 of {MB} bytes"):
        fetch(pair[0], ABSENT, MB, deadline_s=2)


@needs_kubo
def test_what_is_no_cid_is_told_in_the_nodes_words(pair: list[Driver]) -> None:
    """The error names the request, the status and what the node said."""
    with pytest.raises(BadTransfer, match=r"/cat\?arg=nonsense: status 500, expected 200: .*invalid"):
        fetch(pair[0], Handle("nonsense"), MB)


def test_without_a_program_cells_are_skipped_with_the_ways_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks Kubo learns how to give it; nothing fails."""
    monkeypatch.delenv("CODEXBENCH_IPFS_BIN", raising=False)
    monkeypatch.setattr("shutil.which", lambda name, *_, **__: None)

    reason = Ipfs().missing(BUILT_IN["ipfs"]) or ""

    assert "no `ipfs` program on PATH; give --cb-ipfs-bin=PATH" in reason


def test_another_program_is_refused(tmp_path: Path) -> None:
    """A program that is no Kubo is told before anything starts."""
    impostor = tmp_path / "ipfs"
    impostor.write_text("#!/bin/sh\nexit 3\n")
    impostor.chmod(0o755)
    variant = Variant("ipfs", "ipfs", (("bin", str(impostor)),))

    assert f"{impostor} is no Kubo: it does not answer to `version --number`" == Ipfs().missing(variant)
    assert Ipfs().wrong(Variant("ipfs", "ipfs", (("bin", "/absent/ipfs"),))) == "bin = '/absent/ipfs': no such program"
    assert "routing = 'dht': no such setting; there are bin, image" == Ipfs().wrong(
        Variant("ipfs", "ipfs", (("routing", "dht"),))
    )
