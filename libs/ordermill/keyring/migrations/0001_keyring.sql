-- One key per customer, wrapped by the installation's master key. Forgetting a customer empties the key, never the row.

CREATE TABLE customer_keys (
    key_id       text PRIMARY KEY,
    wrapped      bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
