-- When the books were checked, and what was found. Workers take turns: one of them checks, for all.

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

-- What the last check of the books found is in the metrics of every worker, not only of the one that made it.
GRANT SELECT ON reconciliation TO photogate_app, photogate_worker;
