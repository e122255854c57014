"""Prints how many tokens per second PyJWT verifies: pyjwt.py '{"jwks", "token", "issuer", "audience", "now", "seconds"}'."""

import json
import sys
import time

import jwt

question = json.loads(sys.argv[1])
token, seconds = question["token"], question["seconds"]
keys = jwt.PyJWKSet.from_dict(question["jwks"])
key = keys[jwt.get_unverified_header(token)["kid"]]
# PyJWT reads the clock by itself; the leeway covers how far the token's time is from it.
rules = {
    "algorithms": ["EdDSA"],
    "issuer": question["issuer"],
    "audience": question["audience"],
    "leeway": abs(question["now"] - time.time()) + 3600,
    "options": {"require": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]},
}

for _ in range(200):
    jwt.decode(token, key, **rules)
started, done = time.perf_counter(), 0
while time.perf_counter() - started < seconds:
    for _ in range(50):
        jwt.decode(token, key, **rules)
    done += 50
print(done / (time.perf_counter() - started))
