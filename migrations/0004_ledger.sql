-- Every credit that moved: the ledger, the chain that seals it, top-ups, and what each run used.
-- The triggers that keep ledger, link, top_up and month append-only are in functions/chain.sql.

CREATE TYPE movement AS ENUM ('top_up', 'reserve', 'commit', 'refund');

-- A transaction has two legs at most. Leg 0 opens it (a top-up, a reservation), leg 1 closes it (commit, refund). The
-- primary key, not code, makes sure that a reservation closes exactly once.
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

-- The hash chain of an organisation: one link for each statement that wrote the ledger. functions/chain.sql says how a
-- hash is computed.
CREATE TABLE link (
    organisation_id bigint NOT NULL,
    last_entry      bigint NOT NULL,
    first_entry     bigint NOT NULL,
    at              timestamptz NOT NULL,            -- all its entries are of this instant
    worker_id       bigint,                          -- and by this worker
    available       bigint NOT NULL,                 -- after its last entry, summed over the ledger itself
    reserved        bigint NOT NULL,
    spent           bigint NOT NULL,
    hash            bytea NOT NULL CHECK (octet_length(hash) = 32),
    CHECK (first_entry <= last_entry),
    PRIMARY KEY (organisation_id, last_entry)
);
-- The chart of an organisation's use, day by day.
CREATE INDEX link_at ON link (organisation_id, at);

CREATE TYPE top_up_kind AS ENUM ('purchase', 'admin_grant', 'free_credits', 'adjustment');

CREATE TABLE top_up (
    transaction_id   bigint PRIMARY KEY,
    organisation_id  bigint NOT NULL REFERENCES account,
    kind             top_up_kind NOT NULL,
    amount           bigint NOT NULL CHECK (amount BETWEEN -1000000000 AND 1000000000 AND amount <> 0),
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    note             text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    idempotency_key  text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    at               timestamptz NOT NULL DEFAULT now(),
    -- Where the history and the statement have it: the same, unless the clock was wrong (functions/clock.sql).
    shown_at         timestamptz NOT NULL DEFAULT now(),
    -- The organisation's price at the moment of the purchase.
    price_per_credit numeric(12, 4) CHECK (price_per_credit >= 0),
    currency         text CHECK (currency ~ '^[A-Z]{3}$'),
    -- A top-up that arrives twice is credited once.
    UNIQUE (organisation_id, idempotency_key),
    -- Only an adjustment by staff may take credits away.
    CHECK (amount > 0 OR kind = 'adjustment'),
    CHECK ((price_per_credit IS NULL) = (currency IS NULL)),
    CHECK (price_per_credit IS NULL OR kind = 'purchase')
);
CREATE INDEX top_up_history ON top_up (organisation_id, transaction_id);
CREATE INDEX top_up_shown_at ON top_up (organisation_id, shown_at, transaction_id);

-- A purchase that waits: above what its organisation buys in a month by itself, it is pending, until staff approve or
-- refuse it. Where there is a payment provider, it is unpaid then, until the provider says that it was paid, or that
-- the payment has failed. If nothing comes, it expires. Only an approval (without a provider) or a payment moves
-- credits: it makes the top-up, with the same idempotency key.
CREATE TYPE purchase_state AS ENUM ('pending', 'unpaid', 'approved', 'paid', 'refused', 'expired', 'failed');

CREATE UNIQUE INDEX top_up_as_asked ON top_up (transaction_id, organisation_id, amount);

