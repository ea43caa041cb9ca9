-- Whoever is asked for an effect answers in their own time: effects are claimed by lane, so that none holds up another's.
ALTER TABLE effects ADD COLUMN lane text NOT NULL DEFAULT '';
CREATE INDEX effects_due ON effects (lane, next_at);
DROP INDEX effects_next;
