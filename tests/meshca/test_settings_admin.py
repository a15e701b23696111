"""Who may come to the admin doors, as the configuration says it: what is taken and what is not."""

from datetime import timedelta
from pathlib import Path

import pytest

from meshca import settings
from tests.meshca.configuration import GOOD, problems

OIDC = "{issuer: https://idp.test, audience: meshca, jwks: {file: jwks.json}}"


def config(admin: str, listen: str = "listen: {admin: '127.0.0.1:0'}\n") -> str:
    return f"{GOOD}{listen}admin: {admin}\n"


def test_everybody_who_can_be_proven_may_be_named(tmp_path: Path) -> None:
    roles = (
        "{admin: ['oidc:ann', 'uid:1001'], operator: ['oidc-group:mesh ops'], "
        "auditor: ['spiffe://example.org/ns/audit/sa/reader'], "
        "application: ['spiffe://example.org/ns/shop/*']}"
    )
    path = tmp_path / "meshca.yaml"
    path.write_text(
        config(
            f"{{oidc: {OIDC}, roles: {roles}, "
            "applications: {'spiffe://example.org/ns/shop/*': [shop]}}"
        )
    )
    admin = settings.load(path, environment={}).admin
    assert admin.oidc is not None
    assert (admin.oidc.username_claim, admin.oidc.maximum_lifetime) == ("sub", timedelta(days=1))
    assert len(admin.roles.subjects()) == 5


REFUSED = [
    ("a name without its kind", "{roles: {admin: [ann]}}", "none of uid:N"),
    ("a whole trust domain", "{roles: {admin: ['spiffe://example.org']}}", "is a trust domain"),
    ("all below a path", "{roles: {admin: ['spiffe://example.org/ns/*']}}", "none of uid:N"),
    ("another domain", "{roles: {auditor: ['spiffe://x.test/a']}}", "of another trust domain"),
    ("people without an issuer", "{roles: {admin: ['oidc:ann']}}", "there is no `oidc`"),
    ("nobody who could come", "{roles: {admin: ['uid:7']}}", "nobody who could use it"),
    (
        "keys from anybody who answers",
        "{oidc: {issuer: i, audience: a, jwks: {url: 'http://idp.test/keys'}}}",
        "must be https",
    ),
    (
        "a token that is good for a year",
        "{oidc: {issuer: i, audience: a, jwks: {file: f}, maximum_lifetime: 365d}}",
        "longer than 1d",
    ),
    (
        "an application that has no such role",
        "{applications: {'spiffe://example.org/a': [shop]}}",
        "not in roles.application",
    ),
    ("a role that is none", "{roles: {root: ['uid:0']}}", "unknown key"),
    ("a group without a name", "{roles: {admin: ['oidc-group:']}}", "none of uid:N"),
]


@pytest.mark.parametrize(("admin", "said"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_whoever_cannot_be_proven_is_an_error(tmp_path: Path, admin: str, said: str) -> None:
    found = problems(tmp_path, config(admin))
    assert any(said in message for _, _, message in found), found


def test_remote_people_need_the_door(tmp_path: Path) -> None:
    roles = "{roles: {admin: ['spiffe://example.org/a']}}"
    assert "listen.admin is not set" in problems(tmp_path, config(roles, listen=""))[0][2]