CREATE TABLE purchase_request (
    request_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id  bigint NOT NULL REFERENCES account,
    credits          bigint NOT NULL CHECK (credits BETWEEN 1 AND 1000000000),
    price_per_credit numeric(12, 4) NOT NULL,        -- that the buyer saw; it is bought at this price, or not
    currency         text NOT NULL,
    actor            text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    note             text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    idempotency_key  text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 200),
    asked_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at       timestamptz NOT NULL,
    state            purchase_state NOT NULL DEFAULT 'pending',
    approved_at      timestamptz,                    -- by staff; it may have to be paid then
    approved_by      text CHECK (length(approved_by) BETWEEN 1 AND 200),
    decided_at       timestamptz,                    -- nothing is left to wait for
    decided_by       text CHECK (length(decided_by) BETWEEN 1 AND 200),
    transaction_id   bigint UNIQUE,                  -- of the top-up that the approval or the payment made
    UNIQUE (organisation_id, idempotency_key),
    CHECK ((state IN ('pending', 'unpaid')) = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)),
    CHECK ((state IN ('approved', 'paid')) = (transaction_id IS NOT NULL)),
    CHECK ((approved_at IS NULL) = (approved_by IS NULL)),
    FOREIGN KEY (transaction_id, organisation_id, credits) REFERENCES top_up (transaction_id, organisation_id, amount)
);
CREATE INDEX purchase_request_history ON purchase_request (organisation_id, request_id);
CREATE INDEX purchase_request_open ON purchase_request (expires_at, organisation_id)
    WHERE state IN ('pending', 'unpaid');
-- One purchase of an automatic top-up waits, and no second one.
CREATE UNIQUE INDEX purchase_request_auto ON purchase_request (organisation_id)
    WHERE actor = 'auto top-up' AND state IN ('pending', 'unpaid');

-- The payment provider whose word purchases wait for. Without a row, they are credited at once.
CREATE TABLE payment_provider (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    provider text NOT NULL CHECK (provider ~ '^[a-z_]{1,40}$'),
    pay_at   text CHECK (length(pay_at) <= 2000)     -- where customers pay, with names of what to put in
);

-- Why a payment did not become credits. Finance deals with it.
CREATE TYPE payment_kept AS ENUM ('unknown_purchase', 'wrong_amount', 'paid_before', 'not_approved', 'refused',
                                  'key_reused');

-- A payment that a provider has reported. It has made a top-up, or was kept for finance.
CREATE TABLE payment (
    payment_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider        text NOT NULL CHECK (length(provider) BETWEEN 1 AND 40),
    reference       text NOT NULL CHECK (length(reference) BETWEEN 1 AND 255), -- the provider's ID of it
    purchase        text NOT NULL CHECK (length(purchase) <= 200), -- as the provider named it
    request_id      bigint REFERENCES purchase_request,
    organisation_id bigint REFERENCES account,
    amount          bigint NOT NULL,                 -- in the smallest unit of the currency
    currency        text NOT NULL CHECK (length(currency) <= 10),
    received_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id  bigint UNIQUE REFERENCES top_up, -- that it has made
    kept            payment_kept,
    settled_at      timestamptz,                     -- somebody has dealt with what was kept
    settled_by      text CHECK (length(settled_by) BETWEEN 1 AND 200),
    settled_note    text CHECK (length(settled_note) <= 1000),
    -- A payment that is reported twice is credited once.
    UNIQUE (provider, reference),
    CHECK ((transaction_id IS NULL) = (kept IS NOT NULL)),
    CHECK (transaction_id IS NULL OR request_id IS NOT NULL),
    CHECK ((settled_at IS NULL) = (settled_by IS NULL) AND (settled_at IS NULL) = (settled_note IS NULL)),
    CHECK (settled_at IS NULL OR kept IS NOT NULL)
);
-- A purchase that is paid twice is credited once.
CREATE UNIQUE INDEX payment_of_purchase ON payment (request_id) WHERE transaction_id IS NOT NULL;
CREATE INDEX payment_history ON payment (organisation_id, payment_id);
-- What finance must still deal with.
CREATE INDEX payment_open ON payment (payment_id) WHERE kept IS NOT NULL AND settled_at IS NULL;

-- What keeps an automatic top-up from buying: why it has stopped, or what it waits for.
CREATE TYPE auto_top_up_reason AS ENUM ('refused', 'expired', 'failed', 'price_changed', 'approval', 'payment',
                                        'no_price', 'month_used_up', 'too_many_requests', 'trouble');

