-- Which event asked for an effect: one that was asked for anew has its old id, and an answer to the first request says
-- nothing of the second. What was asked for before this, or by an older release beside it, has one of its own.
ALTER TABLE effects ADD COLUMN asked_by uuid NOT NULL DEFAULT gen_random_uuid();
