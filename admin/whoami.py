"""`GET /v1/whoami`: who one is at this door, how that was proven, and what one may do."""

from typing import Any

from fastapi import APIRouter, Request

from admin.permissions import permissions_of
from admin.views import time_text
from admin.visitor import get_visitor


def create_router() -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/whoami")
    async def whoami(request: Request) -> Any:
        visitor = get_visitor(request.scope)
        return {
            "actor": visitor.actor,
            "proof": visitor.proof.value,
            "roles": sorted(role.value for role in visitor.roles),
            "permissions": sorted(each.value for each in permissions_of(visitor.roles)),
            "expires": time_text(visitor.expires_at),
        }

    return router
