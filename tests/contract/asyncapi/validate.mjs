// node validate.mjs FILE...: AsyncAPI's own parser on each file, and Ajv on each payload and example in it.
// A line of JSON for each file: how many messages and examples it has, and what is wrong.

import Ajv from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { Parser, fromFile } from '@asyncapi/parser'

const parser = new Parser()
const ERROR = 0
const WARNING = 1

for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await fromFile(parser, file).parse()
  const faults = diagnostics
    .filter(each => each.severity === ERROR || each.severity === WARNING)
    .map(each => `${each.path.join('.')}: ${each.message}`)
  let messages = 0
  let examples = 0
  for (const message of document?.allMessages().all() ?? []) {
    messages += 1
    const ajv = addFormats(new Ajv({ strict: false }))
    const payload = ajv.compile(withoutIds(message.payload().json()))
    const headers = ajv.compile(withoutIds(message.headers().json()))
    for (const example of message.examples().all()) {
      examples += 1
      if (!payload(example.payload())) faults.push(`${message.name()}: ${ajv.errorsText(payload.errors)}`)
      if (!headers(example.headers())) faults.push(`${message.name()} headers: ${ajv.errorsText(headers.errors)}`)
    }
  }
  console.log(JSON.stringify({ file, messages, examples, faults }))
}

function withoutIds (value) {
  if (Array.isArray(value)) return value.map(withoutIds)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => !key.startsWith('x-parser-') && key !== '$id' && key !== '$schema')
      .map(([key, inner]) => [key, withoutIds(inner)])
  )
}
