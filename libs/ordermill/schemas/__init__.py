"""The published contracts: what `schemas/` holds is made from the models, and never breaks who relies on it.

schemas/
  messages/<type>.v<n>.json   JSON Schema 2020-12, one for each type and version; old versions stay as they were
  headers/<kind>.json         JSON Schema of the CloudEvents headers of facts, states and outsiders' messages
  asyncapi/<service>.json     AsyncAPI 3.0: topics, and what the service sends and receives on them
  openapi/<surface>.json      OpenAPI 3.1, one for each HTTP surface
  examples/<type>.v<n>.json   a real message of each type

`python -m ordermill.schemas` compares what it has made with all that was ever committed, and writes only what breaks
nobody. It needs no database and no broker.
"""
