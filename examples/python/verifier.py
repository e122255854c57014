"""Verifies access tokens with an embedded key set: PyJWT, and the rules that the manifest adds."""

import base64
import calendar
import json
import time
from pathlib import Path

import jwt

# Longer ones are not looked at.
MAX_TOKEN_BYTES = 8 * 1024
# Whatever a header brings along is no key of ours.
KEYS_IN_HEADERS = {"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256"}
REQUIRED = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "scopes", "gitlab_realm"]
# The headers that repeat what a token says, and the claims that they repeat.
REPEATED = {
    "x-gitlab-duo-seat-count": "duo_seat_count",
    "x-gitlab-instance-id": "sub",
    "x-gitlab-realm": "gitlab_realm",
}


class Refused(Exception):
    """Why a request is refused: a stable code for programs, a sentence for people; nothing of the token."""

    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code
        self.status = 403 if code == "not_permitted" else 401


class Verifier:
    """Accepts the tokens of one issuer for one audience. Reads its files once, and nothing else ever."""

    def __init__(self, folder, audience):
        folder = Path(folder)
        self.lock = json.loads((folder / "keyset.lock").read_text())
        self.audience = audience
        # `token-authority key-set verify --embedded` has verified the signatures when this was built.
        self.manifest = _payload(json.loads((folder / "manifest.json").read_text())["payload"])
        jwks = json.loads((folder / "jwks.json").read_text())
        self.keys = {key["kid"]: jwt.PyJWK(key) for key in jwks["keys"]}
        self.described = {key["kid"]: key for key in self.manifest["keys"]}
        self.denials = {}
        for denial in self.manifest["denied"]:
            self._deny(denial["kid"], denial.get("iat_after"), None)
        self.deny_list_serial = None
        self.deny_list_created = None
        if (folder / "deny-list.jws").exists():
            self.take_deny_list((folder / "deny-list.jws").read_text())

    def verify(self, token, typ="at+jwt", now=None):
        """What the token says. Raises Refused. Probes come through here too, with their own `typ`."""
        now = time.time() if now is None else now
        if len(token) > MAX_TOKEN_BYTES:
            raise Refused("too_large", "the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise Refused("malformed", "this is not a token") from None
        if "crit" in header:
            raise Refused("crit_unsupported", "the token demands an extension")
        if KEYS_IN_HEADERS & header.keys():
            raise Refused("key_in_header", "the token brings its own key")
        if header.get("typ") != typ:
            raise Refused("typ_wrong", "the token was made for another use")
        kid = header.get("kid")
        if kid is None:
            raise Refused("kid_missing", "the token names no key")
        if kid not in self.keys:
            raise Refused("kid_unknown", "the token names a key that this key set does not hold")
        key = self.described[kid]
        if header.get("alg") != key["alg"]:
            raise Refused("alg_mismatch", "the token's algorithm is not that of its key")
        if key["audiences"] is not None and self.audience not in key["audiences"]:
            raise Refused("key_audience", "the key may not sign for this audience")
        if now > _seconds(key["not_after"]):
            raise Refused("key_expired", "the key that signed the token has ended")
        claims = self._decode(token, kid, key["alg"])
        if claims["exp"] - claims["iat"] > self.manifest["max_token_ttl"]:
            raise Refused("life_too_long", "the token lives longer than any that we accept")
        for iat_after, until in self.denials.get(kid, ()):
            if (until is None or now <= until) and (iat_after is None or claims["iat"] > iat_after):
                raise Refused("key_denied", "the key that signed the token is denied")
        return claims

    def judge(self, headers, unit_primitive):
        """What the token of a request says, if it permits this. Raises Refused."""
        values = headers.getlist("authorization")
        scheme, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            raise Refused("token_missing", "the request must have exactly one header Authorization: Bearer")
        claims = self.verify(token.strip())
        for name, claim in REPEATED.items():
            # A second value may be the one that somebody behind us reads.
            if any(value != claims.get(claim) for value in headers.getlist(name)):
                raise Refused("header_mismatch", f"the header {name} does not say what the token says")
        if unit_primitive not in claims["scopes"]:
            raise Refused("not_permitted", "the token is good, but does not permit this")
        return claims

    def challenge(self, refusal):
        """The value of WWW-Authenticate: RFC 6750's `error`, and what tells a person where to look."""
        error = {"token_missing": None, "not_permitted": "insufficient_scope"}.get(refusal.code, "invalid_token")
        members = {
            "error": error,
            "error_code": refusal.code,
            "key_set": self.lock["key_set_version"],
            "environment": self.lock["environment"],
            "audience": self.audience,
            "error_description": refusal,
        }
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in members.items() if value is not None)

    def take_deny_list(self, text):
        """Obeys a signed deny list. It can only deny; an entry counts until its own end."""
        text = text.strip()
        header = jwt.get_unverified_header(text)
        key = self.described.get(header.get("kid"), {})
        if header.get("typ") != "deny-list+jws" or key.get("purpose") != "deny_list":
            raise ValueError("not a deny list by a key of this set")
        signed = jwt.PyJWS().decode_complete(text, jwt.PyJWK(key["jwk"]), algorithms=["EdDSA"])
        listed = json.loads(signed["payload"])
        if (listed["issuer"], listed["environment"]) != (self.lock["issuer"], self.lock["environment"]):
            raise ValueError("the deny list is another issuer's or environment's")
        if not isinstance(listed["serial"], int):
            raise ValueError("this is not a deny list")
        for entry in listed["entries"]:
            self._deny(entry["kid"], entry.get("iat_after"), entry["until"])
        if self.deny_list_serial is None or listed["serial"] >= self.deny_list_serial:
            self.deny_list_serial = listed["serial"]
            self.deny_list_created = _seconds(listed["created"])

    def _deny(self, kid, iat_after, until):
        denial = (iat_after and _seconds(iat_after), until and _seconds(until))
        self.denials.setdefault(kid, set()).add(denial)

    def _decode(self, token, kid, alg):
        try:
            return jwt.decode(
                token,
                self.keys[kid],
                algorithms=[alg],
                issuer=self.lock["issuer"],
                audience=self.audience,
                leeway=self.manifest["leeway"],
                options={"require": REQUIRED},
            )
        except jwt.InvalidSignatureError:
            raise Refused("signature_invalid", "the token was altered, or not signed by its key") from None
        except jwt.ExpiredSignatureError:
            raise Refused("expired", "the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise Refused("not_yet_valid", "the token is not valid yet: a clock is wrong") from None
        except jwt.InvalidIssuerError:
            raise Refused("issuer_mismatch", "the token is another issuer's") from None
        except jwt.InvalidAudienceError:
            raise Refused("audience_mismatch", "the token is for other backends") from None
        except jwt.MissingRequiredClaimError:
            raise Refused("claim_missing", "the token lacks a claim") from None
        except jwt.DecodeError:
            raise Refused("malformed", "this is not a token") from None
        except jwt.PyJWTError:
            raise Refused("claim_type", "a claim is not what it must be") from None


def _payload(encoded):
    return json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))


def _seconds(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
