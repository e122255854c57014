// Prints how many tokens per second npm jose verifies: jose.mjs FOLDER '{"jwks", "token", "issuer", "audience", "now", "seconds"}'.

import { webcrypto } from 'node:crypto'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

// Node.js 18 has the Web Crypto API, but not as a global.
globalThis.crypto ??= webcrypto
const { resolve } = createRequire(`${process.argv[2]}/`)
const { createLocalJWKSet, jwtVerify } = await import(pathToFileURL(resolve('jose')))

const { jwks, token, issuer, audience, now, seconds } = JSON.parse(process.argv[3])
const keys = createLocalJWKSet(jwks)
const rules = {
  issuer,
  audience,
  algorithms: ['EdDSA'],
  typ: 'at+jwt',
  currentDate: new Date(now * 1000),
  requiredClaims: ['sub', 'iat', 'nbf', 'exp', 'jti'],
}

for (let n = 0; n < 200; n++) await jwtVerify(token, keys, rules)
const started = performance.now()
let done = 0
while (performance.now() - started < seconds * 1000) {
  for (let n = 0; n < 50; n++) await jwtVerify(token, keys, rules)
  done += 50
}
console.log(done / ((performance.now() - started) / 1000))
