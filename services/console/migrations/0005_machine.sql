-- Dead letters of all services, without their bodies: those lie with the service that keeps them.

CREATE TABLE letters (
    key          text COLLATE "C" PRIMARY KEY,
    doc          bytea NOT NULL DEFAULT '{}',
    service      text NOT NULL DEFAULT '',
    status       text NOT NULL DEFAULT '',
    code         text NOT NULL DEFAULT '',
    source_topic text NOT NULL DEFAULT '',
    kept_at      timestamptz
);
CREATE INDEX letters_waiting ON letters (kept_at, key) WHERE status = 'waiting';
COMMENT ON COLUMN letters.key IS '<service>:<letter id>; several services may keep a letter of one message';
