-- When the books were checked, how far, and what was found. Workers take turns: one of them checks, for all.

CREATE TYPE reconciliation_kind AS ENUM ('incremental', 'full');

CREATE TABLE reconciliation (
    reconciliation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       reconciliation_kind NOT NULL,
    worker_id  bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    violations bigint,
    broken     jsonb,                                -- the invariants that do not hold, with organisations and rows
    CHECK ((ended_at IS NULL) = (violations IS NULL) AND (violations > 0) = (broken IS NOT NULL))
);
CREATE INDEX reconciliation_latest ON reconciliation (kind, started_at);
-- Almost always empty.
CREATE INDEX reconciliation_wrong ON reconciliation (reconciliation_id) WHERE violations > 0;

-- How far the full checks of workers have come. What is behind these marks was checked and was right, and does not
-- change. The next check goes on from here, so its cost grows with what has moved, not with the history.
CREATE TABLE ledger_checked (
    organisation_id bigint PRIMARY KEY REFERENCES account,
    entries         bigint NOT NULL                  -- the ledger was right up to this entry
);
CREATE TABLE queue_checked (
    queue_id bigint PRIMARY KEY REFERENCES queue,
    head     bigint NOT NULL,                        -- the jobs up to this position had been claimed or passed over
    tail     bigint NOT NULL,                        -- those up to this one were there
    settled  bigint NOT NULL                         -- so many of them were settled; -1: the check was not done yet
);

-- What the last check of the books found is in the metrics of every worker, not only of the one that made it.
GRANT SELECT ON reconciliation, ledger_checked, queue_checked TO photogate_app, photogate_worker;
