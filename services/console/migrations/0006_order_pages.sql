-- What the queue shows and sorts by, and what the order page looks up.

ALTER TABLE orders
    ADD COLUMN why  text[] NOT NULL DEFAULT '{}',
    ADD COLUMN what text NOT NULL DEFAULT '',
    ALTER COLUMN placed_at SET DEFAULT '-infinity',
    ALTER COLUMN changed_at SET DEFAULT '-infinity';
COMMENT ON COLUMN orders.why IS 'One reason for each of attention';

DROP INDEX orders_by_age, orders_by_status, orders_by_channel, orders_in_need;
CREATE INDEX orders_by_age ON orders (placed_at, key);
CREATE INDEX orders_by_change ON orders (changed_at, key);
CREATE INDEX orders_by_promise ON orders ((coalesce(promised_by, 'infinity')), key);
CREATE INDEX orders_by_status ON orders (status, placed_at, key);
CREATE INDEX orders_by_channel ON orders (channel, placed_at, key);
CREATE INDEX orders_in_need ON orders (placed_at, key) INCLUDE (attention) WHERE attention <> '{}';

CREATE INDEX events_by_id ON events (message_id);
CREATE INDEX events_by_cause ON events (causation_id);
CREATE INDEX names_of_order ON names (order_id);

-- Pictures have new fields: all are drawn again, from topics read again from their start.
DO $$
DECLARE picture text;
BEGIN
    FOR picture IN
        SELECT table_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND column_name = 'doc'
    LOOP
        EXECUTE format('TRUNCATE %I', picture);
    END LOOP;
    TRUNCATE events, names;
    UPDATE generation SET id = gen_random_uuid();
END $$;
