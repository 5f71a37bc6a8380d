-- An organisation owns the credits; its account is the one hot row of the credit gate.

CREATE TABLE organisation (
    organisation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 200),
    time_zone       text NOT NULL DEFAULT 'UTC',
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- Narrow, and indexed by its primary key alone, so that every update is heap-only (HOT) and stays in its page.
CREATE TABLE account (
    organisation_id bigint PRIMARY KEY REFERENCES organisation,
    funded          bigint NOT NULL DEFAULT 0 CHECK (funded    >= 0), -- every credit that ever came in
    available       bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
    reserved        bigint NOT NULL DEFAULT 0 CHECK (reserved  >= 0), -- one for each photo in flight
    spent           bigint NOT NULL DEFAULT 0 CHECK (spent     >= 0),
    entries         bigint NOT NULL DEFAULT 0,                        -- the number of its last ledger entry; no gaps
    queue_cursor    bigint NOT NULL DEFAULT 0,                        -- round robin over its queues
    -- Double entry, held on every version of the row.
    CHECK (funded = available + reserved + spent)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

GRANT SELECT ON organisation, account TO photogate_app;
