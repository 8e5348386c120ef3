"""Makes a node meet those that stand at the addresses of a name, as they come, where nobody else does."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from pytest_codexbench.agent.server import Agent
from pytest_codexbench.errors import BenchError, WrongInput
from pytest_codexbench.systems import Contact

NODE_S, LOOK_S = 300.0, 3.0


@runtime_checkable
class FindsOthers(Protocol):
    """A driver that can tell who is at an address."""

    def contact_at(self, address: str) -> Contact | None:
        """Who is there; None while nobody answers."""


def keep_meeting(agent: Agent, hosts: Sequence[str]) -> None:
    """Never returns: starts the agent's node, then looks every few seconds for others, and connects to new ones.

    Raises:
        WrongInput: if the node is of a network whose nodes cannot be found so.
    """
    if not isinstance(agent.driver, FindsOthers):
        raise WrongInput(f"nodes of {agent.system.name} are not found by the name of a host")
    agent.start({"bootstrap": [], "deadline_s": NODE_S})
    met: set[str] = {agent.place.address}
    while True:
        for address in sorted(_addresses(hosts) - met):
            contact = agent.driver.contact_at(address)
            with suppress(BenchError):  # it went away, or is not ready: it is tried again
                if contact is not None:
                    agent.driver.join([contact])
                    met.add(address)
        time.sleep(LOOK_S)


def _addresses(hosts: Sequence[str]) -> set[str]:
    """Of all hosts that a name is known for now."""
    found: set[str] = set()
    for host in hosts:
        with suppress(OSError):
            found |= {str(told[4][0]) for told in socket.getaddrinfo(host, None, socket.AF_INET)}
    return found
