// Gets tokens with oauth4webapi and openid-client, and verifies each with jose's remote key set.
// Arguments: the folder of node_modules. On stdin: {issuer, audience, uid, secret, keyed: {uid, jwk}}.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { readFileSync } from "node:fs";

const installed = createRequire(process.argv[2] + "/");
const load = (name) => import(pathToFileURL(installed.resolve(name)));
const [oauth, client, jose] = await Promise.all(["oauth4webapi", "openid-client", "jose"].map(load));
const asked = JSON.parse(readFileSync(0, "utf8"));
const issuer = new URL(asked.issuer);
const insecure = { [oauth.allowInsecureRequests]: true };
const key = await crypto.subtle.importKey("jwk", asked.keyed.jwk, "Ed25519", false, ["sign"]);
const keys = jose.createRemoteJWKSet(new URL("/.well-known/jwks.json", issuer));

async function verified(answer) {
  const { payload, protectedHeader } = await jose.jwtVerify(answer.access_token, keys, {
    issuer: asked.issuer, audience: asked.audience, typ: "at+jwt",
  });
  return { alg: protectedHeader.alg, sub: payload.sub, scopes: payload.scopes, scope: answer.scope };
}

async function refusal(promise) {
  try { await promise; return null; } catch (error) { return error.error ?? String(error); }
}

async function withOauth4webapi(algorithm, id, authentication) {
  const found = await oauth.discoveryRequest(issuer, { algorithm, ...insecure });
  const server = await oauth.processDiscoveryResponse(issuer, found);
  const grant = async (parameters) => {
    const response = await oauth.clientCredentialsGrantRequest(
      server, { client_id: id }, authentication, new URLSearchParams(parameters), insecure);
    return oauth.processClientCredentialsResponse(server, { client_id: id }, response);
  };
  return {
    whole: await verified(await grant({ resource: asked.audience })),
    narrowed: await verified(await grant({ resource: asked.audience, scope: "duo_chat" })),
    more: await refusal(grant({ resource: asked.audience, scope: "ask_epic" })),
  };
}

async function withOpenidClient(id, authentication) {
  const configuration = await client.discovery(issuer, id, undefined, authentication, {
    execute: [client.allowInsecureRequests],
  });
  const grant = (parameters) => client.clientCredentialsGrant(configuration, parameters);
  return {
    whole: await verified(await grant({ resource: asked.audience })),
    narrowed: await verified(await grant({ audience: asked.audience, scope: "duo_chat" })),
    more: await refusal(grant({ resource: asked.audience, scope: "ask_epic" })),
  };
}

console.log(JSON.stringify({
  "oauth4webapi, private_key_jwt": await withOauth4webapi("oauth2", asked.keyed.uid, oauth.PrivateKeyJwt(key)),
  "oauth4webapi, client_secret_basic": await withOauth4webapi("oidc", asked.uid, oauth.ClientSecretBasic(asked.secret)),
  "openid-client, private_key_jwt": await withOpenidClient(asked.keyed.uid, client.PrivateKeyJwt(key)),
  "openid-client, client_secret_basic": await withOpenidClient(asked.uid, client.ClientSecretBasic(asked.secret)),
}));
