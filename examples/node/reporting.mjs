// Tells the issuer what runs here, proves which keys it believes, and follows the deny list.
// Nothing here is needed to serve: while the issuer cannot be reached, the backend goes on with what it has.

import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Refused } from './verifier.mjs'

// Twice as long after each failure, up to a usual beat.
const SHORTEST_RETRY_SECONDS = 1
const LONGEST_RETRY_SECONDS = 30
// As often as the issuer signs the deny list anew.
const DENY_LIST_AGE = 3600

/** Reports this process, from AUTHORITY_URL, BACKEND_TOKEN_FILE and BUILD. */
export class Reporter {
  #verifier
  #enforces
  #authorization
  #deployment
  #timer
  #retrySeconds = SHORTEST_RETRY_SECONDS
  /** The floor, if this build is below it: then it does not begin to serve. */
  belowFloor

  constructor(verifier, contract) {
    this.#verifier = verifier
    this.#enforces = contract.unit_primitives
    this.#authorization = `Bearer ${readFileSync(process.env.BACKEND_TOKEN_FILE, 'utf8').trim()}`
    // New at each start: a process that was started again has to prove its keys again.
    this.#deployment = `/v1/backends/${contract.backend}/deployments/${randomUUID()}`
  }

  async run(verdicts = [], first = true) {
    let wait
    let next
    try {
      const beat = await this.#beat(verdicts, first)
      next = await Promise.all(beat.probes.map((probe) => this.#verdict(probe)))
      // The first verdicts are told at once: a deployment is proved in seconds.
      wait = first ? 1 : beat.beat_seconds
      first = false
      this.#retrySeconds = SHORTEST_RETRY_SECONDS
    } catch (error) {
      console.error(`could not report, going on with what there is: ${error.cause ?? error}`)
      // Verdicts that did not arrive are told again: the issuer remembers its last questions.
      next = error.status ? [] : verdicts
      wait = this.#retrySeconds
      this.#retrySeconds = Math.min(wait * 2, LONGEST_RETRY_SECONDS)
    }
    this.#timer = setTimeout(() => this.run(next, first), wait * 1000)
  }

  /** A process that says goodbye holds no rotation up. */
  async signOff() {
    clearTimeout(this.#timer)
    await this.#fetch(this.#deployment, { method: 'DELETE' }).catch((error) => console.error(`could not sign off: ${error}`))
  }

  async #beat(verdicts, first) {
    const { lock } = this.#verifier
    const report = {
      build: process.env.BUILD ?? 'unnamed',
      key_set_version: lock.key_set_version,
      key_set_digest: lock.key_set_digest,
      verifier: 'jose (Node.js)',
      algorithms: ['EdDSA'],
      deny_list_serial: this.#verifier.denyList?.serial ?? null,
      enforces: this.#enforces,
      probe_results: verdicts,
    }
    const headers = { 'content-type': 'application/json' }
    const answer = await this.#fetch(this.#deployment, { method: 'PUT', headers, body: JSON.stringify(report) })
    const beat = await answer.json()
    // One that serves already goes on.
    if (first && lock.key_set_version < beat.floor) {
      console.error(`key set ${lock.key_set_version} is below the floor ${beat.floor}`)
      this.belowFloor = beat.floor
    }
    const held = this.#verifier.denyList
    if (!held || held.serial < beat.deny_list_serial || Date.now() / 1000 - held.created > DENY_LIST_AGE) {
      // The next beat tries again.
      await this.#readDenyList().catch((error) =>
        console.error(`could not read the deny list, going on with the last one: ${error.cause ?? error}`),
      )
    }
    return beat
  }

  async #readDenyList() {
    const answer = await this.#fetch('/v1/deny-list')
    await this.#verifier.takeDenyList(await answer.text())
  }

  /** The very function that verifies tokens, with the `typ` as the only difference. */
  async #verdict({ kid, nonce, token }) {
    try {
      await this.#verifier.verify(token, 'probe+jwt')
      return { kid, nonce, accepted: true }
    } catch (refusal) {
      if (!(refusal instanceof Refused)) throw refusal
      return { kid, nonce, accepted: false, detail: refusal.code }
    }
  }

  async #fetch(path, options = {}) {
    const headers = { ...options.headers, authorization: this.#authorization }
    const signal = AbortSignal.timeout(10_000)
    const answer = await fetch(new URL(path, process.env.AUTHORITY_URL), { ...options, headers, signal })
    const { ok, status } = answer
    if (!ok) throw Object.assign(new Error(`${status}: ${await answer.text()}`), { status })
    return answer
  }
}
