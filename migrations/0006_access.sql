-- Who may use the service: people who log in, tokens for programs, and what each of them did.

CREATE TYPE access_role AS ENUM ('pipeline', 'organiser', 'operator', 'finance', 'staff');

CREATE TABLE person (
    person_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email           text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 200),
    password        text NOT NULL,                   -- Argon2id, in PHC form
    role            access_role NOT NULL CHECK (role <> 'pipeline'),
    organisation_id bigint REFERENCES organisation,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at     timestamptz,
    time_zone       text CHECK (length(time_zone) <= 100), -- in which pages show times; NULL: the organisation's
    -- Who works for an organisation belongs to it; who runs photogate belongs to none.
    CONSTRAINT person_belongs CHECK (organisation_id IS NOT NULL OR role IN ('operator', 'finance', 'staff')),
    CONSTRAINT person_staff CHECK (organisation_id IS NULL OR role <> 'staff'),
    UNIQUE (email)
);

-- The second factor of a person: the secret that their app computes codes with (TOTP). The service computes them too,
-- so it must be able to read it. No worker can.
CREATE TABLE second_factor (
    person_id    bigint PRIMARY KEY REFERENCES person,
    secret       bytea NOT NULL CHECK (octet_length(secret) = 20),
    begun_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The session that has begun it, after the password. No other sees the secret, or confirms it.
    session_hash bytea CHECK (octet_length(session_hash) = 32),
    confirmed_at timestamptz,                        -- NULL: shown, and no code has come yet
    last_step    bigint NOT NULL DEFAULT 0           -- of the last code: none is accepted twice
);

-- What lets the person in once if the app is lost.
CREATE TABLE recovery_code (
    person_id bigint REFERENCES second_factor ON DELETE CASCADE,
    hash      bytea CHECK (octet_length(hash) = 32),
    PRIMARY KEY (person_id, hash)
);

-- A link with which somebody chooses a password: for a new account, or for that of a person. A link that was used or
-- withdrawn has no row any more.
CREATE TABLE invitation (
    invitation_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    email           text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 200),
    role            access_role NOT NULL CHECK (role <> 'pipeline'),
    organisation_id bigint REFERENCES organisation,
    person_id       bigint REFERENCES person,        -- whose password; NULL: a new account
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    CONSTRAINT invitation_belongs CHECK (organisation_id IS NOT NULL OR role IN ('operator', 'finance', 'staff')),
    CONSTRAINT invitation_staff CHECK (organisation_id IS NULL OR role <> 'staff')
);
CREATE INDEX invitation_organisation ON invitation (organisation_id, invitation_id);
CREATE INDEX invitation_person ON invitation (person_id);

-- A secret of 256 random bits cannot be guessed. So its hash needs no salt, and is found by index.
CREATE TABLE token (
    token_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint            text NOT NULL,                   -- how it begins, to tell it from others
    name            text NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 100),
    role            access_role NOT NULL,
    organisation_id bigint REFERENCES organisation,
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    last_used_at    timestamptz,                     -- to the minute
    revoked_at      timestamptz,
    CONSTRAINT token_belongs CHECK (organisation_id IS NOT NULL OR role IN ('operator', 'finance', 'staff')),
    CONSTRAINT token_staff CHECK (organisation_id IS NULL OR role <> 'staff')
);
CREATE INDEX token_organisation ON token (organisation_id, token_id);

-- A browser that is logged in, by a password or by a token. The session ends when the token is revoked or expires, and
-- when the person is disabled or gets a new password.
CREATE TABLE session (
    hash         bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    session_id   bigint GENERATED ALWAYS AS IDENTITY UNIQUE, -- with it the owner ends the session; it lets nobody in
    person_id    bigint REFERENCES person,
    token_id     bigint REFERENCES token,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- to the minute
    expires_at   timestamptz NOT NULL,
    address      text NOT NULL CHECK (length(address) <= 100),
    browser      text NOT NULL CHECK (length(browser) <= 200), -- what the browser says that it is
    awaits_code  boolean NOT NULL DEFAULT false,     -- the password was right, the second factor has not come yet
    CHECK ((person_id IS NULL) <> (token_id IS NULL))
);
CREATE INDEX session_expiry ON session (expires_at);
CREATE INDEX session_person ON session (person_id, session_id);
CREATE INDEX session_token ON session (token_id, session_id);

