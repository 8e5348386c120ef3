"""The REST API, as it was recorded; and that of the second generation, from notes."""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from codex_double.cids import BLOCK, BLOCK_SIZE, DIGEST, MANIFEST, TREE, Cid, Manifest, block_of, root_of
from codex_double.downloads import Progress
from codex_double.exchange import DialFailed
from codex_double.httpserver import HTML, JSON, TEXT, Answer, Hangup, Request
from codex_double.identity import is_peer
from codex_double.log import LEVELS
from codex_double.node import Node
from codex_double.options import parse_multiaddress
from codex_double.store import QuotaExceeded

SERVER = "nim-presto/0.0.3 (amd64/linux)"
OCTETS = "application/octet-stream"
EXTRA_TYPES = frozenset([OCTETS, "text/plain", "application/json", "application/gzip", "image/webp", "text/markdown"])
MIMETYPES = frozenset(mimetypes.MimeTypes(()).types_map[True].values()) | EXTRA_TYPES
ANYTHING = "*"


@dataclass(frozen=True)
class Route:
    """A method and a path below the base, with ``*`` for what varies; its name is that which faults go by."""

    name: str
    method: str
    path: str
    answer: Callable[[Api, Request], Answer]

    def matches(self, method: str, path: tuple[str, ...]) -> bool:
        """Whether it is this route that was asked for."""
        wanted = self.path.split("/")
        same = len(wanted) == len(path) and all(a in (ANYTHING, b) for a, b in zip(wanted, path, strict=True))
        return method == self.method and same


class Refused(Exception):
    """An answer that ends a request early."""

    def __init__(self, status: int, text: str, kind: str = HTML) -> None:
        super().__init__(text)
        self.answer = Answer(status, text.encode(), kind)


