"""A test that has several deployments: what it asks for is brought up, its rounds are recorded."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

from pytest_codexbench.agent.client import Node
from pytest_codexbench.campaign import Campaign
from pytest_codexbench.deployments import Deployment, Wish, deployed
from pytest_codexbench.errors import BadTransfer, BenchError, NotReady
from pytest_codexbench.experiment import Setting, disseminate
from pytest_codexbench.matrix import Block, Variant
from pytest_codexbench.metrics import of_round
from pytest_codexbench.plan import deadline_s, draw
from pytest_codexbench.records import Delivery, Environment, Meeting, Round
from pytest_codexbench.systems import Handle, needs_of
from pytest_codexbench.together import each

TOGETHER_S = 120.0


@dataclass(frozen=True, slots=True)
class Frame:
    """What is the same for all rounds of one test: its name, how many there are, the seed, the file's size in bytes."""

    test: str
    rounds: int
    seed: int
    size: int


class Stage:
    """Deployments of one test, by name: asked for by ``want``, up from the first of its ``turns`` on.

    ``named`` makes a variant of its name, as the user has it; ``skip`` ends the test, with a reason.
    """

    def __init__(
        self, campaign: Campaign, frame: Frame, named: Callable[[str], Variant], skip: Callable[[str], NoReturn]
    ) -> None:
        self.campaign, self.frame, self.named, self.skip = campaign, frame, named, skip
        self.meetings: list[Meeting] = []
        self._wishes: list[Wish] = []
        self._up: Mapping[str, Deployment] = {}
        self._stack = ExitStack()
        self._environment: Environment | None = None

    def want(
        self, name: str, variant: str | Variant, nodes: int, meets: str = "", **settings: str | int | float | bool
    ) -> None:
        """Ask for a deployment: so many nodes of a variant, told of those that it ``meets``.

        One that cannot run here skips the test, with the reason and the way out.
        """
        found = self.named(variant) if isinstance(variant, str) else variant
        if settings:
            found = replace(found, settings=tuple(sorted({**dict(found.settings), **settings}.items())))
        wish = Wish(name, found, nodes, meets)
        if why := self.campaign.backend.cannot(wish.shape):
            self.skip(f"{found.name}: {why}")
        self._wishes.append(wish)

    def __getitem__(self, name: str) -> Deployment:
        return self._up[name]

    def turns(self) -> Iterator[Turn]:
        """The rounds that are not recorded yet, each to be entered by ``with``; all deployments are up meanwhile.

        Without time for a first one, the test is skipped.

        Raises:
            NotReady: if a deployment does not come up.
        """
        done = {meeting.index: meeting for meeting in self.campaign.met(self.frame.test)}
        self.meetings += done.values()
        lacking = [index for index in range(self.frame.rounds) if index not in done]
        for index in lacking:
            if not self.campaign.time_left_for(index == 0):
                if not self.meetings:
                    self.skip("no time was left in the budget; give more by --cb-budget, or take fewer cells")
                return
            if not self._up:
                self._bring_up()
            yield Turn(self, index)

    def _bring_up(self) -> None:
        campaign = self.campaign
        campaign.leave_all()
        campaign.say({"what": "cluster", "text": f"{self.frame.test}: {', '.join(map(_told, self._wishes))}"})
        largest = max(self.frame.size, 10**6)
        up = deployed(
            campaign.backend, self._wishes, lambda text: campaign.say({"what": "cluster", "text": text}), largest
        )
        try:
            self._up = self._stack.enter_context(up)
        except OSError as error:
            raise NotReady(f"{self.frame.test} cannot be started: {error}") from error
        versions = {name: version for one in self._up.values() for name, version in one.cluster.versions.items()}
        environment = campaign.backend.environment(campaign.terms.workers)
        self._environment = environment.with_probe({}, versions)

    @property
    def environment(self) -> Environment:
        """Where it is.

        Raises:
            NotReady: before anything is up.
        """
        if self._environment is None:
            raise NotReady(f"{self.frame.test}: nothing is up yet; deployments are there inside of its turns")
        return self._environment

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts that its nodes are on, where there are more."""
        return tuple(sorted({host for one in self._up.values() for host in one.cluster.hosts}))

    def incidents(self) -> list[str]:
        """What happened to any node since it was asked last."""
        return [text for one in self._up.values() for text in one.cluster.incidents()]

    def told(self) -> tuple[Mapping[str, Any], ...]:
        """Its deployments as plain data."""
        return tuple(
            {
                "name": wish.name,
                "variant": wish.variant.name,
                "system": wish.variant.system,
                "settings": dict(wish.variant.settings),
                "nodes": wish.nodes,
                "meets": wish.meets,
            }
            for wish in self._wishes
        )

    def close(self) -> None:
        """Take all of it down."""
        self._up = {}
        self._stack.close()


def _told(wish: Wish) -> str:
    return f"{wish.nodes} nodes of {wish.variant}" + (f" that meet {wish.meets}" if wish.meets else "")


class Turn:
    """One round of a test: recorded when its block is left, as failed if a check or a node failed in it.

    What fails is kept, and the next round follows; the test is failed at its end. ``chance`` is what this round draws,
    one thing after the other: the same for the same test, round and seed on every machine.
    """

    def __init__(self, stage: Stage, index: int) -> None:
        self.stage, self.index = stage, index
        truth = f"{stage.frame.seed} {stage.frame.test} {index}"
        self.chance = random.Random(truth)  # noqa: S311 - a plan is to be repeated, not to be secret
        self.measures: dict[str, float] = {}
        self.deliveries: list[Delivery] = []
        self.flags: list[str] = []
        self._alone = ExitStack()
        self._begun = 0.0
        self._started_at = ""

    def __getitem__(self, name: str) -> Deployment:
        return self.stage[name]

    @property
    def size(self) -> int:
        """Bytes of the files of this test."""
        return self.stage.frame.size

    def disseminate(self, *swarms: Deployment) -> list[float]:
        """Spread a file in each of the swarms from one drawn seeder to all other nodes, at the same moment.

        Each time in a round it is another file, from the same seeder: a node that has fetched and deleted one may fetch
        it otherwise the next time.

        Returns:
            The median over its leechers of the seconds to 100 %, for each.

        Raises:
            BadTransfer: if a round of one of them fails, with what went wrong.
        """
        barrier, file = threading.Barrier(len(swarms)), self.chance.getrandbits(48)

        def ready() -> None:
            try:
                barrier.wait(TOGETHER_S)
            except threading.BrokenBarrierError:
                raise BadTransfer("the other swarm was not ready to begin") from None

        def act(swarm: Deployment) -> Round:
            shape = swarm.wish.shape
            block = Block(shape.nodes, 1, self.size, shape.link, (shape.variant,))
            setting = Setting(
                nodes=swarm.nodes,
                environment=self.stage.environment,
                deadline_s=deadline_s(self.size, None),
                relays=needs_of(shape).relays,
                ready=ready,
            )
            drawn = replace(draw(block, self.index, self.stage.frame.seed), seed=file)
            round_ = disseminate(block.cells[0], drawn, setting)
            barrier.abort()  # one that failed before is not waited for
            return round_

        rounds = each(swarms, act)
        for swarm, round_ in zip(swarms, rounds, strict=True):
            if not round_.success:
                raise BadTransfer(f"{swarm.wish.name}: {round_.failure}")
        return [float(of_round(round_)["t100_s"] or 0.0) for round_ in rounds]

    @contextmanager
    def published(self, swarm: Deployment) -> Iterator[tuple[Handle, str]]:
        """A file, published at the first node of a swarm, with its digest; deleted everywhere in the end."""
        seed = self.chance.getrandbits(48)
        name = f"p{seed:012x}"
        digest, _ = swarm.nodes[0].make(name, self.size, seed)
        handle = swarm.nodes[0].publish(name, deadline_s(self.size, None)).handle
        try:
            yield handle, digest
        finally:
            each(swarm.nodes, lambda node: node.delete(name, handle, self.size))

    def fetch(self, swarm: Deployment, node: Node, position: int, handle: Handle, digest: str) -> None:
        """Make a node of a swarm fetch what its first node has published, and look at every byte.

        Raises:
            BadTransfer: if it does not get it, whole.
        """
        limit_s = deadline_s(self.size, None)
        got = node.download(handle, self.size, [swarm.nodes[0].contact], position, limit_s, lambda name, line: None)
        if got.transfer.error:
            raise BadTransfer(got.transfer.error)
        if node.check(got, self.size) != digest:
            raise BadTransfer(f"{node.name} has other bytes than those that were published")

    def __enter__(self) -> Turn:
        stage, campaign = self.stage, self.stage.campaign
        self._alone.enter_context(campaign.backend.alone(stage.hosts, partial(self._waiting, campaign), None))
        self._started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        stage.incidents()  # what was before is not this round's
        self._begun = time.perf_counter()
        return self

    def _waiting(self, campaign: Campaign, other: str) -> None:
        campaign.say({"what": "waiting", "text": f"{self.stage.frame.test}: waits until {other} is through"})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        seconds = time.perf_counter() - self._begun
        self._alone.close()
        if error is not None and not isinstance(error, BenchError | AssertionError):
            return False
        told = [*self.stage.incidents(), *([_words(error)] if error is not None else [])]
        meeting = Meeting(
            test=self.stage.frame.test,
            index=self.index,
            deployments=self.stage.told(),
            environment=self.stage.environment,
            started_at=self._started_at,
            seconds=seconds,
            measures=self.measures,
            deliveries=tuple(self.deliveries),
            flags=tuple(self.flags),
            error="; ".join(told) or None,
        )
        self.stage.campaign.write(meeting)
        self.stage.meetings.append(meeting)
        return True


def _words(error: BaseException) -> str:
    """Of a failed check its first line, which pytest has made of it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def failures(meetings: Sequence[Meeting]) -> list[str]:
    """What went wrong in which round."""
    return [f"round {meeting.index + 1}: {meeting.error}" for meeting in meetings if not meeting.success]
