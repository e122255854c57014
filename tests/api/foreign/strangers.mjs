// A backend that knows nothing of us but the issuer: npm jose finds the keys by discovery, and keeps them as it likes.
// Arguments: the folder of node_modules, the issuer, the audience. Tokens come one a line; verdicts go the same way.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, issuer, audience] = process.argv.slice(2);
const { resolve } = createRequire(folder + "/");
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(resolve("jose")));

const discovered = await (await fetch(issuer + "/.well-known/openid-configuration")).json();
if (discovered.issuer !== issuer) throw new Error(`${discovered.issuer} is not ${issuer}`);
const algorithms = discovered.id_token_signing_alg_values_supported;
// Between two fetches for unknown keys it waits half a minute, unless told otherwise; rotations take longer than tests.
const keys = createRemoteJWKSet(new URL(discovered.jwks_uri), { cooldownDuration: 0 });

for await (const token of createInterface({ input: process.stdin })) {
  let verdict;
  try {
    const { protectedHeader } = await jwtVerify(token, keys, { issuer, audience, algorithms, typ: "at+jwt" });
    verdict = { "jose, createRemoteJWKSet": protectedHeader.kid };
  } catch (refusal) {
    verdict = { "jose, createRemoteJWKSet": String(refusal) };
  }
  console.log(JSON.stringify(verdict));
}
