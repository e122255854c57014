"""Verifies tokens as a backend in Python would: PyJWT and our plain key set, nothing of ours.

Reads {"jwks", "issuer", "leeway", "cases": [{"name", "token", "audience", "now"}]} from the standard input, and
prints {"name": null | "why not"} for the cases. "now" is in seconds, or null for the time it is.
"""

import json
import sys
from datetime import datetime, timezone
from unittest.mock import patch

import jwt

REQUIRED = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]


def verify(token, key_set, audience, issuer, leeway):
    header = jwt.get_unverified_header(token)
    key = key_set[header["kid"]]
    if header.get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    return jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=audience,
        issuer=issuer,
        leeway=leeway,
        options={"require": REQUIRED},
    )


def at(seconds):
    """Stands in for the clock that PyJWT reads."""

    class Pinned(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) if seconds is None else datetime.fromtimestamp(seconds, tz or timezone.utc)

    return patch("jwt.api_jwt.datetime", Pinned)


question = json.load(sys.stdin)
key_set = jwt.PyJWKSet.from_dict(question["jwks"])
verdicts = {}
for case in question["cases"]:
    try:
        with at(case["now"]):
            verify(case["token"], key_set, case["audience"], question["issuer"], question["leeway"])
        verdicts[case["name"]] = None
    except (jwt.PyJWTError, KeyError) as refusal:
        verdicts[case["name"]] = f"{type(refusal).__name__}: {refusal}"
print(json.dumps(verdicts))
