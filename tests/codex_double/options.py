"""What a node was started with: flags over environment over configuration file, as its help tells them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from codex_double.flavours import Flavour
from codex_double.identity import Record
from codex_double.log import LEVELS

FLAG = re.compile(r"^ +(?:-(\w+), +)?--([a-z0-9-]+) (.*(?:\n {20,}.*)*)", re.MULTILINE)
UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
NETWORKS = ("any", "none", "upnp", "pmp")
DEFAULT_QUOTA = 20 << 30

Address = tuple[str, int]


class WrongOption(Exception):
    """A command line that the program refuses; the text is what it says then."""


@dataclass(frozen=True)
class Options:
    """Of one node."""

    data: Path
    listen: Address
    discovery: int
    api: Address
    key: str = "key"
    external: str | None = None
    metrics: Address | None = None
    quota: int = DEFAULT_QUOTA
    bootstrap: tuple[Record, ...] = ()
    table_limit: int | None = None
    bucket_limit: int | None = None
    log_level: str = "info"

    @property
    def reached(self) -> str:
        """The address that others are told."""
        host = self.listen[0]
        return self.external or ("127.0.0.1" if IPv4Address(host).is_unspecified else host)


def known_flags(flavour: Flavour) -> dict[str, bool]:
    """The flags of the program without a subcommand, and whether each is a switch."""
    return {long: "[=false]" in text for _, long, text in _described(flavour)}


def read(flavour: Flavour, argv: Sequence[str], environment: Mapping[str, str]) -> Options:
    """What the program was asked for.

    Raises:
        WrongOption: if it cannot be.
    """
    flags = _flags(flavour, argv)
    given = _from_environment(flavour, environment) | flags
    if file := given.get("config-file"):
        given = _from_file(flavour, Path(file[-1])) | given
    last = {name: values[-1] for name, values in given.items()}
    address = last.get("metrics-address", "127.0.0.1"), _number(last, "metrics-port", 8008)
    options = Options(
        data=Path(last.get("data-dir") or f"~/.cache/{flavour.word}").expanduser(),
        listen=_listen(last),
        discovery=_number(last, "disc-port", 8090),
        api=(last.get("api-bindaddr", "127.0.0.1"), _number(last, "api-port", 8080)),
        key=last.get("net-privkey", "key"),
        external=_external(flavour, last.get("nat")),
        metrics=address if _switched(last, "metrics") else None,
        quota=_size(last.get("storage-quota", str(DEFAULT_QUOTA))),
        bootstrap=tuple(_record(text) for text in given.get("bootstrap-node", ())),
        table_limit=_number(last, "discovery-table-ip-limit", 10) if flavour.second else None,
        bucket_limit=_number(last, "discovery-bucket-ip-limit", 2) if flavour.second else None,
        log_level=_level(last.get("log-level", "info")),
    )
    if flavour.second:
        _refuse_public_network(options, alone=_switched(last, "no-bootstrap-node"))
    return options


def _described(flavour: Flavour) -> list[tuple[str, str, str]]:
    return FLAG.findall(flavour.help.partition("Available sub-commands")[0])


def _flags(flavour: Flavour, argv: Sequence[str]) -> dict[str, tuple[str, ...]]:
    switches = known_flags(flavour)
    short = {abbreviation: long for abbreviation, long, _ in _described(flavour) if abbreviation}
    given: dict[str, tuple[str, ...]] = {}
    rest = iter(argv)
    for argument in rest:
        option, equals, value = argument.partition("=")
        name = option[2:] if option.startswith("--") else short.get(option[1:], option[1:])
        if not option.startswith("-"):
            raise WrongOption(f"Unexpected argument '{argument}': the double has no marketplace and no subcommands")
        if name not in switches:
            raise WrongOption(f"Unrecognized option '{name}'")
        given[name] = (*given.get(name, ()), value if equals else _value(name, switches[name], rest))
    return given


def _value(name: str, switch: bool, rest: Iterator[str]) -> str:
    if switch:
        return "true"
    for value in rest:
        return value
    raise WrongOption(f"Missing value for option '{name}'")


def _from_environment(flavour: Flavour, environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    names = {flag: f"{flavour.word}_{flag}".upper().replace("-", "_") for flag in known_flags(flavour)}
    return {flag: (environment[name],) for flag, name in names.items() if environment.get(name)}


def _from_file(flavour: Flavour, file: Path) -> dict[str, tuple[str, ...]]:
    try:
        told = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise WrongOption(f"Error while reading {file}: {error}") from error
    values = {name: value if isinstance(value, list) else [value] for name, value in told.items()}
    if unknown := values.keys() - known_flags(flavour):
        raise WrongOption(f"Unrecognized option '{min(unknown)}'")
    return {
        name: tuple(str(one).lower() if one in (True, False) else str(one) for one in v) for name, v in values.items()
    }


def _wrong(name: str, value: object, reason: str) -> WrongOption:
    return WrongOption(f"Error while processing the {name}={value} parameter: {reason}")


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not text.isdigit() or ("port" in name and int(text) > 65535):
        raise _wrong(name, text, "not a number that it can be")
    return int(text)


def _switched(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise _wrong(name, text, "neither true nor false")
    return text == "true"


def _size(text: str) -> int:
    # every unit is a power of two, whatever its spelling: 20g is 20 GiB, and so is 20GB
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)i?b?", text, re.IGNORECASE)
    if match is None:
        raise _wrong("storage-quota", text, "not a size")
    return int(match[1]) << UNITS[match[2].lower()]


def _listen(given: Mapping[str, str]) -> Address:
    if "listen-addrs" in given:
        address = parse_multiaddress(given["listen-addrs"])
        if address is None:
            raise _wrong("listen-addrs", given["listen-addrs"], "Invalid MultiAddress")
        return address
    # what the flags of both generations have for a default
    host = given.get("listen-ip", "0.0.0.0")  # noqa: S104 - as real nodes do
    if parse_multiaddress(f"/ip4/{host}/tcp/0") is None:
        raise _wrong("listen-ip", host, "no address of IPv4")
    return host, _number(given, "listen-port", 0)


def parse_multiaddress(text: str) -> Address | None:
    """``/ip4/HOST/tcp/PORT``; None if it is anything else (the double knows no IPv6)."""
    match = re.fullmatch(r"/ip4/([0-9.]+)/tcp/(\d{1,5})", text)
    if match is None or int(match[2]) > 65535:
        return None
    try:
        return str(IPv4Address(match[1])), int(match[2])
    except ValueError:
        return None


def _external(flavour: Flavour, text: str | None) -> str | None:
    ways = ("auto",) if flavour.second else NETWORKS
    if text is None or text.lower() in ways:
        return None
    way, _, address = text.partition(":")
    try:
        if way.lower() == "extip":
            return str(IPv4Address(address))
    except ValueError as error:
        raise _wrong("nat", text, str(error)) from error
    raise _wrong("nat", text, f"must be one of: {', '.join(ways)}, extip:<IP>")


def _record(text: str) -> Record:
    try:
        return Record.of(text)
    except ValueError as error:
        raise _wrong("bootstrap-node", text, f"Invalid SignedPeerRecord: {error}") from error


def _level(text: str) -> str:
    # levels by topic may follow: "info;trace:dht"
    level = text.partition(";")[0].lower()
    if level not in LEVELS:
        raise _wrong("log-level", text, f"Please specify one of: {', '.join(LEVELS)}")
    return level


def _refuse_public_network(options: Options, alone: bool) -> None:
    if not options.bootstrap and not alone:
        raise WrongOption(
            "neither --bootstrap-node nor --no-bootstrap-node: a real node would join the public network of its preset"
        )
    if alone and options.external is None:
        raise WrongOption("--no-bootstrap-node requires --nat=extip:<IP>: without bootstrap peers nobody can probe it")
