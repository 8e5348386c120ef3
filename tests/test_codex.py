"""Codex as its driver uses it, over the double: both generations, and what goes wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import codex_double
import pytest
from benches import CELLS, Bench
from daemons import fetch, publish, running

from pytest_codexbench.errors import BadTransfer
from pytest_codexbench.httpbody import read_body
from pytest_codexbench.matrix import BUILT_IN, Variant
from pytest_codexbench.payload import Hasher
from pytest_codexbench.records import CORRUPT, FAILED, LATE, Round
from pytest_codexbench.systems import Driver, Handle, Place, codex
from pytest_codexbench.systems.codex import Codex, CodexNode, quota

MB = 10**6
FLAVOURS = ("2025-06", "2025-12", "storage")
NEVER_NS = 1 << 62
ABSENT = Handle("zDvZRwzkzRZpPqY1hsKNSgdGpgML7dg414LcrgenJ5fJ37ETabcd")


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    """A build that nodes behave as."""
    return str(request.param)


@pytest.fixture
def trio(flavour: str, tmp_path: Path) -> Iterator[list[Driver]]:
    """Three nodes of one build."""
    program = codex_double.install(tmp_path / "bin", flavour)
    with running(Codex(), tmp_path, [{"bin": str(program)}] * 3) as drivers:
        yield drivers


Faulty = Callable[..., list[Round]]


@pytest.fixture
def faulty(bench: Bench, tmp_path: Path) -> Faulty:
    """Rounds of three nodes, two of them seeders, with a fault in every node."""

    def rounds(faults: str, flavour: str = "2025-12", settings: str = "", seconds: int = 30) -> list[Round]:
        program = codex_double.install(tmp_path / "bin", flavour, faults=faults)
        bench.matrix(
            f'shapes = [[3, 2]]\nsizes = ["3MB"]\nrounds = 1\n[systems.codex]\nbin = "{program}"\n{settings}\n'
        )
        bench.run(f"--cb-deadline={seconds}s", "-k", "codex-n")
        return list(bench.story().measured())

    return rounds


def test_two_builds_of_two_generations_are_measured_side_by_side(bench: Bench, tmp_path: Path) -> None:
    """Variants with programs of their own take turns, round by round; the record tells which build each node was."""
    for flavour in FLAVOURS:
        codex_double.install(tmp_path / flavour, flavour)
    tables = "".join(
        f'[systems."codex.{name}"]\nbin = "{next((tmp_path / flavour).iterdir())}"\n'
        for name, flavour in zip(("june", "december", "next"), FLAVOURS, strict=True)
    )
    bench.matrix(f'shapes = [[2, 1], [4, 2]]\nsizes = ["1MB", "3MB"]\nrounds = 2\n{tables}')

    bench.run().assert_outcomes(passed=12)

    rounds = list(bench.story().measured())
    assert 24 == len(rounds)
    told = {round_.cell.system: round_.environment.versions["codex"] for round_ in rounds}
    assert 3 == len(set(told.values()))
    assert told["codex.june"].startswith("codex v0.2.5")
    assert told["codex.next"].startswith("storage ")
    for round_ in rounds:
        assert round_.success
        assert () == round_.left_on
        sent = sum(counters.payload_tx_bytes or 0 for counters in round_.nodes.values())
        assert sent >= round_.cell.size * round_.cell.leechers
        for transfer in round_.transfers:
            assert {"contiguous"} == set(transfer.timelines)
            assert 0 < transfer.seconds["manifest_s"] <= transfer.timelines["contiguous"].seconds_to(0)
    assert 8 == len({round_.handle for round_ in rounds if round_.cell.system == "codex.june"})
    logs = bench.folder / "logs" / "codex.next-n02"
    assert "Started" in (logs / "n00.log").read_text()


def test_uploads_are_measured(bench: Bench, tmp_path: Path) -> None:
    """A publish is a streamed POST until the CID is there; the other node's fetch is the proof."""
    program = codex_double.install(tmp_path / "bin", "2025-12")
    bench.pytester.makepyfile(test_spread=CELLS.replace("download", "upload"))
    bench.matrix(f'shapes = [[2, 1]]\nsizes = ["3MB"]\nrounds = 1\n[systems.codex]\nbin = "{program}"\n')

    bench.run().assert_outcomes(passed=1)

    (round_,) = bench.story().measured()
    upload, proof = round_.transfers
    assert ("upload", "proof") == (upload.kind, proof.kind)
    assert 0 < upload.seconds["upload_accept_s"] <= upload.seconds["publish_s"]


