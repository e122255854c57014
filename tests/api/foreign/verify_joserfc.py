"""Verifies tokens as a backend in Python would: joserfc and our plain key set, nothing of ours.

Reads {"jwks", "issuer", "leeway", "cases": [{"name", "token", "audience", "now"}]} from the standard input, and
prints {"name": null | "why not"} for the cases. "now" is in seconds, or null for the time it is.
"""

import json
import sys
import time

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry


def verify(token, key_set, algorithms, audience, issuer, leeway, now):
    # Unknown header members are to be ignored (RFC 7515 §4), which this library does not unless told so.
    registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)
    decoded = jwt.decode(token, key_set, algorithms=algorithms, registry=registry)
    if decoded.header.get("typ") != "at+jwt" or "crit" in decoded.header:
        raise ValueError("not an access token")
    # Without its own line a claim is not looked at, and may be absent.
    rules = {name: {"essential": True} for name in ["sub", "iat", "nbf", "exp", "jti"]}
    rules["iss"] = {"essential": True, "value": issuer}
    rules["aud"] = {"essential": True, "value": audience}
    jwt.JWTClaimsRegistry(now=now, leeway=leeway, **rules).validate(decoded.claims)


question = json.load(sys.stdin)
key_set = KeySet.import_key_set(question["jwks"])
algorithms = sorted({key["alg"] for key in question["jwks"]["keys"]})
verdicts = {}
for case in question["cases"]:
    now = int(time.time()) if case["now"] is None else case["now"]
    try:
        verify(
            case["token"], key_set, algorithms, case["audience"], question["issuer"], question["leeway"], now
        )
        verdicts[case["name"]] = None
    except (JoseError, ValueError) as refusal:
        verdicts[case["name"]] = f"{type(refusal).__name__}: {refusal}"
    except Exception as accident:  # A hostile token gets here; a backend would answer 500.
        verdicts[case["name"]] = f"accident: {type(accident).__name__}: {accident}"
print(json.dumps(verdicts))
