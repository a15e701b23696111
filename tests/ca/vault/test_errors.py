"""Status and text together say what helps; every row was measured on a real server."""

import pytest

from ca.upstream.vault.errors import Asking, Reaction, fault_of

BARE = "permission denied"
LONG = "1 error occurred:\n\t* permission denied\n\n"
RETRY, LATER, LOGIN, CONFIGURE = Reaction
ROWS = [
    (403, BARE, "token_refused", LOGIN),
    (403, LONG, "policy_denies", CONFIGURE),
    (403, "service account name not authorized", "login_refused", CONFIGURE),
    (
        403,
        "invalid audience (aud) claim",
        "login_refused",
        CONFIGURE,
    ),
    (500, "could not load backend configuration", "misconfigured", CONFIGURE),
    (400, 'invalid role name "zz"', "login_refused", CONFIGURE),
    (400, "invalid role or secret ID", "login_refused", CONFIGURE),
    (400, "wrapping token is not valid or does not exist", "wrapping_token_used", CONFIGURE),
    (400, "error validating token: invalid subject (sub) claim", "login_refused", CONFIGURE),
    (400, "lease is not renewable", "not_renewable", LOGIN),
    (400, "batch tokens cannot be renewed", "not_renewable", LOGIN),
    (400, '"csr" is empty', "request_refused", CONFIGURE),
    (404, 'no handler for route "pki/x". route entry not found.', "not_there", CONFIGURE),
    (405, "unsupported operation", "not_there", CONFIGURE),
    (429, 'request path "x": rate limit quota exceeded', "rate_limited", RETRY),
    (307, "", "standby", RETRY),
    (472, "", "standby", RETRY),
    (473, "", "standby", RETRY),
    (500, "local node not active but active cluster node not found", "leader_lost", RETRY),
    (
        500,
        "unable to store certificate locally: leadership lost while committing log",
        "may_have_happened",
        RETRY,
    ),
    (
        500,
        "could not fetch the CA certificate (was one set?): no default issuer currently configured",
        "misconfigured",
        CONFIGURE,
    ),
    (500, "unable to find PKI issuer for reference: nope", "misconfigured", CONFIGURE),
    (
        500,
        "requested usage issuing-certificates ... but only had usage crl-signing",
        "misconfigured",
        CONFIGURE,
    ),
    (500, "less than the minimum encryption key version", "misconfigured", CONFIGURE),
    (
        500,
        "requested version for signing is higher than the latest key version",
        "standby",
        RETRY,
    ),
    (500, "a text that nobody has seen yet", "may_have_happened", RETRY),
    (501, "", "not_initialized", LATER),
    (503, "Vault is sealed", "sealed", LATER),
    (418, "", "unexpected_answer", RETRY),
]


@pytest.mark.parametrize(("status", "text", "condition", "reaction"), ROWS)
def test_means(status: int, text: str, condition: str, reaction: Reaction) -> None:
    fault = fault_of(status, [text], what="pki/x")

    assert (fault.condition, fault.reaction) == (condition, reaction)
    assert str(fault).endswith(f"({condition})")


def test_a_bare_denial_at_a_login_may_be_an_outage_of_the_api_server() -> None:
    fault = fault_of(403, [BARE], what="auth/kubernetes/login", asking=Asking.LOGGING_IN)

    assert (fault.condition, fault.reaction) == ("login_denied", RETRY)


def test_a_bare_denial_of_what_anybody_may_see_is_not_about_a_token() -> None:
    fault = fault_of(403, [BARE], what="pki/issuers", asking=Asking.AS_ANYBODY)

    assert (fault.condition, fault.reaction) == ("not_public", CONFIGURE)


def test_what_it_says_is_one_line_of_bounded_length() -> None:
    said = str(fault_of(400, ["a\nb\t" + "c" * 5000], what="pki/x"))

    assert "\n" not in said
    assert len(said) < 400