def test_a_node_says_of_which_generation_it_is(trio: list[Driver], flavour: str) -> None:
    """Both are started by the same driver and told apart by the path that answers."""
    contact = trio[0].ready() or {}

    assert contact["spr"].startswith("spr:")
    assert contact["reach"].startswith("/ip4/127.0.0.1/tcp/")
    assert trio[0].versions()["codex"].split()[0] == ("storage" if flavour == "storage" else "codex")


def test_all_seeders_give_the_same_handle_and_all_bytes_arrive(trio: list[Driver], tmp_path: Path) -> None:
    """Type and name of an upload are fixed, so same bytes are one CID; they arrive in order, and are deleted again."""
    one, two, leecher = trio

    handles = [publish(node, tmp_path, 3 * MB + 1, seed=5) for node in (one, two)]
    handle, digest = handles[0]
    seen, fetched = fetch(leecher, handle, 3 * MB + 1)

    assert handles[0] == handles[1]
    assert digest == fetched.digest
    assert ["manifest_s"] == [arrival.news for arrival in seen if arrival.news]
    assert 3 * MB + 1 == seen[-1].held["contiguous"]
    traffic = leecher.traffic()
    assert 3 * MB < (traffic.payload_rx_bytes or 0) < 3 * MB + 4 * 65536
    assert "dht_transport_rx_bytes_total" in traffic.more
    for node in trio:
        assert node.holds(handle)
        node.delete(handle)
        assert not node.holds(handle)


@pytest.mark.parametrize("faults", ["", "bare-inactive"])
def test_progress_that_a_node_tells_is_seen(faults: str, tmp_path: Path) -> None:
    """With ``download = "background"`` the view is ``available``, and the bytes are read back from the node.

    Some builds tell no counts any more once a fetch has ended: then its space tells that all is there.
    """
    program = codex_double.install(tmp_path / "bin", "storage", faults=faults)
    with running(Codex(), tmp_path, [{"bin": str(program), "download": "background"}] * 2) as (seeder, leecher):
        handle, digest = publish(seeder, tmp_path, 3 * MB, seed=1)
        seen, fetched = fetch(leecher, handle, 3 * MB)
        hasher = Hasher()
        for _, piece in read_body(fetched.url or "", 3 * MB, NEVER_NS):
            hasher.update(piece)

    assert ("available",) == leecher.views
    assert 3 * MB == seen[-1].held["available"]
    assert digest == hasher.hexdigest()


def test_background_downloads_are_a_variant_beside_streams(bench: Bench, tmp_path: Path) -> None:
    """Both ways of one build in one run, each in its own view, digests checked in both."""
    program = codex_double.install(tmp_path / "bin", "storage")
    bench.matrix(
        f'shapes = [[3, 1]]\nsizes = ["3MB"]\nrounds = 2\n[systems.codex]\nbin = "{program}"\n'
        f'[systems."codex.background"]\nbin = "{program}"\ndownload = "background"\n'
    )

    bench.run().assert_outcomes(passed=2)

    views = {(r.cell.system, view) for r in bench.story().measured() for t in r.transfers for view in t.timelines}
    assert {("codex", "contiguous"), ("codex.background", "available")} == views


