// Publish an order to Ordermill and follow it until it is delivered, knowing nothing but the files in schemas/.
//
// node order.mjs --kafka HOST:PORT --sku SKU [--stock UNITS] [--schemas FOLDER] [--channel ID] [--location ID]
//                [--timeout SECONDS] [--idempotent]

import { randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Consumer, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'
import { Contracts, DoesNotFit } from './contracts.mjs'

const { values: options } = parseArgs({
  options: {
    kafka: { type: 'string' },
    sku: { type: 'string' },
    stock: { type: 'string', default: '0' },
    schemas: { type: 'string', default: fileURLToPath(new URL('../../../schemas', import.meta.url)) },
    channel: { type: 'string', default: 'node-sample' },
    location: { type: 'string', default: 'edison' },
    timeout: { type: 'string', default: '60' },
    // Against a broker that supports it; the one that comes embedded with Ordermill does not.
    idempotent: { type: 'boolean', default: false }
  }
})
if (!options.kafka || !options.sku) {
  console.error('--kafka HOST:PORT and --sku SKU are needed; the comment at the top of this file shows the others')
  process.exit(2)
}

const contracts = new Contracts(options.schemas)
const client = { clientId: `ordermill-sample-${process.pid}`, bootstrapBrokers: [options.kafka] }
const producer = new Producer({
  ...client,
  idempotent: options.idempotent,
  serializers: stringSerializers
})
const say = line => console.log(JSON.stringify(line))

// The same source and id are the same message, so a message that is sent again after a failure counts once.
async function publish (type, key, id, payload) {
  const headers = {
    ce_specversion: '1.0',
    ce_id: id,
    ce_source: `/channels/${options.channel}`,
    ce_type: type,
    ce_time: new Date().toISOString(),
    'content-type': 'application/json'
  }
  contracts.check(type, headers, payload)
  await producer.send({
    messages: [{ topic: contracts.topicOf(type), key, value: JSON.stringify(payload), headers }],
    acks: -1
  })
  say({ external_id: externalId, sent: type })
}

const usd = minor => ({ minor, currency: 'USD' })
const externalId = `sample-${randomUUID()}`
const now = new Date().toISOString()

function order () {
  const quantity = 2
  const price = 1299
  return {
    channel: options.channel,
    external_id: externalId,
    placed_at: now,
    ship_to: {
      person: { name: 'Sample Customer', street: ['1 Sample Street'], city: 'Trenton' },
      country: 'US',
      region: 'NJ',
      postal_code: '08608'
    },
    lines: [
      { line_id: '1', sku: options.sku, quantity, unit_price: usd(price), discount: usd(0), tax: usd(0) }
    ],
    shipping: usd(0),
    shipping_tax: usd(0),
    total: usd(quantity * price),
    payment: { status: 'paid', reference: externalId },
    allow_backorder: true // goods and order go out together, on two topics: either may be read first
  }
}

// The topic is compacted and read from its start; only the newest version of our own order matters.
async function follow () {
  const type = 'oms.tracking.order-status.v1'
  const consumer = new Consumer({
    ...client,
    groupId: `ordermill-sample-${randomUUID()}`,
    deserializers: stringDeserializers,
    maxWaitTime: 500,
    sessionTimeout: 6_000,
    rebalanceTimeout: 6_000,
    heartbeatInterval: 1_000
  })
  const late = setTimeout(() => {
    console.error(`not delivered within ${options.timeout} s`)
    process.exit(1)
  }, Number(options.timeout) * 1000)
  try {
    const messages = await consumer.consume({ topics: [contracts.topicOf(type)], mode: 'earliest' })
    let version = -1
    let told = ''
    for await (const message of messages) {
      const headers = Object.fromEntries(message.headers)
      if (headers.ce_type !== type) continue // a newer version that we do not know yet
      const status = JSON.parse(message.value)
      contracts.check(type, headers, status)
      const ours = status.channel === options.channel && status.external_id === externalId
      if (!ours || status.version <= version) continue
      version = status.version
      if (status.status !== told) say({ external_id: externalId, status: (told = status.status) })
      if (told === 'delivered') return
    }
  } finally {
    clearTimeout(late)
    await consumer.close(true)
  }
}

try {
  if (Number(options.stock) > 0) {
    await publish('oms.location.stock-arrived.v1', options.sku, `stock-${externalId}`, {
      location: options.location,
      sku: options.sku,
      reference: `stock-${externalId}`,
      happened_at: now,
      quantity: Number(options.stock)
    })
  }
  await publish('oms.channel.order-placed.v1', externalId, externalId, order())
  await follow()
} catch (error) {
  if (!(error instanceof DoesNotFit)) throw error
  console.error(error.message)
  process.exitCode = 2
} finally {
  await producer.close()
}
