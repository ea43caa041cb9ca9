-- Which trace recorded an event (W3C traceparent), and which one its timers and effects go on with. Telemetry, not
-- history: no hash covers it, and it is null in what was recorded while tracing was off.

ALTER TABLE events ADD COLUMN trace text;
ALTER TABLE timers ADD COLUMN trace text;
ALTER TABLE effects ADD COLUMN trace text,
                    ADD COLUMN asked_at timestamptz NOT NULL DEFAULT now();