class Api:
    """Of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._faults, self._flavour = node.faults, node.flavour

    def answer(self, request: Request) -> Answer:
        """To any request."""
        _, *base = self._flavour.base.split("/")
        below = request.path[len(base) :]
        route = next((r for r in self._routes() if r.matches(request.method, below)), None)
        if route is None or request.path[: len(base)] != tuple(base):
            return Answer(404)
        if self._faults.on("hang", route.name):
            request.hang()
        if self._faults.on("status-500", route.name):
            return Answer(500, f"the double's fault: status-500:{route.name}".encode(), HTML)
        try:
            return route.answer(self, request)
        except Refused as refusal:
            return refusal.answer

    def _routes(self) -> tuple[Route, ...]:
        own = SECOND if self._flavour.second else FIRST
        return (*COMMON, *own, *([EXISTS] if self._flavour.exists else []))

    def _cid(self, request: Request) -> Cid:
        cid = Cid.parse(self._part(request, 1))
        if cid is None:
            raise Refused(400, "Incorrect Cid")
        return cid

    def _part(self, request: Request, index: int) -> str:
        return request.path[len(self._flavour.base.split("/")) - 1 + index]

    # --- the node -----------------------------------------------------------------------------------------------------

    def info(self, request: Request) -> Answer:
        return Answer(200, json.dumps(self.node.info(), indent=2).encode(), JSON)

    def spr(self, request: Request) -> Answer:
        return _told(request, "spr", str(self.node.record))

    def peerid(self, request: Request) -> Answer:
        return _told(request, "id", self.node.peer)

    def loglevel(self, request: Request) -> Answer:
        if "level" not in request.query:
            raise Refused(400, "Missing log level")
        level = request.query["level"][0].lower()
        if level not in LEVELS:
            raise Refused(500, "Please specify one of: trace, debug, info, notice, warn, error or fatal")
        self.node.log.level = level
        return Answer(200, b"", TEXT)

    def connect(self, request: Request) -> Answer:
        peer = self._part(request, 1)
        if not is_peer(peer):
            raise Refused(400, "peerid: incorrect PeerId string")
        addresses = [parse_multiaddress(text) for text in request.query.get("addrs", [])]
        dialled = [address for address in addresses if address]
        if not addresses or len(dialled) < len(addresses):
            found = self.node.peers.find(peer)
            if found is None:
                raise Refused(400, "Unable to find Peer!")
            dialled = [found]
        try:
            self.node.peers.connect(peer, dialled)
        except DialFailed as error:
            raise Refused(400, "Unable to dial peer") from error
        return Answer(200, b"Successfully connected to peer", TEXT)

    def space(self, request: Request) -> Answer:
        space = self.node.store.space()
        return _json(
            {
                "totalBlocks": space.blocks,
                "quotaMaxBytes": space.quota,
                "quotaUsedBytes": space.used,
                "quotaReservedBytes": 0,
            }
        )

    def no_marketplace(self, request: Request) -> Answer:
        raise Refused(503, "Persistence is not enabled")

    def options(self, request: Request) -> Answer:
        return Answer(204)

    # --- datasets -----------------------------------------------------------------------------------------------------

    def upload(self, request: Request) -> Answer:
        body = request.body()
        if body is None:
            raise Refused(500, "Request do not have body available")
        request.expects()
        mimetype = request.headers.get("content-type") or None
        if mimetype is not None and mimetype not in MIMETYPES:
            raise Refused(422, f"The MIME type '{mimetype}' is not valid.")
        filename = _filename(request.headers.get("content-disposition", ""))
        if self._faults.on("other-cid"):
            filename = f"{filename or ''}{self.node.peer}"
        self.node.log.info("Storing data", topics=f"{self._flavour.word} node")
        try:
            cid = self._stored(body.blocks(BLOCK_SIZE), filename, mimetype, self._advertises(request))
        except QuotaExceeded as error:
            self.node.log.error("Unable to store block", topics=f"{self._flavour.word} node", err=error)
            raise Refused(500, f"Unable to store block {error.cid}") from error
        self.node.metrics.done.add(uploads=1)
        return Answer(200, str(cid).encode(), TEXT)

    def _stored(self, blocks: Iterable[bytes], filename: str | None, mimetype: str | None, advertise: bool) -> Cid:
        """Block by block, on the way from the client to the disk; a client that hangs up has sent all (101)."""
        size, leaves = 0, bytearray()
        for content in blocks:
            size += len(content)
            block = block_of(content)
            digest = hashlib.sha256(block).digest()
            self.node.store.put(digest, block)
            leaves += digest
        if not size:
            raise Refused(500, "Request do not have body available")
        digests = [bytes(leaves[at : at + DIGEST]) for at in range(0, len(leaves), DIGEST)]
        manifest = Manifest(Cid(TREE, root_of(digests)), size, filename, mimetype)
        self.node.store.put_tree(manifest.tree, bytes(leaves))
        cid = self.node.store.put_manifest(manifest, advertise)
        self.node.changed()
        self.node.log.info(
            "Stored data", topics=f"{self._flavour.word} node", manifestCid=cid.short, blocks=manifest.blocks
        )
        return cid

    def list(self, request: Request) -> Answer:
        return _json({"content": [self._item(cid, manifest) for cid, manifest in self.node.store.manifests().items()]})

    def _item(self, cid: str | Cid, manifest: Manifest) -> dict[str, Any]:
        told = {
            "treeCid": str(manifest.tree),
            "datasetSize": manifest.size,
            "blockSize": BLOCK_SIZE,
            "filename": manifest.filename,
            "mimetype": manifest.mimetype,
        }
        return {"cid": str(cid), "manifest": told if self._flavour.second else {**told, "protected": False}}

    def local(self, request: Request) -> Answer:
        cid = self._cid(request)
        manifest = self.node.store.manifest(cid)
        if manifest is None:
            block = self.node.store.block(cid.digest) if cid.codec == BLOCK else None
            if block is None:
                text = "The requested CID could not be retrieved (Block not found in local store)."
                raise Refused(404, text, f"{HTML}; charset=utf-8")
            return Answer(200, block, OCTETS, disposition="attachment")
        # what is not here comes from the network, though the description calls it local (91)
        return self._streamed(request, manifest, cid)

    def stream(self, request: Request) -> Answer:
        cid = self._cid(request)
        manifest = self._manifest(request, cid)
        return self._streamed(request, manifest, cid, network=True)

    def _manifest(self, request: Request, cid: Cid) -> Manifest:
        """From here or from the network; hangs while nobody has it (48)."""
        if cid.codec != MANIFEST:
            raise Refused(404, f"CID has invalid content type for manifest {cid}")
        manifest = self.node.fetches.manifest(cid, self._advertises(request), request.waits)
        if manifest is None:
            raise Hangup
        self.node.changed()
        return manifest

    def _streamed(self, request: Request, manifest: Manifest, cid: Cid, network: bool = False) -> Answer:
        pieces = self._bytes(request, manifest, cid)
        return Answer(
            200,
            self._faults.streamed(pieces, manifest.size, network, request.hang),
            manifest.mimetype or OCTETS,
            manifest.size,
            "attachment" if manifest.filename is None else f'attachment; filename="{manifest.filename}"',
            expose=network,
        )

    def _bytes(self, request: Request, manifest: Manifest, cid: Cid) -> Generator[bytes, None, None]:
        sent = 0
        with closing(self.node.fetches.stream(manifest, request.waits)) as pieces:
            for piece in pieces:
                yield piece
                sent += len(piece)
        self.node.log.info("Sent bytes", topics=f"{self._flavour.word} restapi", cid=cid.short, bytes=sent)
        self.node.metrics.done.add(downloads=int(sent == manifest.size))

    def manifest(self, request: Request) -> Answer:
        cid = self._cid(request)
        return _json(self._item(cid, self._manifest(request, cid)))

    def delete(self, request: Request) -> Answer:
        cid = self._cid(request)
        if not self._faults.on("keeps"):
            manifest = self.node.store.manifest(cid)
            if manifest is not None:
                self.node.fetches.stop(manifest.tree)
            self.node.store.delete(cid)
        return Answer(204)

    def exists(self, request: Request) -> Answer:
        cid = self._cid(request)
        return _json({str(cid): self.node.store.exists(cid)})

    def network(self, request: Request) -> Answer:
        """Answers at once; the blocks come in the background."""
        cid = self._cid(request)
        manifest = self._manifest(request, cid)
        number = self.node.downloads.start(cid, manifest)
        told = self._item(cid, manifest)
        if self._flavour.second and not self._faults.on("no-progress"):
            told["downloadId"] = number
        return _json(told)

    # --- the second generation ----------------------------------------------------------------------------------------

    def progress(self, request: Request) -> Answer:
        progress = self.node.downloads.progress(self._cid(request), self._number(request, 4))
        if self._faults.on("inactive"):
            progress = Progress(active=False, received=progress.total // 2, total=progress.total)
        if self._faults.on("bare-inactive") and not progress.active:
            return _json({"active": False})
        return _json(
            {
                "active": progress.active,
                "received": progress.received,
                "total": progress.total,
                "bytes": progress.size,
            }
        )

    def cancel(self, request: Request) -> Answer:
        if not self.node.downloads.cancel(self._cid(request), self._number(request, 3)):
            raise Refused(404, "Background download not found")
        return Answer(204)

    def _number(self, request: Request, index: int) -> int:
        text = self._part(request, index)
        if not (text.isascii() and text.isdigit()):
            raise Refused(400, "Invalid download ID")
        return int(text)

    def advertised(self, request: Request) -> Answer:
        cid = self._dataset(request)
        return _json({"cid": str(cid), "advertise": self.node.store.advertised(cid)})

    def advertise(self, request: Request) -> Answer:
        cid = self._dataset(request)
        if request.query.get("advertise", [""])[0] not in ("true", "false"):
            raise Refused(400, "Invalid advertise value")
        self.node.store.advertise(cid, self._advertises(request))
        self.node.changed()
        return self.advertised(request)

    def _dataset(self, request: Request) -> Cid:
        cid = self._cid(request)
        if cid.codec != MANIFEST:
            raise Refused(400, f"CID has invalid content type for manifest {cid}")
        if self.node.store.manifest(cid) is None:
            raise Refused(404, f"Dataset {cid} not found in local store")
        return cid

    def _advertises(self, request: Request) -> bool:
        return not self._flavour.second or request.query.get("advertise") != ["false"]


def _json(told: object) -> Answer:
    return Answer(200, json.dumps(told, separators=(",", ":")).encode(), JSON)


def _told(request: Request, key: str, value: str) -> Answer:
    """Bare for who likes text most, else as JSON."""
    ranges = [part.split(";") for part in request.headers.get("accept", "").split(",")]
    best = max(ranges, key=_quality)[0].strip()
    return Answer(200, value.encode(), TEXT) if best == TEXT else _json({key: value})


def _quality(parts: list[str]) -> float:
    for part in parts[1:]:
        name, _, value = part.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _filename(disposition: str) -> str | None:
    """What stands after a quote, without the last character: as real nodes read it, and any path with it (21)."""
    _, found, rest = disposition.partition('filename="')
    return rest.partition('filename="')[0].strip()[:-1] if found else None


COMMON = (
    Route("data", "POST", "data", Api.upload),
    Route("data", "GET", "data", Api.list),
    Route("data", "OPTIONS", "data", Api.options),
    Route("local", "GET", "data/*", Api.local),
    Route("delete", "DELETE", "data/*", Api.delete),
    Route("local", "OPTIONS", "data/*", Api.options),
    Route("network", "POST", "data/*/network", Api.network),
    Route("stream", "GET", "data/*/network/stream", Api.stream),
    Route("manifest", "GET", "data/*/network/manifest", Api.manifest),
    Route("space", "GET", "space", Api.space),
    Route("connect", "GET", "connect/*", Api.connect),
    Route("info", "GET", "debug/info", Api.info),
    Route("loglevel", "POST", "debug/chronicles/loglevel", Api.loglevel),
    Route("spr", "GET", "spr", Api.spr),
    Route("peerid", "GET", "peerid", Api.peerid),
)
EXISTS = Route("exists", "GET", "data/*/exists", Api.exists)
FIRST = (
    Route("sales", "GET", "sales/slots", Api.no_marketplace),
    Route("sales", "GET", "sales/slots/*", Api.no_marketplace),
    Route("sales", "GET", "sales/availability", Api.no_marketplace),
    Route("sales", "POST", "sales/availability", Api.no_marketplace),
    Route("sales", "PATCH", "sales/availability/*", Api.no_marketplace),
    Route("sales", "GET", "sales/availability/*/reservations", Api.no_marketplace),
    Route("storage", "POST", "storage/request/*", Api.no_marketplace),
    Route("storage", "GET", "storage/purchases", Api.no_marketplace),
    Route("storage", "GET", "storage/purchases/*", Api.no_marketplace),
)
SECOND = (
    Route("progress", "GET", "data/*/network/progress/*", Api.progress),
    Route("cancel", "DELETE", "data/*/network/*", Api.cancel),
    Route("advertise", "GET", "data/*/advertise", Api.advertised),
    Route("advertise", "POST", "data/*/advertise", Api.advertise),
)
ROUTES = frozenset(route.name for route in (*COMMON, *FIRST, *SECOND, EXISTS))
