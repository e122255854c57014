"""Tells the issuer what runs here, proves which keys it believes, and follows the deny list.

Nothing here is needed to serve: while the issuer cannot be reached, the backend goes on with what it has.
"""

import asyncio
import logging
import os
import time
import uuid

import httpx
import jwt

from verifier import Refused

log = logging.getLogger(__name__)

# Twice as long after each failure, up to a usual beat.
SHORTEST_RETRY_SECONDS = 1
LONGEST_RETRY_SECONDS = 30
# As often as the issuer signs the deny list anew.
DENY_LIST_AGE = 3600


class Reporter:
    """Reports this process, from AUTHORITY_URL, BACKEND_TOKEN_FILE and BUILD."""

    def __init__(self, verifier, contract):
        self.verifier = verifier
        self.enforces = contract["unit_primitives"]
        # The floor, if this build is below it: then it does not begin to serve.
        self.below_floor = None
        with open(os.environ["BACKEND_TOKEN_FILE"]) as file:
            token = file.read().strip()
        self.client = httpx.AsyncClient(base_url=os.environ["AUTHORITY_URL"], timeout=10)
        self.authorization = {"Authorization": f"Bearer {token}"}
        # New at each start: a process that was started again has to prove its keys again.
        self.deployment = f"/v1/backends/{contract['backend']}/deployments/{uuid.uuid4()}"

    async def run(self):
        verdicts, first, retry = [], True, SHORTEST_RETRY_SECONDS
        while True:
            try:
                beat = await self.beat(verdicts, first)
                verdicts = [self.verdict(probe) for probe in beat["probes"]]
                # The first verdicts are told at once: a deployment is proved in seconds.
                wait = 1 if first else beat["beat_seconds"]
                first, retry = False, SHORTEST_RETRY_SECONDS
            except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                log.warning("could not report, going on with what there is: %s", error)
                # Verdicts that did not arrive are told again: the issuer remembers its last questions.
                if not isinstance(error, httpx.TransportError):
                    verdicts = []
                wait, retry = retry, min(2 * retry, LONGEST_RETRY_SECONDS)
            await asyncio.sleep(wait)

    async def beat(self, verdicts, first):
        lock, verifier = self.verifier.lock, self.verifier
        report = {
            "build": os.environ.get("BUILD", "unnamed"),
            "key_set_version": lock["key_set_version"],
            "key_set_digest": lock["key_set_digest"],
            "verifier": f"PyJWT {jwt.__version__}",
            "algorithms": ["EdDSA"],
            "deny_list_serial": verifier.deny_list_serial,
            "enforces": self.enforces,
            "probe_results": verdicts,
        }
        answer = await self.client.put(self.deployment, json=report, headers=self.authorization)
        answer.raise_for_status()
        beat = answer.json()
        # One that serves already goes on.
        if first and lock["key_set_version"] < beat["floor"]:
            log.error("key set %s is below the floor %s", lock["key_set_version"], beat["floor"])
            self.below_floor = beat["floor"]
        serial, created = verifier.deny_list_serial, verifier.deny_list_created
        if serial is None or serial < beat["deny_list_serial"] or time.time() - created > DENY_LIST_AGE:
            try:
                answer = await self.client.get("/v1/deny-list")
                answer.raise_for_status()
                verifier.take_deny_list(answer.text)
            except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                # The next beat tries again.
                log.warning("could not read the deny list, going on with the last one: %s", error)
        return beat

    def verdict(self, probe):
        """The very function that verifies tokens, with the `typ` as the only difference."""
        verdict = {"kid": probe["kid"], "nonce": probe["nonce"], "accepted": True}
        try:
            self.verifier.verify(probe["token"], typ="probe+jwt")
        except Refused as refusal:
            verdict |= {"accepted": False, "detail": refusal.code}
        return verdict

    async def sign_off(self):
        """A process that says goodbye holds no rotation up."""
        try:
            await self.client.delete(self.deployment, headers=self.authorization)
        except httpx.HTTPError as error:
            log.warning("could not sign off: %s", error)
        await self.client.aclose()
