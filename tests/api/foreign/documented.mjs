// Shows every token of the vectors to the function that docs/token-format.md gives for JavaScript.
//
// Usage: documented.mjs VECTORS FILE...; the current folder holds example.mjs, the page's lines, and the key set that they read.
// Prints, for each token that was accepted, its file and its name.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { isDeepStrictEqual } from 'node:util'

const [vectors, ...files] = process.argv.slice(2)
const { verify } = await import(pathToFileURL(join(process.cwd(), 'example.mjs')))

// jose reads the clock by itself, so the clock has to be another.
let now
const SystemDate = Date
globalThis.Date = class extends SystemDate {
  constructor(...at) {
    super(...(at.length > 0 ? at : [now * 1000]))
  }
}

for (const file of files) {
  for (const test of JSON.parse(readFileSync(join(vectors, file), 'utf8')).cases) {
    now = test.now
    let claims
    try {
      claims = await verify(test.token)
    } catch (refusal) {
      // Refusals have codes; anything else is a mistake in here.
      assert.match(refusal.code ?? '', /^ERR_J(OSE|W)/, `${test.name}: ${refusal}`)
      continue
    }
    if (test.expect === 'valid') {
      const said = { ...claims, aud: [claims.aud].flat() }
      for (const [name, value] of Object.entries(test.claims)) {
        assert(isDeepStrictEqual(said[name], value), `${test.name}: ${name}`)
      }
    }
    console.log(JSON.stringify([file, test.name]))
  }
}
