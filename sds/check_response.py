"""What Check answers: yes, with what providers add, or no, and nothing of why.

Every answer leaves a mark in the proxy's metadata, by which the access log entry of the same
request is known to be recorded already.
"""

from collections.abc import Iterable
from typing import Any, Final

from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.type.v3.http_status_pb2 import StatusCode

MARK_NAMESPACE: Final = "envoy.filters.http.ext_authz"
MARK: Final = "meshca"
BODY: Final = "RBAC: access denied"
"""As Envoy's RBAC filter answers: a caller does not learn which of the two refused."""
_PERMISSION_DENIED: Final = 7
_LISTS: Final = (
    "headers",
    "headers_to_remove",
    "response_headers_to_add",
    "query_parameters_to_set",
    "query_parameters_to_remove",
)


def _marked() -> Any:
    response = CheckResponse()
    response.dynamic_metadata.fields[MARK].string_value = "checked"
    return response


def _denied() -> bytes:
    response = _marked()
    response.status.code = _PERMISSION_DENIED
    response.denied_response.status.code = StatusCode.Forbidden
    response.denied_response.body = BODY
    return bytes(response.SerializeToString())


def _allowed() -> bytes:
    response = _marked()
    response.ok_response.SetInParent()
    return bytes(response.SerializeToString())


DENIED: Final = _denied()
ALLOWED: Final = _allowed()


def allowed_with(additions: Iterable[Any]) -> bytes:
    """Return yes with what each of `additions` (OkHttpResponse) adds and removes, in order."""
    response = CheckResponse.FromString(ALLOWED)
    for ok in additions:
        for name in _LISTS:
            getattr(response.ok_response, name).extend(getattr(ok, name))
    return bytes(response.SerializeToString())


def is_marked(metadata: Any) -> bool:
    """Return whether `metadata` (of an access log entry) has the mark of an answer of ours."""
    found = metadata.filter_metadata
    return MARK_NAMESPACE in found and MARK in found[MARK_NAMESPACE].fields
