-- A relay's look in one way to the server: number what has no number yet, then read on. In a function each statement
-- sees what was committed before it, and is planned once.

CREATE FUNCTION number_events(tx_offset bigint, most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    numbered bigint;
BEGIN
    -- Under one snapshot, taken before the wait, two sequencers would hand out the same numbers.
    PERFORM pg_advisory_xact_lock(hashtextextended('sequence', 2));
    WITH last AS (
        SELECT * FROM (
            (SELECT seq, tx, position FROM sequenced ORDER BY seq DESC LIMIT 1) UNION ALL SELECT 0, -1, -1) AS l
        ORDER BY seq DESC LIMIT 1)
    INSERT INTO sequenced (seq, tx, position)
    SELECT (SELECT seq FROM last) + row_number() OVER (ORDER BY tx, position), tx, position FROM (
        SELECT tx, position FROM events
        WHERE (tx, position) > ((SELECT tx FROM last), (SELECT position FROM last))
              AND tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint + tx_offset
        ORDER BY tx, position LIMIT most) AS fresh;
    GET DIAGNOSTICS numbered = ROW_COUNT;
    RETURN numbered;
END $$;
COMMENT ON FUNCTION number_events IS 'Numbers committed events in the order of their commits; callers take turns';

-- LATERAL with LIMIT is looked up row by row. A plain join was planned while the tables were empty, and then read all of
-- events for each page.
CREATE FUNCTION read_events(beyond bigint, most bigint, shard integer, shards integer)
RETURNS TABLE (
    seq bigint, stream text, version integer, event_id uuid, type text, data bytea, correlation_id text,
    causation_id text, actor text, happened_at timestamptz, recorded_at timestamptz, hash bytea, trace text)
LANGUAGE sql STABLE AS $$
    SELECT s.seq, e.stream, e.version, e.event_id, e.type, e.data, e.correlation_id, e.causation_id, e.actor,
           e.happened_at, e.recorded_at, e.hash, e.trace
    FROM sequenced s
    CROSS JOIN LATERAL (SELECT * FROM events WHERE tx = s.tx AND position = s.position LIMIT 1) AS e
    WHERE s.seq > beyond AND abs(hashtextextended(e.stream, 0) % shards) = shard
    ORDER BY s.seq LIMIT most
$$;
COMMENT ON FUNCTION read_events IS 'Up to so many events beyond a number, in order, of one shard';

CREATE FUNCTION next_page(tx_offset bigint, beyond bigint, most bigint, shard integer, shards integer)
RETURNS TABLE (
    seq bigint, stream text, version integer, event_id uuid, type text, data bytea, correlation_id text,
    causation_id text, actor text, happened_at timestamptz, recorded_at timestamptz, hash bytea, trace text,
    topic text, key text, revision bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF shard = 0 THEN
        PERFORM number_events(tx_offset, 5000);
    END IF;
    RETURN QUERY SELECT e.*, NULL::text, NULL::text, NULL::bigint FROM read_events(beyond, most, shard, shards) AS e;
    IF shard = 0 THEN
        -- Read after the events, so that a state is at least as new as an event that goes out behind it.
        RETURN QUERY
        SELECT NULL::bigint, NULL::text, NULL::integer, NULL::uuid, p.type, p.data, NULL::text, NULL::text, NULL::text,
               NULL::timestamptz, NULL::timestamptz, NULL::bytea, NULL::text, p.topic, p.key, p.revision
        FROM publications p WHERE p.dirty LIMIT most;
    END IF;
END $$;
COMMENT ON FUNCTION next_page IS 'What a relay has to publish: events have a seq, latest states a topic';
