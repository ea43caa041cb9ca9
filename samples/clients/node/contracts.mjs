// Ordermill's published contracts: topics and messages from AsyncAPI files, their shapes from JSON Schema files.

import { readFileSync, readdirSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import Ajv from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

/** A message, or what came for one, does not have the shape that its schema tells. */
export class DoesNotFit extends Error {}

export class Contracts {
  #messages = new Map()
  #ajv = addFormats(new Ajv({ strict: false, allErrors: true }))

  /** `folder`: Ordermill's `schemas/`. */
  constructor (folder) {
    const at = join(folder, 'asyncapi')
    for (const file of readdirSync(at).filter(name => name.endsWith('.json')).sort()) {
      const path = join(at, file)
      const document = json(path)
      for (const channel of Object.values(document.channels)) {
        for (const name of Object.keys(channel.messages)) {
          const known = this.#messages.get(name) ?? this.#message(path, document.components.messages[name])
          known.topics.add(channel.address)
          this.#messages.set(name, known)
        }
      }
    }
  }

  #message (path, message) {
    const file = reference => json(resolve(dirname(path), reference))
    const { allOf: headers, ...more } = message.headers
    return {
      topics: new Set(),
      payload: this.#compiled(file(message.payload.$ref)),
      headers: this.#ajv.compile({ ...more, allOf: headers.map(each => withoutId(file(each.$ref))) })
    }
  }

  #compiled (schema) {
    return this.#ajv.getSchema(schema.$id) ?? this.#ajv.compile(schema)
  }

  /** The topic that carries a type. */
  topicOf (type) {
    return [...this.#known(type).topics][0]
  }

  /** Throws DoesNotFit, naming the fields. */
  check (type, headers, payload) {
    const message = this.#known(type)
    for (const [what, validate, value] of [['headers', message.headers, headers], ['payload', message.payload, payload]]) {
      if (!validate(value)) {
        throw new DoesNotFit(`${type} ${what}: ${this.#ajv.errorsText(validate.errors)}`)
      }
    }
  }

  #known (type) {
    const message = this.#messages.get(type)
    if (!message) throw new DoesNotFit(`${type}: no such message in the AsyncAPI files`)
    return message
  }
}

const json = path => JSON.parse(readFileSync(path, 'utf8'))
const withoutId = ({ $id, ...schema }) => schema
