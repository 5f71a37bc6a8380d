-- Who may use the service: people who log in, tokens for programs, and what each of them did.

CREATE TYPE access_role AS ENUM ('pipeline', 'organiser', 'operator', 'finance', 'staff');

-- Where an organisation's photos are in the store: its people can queue no others, and so see no others. Empty: anywhere.
ALTER TABLE organisation ADD photos_under text NOT NULL DEFAULT '' CHECK (length(photos_under) <= 500);

CREATE TABLE person (
    person_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email           text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 200),
    password        text NOT NULL,                   -- Argon2id, in PHC form
    role            access_role NOT NULL CHECK (role <> 'pipeline'),
    organisation_id bigint REFERENCES organisation,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    disabled_at     timestamptz,
    -- Who works for an organisation belongs to it; who runs photogate belongs to none.
    CONSTRAINT person_belongs CHECK (organisation_id IS NOT NULL OR role IN ('operator', 'finance', 'staff')),
    CONSTRAINT person_staff CHECK (organisation_id IS NULL OR role <> 'staff'),
    UNIQUE (email)
);

-- A secret of 256 random bits is not guessed: its hash needs no salt, and is found by index.
CREATE TABLE token (
    token_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint            text NOT NULL,                   -- how it begins, to tell it from others
    name            text NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 100),
    role            access_role NOT NULL,
    organisation_id bigint REFERENCES organisation,
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at    timestamptz,                     -- to the minute
    revoked_at      timestamptz,
    CONSTRAINT token_belongs CHECK (organisation_id IS NOT NULL OR role IN ('operator', 'finance', 'staff')),
    CONSTRAINT token_staff CHECK (organisation_id IS NULL OR role <> 'staff')
);
CREATE INDEX token_organisation ON token (organisation_id, token_id);

-- A browser that is logged in, by a password or by a token; it ends with either.
CREATE TABLE session (
    hash       bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
    person_id  bigint REFERENCES person,
    token_id   bigint REFERENCES token,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    CHECK ((person_id IS NULL) <> (token_id IS NULL))
);
CREATE INDEX session_expiry ON session (expires_at);

-- What people and programs changed: written in the transaction of the change, and never altered.
CREATE TABLE deed (
    deed_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    organisation_id bigint,
    action          text NOT NULL CHECK (action ~ '^[a-z_.]{1,60}$'),
    subject         text NOT NULL CHECK (length(subject) <= 200),
    detail          jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX deed_organisation ON deed (organisation_id, deed_id);

-- The chart of an organisation's use, day by day.
CREATE INDEX link_at ON link (organisation_id, at);

GRANT SELECT, INSERT ON person, token, session, deed TO photogate_app;
GRANT UPDATE (password, disabled_at) ON person TO photogate_app;
GRANT UPDATE (last_used_at, revoked_at) ON token TO photogate_app;
GRANT DELETE ON session TO photogate_app;

-- An event's readings of numbers may be switched off and on, and renamed.
CREATE FUNCTION set_event(p_event bigint, p_name text, p_bib_search boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE event SET name = coalesce(p_name, name), bib_search = coalesce(p_bib_search, bib_search)
    WHERE event_id = p_event AND deleted_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
END $$;

CREATE FUNCTION set_photos_under(p_organisation bigint, p_prefix text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE organisation SET photos_under = p_prefix WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;

GRANT EXECUTE ON FUNCTION set_event, set_photos_under TO photogate_app;
