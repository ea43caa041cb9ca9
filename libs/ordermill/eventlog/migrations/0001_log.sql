-- The log of one service. Rows of events are never changed: the service's role may only insert and select.

CREATE TABLE events (
    tx             bigint NOT NULL,
    position       bigint GENERATED ALWAYS AS IDENTITY,
    stream         text COLLATE "C" NOT NULL,
    version        integer NOT NULL CHECK (version > 0),
    event_id       uuid NOT NULL,
    type           text NOT NULL,
    data           bytea NOT NULL,
    correlation_id text NOT NULL,
    causation_id   text NOT NULL,
    actor          text NOT NULL,
    happened_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    hash           bytea NOT NULL,
    PRIMARY KEY (stream, version)
);
CREATE UNIQUE INDEX events_in_commit_order ON events (tx, position);
COMMENT ON COLUMN events.tx IS 'pg_current_xact_id() plus log_meta.tx_offset, so that it grows even over a restore';

CREATE TABLE sequenced (
    seq      bigint PRIMARY KEY,
    tx       bigint NOT NULL,
    position bigint NOT NULL
);

CREATE TABLE log_meta (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    tx_offset bigint NOT NULL DEFAULT 0
);
INSERT INTO log_meta DEFAULT VALUES;

CREATE TABLE inbox (
    message     uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE timers (
    stream       text COLLATE "C" NOT NULL,
    name         text NOT NULL,
    due_at       timestamptz NOT NULL,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (stream, name)
);
CREATE INDEX timers_due ON timers (due_at);

CREATE TABLE effects (
    effect_id      text PRIMARY KEY,
    stream         text NOT NULL,
    type           text NOT NULL,
    data           bytea NOT NULL,
    correlation_id text NOT NULL,
    attempts       integer NOT NULL DEFAULT 0,
    next_at        timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX effects_next ON effects (next_at);

CREATE TABLE snapshots (
    stream  text COLLATE "C" PRIMARY KEY,
    version integer NOT NULL,
    code    text NOT NULL,
    state   bytea NOT NULL,
    hash    bytea NOT NULL
);

CREATE TABLE publications (
    topic    text NOT NULL,
    key      text NOT NULL,
    type     text NOT NULL,
    data     bytea NOT NULL,
    revision bigint NOT NULL,
    dirty    boolean NOT NULL,
    PRIMARY KEY (topic, key)
) WITH (fillfactor = 70);
CREATE INDEX publications_dirty ON publications (topic, key) WHERE dirty;

CREATE TABLE relay_cursors (
    shards  integer NOT NULL,
    shard   integer NOT NULL,
    cluster text NOT NULL,
    seq     bigint NOT NULL,
    PRIMARY KEY (shards, shard, cluster)
);

CREATE TABLE blobs (
    sha256 bytea PRIMARY KEY,
    body   bytea NOT NULL
);
