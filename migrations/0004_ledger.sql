-- Every credit that moved. A transaction has two legs at most: leg 0 opens it (a top-up, a reservation), leg 1 closes
-- it (commit, refund). That a reservation closes exactly once is this primary key, not code.

CREATE TYPE movement AS ENUM ('top_up', 'reserve', 'commit', 'refund');

CREATE TABLE ledger (
    transaction_id  bigint NOT NULL,
    leg             smallint NOT NULL,
    movement        movement NOT NULL,
    organisation_id bigint NOT NULL,
    entry           bigint NOT NULL,                 -- 1, 2, 3 … of the organisation, without a gap
    amount          bigint NOT NULL,
    worker_id       bigint,                          -- who moved it; a top-up's actor stands in top_up
    at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (transaction_id, leg),
    CHECK ((leg = 0) = (movement IN ('top_up', 'reserve')) AND leg IN (0, 1)),
    CHECK (CASE WHEN movement = 'top_up' THEN amount <> 0 ELSE amount = 1 END),
    CHECK ((movement = 'top_up') = (worker_id IS NULL))
);
CREATE UNIQUE INDEX ledger_entry ON ledger (organisation_id, entry);

CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: correct it with a new entry, such as a refund' USING ERRCODE = 'PG005';
END $$;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TYPE top_up_kind AS ENUM ('purchase', 'admin_grant', 'free_credits', 'refund');

CREATE TABLE top_up (
    transaction_id  bigint PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES account,
    kind            top_up_kind NOT NULL,
    amount          bigint NOT NULL CHECK (amount BETWEEN -1000000000 AND 1000000000 AND amount <> 0),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    note            text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    at              timestamptz NOT NULL DEFAULT now(),
    -- A top-up that arrives twice is credited once.
    UNIQUE (organisation_id, idempotency_key),
    -- Only support's adjustment may take credits away.
    CHECK (amount > 0 OR kind = 'refund')
);
CREATE TRIGGER top_up_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON top_up
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE INDEX top_up_history ON top_up (organisation_id, transaction_id);

GRANT SELECT ON ledger, top_up TO photogate_app;
