"""Helm releases: installed from the project's own charts, taken down again."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pytest_codexbench.backends.kubernetes.api import RETRY_S
from pytest_codexbench.errors import CannotRun, NotReady

T = TypeVar("T")

# Helm's own limit, and that of a Helm that hangs.
HELM_S, LONGEST_S = 120.0, 150.0
# What Helm says while the API server is busy, broken or away.
PASSING = (
    "cluster unreachable",
    "connection refused",
    "connection reset",
    ": EOF",
    "i/o timeout",
    "TLS handshake timeout",
    "the server is currently unable",
    "too many requests",
    "etcdserver: ",
    "Internal error occurred",
)
# Programs of one network, which have one chart.
SHARED = {"gowaku": "waku", "nwaku": "waku"}
HERE = Path(__file__).resolve()
# In a checkout the charts lie beside the package, in the wheel inside it.
CHARTS = (HERE.parents[2] / "charts", HERE.parents[3] / "charts")


def chart_of(system: str) -> Path | None:
    """The folder of a system's chart; None if it has none."""
    name = SHARED.get(system, system)
    return next((folder / name for folder in CHARTS if (folder / name / "Chart.yaml").is_file()), None)


class Helm:
    """Calls of one helm program, by pyhelm3, in a loop of their own: fixtures and hooks may run inside another one.

    Raises:
        CannotRun: if there is no such program.
    """

    def __init__(self, program: str | None = None, context: str | None = None) -> None:
        found = shutil.which(program or "helm")
        if found is None:
            raise CannotRun(
                f"{program or '`helm`'} is not an executable program"
                + ("" if program else " on PATH; install Helm, or give --cb-helm=PATH")
            )
        try:
            import pyhelm3
        except ImportError:
            raise CannotRun("pyhelm3 is not installed: pip install 'pytest-codexbench[kubernetes]'") from None
        try:
            self._client = pyhelm3.Client(executable=found, kubecontext=context)
        except ValueError as error:
            raise CannotRun(f"{found} does not tell its version as Helm does: {error}") from error
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="helm", daemon=True).start()

    def install(self, release: str, chart: Path, namespace: str, values: Mapping[str, Any]) -> None:
        """Install a chart; returns when the API server has its objects, not when they are up.

        Raises:
            NotReady: with what Helm says.
        """
        for attempt in _attempts():
            with attempt:
                if attempt.num > 1:  # half a release would be in the way of a whole one
                    self._do(f"helm uninstall {release}", self._uninstall(release, namespace))
                self._do(f"helm install {release} {chart.name}", self._install(release, chart, namespace, values))

    async def _install(self, release: str, chart: Path, namespace: str, values: Mapping[str, Any]) -> None:
        found = await self._client.get_chart(str(chart))
        # a number as the timeout would be refused: it needs its unit
        await self._client.install_or_upgrade_release(
            release, found, dict(values), namespace=namespace, create_namespace=False, timeout=f"{HELM_S:.0f}s"
        )

    def uninstall(self, release: str, namespace: str) -> None:
        """Take a release down; no error if there is none.

        Raises:
            NotReady: with what Helm says.
        """
        for attempt in _attempts():
            with attempt:
                self._do(f"helm uninstall {release}", self._uninstall(release, namespace))

    async def _uninstall(self, release: str, namespace: str) -> None:
        import pyhelm3.errors

        try:
            await self._client.uninstall_release(release, namespace=namespace, timeout=f"{HELM_S:.0f}s")
        except pyhelm3.errors.ReleaseNotFoundError:
            return

    def _do(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        import pyhelm3.errors

        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(LONGEST_S)
        except pyhelm3.errors.Error as error:
            raise NotReady(f"{what}: {error}") from error
        except TimeoutError:
            raise NotReady(f"{what}: not done within {LONGEST_S:g} s") from None
        finally:
            future.cancel()  # ends a helm that hangs, or that nobody waits for any more


def _attempts() -> Iterator[Any]:
    """Tries for a minute, while it is the API server's fault."""
    import stamina

    def passing(error: Exception) -> bool:
        return isinstance(error, NotReady) and any(words in str(error) for words in PASSING)

    return iter(stamina.retry_context(on=passing, attempts=None, timeout=RETRY_S, wait_max=5.0))
