-- Goods on their way back.

CREATE TABLE returns (
    key        text COLLATE "C" PRIMARY KEY,
    doc        bytea NOT NULL DEFAULT '{}',
    order_id   text COLLATE "C" NOT NULL DEFAULT '',
    state      text NOT NULL DEFAULT '',
    rma        text NOT NULL DEFAULT '',
    expires_at timestamptz,
    asked_at   timestamptz,
    changed_at timestamptz
);
CREATE INDEX returns_by_state ON returns (state, asked_at DESC NULLS LAST, key);
CREATE INDEX returns_by_age ON returns (asked_at DESC NULLS LAST, key);
CREATE INDEX returns_of_order ON returns (order_id);
