"""What Vault answers when it does not do what it was asked, and what helps.

Status and text are read together, since either alone misleads: a bare 403 is a token that is no
good, the long one a policy that denies; a 500 is a wrong configuration, a leader that was lost, or
a commit of which nobody knows whether it happened. A text that nobody has seen yet is taken for an
outage: trying again costs little, giving up costs a mesh.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from meshca.errors import AuthorityUnavailable
from meshca.logs import clip

_BARE_DENIAL: Final = "permission denied"
_MAXIMUM_TEXT: Final = 300


class Reaction(Enum):
    """What helps against a fault."""

    RETRY = "it passes by itself, within seconds"
    LATER = "it passes once somebody has done something to Vault"
    LOGIN = "a fresh token helps, if anything does"
    CONFIGURE = "our configuration, or what Vault allows us, must be changed"


class VaultFault(AuthorityUnavailable):
    """Vault did not do what it was asked; `condition` is a stable code such as `sealed`."""

    def __init__(self, condition: str, reaction: Reaction, message: str) -> None:
        super().__init__(f"Vault: {message} ({condition})")
        self.condition = condition
        self.reaction = reaction


class _Known(NamedTuple):
    status: int
    text: str
    condition: str
    reaction: Reaction


# The first row whose status and text fit. An empty text fits every answer of that status.
_KNOWN: Final = (
    _Known(307, "", "standby", Reaction.RETRY),
    _Known(308, "", "standby", Reaction.RETRY),
    _Known(400, "lease is not renewable", "not_renewable", Reaction.LOGIN),
    _Known(400, "batch tokens cannot be renewed", "not_renewable", Reaction.LOGIN),
    _Known(400, "missing client token", "token_refused", Reaction.LOGIN),
    _Known(400, "wrapping token is not valid", "wrapping_token_used", Reaction.CONFIGURE),
    _Known(400, "invalid role or secret", "login_refused", Reaction.CONFIGURE),
    _Known(400, "invalid role name", "login_refused", Reaction.CONFIGURE),
    _Known(400, "error validating token", "login_refused", Reaction.CONFIGURE),
    _Known(400, "", "request_refused", Reaction.CONFIGURE),
    _Known(403, "* permission denied", "policy_denies", Reaction.CONFIGURE),
    _Known(403, "", "login_refused", Reaction.CONFIGURE),
    _Known(404, "", "not_there", Reaction.CONFIGURE),
    _Known(405, "", "not_there", Reaction.CONFIGURE),
    _Known(412, "", "standby", Reaction.RETRY),
    _Known(429, "", "rate_limited", Reaction.RETRY),
    _Known(472, "", "standby", Reaction.RETRY),
    _Known(473, "", "standby", Reaction.RETRY),
    _Known(500, "leadership lost", "may_have_happened", Reaction.RETRY),
    _Known(500, "unable to store certificate", "may_have_happened", Reaction.RETRY),
    _Known(500, "active cluster node not found", "leader_lost", Reaction.RETRY),
    _Known(500, "could not fetch the CA certificate", "misconfigured", Reaction.CONFIGURE),
    _Known(500, "no default issuer", "misconfigured", Reaction.CONFIGURE),
    _Known(500, "unable to find PKI issuer", "misconfigured", Reaction.CONFIGURE),
    _Known(500, "requested usage", "misconfigured", Reaction.CONFIGURE),
    _Known(500, "could not load backend configuration", "misconfigured", Reaction.CONFIGURE),
    _Known(500, "encryption key version", "misconfigured", Reaction.CONFIGURE),
    _Known(500, "higher than the latest key version", "standby", Reaction.RETRY),
    _Known(500, "", "may_have_happened", Reaction.RETRY),
    _Known(501, "", "not_initialized", Reaction.LATER),
    _Known(502, "", "may_have_happened", Reaction.RETRY),
    _Known(503, "", "sealed", Reaction.LATER),
    _Known(504, "", "may_have_happened", Reaction.RETRY),
)


class Asking(Enum):
    """As whom we ask: what a bare 403 means depends on it."""

    WITH_TOKEN = _Known(403, _BARE_DENIAL, "token_refused", Reaction.LOGIN)
    # At a login this is also what Vault says while it cannot ask the cluster's API server.
    LOGGING_IN = _Known(403, _BARE_DENIAL, "login_denied", Reaction.RETRY)
    # What anybody may see is not there, or Vault is older than 1.11.
    AS_ANYBODY = _Known(403, _BARE_DENIAL, "not_public", Reaction.CONFIGURE)


def fault_of(
    status: int, texts: Sequence[str], *, what: str, asking: Asking = Asking.WITH_TOKEN
) -> VaultFault:
    """Return the fault that an answer other than 2xx means; `what` is the request's path."""
    condition, reaction = _classify(status, texts, asking)
    said = clip(" ".join(" ".join(texts).split()), _MAXIMUM_TEXT) or "nothing"
    return VaultFault(condition, reaction, f"{what} answers {status}, saying {said!r}")


def _classify(status: int, texts: Sequence[str], asking: Asking) -> tuple[str, Reaction]:
    if status == asking.value.status and [text.strip() for text in texts] == [asking.value.text]:
        return asking.value.condition, asking.value.reaction
    said = "\n".join(texts)
    for known in _KNOWN:
        if known.status == status and known.text in said:
            return known.condition, known.reaction
    return "unexpected_answer", Reaction.RETRY
