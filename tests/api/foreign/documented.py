"""Shows every token of the vectors to the function that docs/token-format.md gives for Python.

Usage: documented.py VECTORS FILE...; the current folder holds example.py, the page's lines, and the key set that they read.
Prints, for each token that was accepted, its file and its name.
"""

import datetime
import json
import pathlib
import sys
from unittest import mock

import example
import jwt

vectors, files = pathlib.Path(sys.argv[1]), sys.argv[2:]


def clock_at(now):
    """PyJWT reads the clock by itself, so the clock has to be another."""

    class PinnedClock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.fromtimestamp(now, tz)

    return mock.patch("jwt.api_jwt.datetime", PinnedClock)


for file in files:
    for case in json.loads((vectors / file).read_text())["cases"]:
        with clock_at(case["now"]):
            try:
                claims = example.verify(case["token"])
            except jwt.PyJWTError:
                continue
        if case["expect"] == "valid":
            audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
            assert {**claims, "aud": audience}.items() >= case["claims"].items(), case["name"]
        print(json.dumps([file, case["name"]]))
