"""A real Kubernetes API server: etcd and kube-apiserver on free ports of 127.0.0.1.

Authorization is RBAC; service-account tokens are signed with keys of our own, so that a test can
rotate them; `kubeconfig` is a cluster administrator's. There are no controllers and no kubelet:
service accounts are created by hand, and pods are records that never run.

This is not a cluster to share between tests that stop it: those start one of their own.
"""

import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client, config

from meshca.demo.ports import free_port
from tests import assets
from tests.kube_pki import write_certificates, write_key
from tests.real_parts import require

ISSUER = "https://kubernetes.meshca.test"
_START_SECONDS = 90.0
_STOP_SECONDS = 30.0


class KubeApiServer:
    """One etcd and one kube-apiserver, running inside `with`; all they write is in `directory`."""

    issuer = ISSUER

    def __init__(self, directory: Path, *, flags: Sequence[str] = ()) -> None:
        """Prepare a server; `flags` are given to kube-apiserver beside our own."""
        self.directory = directory
        self._flags = tuple(flags)
        self.kubeconfig = directory / "kubeconfig.yaml"
        self._port = 0
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._etcd_url = ""
        self._token_keys: list[Path] = []
        self._client: client.ApiClient | None = None

    def __enter__(self) -> Self:
        require(assets.find_etcd() is not None, "etcd", "make test-assets")
        require(assets.find_kube_apiserver() is not None, "kube-apiserver", "make test-assets")
        try:
            self._port = free_port()
            write_certificates(self.directory)
            self._write_kubeconfig()
            self._new_token_key()
            self._start_etcd()
            self.start()
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_all()

    @property
    def url(self) -> str:
        """Return the server's URL; it stays the same over restarts."""
        return f"https://127.0.0.1:{self._port}"

    def api_client(self) -> client.ApiClient:
        """Return an administrator's client, shared and closed with the server."""
        if self._client is None:
            path = str(self.kubeconfig)
            self._client = config.new_client_from_config(path)  # type: ignore[no-untyped-call]  # bare
        return self._client

    def start(self) -> None:
        """Start kube-apiserver and wait until it is ready."""
        program = assets.find_kube_apiserver()
        self._server = self._spawn("kube-apiserver", [str(program), *self._server_flags()])
        self._await_ready(self._server, "kube-apiserver", f"{self.url}/readyz")

    def stop(self) -> None:
        """Stop kube-apiserver; etcd keeps what it stored."""
        _stop(self._server)
        self._server = None

    def restart(self) -> None:
        """Stop and start kube-apiserver on the same port."""
        self.stop()
        self.start()

    def rotate_token_key(self) -> None:
        """Sign new tokens with a new key; tokens of the earlier keys stay valid. Restarts."""
        self._new_token_key()
        self.restart()

    def retire_token_keys(self) -> None:
        """Forget every token key but the newest, which ends the tokens they signed. Restarts."""
        del self._token_keys[1:]
        self.restart()

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        metadata = client.V1ObjectMeta(name=name)
        client.CoreV1Api(self.api_client()).create_namespace(client.V1Namespace(metadata=metadata))

    def create_service_account(self, namespace: str, name: str) -> None:
        """Create a service account, as the cluster's owner does."""
        account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name=name))
        core = client.CoreV1Api(self.api_client())
        core.create_namespaced_service_account(namespace, account)

    def create_pod(self, namespace: str, name: str, service_account: str) -> str:
        """Create a pod that nothing will run, bound to node `node-1`, and return its UID."""
        spec = {
            "serviceAccountName": service_account,
            "nodeName": "node-1",
            "containers": [{"name": "app", "image": "app.test/app:1"}],
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        core: Any = client.CoreV1Api(self.api_client())  # its annotations refuse plain mappings
        return str(core.create_namespaced_pod(namespace, body).metadata.uid)

    def delete_pod(self, namespace: str, name: str) -> None:
        """Delete a pod at once, as its node would after stopping it."""
        core = client.CoreV1Api(self.api_client())
        core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)

    def request_token(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: Sequence[str],
        pod: str | None = None,
        lifetime: timedelta = timedelta(minutes=10),
    ) -> str:
        """Return a token from TokenRequest, bound to `pod` as the kubelet's tokens are."""
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod}
        body = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(
                audiences=list(audiences),
                expiration_seconds=int(lifetime.total_seconds()),
                bound_object_ref=client.V1BoundObjectReference(**bound) if pod else None,
            )
        )
        core = client.CoreV1Api(self.api_client())
        answer = core.create_namespaced_service_account_token(service_account, namespace, body)
        assert answer.status is not None
        return str(answer.status.token)

    def _server_flags(self) -> list[str]:
        d = self.directory
        return [
            f"--etcd-servers={self._etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--tls-cert-file={d / 'server.pem'}",
            f"--tls-private-key-file={d / 'server.key'}",
            f"--client-ca-file={d / 'ca.pem'}",
            f"--cert-dir={d}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-signing-key-file={self._token_keys[0]}",
            *(f"--service-account-key-file={key}" for key in self._token_keys),
            "--profiling=false",
            *self._flags,
        ]

    def _start_etcd(self) -> None:
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        flags = [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
            "--logger=zap",
        ]
        self._etcd = self._spawn("etcd", [str(assets.find_etcd()), *flags])
        self._await_ready(self._etcd, "etcd", f"{self._etcd_url}/health")

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )

    def _await_ready(self, process: subprocess.Popen[bytes], name: str, url: str) -> None:
        pool = urllib3.PoolManager(
            ca_certs=str(self.directory / "ca.pem"),
            cert_file=str(self.directory / "admin.pem"),
            key_file=str(self.directory / "admin.key"),
            retries=False,
            timeout=2.0,
        )
        deadline = time.monotonic() + _START_SECONDS
        with pool:
            while not _answers(pool, url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} did not become ready:\n{self._log_tail(name)}")
                time.sleep(0.1)

    def _log_tail(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-4000:]

    def _new_token_key(self) -> None:
        path = self.directory / f"service-account-{len(self._token_keys)}.key"
        write_key(path, ec.generate_private_key(ec.SECP256R1()))
        self._token_keys.insert(0, path)

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.directory / "ca.pem")}
        user = {
            "client-certificate": str(self.directory / "admin.pem"),
            "client-key": str(self.directory / "admin.key"),
        }
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def _stop_all(self) -> None:
        if self._client is not None:
            self._client.close()  # type: ignore[no-untyped-call]  # the client leaves it bare
        _stop(self._server)
        _stop(self._etcd)


def _answers(pool: urllib3.PoolManager, url: str) -> bool:
    try:
        return pool.request("GET", url).status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
