-- What photogate says to the outside: changes, in an organisation's order; who hears them; and what was delivered.
-- Functions: changes.sql (write and number), webhooks.sql (deliver), mail.sql (e-mail).

CREATE TYPE change_type AS ENUM ('run.queued', 'run.started', 'run.finished', 'run.cancelled', 'run.undone',
    'photo.processed', 'event.paused', 'event.resumed', 'event.finished', 'event.held', 'event.lifted', 'event.deleted',
    'credits.added', 'purchase.asked', 'purchase.decided', 'payment.kept', 'auto_top_up.stopped', 'webhook.disabled',
    'webhook.ping', 'alert.raised', 'alert.cleared');

-- What concerns those who run photogate is said to them: they are organisation 0 in the tables of this file, and in no
-- other. So these have no foreign key to organisation; the functions that write them look for it.

-- A change is written here in the transaction of its cause. That costs a row and an entry in one index.
CREATE TABLE new_change (
    change_id       bigint GENERATED ALWAYS AS IDENTITY,
    organisation_id bigint NOT NULL,                 -- no reference: whoever has an account waits for nothing else
    type            change_type NOT NULL,
    subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 100), -- changes of one subject stay in order
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    data            jsonb NOT NULL,
    jobs            bigint[],                        -- of photo.processed; what came of them is read when it is said
    CHECK ((jobs IS NOT NULL) = (type = 'photo.processed')),
    PRIMARY KEY (organisation_id, change_id)
);
-- A queue is finished once with so many photos.
CREATE UNIQUE INDEX new_change_finished ON new_change (subject, (data ->> 'operation'), (data ->> 'photos'))
WHERE type = 'event.finished';

-- It comes here when it gets its number: when it is seen, so after its transaction. A number that is given out means
-- that all smaller ones are there, and no later change comes in between.
CREATE TABLE change (
    organisation_id bigint NOT NULL,
    position        bigint NOT NULL,                 -- in the organisation; no gaps
    type            change_type NOT NULL,
    subject         text NOT NULL,
    at              timestamptz NOT NULL,
    data            jsonb NOT NULL,
    jobs            bigint[],
    PRIMARY KEY (organisation_id, position)
);

-- The last number that was given out in an organisation. Who numbers has this row.
CREATE TABLE change_end (
    organisation_id bigint PRIMARY KEY,
    position        bigint NOT NULL DEFAULT 0,
    forgotten       bigint NOT NULL DEFAULT 0,       -- changes up to this one are not kept any more
    -- Before this, none of its changes is old enough to be deleted. NULL: none is kept.
    oldest_at       timestamptz
);
CREATE INDEX change_oldest ON change_end (oldest_at) WHERE oldest_at IS NOT NULL;

-- An address of an organisation that hears changes.
CREATE TABLE webhook (
    webhook_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id  bigint NOT NULL,
    url              text NOT NULL CHECK (length(url) BETWEEN 8 AND 2000),
    types            change_type[] NOT NULL CHECK (cardinality(types) BETWEEN 1 AND 50),
    secret           bytea NOT NULL CHECK (octet_length(secret) BETWEEN 24 AND 64),
    -- After a rotation both sign, until then.
    old_secret       bytea CHECK (octet_length(old_secret) BETWEEN 24 AND 64),
    old_secret_until timestamptz,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by       text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    -- By a person, or (System) after three days without an answer.
    disabled_at      timestamptz,
    disabled_by      text CHECK (length(disabled_by) BETWEEN 1 AND 200),
    failing_since    timestamptz,                    -- nothing was delivered since; NULL: the last call succeeded
    failures         integer NOT NULL DEFAULT 0,     -- in a row
    rests_until      timestamptz,                    -- after a failure, nothing is sent until then
    -- When there is something to do for it next; NULL: nothing. It is computed by keep_webhook.
    due_at           timestamptz,
    CHECK ((old_secret IS NULL) = (old_secret_until IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_by IS NULL)),
    CHECK ((failing_since IS NULL) = (failures = 0))
);
CREATE INDEX webhook_of_organisation ON webhook (organisation_id, webhook_id);
-- Those that fail have places of their own among the calls.
CREATE INDEX webhook_due ON webhook (due_at) WHERE disabled_at IS NULL AND failing_since IS NULL;
CREATE INDEX webhook_failing_due ON webhook (due_at) WHERE disabled_at IS NULL AND failing_since IS NOT NULL;

-- A change that goes to a webhook. The row is written when the change is numbered.
CREATE TYPE delivery_state AS ENUM ('waiting', 'delivered');

