"""A cluster's API server, as the keys and the reviews of tokens need it.

Blocking: call it in a thread. Requests have a deadline and are never repeated here; a credential
that the server no longer takes is read again from its file for the next request.
"""

import threading
from typing import Any, Final

import urllib3
from kubernetes import client, config
from kubernetes.client.configuration import Configuration
from kubernetes.client.exceptions import OpenApiException

from meshca.settings_values import ApiServer

TIMEOUT_SECONDS: Final = 5.0
MAXIMUM_CONNECTIONS: Final = 16
FAILURES: Final = (
    OpenApiException,
    config.ConfigException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
)
"""What a request can raise when the server, the way to it or its kubeconfig is broken."""

_UNAUTHORIZED: Final = 401


class ApiServerConnection:
    """Clients of one API server, made from a kubeconfig or from the pod's own service account."""

    def __init__(self, settings: ApiServer) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._client: client.ApiClient | None = None

    def __str__(self) -> str:
        kubeconfig = self._settings.kubeconfig
        return f"API server of {kubeconfig}" if kubeconfig else "API server of this pod's cluster"

    def client(self) -> client.ApiClient:
        """Return the client, reading its configuration when there is none yet.

        Raises one of `FAILURES`.
        """
        with self._lock:
            if self._client is None:
                self._client = client.ApiClient(self._configuration())
                self._client.user_agent = "meshca"
            return self._client

    def note(self, error: BaseException) -> None:
        """Make the next request read its credential again when `error` says it was not taken."""
        if getattr(error, "status", None) == _UNAUTHORIZED:
            self.close()

    def close(self) -> None:
        """Close the client; the next request makes another."""
        with self._lock:
            if self._client is not None:
                self._client.close()  # type: ignore[no-untyped-call]  # the client leaves it bare
            self._client = None

    def _configuration(self) -> Configuration:
        configuration = Configuration()
        configuration.retries = False
        configuration.connection_pool_maxsize = MAXIMUM_CONNECTIONS
        load: Any = config  # its loaders have no annotations
        if self._settings.kubeconfig is None:
            load.load_incluster_config(client_configuration=configuration)
        else:
            load.load_kube_config(
                config_file=str(self._settings.kubeconfig),
                context=self._settings.context,
                client_configuration=configuration,
                persist_config=False,
            )
        return configuration


def read_limited(response: Any, limit: int) -> bytes:
    """Return the body of a urllib3 response and give its connection back.

    Raises ValueError when it is longer than `limit` bytes.
    """
    try:
        body: bytes = response.read(limit + 1, decode_content=True)
    finally:
        response.release_conn()
    if len(body) > limit:
        response.close()
        raise ValueError(f"the answer is larger than {limit} bytes")
    return body
