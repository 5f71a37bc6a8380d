-- Organisations, their accounts, and how an account stood when each month began.

CREATE TABLE organisation (
    organisation_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 200),
    -- The ID that another program has for it. Creating it again with the same one finds it.
    reference        text UNIQUE CHECK (reference = btrim(reference) AND length(reference) BETWEEN 1 AND 200),
    time_zone        text NOT NULL DEFAULT 'UTC',    -- its days and months begin and end in this zone
    created_at       timestamptz NOT NULL DEFAULT now(),
    -- What a credit costs. Without a price nothing can be purchased. Staff may grant.
    price_per_credit numeric(12, 4) CHECK (price_per_credit >= 0),
    currency         text CHECK (currency ~ '^[A-Z]{3}$'), -- ISO 4217
    -- Its people may buy. Staff switch it off, for instance while an invoice is open; the price stays.
    purchasing       boolean NOT NULL DEFAULT true,
    -- It pays by a contract: its people do not buy, and staff grant what was agreed.
    custom_billing   boolean NOT NULL DEFAULT false,
    -- Where its photos are in the store. Its people can enqueue no others, and so see no others. Empty: anywhere.
    photos_under     text NOT NULL DEFAULT '' CHECK (length(photos_under) <= 500),
    -- So many credits its people buy in a month by themselves. What is above it waits for staff (purchase_request).
    purchase_limit   bigint NOT NULL DEFAULT 10000 CHECK (purchase_limit BETWEEN 0 AND 1000000000),
    -- Its feed of changes says which photos are settled.
    feeds_photos     boolean NOT NULL DEFAULT false,
    CHECK ((price_per_credit IS NULL) = (currency IS NULL)),
    -- A part of the store is a directory. Without the slash, "club" would also be a prefix of "club-b".
    CONSTRAINT organisation_photos_under CHECK (photos_under = '' OR right(photos_under, 1) = '/')
);

-- The credits of an organisation: the one hot row of the credit gate. It is narrow, and no column that a movement
-- changes is in an index, so that every update is heap-only (HOT) and stays in its page.
CREATE TABLE account (
    organisation_id bigint PRIMARY KEY REFERENCES organisation,
    funded          bigint NOT NULL DEFAULT 0 CHECK (funded    >= 0), -- every credit that ever came in
    available       bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
    reserved        bigint NOT NULL DEFAULT 0 CHECK (reserved  >= 0), -- one for each photo in flight
    spent           bigint NOT NULL DEFAULT 0 CHECK (spent     >= 0),
    entries         bigint NOT NULL DEFAULT 0,                        -- the number of its last ledger entry; no gaps
    queue_cursor    bigint NOT NULL DEFAULT 0,                        -- claims go round robin over its queues
    day             date NOT NULL,                                    -- the day that is open, and so the month
    day_ends_at     timestamptz NOT NULL,
    -- When the account last moved. Whoever moves it holds its lock and books at the later of now and this. So the
    -- instants of an organisation's ledger never decrease, a day and a month are ranges of entries, and what is over
    -- does not change.
    moved_at        timestamptz NOT NULL DEFAULT now(),
    -- Credit came, and a paused queue was locked by somebody else. The next claim resumes it. Nobody who holds an
    -- account waits for a queue.
    resume_due      boolean NOT NULL DEFAULT false,
    -- It has decided how its credits are spent (steering, budget). Claims of others do not look there.
    steered         boolean NOT NULL DEFAULT false,
    -- Somebody hears which photos are settled (webhook, feed): settlements say it.
    tells_photos    boolean NOT NULL DEFAULT false,
    -- Below the one and from the other on, a rule for a low balance changes (functions/alerts.sql).
    alarm_below     bigint NOT NULL DEFAULT 0,
    calm_from       bigint NOT NULL DEFAULT 9223372036854775807,
    -- Double entry, checked on every version of the row.
    CHECK (funded = available + reserved + spent)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);
-- Almost always empty. Updates that leave resume_due as it is stay heap-only.
CREATE INDEX account_resume_due ON account (organisation_id) WHERE resume_due;

-- The account as it stood when a month began. A row is written once: by the first movement of the month, or by whoever
-- closes the month before. Only a month that has not begun can be taken back. A month without movements has no row. It
-- began as the next month did.
CREATE TABLE month (
    organisation_id bigint NOT NULL REFERENCES account,
    month           date NOT NULL CHECK (extract(day FROM month) = 1),
    entries         bigint NOT NULL,                 -- the last ledger entry before it
    funded          bigint NOT NULL,
    available       bigint NOT NULL,
    reserved        bigint NOT NULL,
    spent           bigint NOT NULL,
    CHECK (funded = available + reserved + spent),
    PRIMARY KEY (organisation_id, month)
);

-- A person has said that the clock of the database is right, although nothing else tells (functions/clock.sql).
CREATE TABLE clock_confirmation (
    at    timestamptz PRIMARY KEY,
    actor text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200)
);

-- A person has put an account back that was booked in the future, because the clock was wrong (functions/clock.sql).
CREATE TABLE clock_repair (
    organisation_id bigint NOT NULL REFERENCES account,
    entry           bigint NOT NULL,                 -- the last entry before: it may be of an instant after `at`
    booked_to       timestamptz NOT NULL,            -- that instant
    at              timestamptz NOT NULL,            -- from here on the account is booked again
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    PRIMARY KEY (organisation_id, entry)
);

GRANT SELECT ON organisation, account, month, clock_confirmation, clock_repair TO photogate_app;