CREATE TABLE delivery (
    webhook_id      bigint NOT NULL REFERENCES webhook ON DELETE CASCADE,
    position        bigint NOT NULL,
    organisation_id bigint NOT NULL,
    type            change_type NOT NULL,
    subject         text NOT NULL,
    state           delivery_state NOT NULL DEFAULT 'waiting',
    -- Of those that wait: when it is tried next. NULL: an earlier one of the same subject comes first.
    due_at          timestamptz,
    leased_until    timestamptz,                     -- a worker tries it now; until then nobody else does
    attempts        integer NOT NULL DEFAULT 0,      -- calls; the number is the fence
    failures        integer NOT NULL DEFAULT 0,      -- in a row
    failing_since   timestamptz,
    tried_at        timestamptz,
    status          integer CHECK (status BETWEEN 100 AND 999), -- the last answer's
    trouble         text CHECK (length(trouble) <= 300), -- or why there was none
    delivered_at    timestamptz,
    CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CHECK (state = 'waiting' OR due_at IS NULL AND leased_until IS NULL),
    PRIMARY KEY (webhook_id, position)
) WITH (fillfactor = 70);
CREATE INDEX delivery_due ON delivery (webhook_id, due_at) WHERE state = 'waiting' AND due_at IS NOT NULL;
CREATE INDEX delivery_leased ON delivery (organisation_id, leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX delivery_of_subject ON delivery (webhook_id, subject, position) WHERE state = 'waiting';

-- What an organisation wants to be alerted of; and, the last two, the staff.
CREATE TYPE alert_kind AS ENUM ('low_balance', 'time_to_zero', 'failures', 'floor_short', 'hold_ends', 'books_drift',
    'purchase_waits');

CREATE TABLE alert (
    alert_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    kind            alert_kind NOT NULL,
    -- Raised below so many credits, hours, or minutes; or above so many percent, credits, rows, or hours.
    threshold       numeric(12, 2) NOT NULL CHECK (threshold BETWEEN 0 AND 1000000000),
    raised_at       timestamptz,                     -- NULL: it is not raised
    measured        numeric,                         -- when it was raised or cleared last
    judged_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by      text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    CHECK (threshold > 0 OR kind NOT IN ('low_balance', 'time_to_zero', 'hold_ends')),
    CHECK ((organisation_id = 0) = (kind IN ('books_drift', 'purchase_waits'))),
    UNIQUE (organisation_id, kind, threshold)
);
CREATE INDEX alert_due ON alert (judged_at) WHERE kind <> 'low_balance';
-- The staff hear of these without asking.
INSERT INTO alert (organisation_id, kind, threshold, created_by)
VALUES (0, 'books_drift', 0, 'System'), (0, 'purchase_waits', 24, 'System');

-- What a person can be told of by e-mail. topic_of() says which types of changes belong to which.
CREATE TYPE mail_topic AS ENUM ('events', 'runs', 'holds', 'alerts', 'credits', 'purchases', 'technical');

-- What a person hears by e-mail. It reads the feed by a cursor, so a storm of changes is one mail and no row.
CREATE TABLE mailbox (
    person_id        bigint PRIMARY KEY REFERENCES person,
    organisation_id  bigint NOT NULL,                -- whose feed: the person's; 0: that of the staff
    topics           mail_topic[] NOT NULL DEFAULT '{}' CHECK (cardinality(topics) <= 20), -- empty: nothing is sent
    -- The links in its mails are computed with it. Only the functions of mail.sql read it.
    key              bytea NOT NULL CHECK (octet_length(key) = 32),
    set_by           text NOT NULL CHECK (length(set_by) BETWEEN 1 AND 200),
    set_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    own_topics       mail_topic[],                   -- what the person has chosen themselves; others cannot add to it
    -- Somebody else may have typed the address. So the first mail only asks whether its owner wants more.
    confirm_asked_at timestamptz,
    confirm_sent_at  timestamptz,                    -- when the last question was tried last, arrived or not
    confirm_mails    integer NOT NULL DEFAULT 0,     -- questions that were tried, and not answered
    confirmed_at     timestamptz,
    position         bigint NOT NULL DEFAULT 0,      -- told up to this change; far behind, if nothing waits for it
    upto             bigint,                         -- the mail that is on its way says what is up to this one
    skipped          bigint NOT NULL DEFAULT 0,      -- changes that were deleted before they could be told
    waits_since      timestamptz,                    -- something is to be told; NULL: nothing
    is_urgent        boolean NOT NULL DEFAULT false,
    sent_at          timestamptz,                    -- the last mail with changes
    leased_until     timestamptz,                    -- a worker sends a mail now; until then nobody else does
    attempts         integer NOT NULL DEFAULT 0,     -- mails that were begun; the number is the fence
    failures         integer NOT NULL DEFAULT 0,     -- of this address, in a row; mail_server has the server's
    failing_since    timestamptz,
    is_bare          boolean NOT NULL DEFAULT false, -- the server refused its words: the next mail has none of others
    rests_until      timestamptz,
    trouble          text CHECK (length(trouble) <= 300), -- why the last mail did not arrive
    stopped_at       timestamptz,                    -- the server says that there is no such address
    CHECK (confirmed_at IS NULL OR confirm_asked_at IS NOT NULL),
    CHECK ((failing_since IS NULL) = (failures = 0))
);
CREATE INDEX mailbox_of_organisation ON mailbox (organisation_id, person_id);
CREATE INDEX mailbox_waits ON mailbox (waits_since) WHERE waits_since IS NOT NULL AND stopped_at IS NULL;
CREATE INDEX mailbox_leased ON mailbox (organisation_id) WHERE leased_until IS NOT NULL;
CREATE INDEX mailbox_asked ON mailbox (organisation_id, confirm_sent_at) WHERE confirm_sent_at IS NOT NULL;

-- How the mail server is. While it rests, nothing is sent, and no mailbox counts that.
CREATE TABLE mail_server (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    failing_since timestamptz,
    failures      integer NOT NULL DEFAULT 0,
    rests_until   timestamptz,
    trouble       text CHECK (length(trouble) <= 300),
    sent_at       timestamptz                        -- when it took a mail last, to ten seconds
);
INSERT INTO mail_server DEFAULT VALUES;

GRANT SELECT ON alert, mail_server TO photogate_app;
GRANT SELECT (person_id, organisation_id, topics, set_by, set_at, confirm_asked_at, confirm_sent_at, confirm_mails,
    confirmed_at, position, waits_since, sent_at, failures, rests_until, trouble, stopped_at)
ON mailbox TO photogate_app;
GRANT SELECT ON new_change, change, change_end, delivery TO photogate_app;
-- Nobody reads the secrets: the functions that deliver give them to a worker.
GRANT SELECT (webhook_id, organisation_id, url, types, old_secret_until, created_at, created_by, disabled_at,
    disabled_by, failing_since, failures, rests_until, due_at) ON webhook TO photogate_app;