@pytest.mark.parametrize(
    "faults, flavour, settings, outcome, text",
    [
        ("stall:1000000", "2025-12", "", LATE, r"/network/stream: the deadline passed with 1000000 of 3000000 bytes"),
        ("short:1000000", "2025-06", "", FAILED, r"/network/stream: the body ended after 1000000 of 3000000 bytes"),
        ("short:1000000", "storage", "", FAILED, r"/network/stream: the body ended after 1000000 of 3000000 bytes"),
        ("status-500:stream", "2025-12", "", FAILED, r"/network/stream: status 500, expected 200: b.the double"),
        ("status-500:manifest", "storage", "", FAILED, r"/network/manifest: status 500, expected 200: b.the double"),
        ("hang:manifest", "2025-12", "", LATE, r"/network/manifest: the deadline passed with no answer"),
        ("hang:stream", "2025-06", "", LATE, r"/network/stream: the deadline passed with 0 of 3000000 bytes"),
        ("exit:1000000", "2025-12", "", FAILED, r"codex node n\d\d exited with status 3: GET http"),
        ("wrong-byte", "2025-12", "", CORRUPT, r"fetched 3000000 bytes, but their digest is"),
        ("no-progress", "storage", 'download = "background"', FAILED, "so this build tells no progress"),
        ("", "2025-12", 'download = "background"', FAILED, "so this build tells no progress"),
        (
            "inactive",
            "storage",
            'download = "background"',
            FAILED,
            r"/progress/.*: it gave up with \d+ of 3000000 bytes",
        ),
    ],
)
def test_a_bad_download_fails_and_tells(
    faulty: Faulty, faults: str, flavour: str, settings: str, outcome: str, text: str
) -> None:
    """The error names the node, the request, and what came instead; the end of the node's log is beside it."""
    (round_,) = faulty(faults, flavour, settings, seconds=4 if outcome == LATE else 30)

    (transfer,) = round_.transfers
    assert outcome == transfer.outcome
    assert re.search(text, transfer.error or ""), transfer.error
    if outcome != CORRUPT:
        assert f"codex node {transfer.node}" in (transfer.error or "")
        assert "REST service started" in (transfer.log_tail or "")


@pytest.mark.parametrize(
    "faults, text",
    [
        ("other-cid", "same bytes, so the handles should be the same"),
        (
            "status-500:data",
            r"codex node n\d\d: POST http://\S+/api/codex/v1/data: status 500, expected 200: b.the double",
        ),
        ("hang:data", r"codex node n\d\d: POST http://\S+/data: not done within 4 s; the end of its log: "),
    ],
)
def test_a_bad_upload_fails_the_round_and_tells(faulty: Faulty, faults: str, text: str) -> None:
    """A round whose seeders do not agree, or one of which refuses the file, fails before anything is fetched."""
    (round_,) = faulty(faults, seconds=4)

    assert not round_.success
    assert () == round_.transfers
    assert re.search(text, round_.failure or ""), round_.failure


def test_a_full_node_refuses_in_its_own_words(trio: list[Driver], tmp_path: Path) -> None:
    """What is over the quota ends in status 500; the blocks that were taken stay, in no list, and are seen."""
    with pytest.raises(BadTransfer, match="status 500, expected 200: b'Unable to store block z"):
        publish(trio[0], tmp_path, quota(10**7) + MB, seed=1)

    assert trio[0].holds(None)


def test_a_leecher_that_is_full_ends_at_the_deadline(flavour: str, tmp_path: Path) -> None:
    """Real nodes say nothing for ever when they have no room: the deadline is ours."""
    program = codex_double.install(tmp_path / "bin", flavour)
    with running(Codex(), tmp_path, [{"bin": str(program)}] * 2) as (seeder, leecher):
        handle, _ = publish(seeder, tmp_path, 80 * MB, seed=1)
        publish(leecher, tmp_path, 80 * MB, seed=2)
        with pytest.raises(BadTransfer, match=r"network/(stream|manifest): the deadline passed with"):
            fetch(leecher, handle, 80 * MB, deadline_s=3)


def test_content_that_nobody_has_ends_at_the_deadline(trio: list[Driver]) -> None:
    """Real nodes say nothing within 45 s; the reader beats once a second and ends at our deadline."""
    with pytest.raises(BadTransfer, match="network/manifest: the deadline passed with no answer"):
        fetch(trio[2], ABSENT, MB, deadline_s=2)


def test_what_is_no_cid_is_told_in_the_nodes_words(trio: list[Driver]) -> None:
    """The error names the request, the status and what the node said."""
    with pytest.raises(BadTransfer, match=r"GET http\S+/data/notacid/network/manifest: status 400, .*Incorrect Cid"):
        fetch(trio[0], Handle("notacid"), MB)


def test_a_file_of_another_size_is_not_fetched(trio: list[Driver], tmp_path: Path) -> None:
    """The manifest tells the size before any block is fetched."""
    handle, _ = publish(trio[0], tmp_path, MB, seed=1)

    with pytest.raises(BadTransfer, match="the manifest tells of 1000000 bytes, not 1000001"):
        fetch(trio[1], handle, MB + 1)