-- What an organisation has decided: when fewer than so many credits are available, so many are bought, at most so many
-- in a month. Its purchases have the actor 'auto top-up', and are purchases like those of people.
CREATE TABLE auto_top_up (
    organisation_id  bigint PRIMARY KEY REFERENCES account,
    switched_on      boolean NOT NULL,
    below            bigint NOT NULL CHECK (below BETWEEN 1 AND 1000000000),
    credits          bigint NOT NULL CHECK (credits BETWEEN 1 AND 1000000000),
    monthly_max      bigint NOT NULL CHECK (monthly_max BETWEEN credits AND 1000000000),
    -- That a person has agreed to. It buys at this price or a lower one.
    price_per_credit numeric(12, 4) NOT NULL,
    currency         text NOT NULL,
    set_by           text NOT NULL CHECK (length(set_by) BETWEEN 1 AND 200),
    set_at           timestamptz NOT NULL,
    purchases        bigint NOT NULL DEFAULT 0,      -- the number of the last one, which is in its idempotency key
    stopped          auto_top_up_reason,             -- a person must switch it on again
    stopped_at       timestamptz,
    waits_for        auto_top_up_reason,             -- it could not buy, and tries again every minute
    tried_at         timestamptz,
    CHECK ((stopped IS NULL) = (stopped_at IS NULL) AND (waits_for IS NULL) = (tried_at IS NULL)),
    CHECK (stopped IS NULL OR waits_for IS NULL)
);
-- Workers look here every two seconds.
CREATE INDEX auto_top_up_on ON auto_top_up (organisation_id) WHERE switched_on AND stopped IS NULL;

-- One row for each run and day of its organisation: the credits that left and came back. They are counted in the
-- transactions that move them. The history shows the row as a Usage row and a Refund row. Each stands where the last
-- of its credits moved: at this instant, and after this entry of the ledger. These rows always add up to the balance,
-- and the rows of a day, or of a month, add up to that day or month.
CREATE TABLE usage (
    run_id            bigint NOT NULL REFERENCES run,
    day               date NOT NULL,
    organisation_id   bigint NOT NULL,
    queue_id          bigint NOT NULL,
    claimed           integer NOT NULL DEFAULT 0,    -- credits that left the balance
    refunded          integer NOT NULL DEFAULT 0,    -- credits that came back
    committed         integer NOT NULL DEFAULT 0,
    undecided         integer NOT NULL DEFAULT 0,    -- of the refunded: the work found no answer
    duplicates        integer NOT NULL DEFAULT 0,    -- and these had a content that was paid for
    first_claimed_at  timestamptz,
    last_claimed_at   timestamptz,
    claimed_entry     bigint,                        -- the account's last entry after the last of these claims
    first_refunded_at timestamptz,
    last_refunded_at  timestamptz,
    refunded_entry    bigint,                        -- and after the last settlement that refunded
    CHECK (claimed >= 0 AND refunded >= 0 AND committed >= 0 AND undecided >= 0 AND duplicates >= 0
           AND undecided + duplicates <= refunded),
    CHECK ((claimed > 0) = (first_claimed_at IS NOT NULL)),
    CHECK ((claimed > 0) = (last_claimed_at IS NOT NULL) AND (claimed > 0) = (claimed_entry IS NOT NULL)),
    CHECK ((refunded > 0) = (first_refunded_at IS NOT NULL)),
    CHECK ((refunded > 0) = (last_refunded_at IS NOT NULL) AND (refunded > 0) = (refunded_entry IS NOT NULL)),
    PRIMARY KEY (run_id, day)
) WITH (fillfactor = 50);
-- The indexes are on columns that are written once, so that counting stays heap-only.
CREATE INDEX usage_used ON usage (organisation_id, day, run_id) WHERE first_claimed_at IS NOT NULL;
CREATE INDEX usage_refunded ON usage (organisation_id, day, run_id) WHERE first_refunded_at IS NOT NULL;
-- The history of an event reads its queues' rows, day by day.
CREATE INDEX usage_of_queue ON usage (queue_id, day);

GRANT SELECT ON ledger, link, top_up, purchase_request, payment_provider, payment, auto_top_up, usage
TO photogate_app;
