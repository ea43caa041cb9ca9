-- What each location has to do.

CREATE TABLE fulfillments (
    key         text COLLATE "C" PRIMARY KEY,
    doc         bytea NOT NULL DEFAULT '{}',
    order_id    text COLLATE "C" NOT NULL DEFAULT '',
    external_id text NOT NULL DEFAULT '',
    location    text COLLATE "C" NOT NULL DEFAULT '',
    step        text NOT NULL DEFAULT '',
    ship_by     timestamptz,
    shipped_at  timestamptz,
    carriers    text[] NOT NULL DEFAULT '{}',
    tracking    text[] NOT NULL DEFAULT '{}'
);
CREATE INDEX fulfillments_to_do ON fulfillments (location, step, ship_by, key)
    WHERE step IN ('accept', 'pick', 'pack', 'label', 'hand-over');
CREATE INDEX fulfillments_shipped ON fulfillments (location, shipped_at DESC) WHERE shipped_at IS NOT NULL;
CREATE INDEX fulfillments_of_order ON fulfillments (order_id);
CREATE INDEX fulfillments_by_reference ON fulfillments (location, external_id);
CREATE INDEX fulfillments_by_tracking ON fulfillments USING gin (tracking);
