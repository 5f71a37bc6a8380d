-- A person takes photos out of a queue before they are claimed. Their jobs stay where they are, for a queue is a log;
-- the claim passes over them, and reserves nothing.

CREATE TABLE skip (
    queue_id bigint NOT NULL,
    position bigint NOT NULL,
    photo_id uuid NOT NULL,
    actor    text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue_id, position)
);

-- How many of the positions in (head, tail] are skipped. A queue with nothing else left is drained.
ALTER TABLE queue ADD COLUMN skipped bigint NOT NULL DEFAULT 0,
    ADD CHECK (skipped >= 0 AND (skipped = 0 OR skipped < tail - head));

GRANT SELECT ON skip TO photogate_app;
