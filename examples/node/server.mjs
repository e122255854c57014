// A backend that serves whoever brings a token that permits it: three routes, one unit primitive each.

import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { Reporter } from './reporting.mjs'
import { Refused, Verifier } from './verifier.mjs'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const contract = JSON.parse(readFileSync(here('contract.json'), 'utf8'))
// This backend's `jwt_aud` in the catalog.
const verifier = await Verifier.open(process.env.KEY_SET ?? here('keys/example'), 'gitlab-ai-gateway')
const reporter = process.env.AUTHORITY_URL ? new Reporter(verifier, contract) : undefined

const routes = {
  '/completions': permitting('complete_code', answer),
  '/chat': permitting('duo_chat', answer),
  '/commit-message': permitting('generate_commit_message', answer),
  '/health': health,
}

/** Lets a handler be called only with a token that permits this unit primitive. */
function permitting(unitPrimitive, handler) {
  if (!contract.unit_primitives.includes(unitPrimitive)) throw new Error(`contract.json does not name ${unitPrimitive}`)
  return async (request, response) => handler(request, response, await verifier.judge(request, unitPrimitive))
}

/** Here the work would be done. The instance is who the token says. */
async function answer(request, response, claims) {
  send(response, 200, { instance: claims.sub, realm: claims.gitlab_realm })
}

/** Whether requests should be sent here. */
async function health(request, response) {
  const floor = reporter?.belowFloor
  if (floor === undefined) return send(response, 200, { ready: true })
  send(response, 503, { ready: false, reason: `this build's key set is below the floor ${floor}: rebuild it` })
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

const server = createServer(async (request, response) => {
  const handler = routes[new URL(request.url, 'http://localhost').pathname]
  try {
    if (!handler) return send(response, 404, { code: 'not_found', status: 404 })
    await handler(request, response)
  } catch (refusal) {
    if (!(refusal instanceof Refused)) {
      console.error(refusal)
      return send(response, 500, { code: 'internal', status: 500 })
    }
    const { code, message, status } = refusal
    console.error(`refused (${code}): ${message}`)
    const headers = { 'www-authenticate': verifier.challenge(refusal), 'content-type': 'application/problem+json' }
    send(response, status, { code, detail: message, status }, headers)
  }
})

const [host, port] = (process.env.LISTEN ?? '127.0.0.1:8083').split(':')
server.listen(Number(port), host, () => {
  console.error(`serving on http://${host}:${server.address().port}`)
  reporter?.run()
})

process.once('SIGTERM', async () => {
  server.close()
  server.closeIdleConnections()
  await reporter?.signOff()
  process.exit(0)
})
