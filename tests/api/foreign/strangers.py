"""Backends that know nothing of us but the issuer: PyJWT's client of key sets, and Authlib's own verifier.

Arguments: the issuer and the audience. Tokens come one a line; verdicts go the same way, one member for each library:
the kid of a token that was accepted, or why it was not.
"""
import json
import sys
import warnings

import jwt
import requests

warnings.simplefilter("ignore")
from authlib.jose import JsonWebKey, JsonWebToken  # noqa: E402
from authlib.jose.errors import JoseError  # noqa: E402

issuer, audience = sys.argv[1:]
discovered = requests.get(issuer + "/.well-known/openid-configuration", timeout=10).json()
assert discovered["issuer"] == issuer
algorithms = discovered["id_token_signing_alg_values_supported"]
# Between two fetches for unknown keys it waits half a minute, unless told otherwise; rotations take longer than tests.
client = jwt.PyJWKClient(discovered["jwks_uri"], cooldown_duration=0)
tokens = JsonWebToken(algorithms)


def with_pyjwt(token):
    key = client.get_signing_key_from_jwt(token)
    jwt.decode(token, key, algorithms=algorithms, issuer=issuer, audience=audience)
    return key.key_id


class KeySet:
    """The keys as they were when one was last missing."""

    keys = None

    def find(self, kid):
        for _ in range(2):
            for key in self.keys.keys if self.keys else ():
                if key.as_dict()["kid"] == kid:
                    return key
            self.keys = JsonWebKey.import_key_set(requests.get(discovered["jwks_uri"], timeout=10).json())
        raise ValueError(f"no key {kid}")


key_set = KeySet()


def with_authlib(token):
    rules = {
        "iss": {"essential": True, "value": issuer},
        "aud": {"essential": True, "value": audience},
        "exp": {"essential": True},
    }
    claims = tokens.decode(token, lambda header, _: key_set.find(header["kid"]), claims_options=rules)
    claims.validate()
    return claims.header["kid"]


for line in sys.stdin:
    verdict = {}
    for name, verify in {"PyJWT, PyJWKClient": with_pyjwt, "Authlib, JsonWebToken": with_authlib}.items():
        try:
            verdict[name] = verify(line.strip())
        except (jwt.PyJWTError, JoseError, ValueError) as refusal:
            verdict[name] = f"{type(refusal).__name__}: {refusal}"
    print(json.dumps(verdict), flush=True)
