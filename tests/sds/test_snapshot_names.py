"""Which resource names are whose."""

import pytest

from meshca.spiffe_id import SpiffeId
from sds.resources import EXTENSION_TYPE, SECRET_TYPE
from sds.snapshot import Subject, everything, subject_of

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")


@pytest.mark.parametrize(
    ("type_url", "name", "expected"),
    [
        (SECRET_TYPE, "default", Subject.CERTIFICATE),
        (SECRET_TYPE, "spiffe://example.org/ns/shop/sa/web", Subject.CERTIFICATE),
        (SECRET_TYPE, "ROOTCA", Subject.BUNDLE),
        (SECRET_TYPE, "ALL", Subject.BUNDLE),
        (SECRET_TYPE, "spiffe://example.org", Subject.BUNDLE),
        (EXTENSION_TYPE, "authz", Subject.POLICY),
        (EXTENSION_TYPE, "tcp-authz", Subject.POLICY),
        (EXTENSION_TYPE, "authz-plaintext", Subject.POLICY),
        (EXTENSION_TYPE, "tcp-authz-plaintext", Subject.POLICY),
        (EXTENSION_TYPE, "jwt", Subject.POLICY),
        (EXTENSION_TYPE, "authz-check", Subject.POLICY),
        (EXTENSION_TYPE, "peer-auth-mode", Subject.POLICY),
        (EXTENSION_TYPE, "tcp-peer-auth-mode", Subject.POLICY),
        (EXTENSION_TYPE, "revoked", Subject.HTTP_REVOKED),
        (EXTENSION_TYPE, "tcp-revoked", Subject.NETWORK_REVOKED),
    ],
)
def test_each_name_stands_for_one_thing(type_url: str, name: str, expected: Subject) -> None:
    assert subject_of(type_url, name, WEB) is expected


@pytest.mark.parametrize(
    ("type_url", "name"),
    [
        (SECRET_TYPE, "spiffe://example.org/ns/shop/sa/web2"),
        (SECRET_TYPE, "spiffe://example.org/ns/shop/sa/we"),
        (SECRET_TYPE, "spiffe://example.org/"),
        (SECRET_TYPE, "spiffe://other.org"),
        (SECRET_TYPE, "Default"),
        (SECRET_TYPE, "default "),
        (SECRET_TYPE, ""),
        (SECRET_TYPE, "authz"),
        (EXTENSION_TYPE, "default"),
        (EXTENSION_TYPE, "authz/other"),
        ("type.googleapis.com/envoy.config.cluster.v3.Cluster", "default"),
    ],
)
def test_any_other_name_is_nobodys(type_url: str, name: str) -> None:
    assert subject_of(type_url, name, WEB) is None


@pytest.mark.parametrize("type_url", [SECRET_TYPE, EXTENSION_TYPE])
def test_an_empty_list_asks_for_what_the_caller_may_have(type_url: str) -> None:
    names = everything(type_url)
    assert names
    assert all(subject_of(type_url, name, WEB) is not None for name in names)
