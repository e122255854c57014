// Verifies access tokens with an embedded key set: jose, and the rules that the manifest adds.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { compactVerify, decodeProtectedHeader, importJWK, jwtVerify } from 'jose'

// Longer ones are not looked at.
const MAX_TOKEN_BYTES = 8 * 1024
// Whatever a header brings along is no key of ours.
const KEYS_IN_HEADERS = ['jwk', 'jku', 'x5u', 'x5c', 'x5t', 'x5t#S256']
const REQUIRED = ['sub', 'iat', 'nbf', 'exp', 'jti', 'scopes', 'gitlab_realm']
// The headers that repeat what a token says, and the claims that they repeat.
const REPEATED = {
  'x-gitlab-duo-seat-count': 'duo_seat_count',
  'x-gitlab-instance-id': 'sub',
  'x-gitlab-realm': 'gitlab_realm',
}

/** Why a request is refused: a stable code for programs, a sentence for people; nothing of the token. */
export class Refused extends Error {
  constructor(code, detail) {
    super(detail)
    this.code = code
    this.status = code === 'not_permitted' ? 403 : 401
  }
}

/** Accepts the tokens of one issuer for one audience. Reads its files once, and nothing else ever. */
export class Verifier {
  #keys = new Map()
  #denials = new Map()

  static async open(folder, audience) {
    const read = (name) => readFileSync(join(folder, name), 'utf8')
    const verifier = new Verifier()
    verifier.audience = audience
    verifier.lock = JSON.parse(read('keyset.lock'))
    // `token-authority key-set verify --embedded` has verified the signatures when this was built.
    const { payload } = JSON.parse(read('manifest.json'))
    verifier.manifest = JSON.parse(Buffer.from(payload, 'base64url'))
    const plain = new Map(JSON.parse(read('jwks.json')).keys.map((jwk) => [jwk.kid, jwk]))
    for (const described of verifier.manifest.keys) {
      const jwk = described.jwk ?? plain.get(described.kid)
      verifier.#keys.set(described.kid, { ...described, key: await importJWK(jwk, described.alg) })
    }
    for (const { kid, iat_after } of verifier.manifest.denied) verifier.#deny(kid, iat_after)
    if (existsSync(join(folder, 'deny-list.jws'))) await verifier.takeDenyList(read('deny-list.jws'))
    return verifier
  }

  /** What the token says. Throws Refused. Probes come through here too, with their own `typ`. */
  async verify(token, typ = 'at+jwt', now = new Date()) {
    if (token.length > MAX_TOKEN_BYTES) throw new Refused('too_large', 'the token is too long')
    let header
    try {
      header = decodeProtectedHeader(token)
    } catch {
      throw new Refused('malformed', 'this is not a token')
    }
    if ('crit' in header) throw new Refused('crit_unsupported', 'the token demands an extension')
    if (KEYS_IN_HEADERS.some((name) => name in header)) throw new Refused('key_in_header', 'the token brings its own key')
    if (header.typ !== typ) throw new Refused('typ_wrong', 'the token was made for another use')
    if (header.kid === undefined) throw new Refused('kid_missing', 'the token names no key')
    const key = this.#keys.get(header.kid)
    if (!key) throw new Refused('kid_unknown', 'the token names a key that this key set does not hold')
    if (key.purpose !== 'access_tokens') throw new Refused('key_purpose', 'the key is not for access tokens')
    if (header.alg !== key.alg) throw new Refused('alg_mismatch', 'the token’s algorithm is not that of its key')
    if (key.audiences && !key.audiences.includes(this.audience)) {
      throw new Refused('key_audience', 'the key may not sign for this audience')
    }
    const seconds = now.getTime() / 1000
    if (seconds > secondsOf(key.not_after)) throw new Refused('key_expired', 'the key that signed the token has ended')
    const claims = await this.#decode(token, key, now)
    if (!(claims.exp - claims.iat <= this.manifest.max_token_ttl)) {
      throw new Refused('life_too_long', 'the token lives longer than any that we accept')
    }
    if (!Array.isArray(claims.scopes)) throw new Refused('claim_type', 'a claim is not what it must be')
    for (const { iatAfter, until } of this.#denials.get(header.kid) ?? []) {
      if (seconds <= until && claims.iat > iatAfter) {
        throw new Refused('key_denied', 'the key that signed the token is denied')
      }
    }
    return claims
  }