def test_a_node_that_keeps_blocks_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer to DELETE is not believed: its space is looked at."""
    monkeypatch.setattr(codex, "FREED_S", 0.2)
    program = codex_double.install(tmp_path / "bin", "2025-12", faults="keeps")
    with running(Codex(), tmp_path, [{"bin": str(program)}]) as (node,):
        handle, _ = publish(node, tmp_path, MB, seed=1)
        node.delete(handle)

        assert node.holds(handle)


def test_the_node_is_started_for_a_private_network(flavour: str, tmp_path: Path) -> None:
    """Its own address, folder and quota, metrics on, no public network; flags of the variant's own behind."""
    program = codex_double.install(tmp_path / "bin", flavour)
    place = Place("n00", "127.0.0.1", tmp_path, "", {"bin": str(program), "flags": "--max-peers=7"}, largest=MB)

    first = CodexNode(place).command([]).argv
    second = CodexNode(place).command([{"spr": "spr:abc"}]).argv

    assert {f"--storage-quota={quota(MB)}", f"--data-dir={tmp_path}/data", "--nat=extip:127.0.0.1"} <= set(first)
    assert "--metrics" in first
    assert "--max-peers=7" == first[-1]
    assert ("--no-bootstrap-node" in first) == (flavour == "storage")
    assert any(flag.startswith("--listen-ip" if flavour == "storage" else "--listen-addrs") for flag in first)
    assert "--bootstrap-node=spr:abc" in second
    assert "--no-bootstrap-node" not in second
    assert not {flag.partition("=")[0] for flag in (*first, *second)} & {"--network", "--config-file"}


def test_the_quota_holds_the_largest_file_and_the_rest_of_a_broken_one() -> None:
    """Two files of the size, each in blocks of 64 KiB with its manifest, and a little."""
    assert 2 * 10**9 < quota(10**9) < 2.1 * 10**9
    assert 2 * (1 + 2) * 65536 + (64 << 20) == quota(65536 + 1)


def test_a_slow_start_is_waited_for(tmp_path: Path) -> None:
    """Ready is what answers, not what was started."""
    program = codex_double.install(tmp_path / "bin", "2025-12", faults="slow-start:1")

    with running(Codex(), tmp_path, [{"bin": str(program)}]) as (node,):
        assert node.ready()


def test_without_a_program_cells_are_skipped_with_the_ways_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks Codex learns how to give it; nothing fails."""
    monkeypatch.delenv("CODEXBENCH_CODEX_BIN", raising=False)
    monkeypatch.setattr("shutil.which", lambda name, *_, **__: None)

    reason = Codex().missing(BUILT_IN["codex"]) or ""

    assert "no `codex` or `storage` program on PATH; give --cb-codex-bin=PATH" in reason
    assert "codexbench_codex_bin" in reason


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"bin": "/absent"}, "bin = '/absent': no such program"),
        ({"download": "fast"}, "download = 'fast': no such way; there are stream, background"),
        ({"flags": "--data-dir=/tmp"}, "flags = '--data-dir=/tmp': --data-dir is set by the benchmark"),
        ({"flags": "num-threads=4"}, "flags = 'num-threads=4': 'num-threads=4'; write each as --name=value"),
        ({"flags": "--a='"}, 'flags = "--a=\'": No closing quotation'),
        ({"color": "red"}, "color = 'red': no such setting; there are bin, image, generation, download, flags"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, str], text: str) -> None:
    """Before anything starts, with what would be right."""
    assert text == Codex().wrong(Variant("codex.mine", "codex", tuple(settings.items())))


def test_another_program_is_refused() -> None:
    """A program that is no Codex is told by its help."""
    assert "is no Codex: its --help knows no --" in (
        Codex().missing(Variant("codex", "codex", (("bin", "/bin/true"),))) or ""
    )


def test_a_program_tells_its_build(flavour: str, tmp_path: Path) -> None:
    """Two builds of one version differ in their revision, so a resumed run is refused on another one."""
    program = codex_double.install(tmp_path / "bin", flavour)

    told = Codex().versions(Variant("codex.mine", "codex", (("bin", str(program)),)))

    assert re.fullmatch(r"v\d+\.\d+\.\d+ [0-9a-f]{7,40}", told["codex.mine"])
