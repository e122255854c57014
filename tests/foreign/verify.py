"""Verifies tokens as a backend in Python would: PyJWT and our plain key set, nothing of ours.

Reads {"jwks", "issuer", "cases": [{"name", "token", "audience"}]} from the standard input, and prints
{"name": null | "why not"} for the cases.
"""

import json
import sys

import jwt


def verify(token, key_set, audience, issuer):
    header = jwt.get_unverified_header(token)
    key = key_set[header["kid"]]
    if header.get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    required = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]
    return jwt.decode(
        token, key, algorithms=[key.algorithm_name], audience=audience, issuer=issuer, options={"require": required}
    )


question = json.load(sys.stdin)
key_set = jwt.PyJWKSet.from_dict(question["jwks"])
verdicts = {}
for case in question["cases"]:
    try:
        verify(case["token"], key_set, case["audience"], question["issuer"])
        verdicts[case["name"]] = None
    except (jwt.PyJWTError, KeyError) as refusal:
        verdicts[case["name"]] = f"{type(refusal).__name__}: {refusal}"
print(json.dumps(verdicts))