  /** What the token of a request says, if it permits this. Throws Refused. */
  async judge(request, unitPrimitive) {
    const [value, second] = request.headersDistinct.authorization ?? []
    const [scheme, token] = value?.split(/ +/) ?? []
    if (second !== undefined || scheme?.toLowerCase() !== 'bearer') {
      throw new Refused('token_missing', 'the request must have exactly one header Authorization: Bearer')
    }
    const claims = await this.verify(token ?? '')
    for (const [name, claim] of Object.entries(REPEATED)) {
      // A second value may be the one that somebody behind us reads.
      if ((request.headersDistinct[name] ?? []).some((value) => value !== claims[claim])) {
        throw new Refused('header_mismatch', `the header ${name} does not say what the token says`)
      }
    }
    if (!claims.scopes.includes(unitPrimitive)) {
      throw new Refused('not_permitted', 'the token is good, but does not permit this')
    }
    return claims
  }

  /** The value of WWW-Authenticate: RFC 6750's `error`, and what tells a person where to look. */
  challenge(refusal) {
    const errors = { token_missing: undefined, not_permitted: 'insufficient_scope' }
    const members = {
      error: refusal.code in errors ? errors[refusal.code] : 'invalid_token',
      error_code: refusal.code,
      key_set: this.lock.key_set_version,
      environment: this.lock.environment,
      audience: this.audience,
      // A header has no other alphabet than ASCII.
      error_description: refusal.message.replaceAll(/[^ -~]|["\\]/g, "'"),
    }
    const written = Object.entries(members).filter(([, value]) => value !== undefined)
    return 'Bearer ' + written.map(([name, value]) => `${name}="${value}"`).join(', ')
  }

  /** Obeys a signed deny list. It can only deny; an entry counts until its own end. */
  async takeDenyList(text) {
    const key = this.#keys.get(decodeProtectedHeader(text.trim()).kid)
    if (key?.purpose !== 'deny_list') throw new Error('not a deny list by a key of this set')
    const { payload, protectedHeader } = await compactVerify(text.trim(), key.key, { algorithms: [key.alg] })
    const listed = JSON.parse(new TextDecoder().decode(payload))
    const { issuer, environment } = this.lock
    if (protectedHeader.typ !== 'deny-list+jws' || listed.issuer !== issuer || listed.environment !== environment) {
      throw new Error('the deny list is another issuer’s or environment’s')
    }
    const isEntry = ({ kid, until }) => typeof kid === 'string' && secondsOf(until) > 0
    if (!Number.isInteger(listed.serial) || !(secondsOf(listed.created) > 0) || !listed.entries.every(isEntry)) {
      throw new Error('this is not a deny list')
    }
    for (const { kid, iat_after, until } of listed.entries) this.#deny(kid, iat_after, until)
    if (!(listed.serial < this.denyList?.serial)) {
      this.denyList = { serial: listed.serial, created: secondsOf(listed.created) }
    }
  }

  #deny(kid, iatAfter, until) {
    const denial = {
      iatAfter: iatAfter === undefined ? -Infinity : secondsOf(iatAfter),
      until: until === undefined ? Infinity : secondsOf(until),
    }
    const known = this.#denials.get(kid) ?? []
    if (!known.some((old) => old.iatAfter === denial.iatAfter && old.until === denial.until)) {
      this.#denials.set(kid, [...known, denial])
    }
  }

  async #decode(token, { key, alg }, now) {
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: [alg],
        issuer: this.lock.issuer,
        audience: this.audience,
        clockTolerance: this.manifest.leeway,
        currentDate: now,
        requiredClaims: REQUIRED,
        // jose checks `iat` only where a longest age is named.
        maxTokenAge: this.manifest.max_token_ttl,
      })
      return payload
    } catch (error) {
      throw reason(error)
    }
  }
}

function reason(error) {
  switch (error.code) {
    case 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED':
      return new Refused('signature_invalid', 'the token was altered, or not signed by its key')
    case 'ERR_JWT_EXPIRED':
      return new Refused('expired', 'the token has expired')
    case 'ERR_JWT_CLAIM_VALIDATION_FAILED':
      if (error.reason === 'missing') return new Refused('claim_missing', 'the token lacks a claim')
      if (error.reason === 'invalid') return new Refused('claim_type', 'a claim is not what it must be')
      return {
        iss: new Refused('issuer_mismatch', 'the token is another issuer’s'),
        aud: new Refused('audience_mismatch', 'the token is for other backends'),
        iat: new Refused('issued_in_future', 'the token is from the future: a clock is wrong'),
        nbf: new Refused('not_yet_valid', 'the token is not valid yet: a clock is wrong'),
      }[error.claim] ?? new Refused('claim_type', 'a claim is not what it must be')
    default:
      return new Refused('malformed', 'this is not a token')
  }
}

const secondsOf = (text) => Date.parse(text) / 1000