-- Tries to log in, by the hash of who is counted: a network, an account, or an account from a network. See may_log_in.
CREATE TABLE login_try (
    who   bytea PRIMARY KEY CHECK (octet_length(who) = 32),
    tries numeric NOT NULL,
    at    timestamptz NOT NULL
);
CREATE INDEX login_try_at ON login_try (at);

-- A login of PostgreSQL that may queue photos of an organisation in a transaction of its own (functions/pipelines.sql).
-- Who lets it in does not create the login: whoever runs the server does.
CREATE TABLE pipeline (
    pipeline_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login             text NOT NULL CHECK (octet_length(login) BETWEEN 1 AND 63),
    organisation_id   bigint NOT NULL REFERENCES organisation,
    -- The setting unpaid_photos_max of whoever let it in: a function of the database cannot read settings.
    unpaid_photos_max bigint NOT NULL CHECK (unpaid_photos_max >= 0),
    created_by        text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at        timestamptz
);
CREATE UNIQUE INDEX pipeline_login ON pipeline (login, organisation_id) WHERE revoked_at IS NULL;
CREATE INDEX pipeline_organisation ON pipeline (organisation_id, pipeline_id);

-- The audit log: what people and programs changed, and who was looked for by face. A row is written in the transaction
-- of its change, and then stays: functions/audit.sql seals it into a hash chain of its organisation.
CREATE TABLE audit_log (
    entry_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    organisation_id bigint,
    -- The pipeline that did it. Its transaction is not ours and may stay open, so each pipeline has a chain of its own.
    pipeline_id     bigint,
    action          text NOT NULL CHECK (action ~ '^[a-z_.]{1,60}$'),
    subject         text NOT NULL CHECK (length(subject) <= 200),
    detail          jsonb NOT NULL DEFAULT '{}',
    chain           bigint NOT NULL GENERATED ALWAYS AS (coalesce(-pipeline_id, organisation_id, 0)) STORED,
    link            bigint NOT NULL,                 -- 1, 2, 3 … of its chain, without a gap
    hash            bytea NOT NULL CHECK (octet_length(hash) = 32),
    UNIQUE (chain, link)
);
CREATE INDEX audit_log_organisation ON audit_log (organisation_id, entry_id);

-- The end of each chain of the audit log. Chain 0 is of what concerns no single organisation, chain -7 of pipeline 7.
CREATE TABLE audit_chain (
    chain bigint PRIMARY KEY,
    links bigint NOT NULL,
    hash  bytea CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 50);

GRANT SELECT, INSERT ON person, invitation, token, session, pipeline TO photogate_app;
GRANT UPDATE (unpaid_photos_max, revoked_at) ON pipeline TO photogate_app;
GRANT UPDATE (expires_at), DELETE ON invitation TO photogate_app;
GRANT SELECT ON audit_log, audit_chain TO photogate_app;
-- Not its number, its instant, its link or its hash.
GRANT INSERT (actor, organisation_id, action, subject, detail) ON audit_log TO photogate_app;
GRANT UPDATE (password, disabled_at, time_zone) ON person TO photogate_app;
GRANT UPDATE (last_used_at, revoked_at) ON token TO photogate_app;
GRANT SELECT, INSERT, DELETE ON second_factor, recovery_code TO photogate_app;
GRANT UPDATE (secret, begun_at, session_hash, confirmed_at, last_step) ON second_factor TO photogate_app;
GRANT UPDATE (hash, last_seen_at, awaits_code), DELETE ON session TO photogate_app;
