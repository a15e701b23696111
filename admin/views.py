"""What the API answers with: values of the service as plain JSON, documented in docs/cli.md.

Pure. Times are RFC 3339 in UTC; what does not apply is empty text or null. Keys are only added
from version to version.
"""

from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from audit.query import Found
from ca.authority import Authority
from ca.store import Record
from rotation.proxies import ProxyState, ResourceState

Json = dict[str, Any]


def time_text(time: datetime | None) -> str | None:
    """Return `time` in RFC 3339, UTC."""
    return None if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def svid_json(record: Record) -> Json:
    """Return one certificate of the inventory, without the certificate itself."""
    intent, evidence = record.intent, record.intent.evidence
    return {
        "serial": intent.serial,
        "spiffe_id": intent.spiffe_id,
        "status": record.status,
        "not_before": time_text(intent.not_before),
        "not_after": time_text(intent.not_after),
        "authority_id": intent.authority_id,
        "key_sha256": intent.key_sha256,
        "method": evidence.method,
        "cluster": evidence.cluster,
        "namespace": evidence.namespace,
        "service_account": evidence.service_account,
        "pod_name": evidence.pod_name,
        "pod_uid": evidence.pod_uid,
        "node": evidence.node,
        "token_id": evidence.token_id,
        "log_index": record.log_index,
    }


def certificate_pem(der: bytes | None) -> str | None:
    """Return the certificate as PEM; None when its signature is not recorded."""
    if der is None:
        return None
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def entry_json(found: Found) -> Json:
    """Return one audit entry: its body as logged, and the hash of its leaf."""
    return {**found.body, "leaf_hash": found.leaf_hash.hex()}


def proxy_json(proxy: ProxyState) -> Json:
    """Return one connected proxy."""
    return {
        "spiffe_id": proxy.spiffe_id,
        "cluster": proxy.cluster,
        "namespace": proxy.namespace,
        "pod": proxy.pod,
        "node_id": proxy.node_id,
        "peer": proxy.peer,
        "connected_at": time_text(proxy.connected_at),
        "proof_expires_at": time_text(proxy.proof_expires_at),
        "streams": proxy.streams,
        "nacks": proxy.nacks,
        "behind": proxy.is_behind,
        "unanswered": list(proxy.unanswered),
        "resources": [_resource_json(resource) for resource in proxy.resources],
    }


def _resource_json(resource: ResourceState) -> Json:
    return {
        "type": resource.type,
        "name": resource.name,
        "behind": resource.is_behind,
        "pushed_version": resource.pushed_version,
        "acknowledged_version": resource.acknowledged_version,
        "pushed_at": time_text(resource.pushed_at),
        "acknowledged_at": time_text(resource.acknowledged_at),
        "nack": resource.nack,
        "nacked_at": time_text(resource.nacked_at),
    }


def authority_json(authority: Authority) -> Json:
    """Return the authority that signs now; `not_after` is the first end in its chain."""
    return {
        "id": authority.authority_id,
        "not_after": time_text(authority.not_after),
        "chain": [certificate_json(c) for c in (*authority.chain, authority.root)],
    }


def certificate_json(certificate: x509.Certificate) -> Json:
    """Return a CA certificate by its key id, serial and validity."""
    extension = x509.SubjectKeyIdentifier
    key_id = certificate.extensions.get_extension_for_class(extension).value.digest.hex()
    return {
        "id": key_id,
        "serial": f"{certificate.serial_number:x}",
        "not_before": time_text(certificate.not_valid_before_utc),
        "not_after": time_text(certificate.not_valid_after_utc),
    }
