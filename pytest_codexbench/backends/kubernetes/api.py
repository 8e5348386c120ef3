"""Requests to a Kubernetes API server: those that a hiccup broke are made again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_codexbench.errors import CannotRun, NotReady

if TYPE_CHECKING:
    from kubernetes.client import CoordinationV1Api, CoreV1Api, VersionApi

T = TypeVar("T")

# (connect, read): the client has no limit of its own, and a half-open connection would hang for ever.
TIMEOUTS = (5.0, 30.0)
RETRY_S = 60.0
ABSENT, CONFLICT, BUSY, BROKEN = 404, 409, 429, 500
INSIDE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def load(how: Callable[..., object], **more: object) -> None:
    """Call one of the client's untyped functions."""
    how(**more)


class Api:
    """One cluster's API, by the kubeconfig's context, or by the service account where this runs in a Pod.

    Raises:
        CannotRun: where there is neither, or it cannot be read.
    """

    def __init__(self, context: str | None = None) -> None:
        try:
            from kubernetes import client, config
        except ImportError:
            raise CannotRun(
                "the Kubernetes client is not installed: pip install 'pytest-codexbench[kubernetes]'"
            ) from None
        self.inside = context is None and INSIDE.exists() and "KUBECONFIG" not in os.environ
        self._configuration = client.Configuration()
        try:
            if self.inside:
                load(config.load_incluster_config, client_configuration=self._configuration)
            else:
                load(config.load_kube_config, context=context, client_configuration=self._configuration)
        except config.ConfigException as error:
            where = f"context {context!r}" if context else "current context"
            raise CannotRun(f"no cluster: {error} ({where}; set KUBECONFIG, or give --cb-kube-context=NAME)") from error
        self._configuration.retries = False  # ours knows what may be repeated
        self._own = threading.local()

    def _client(self) -> Any:
        """A client of this thread's own: streams change it while they are opened."""
        from kubernetes import client

        if not hasattr(self._own, "client"):
            self._own.client = client.ApiClient(self._configuration)
        return self._own.client

    @property
    def core(self) -> CoreV1Api:
        """Pods, namespaces, events."""
        from kubernetes import client

        return client.CoreV1Api(self._client())

    def for_a_stream(self) -> CoreV1Api:
        """The same, by a client of its own: opening a stream changes the client it is opened with."""
        from kubernetes import client

        return client.CoreV1Api(client.ApiClient(self._configuration))

    @property
    def leases(self) -> CoordinationV1Api:
        """Who holds what."""
        from kubernetes import client

        return client.CoordinationV1Api(self._client())

    @property
    def version(self) -> VersionApi:
        """Of the API server."""
        from kubernetes import client

        return client.VersionApi(self._client())

    def ask(
        self,
        what: str,
        act: Callable[[], T],
        absent: Callable[[], T] | None = None,
        conflict: Callable[[], T] | None = None,
        patience_s: float = RETRY_S,
    ) -> T:
        """The answer of ``act``, which is repeated for ``patience_s`` while the server is busy, broken or away.

        ``absent`` makes the answer for what is not there, ``conflict`` for what is there already or has changed, if
        they are given. A request whose answer was lost is made again, so that what is there may be its own work.

        Raises:
            NotReady: with the server's reason; ``what`` says what was asked for.
        """
        import stamina
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        def passing(error: Exception) -> bool:
            if isinstance(error, ApiException):
                return error.status == 0 or error.status == BUSY or (error.status or 0) >= BROKEN
            return isinstance(error, HTTPError | OSError)

        try:
            for attempt in stamina.retry_context(on=passing, attempts=None, timeout=patience_s, wait_max=5.0):
                with attempt:
                    return act()
        except ApiException as error:
            for status, answer in ((ABSENT, absent), (CONFLICT, conflict)):
                if error.status == status and answer is not None:
                    return answer()
            raise NotReady(f"{what}: {error.status} {error.reason}: {str(error.body or '')[:300]}") from error
        except (HTTPError, OSError) as error:
            raise NotReady(f"{what}: the API server did not answer within {patience_s:g} s: {error}") from error
        raise AssertionError("unreachable: the last attempt returns or raises")
