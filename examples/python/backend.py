"""A backend that serves whoever brings a token that permits it: three routes, one unit primitive each."""

import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from reporting import Reporter
from verifier import Refused, Verifier

HERE = Path(__file__).parent
CONTRACT = json.loads((HERE / "contract.json").read_text())
# This backend's `jwt_aud` in the catalog.
verifier = Verifier(os.environ.get("KEY_SET", HERE / "keys/example"), "gitlab-ai-gateway")
reporter = Reporter(verifier, CONTRACT) if "AUTHORITY_URL" in os.environ else None
log = logging.getLogger("backend")


def permitting(unit_primitive):
    """Lets a handler be called only with a token that permits this unit primitive."""
    if unit_primitive not in CONTRACT["unit_primitives"]:
        raise ValueError(f"contract.json does not name {unit_primitive}")

    def decorate(handler):
        async def guarded(request):
            try:
                claims = verifier.judge(request.headers, unit_primitive)
            except Refused as refusal:
                log.info("refused (%s): %s", refusal.code, refusal)
                return refused(refusal)
            return await handler(request, claims)

        return guarded

    return decorate


def refused(refusal):
    problem = {"code": refusal.code, "detail": str(refusal), "status": refusal.status}
    headers = {"WWW-Authenticate": verifier.challenge(refusal)}
    return JSONResponse(problem, refusal.status, headers, media_type="application/problem+json")


async def answer(request, claims):
    """Here the work would be done. The instance is who the token says."""
    return JSONResponse({"instance": claims["sub"], "realm": claims["gitlab_realm"]})


async def health(request):
    """Whether requests should be sent here."""
    floor = reporter and reporter.below_floor
    if floor:
        reason = f"this build's key set is below the floor {floor}: rebuild it"
        return JSONResponse({"ready": False, "reason": reason}, 503)
    return JSONResponse({"ready": True})


@contextlib.asynccontextmanager
async def lifespan(app):
    reporting = asyncio.create_task(reporter.run()) if reporter else None
    yield
    if reporting:
        reporting.cancel()
        await reporter.sign_off()


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/completions", permitting("complete_code")(answer)),
        Route("/chat", permitting("duo_chat")(answer)),
        Route("/commit-message", permitting("generate_commit_message")(answer)),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    host, _, port = os.environ.get("LISTEN", "127.0.0.1:8082").rpartition(":")
    uvicorn.run(app, host=host, port=int(port), access_log=False)
