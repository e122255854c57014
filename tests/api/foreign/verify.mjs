// Verifies tokens as a backend in JavaScript would: npm jose and our plain key set, nothing of ours.
//
// Reads {"jwks", "issuer", "leeway", "cases": [{"name", "token", "audience", "now"}]} from the standard input, and
// prints {"name": null | "why not"} for the cases. "now" is in seconds, or null for the time it is.

import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

// Node.js 18 has the Web Crypto API, but not as a global.
globalThis.crypto ??= webcrypto;

// The library lives in the folder that the test installed it into, not beside this script.
const { resolve } = createRequire(`${process.argv[2]}/`);
const { createLocalJWKSet, errors, jwtVerify } = await import(pathToFileURL(resolve("jose")));

const { jwks, issuer, leeway, cases } = JSON.parse(readFileSync(0, "utf8"));
const keySet = createLocalJWKSet(jwks);
const rules = {
  issuer,
  algorithms: [...new Set(jwks.keys.map((key) => key.alg))],
  clockTolerance: leeway,
  requiredClaims: ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"],
  typ: "at+jwt",
};

const verdicts = {};
for (const { name, token, audience, now } of cases) {
  try {
    const currentDate = now === null ? new Date() : new Date(now * 1000);
    await jwtVerify(token, keySet, { ...rules, audience, currentDate });
    verdicts[name] = null;
  } catch (refusal) {
    if (!(refusal instanceof errors.JOSEError)) throw refusal;
    verdicts[name] = `${refusal.code}: ${refusal.message}`;
  }
}
console.log(JSON.stringify(verdicts));
