-- What is where, and where orders ship from.

CREATE TABLE stock (
    key         text COLLATE "C" PRIMARY KEY,
    doc         bytea NOT NULL DEFAULT '{}',
    title       text NOT NULL DEFAULT '',
    locations   text[] NOT NULL DEFAULT '{}',
    on_hand     bigint NOT NULL DEFAULT 0,
    available   bigint NOT NULL DEFAULT 0,
    backordered bigint NOT NULL DEFAULT 0,
    negative    boolean NOT NULL DEFAULT false,
    changed_at  timestamptz
);
CREATE INDEX stock_by_available ON stock (available, key);
CREATE INDEX stock_by_change ON stock (changed_at DESC NULLS LAST, key);
CREATE INDEX stock_backordered ON stock (key) WHERE backordered > 0;
CREATE INDEX stock_negative ON stock (key) WHERE negative;

CREATE TABLE routes (
    key        text COLLATE "C" PRIMARY KEY,
    doc        bytea NOT NULL DEFAULT '{}',
    status     text NOT NULL DEFAULT '',
    parcels    integer NOT NULL DEFAULT 0,
    cost_minor bigint NOT NULL DEFAULT 0,
    currency   text NOT NULL DEFAULT '',
    again      integer NOT NULL DEFAULT 0,
    decided_at timestamptz
);
CREATE INDEX routes_by_age ON routes (decided_at DESC NULLS LAST, key);
CREATE INDEX routes_by_status ON routes (status, decided_at DESC NULLS LAST, key);
