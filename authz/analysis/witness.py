"""A witness: one concrete request of a box, and what the engine says of it.

Every region that an analysis reports has one, and the engine is asked about it: an analysis that
the engine does not agree with is a defect, and is reported as one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authz.analysis.dimensions import Dimension, Kind, bits
from authz.analysis.regions import Box
from authz.analysis.space import Space
from authz.decision import Decision
from authz.engine import decide
from authz.policy import PolicySet
from authz.request import Http, Request
from authz.workload import Workload


@dataclass(frozen=True, slots=True)
class Witness:
    """One request, and what the providers of CUSTOM policies are taken to answer about it."""

    request: Request
    answers: Mapping[str, bool]

    def decide(self, policies: PolicySet) -> Decision:
        """Return what the engine decides about it under `policies`."""
        return decide(policies, self.request, answers=self.answers)

    def as_json(self) -> dict[str, Any]:
        """Return the request in the shape that `meshca authz check` reads."""
        request, http = self.request, self.request.http
        source = {
            "principal": None if request.source is None else str(request.source),
            "ip": request.source_ip,
            "remote_ip": request.remote_ip,
            **_token_json(http),
        }
        destination = {
            "namespace": request.destination.namespace,
            "labels": dict(sorted(request.destination.labels)),
            "port": request.port,
            "ip": request.destination_ip,
            "sni": request.sni,
        }
        said: dict[str, Any] = {"source": _said(source), "destination": _said(destination)}
        if http is not None:
            said["http"] = _said(
                {
                    "method": http.method,
                    "host": http.host,
                    "path": http.path,
                    "headers": dict(http.headers or {}) or None,
                }
            )
        return said


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _token_json(http: Http | None) -> dict[str, Any]:
    claims = None if http is None else http.claims
    if not claims:
        return {}
    issuer, subject = claims.get("iss"), claims.get("sub")
    both = f"{issuer}/{subject}" if issuer is not None and subject is not None else None
    return {"request_principal": both, "claims": dict(claims)}


def witness_of(space: Space, box: Box, destination: Workload) -> Witness:
    """Return a witness of `box`: of each dimension the first point that is in it."""
    chosen = [
        (dimension, dimension.points[next(iter(bits(points)))])
        for dimension, points in zip(space.dimensions, box, strict=True)
    ]
    said = {dimension.kind: point for dimension, point in chosen}
    return Witness(
        Request(
            source=said[Kind.SOURCE],
            destination=destination,
            port=said[Kind.PORT],
            http=_http(chosen) if said[Kind.PROTOCOL] == "http" else None,
            source_ip=said.get(Kind.SOURCE_IP),
            remote_ip=said.get(Kind.REMOTE_IP),
            destination_ip=said.get(Kind.DESTINATION_IP),
            sni=said.get(Kind.SNI),
            time=said[Kind.TIME],
        ),
        {d.key[0]: allows for d, allows in chosen if d.kind is Kind.PROVIDER},
    )


def _http(chosen: list[tuple[Dimension, Any]]) -> Http:
    said = {dimension.kind: point for dimension, point in chosen}
    return Http(
        method=said.get(Kind.METHOD, "GET"),
        path=said.get(Kind.PATH, "/"),
        host=said.get(Kind.HOST, "destination.example"),
        headers={
            dimension.key[0]: point
            for dimension, point in chosen
            if dimension.kind is Kind.HEADER and point != ()
        },
        claims=_claims(chosen) or None,
    )


def _claims(chosen: list[tuple[Dimension, Any]]) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    for dimension, point in chosen:
        if dimension.kind is Kind.TOKEN:
            issuer, subject = point
            claims |= _said({"iss": issuer, "sub": subject})
        elif dimension.kind is Kind.CLAIM and point != ():
            inner = claims
            for name in dimension.key[:-1]:
                inner = inner.setdefault(name, {})
            inner[dimension.key[-1]] = point[0] if len(point) == 1 else list(point)
    return claims
