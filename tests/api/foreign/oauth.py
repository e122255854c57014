"""Gets tokens with Authlib, and verifies each with PyJWT's client of key sets and with Authlib's own verifier.

On stdin: {issuer, audience, uid, secret, keyed: {uid, jwk}}.
"""
import json
import sys
import time

import jwt
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

asked = json.load(sys.stdin)
metadata = requests.get(asked["issuer"] + "/.well-known/oauth-authorization-server", timeout=10).json()
assert metadata["issuer"] == asked["issuer"]
discovered = jwt.PyJWKClient(metadata["jwks_uri"])


def verified(answer):
    token = answer["access_token"]
    key = discovered.get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token, key, algorithms=["EdDSA", "RS256"], issuer=asked["issuer"], audience=asked["audience"],
        options={"require": ["exp", "iat", "sub"]},
    )
    keys = joserfc_jwk.KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=10).json())
    again = joserfc_jwt.decode(token, keys, algorithms=["EdDSA", "RS256"])
    assert again.claims == claims
    return {
        "alg": jwt.get_unverified_header(token)["alg"], "sub": claims["sub"], "scopes": claims["scopes"],
        "scope": answer["scope"],
    }


def outcomes(session):
    def grant(**parameters):
        return session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", **parameters)

    try:
        more = grant(resource=asked["audience"], scope="ask_epic") and None
    except OAuthError as refused:
        more = refused.error
    return {
        "whole": verified(grant(resource=asked["audience"])),
        "narrowed": verified(grant(audience=asked["audience"], scope="duo_chat")),
        "more": more,
    }


secret = OAuth2Session(asked["uid"], asked["secret"], token_endpoint_auth_method="client_secret_basic")


class ForThisIssuer(PrivateKeyJWT):
    """Its assertions live for an hour and name the token endpoint unless they are told otherwise."""

    def sign(self, auth, token_endpoint):
        self.claims = {"aud": asked["issuer"], "exp": int(time.time()) + 60}
        return super().sign(auth, token_endpoint)


key = joserfc_jwk.OKPKey.import_key(asked["keyed"]["jwk"])
keyed = OAuth2Session(asked["keyed"]["uid"], key, token_endpoint_auth_method="private_key_jwt")
keyed.register_client_auth_method(ForThisIssuer(metadata["token_endpoint"], alg="EdDSA"))

print(json.dumps({"Authlib, client_secret_basic": outcomes(secret), "Authlib, private_key_jwt": outcomes(keyed)}))
