-- What the console has read from the topics. All of it can be read again; only saved views are people's own.

CREATE TABLE generation (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    id  uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO generation DEFAULT VALUES;
COMMENT ON TABLE generation IS 'Part of the consumer group''s name: an empty database reads the topics from the start';

CREATE TABLE events (
    message        uuid PRIMARY KEY,
    message_id     text NOT NULL,
    source         text NOT NULL,
    topic          text NOT NULL,
    type           text NOT NULL,
    stream         text COLLATE "C" NOT NULL,
    version        integer,
    actor          text NOT NULL,
    correlation_id text NOT NULL,
    causation_id   text NOT NULL,
    happened_at    timestamptz NOT NULL,
    seen_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    order_id       text COLLATE "C",
    data           bytea
);
CREATE INDEX events_of_order ON events (order_id, happened_at) WHERE order_id IS NOT NULL;
CREATE INDEX events_of_stream ON events (stream, version);
COMMENT ON COLUMN events.data IS 'JSON; null where a channel sent it: that is personal data in the clear';

CREATE TABLE names (
    value    text COLLATE "C" NOT NULL,
    kind     text NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (value, kind, order_id)
);
COMMENT ON TABLE names IS 'Every id by which a person may look for an order, in lower case';

CREATE TABLE orders (
    key          text COLLATE "C" PRIMARY KEY,
    doc          bytea NOT NULL DEFAULT '{}',
    channel      text NOT NULL DEFAULT '',
    external_id  text NOT NULL DEFAULT '',
    status       text NOT NULL DEFAULT '',
    attention    text[] NOT NULL DEFAULT '{}',
    locations    text[] NOT NULL DEFAULT '{}',
    placed_at    timestamptz,
    promised_by  timestamptz,
    total_minor  bigint,
    currency     text NOT NULL DEFAULT '',
    units        integer NOT NULL DEFAULT 0,
    changed_at   timestamptz
);
CREATE INDEX orders_by_age ON orders (placed_at DESC NULLS LAST, key);
CREATE INDEX orders_by_status ON orders (status, placed_at DESC NULLS LAST, key);
CREATE INDEX orders_by_channel ON orders (channel, placed_at DESC NULLS LAST, key);
CREATE INDEX orders_in_need ON orders (placed_at DESC NULLS LAST, key) WHERE attention <> '{}';

CREATE TABLE saved_views (
    owner   text NOT NULL,
    name    text NOT NULL,
    query   text NOT NULL,
    removed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (owner, name)
);
