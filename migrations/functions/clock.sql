-- The clock of the books.
--
-- An account's movements are booked at instants that never decrease (months.sql). So one movement in a wrong year would
-- take all later ones with it. An instant is refused (PG008) if it is more than a month after everything that tells
-- what time it is: the account's last movement, the start of the server, the lease of any worker, the last migration,
-- and the last time that a person has said that the clock is right. While the clock is wrong, nothing is booked and no
-- lease is extended. When it is right again, everything goes on. If it was right (nobody has worked for a month), a
-- person confirms it.

-- It is a function so that a test can stand at the end of a month.
CREATE FUNCTION clock() RETURNS timestamptz
LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';
GRANT EXECUTE ON FUNCTION clock TO photogate_app, photogate_organisation;

-- And so is this, so that a test can be on a server that started long ago.
CREATE FUNCTION server_started_at() RETURNS timestamptz
LANGUAGE sql STABLE AS 'SELECT pg_postmaster_start_time()';

-- Refuses an instant that is implausible. p_seen: when the caller knows the clock to have been right, or NULL.
CREATE FUNCTION check_clock(p_at timestamptz, p_seen timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_seen timestamptz;
BEGIN
    v_seen := greatest(p_seen, server_started_at(), (SELECT max(lease_until) FROM worker),
                       (SELECT max(applied_at) FROM functions_applied), (SELECT max(at) FROM clock_confirmation));
    IF p_at > v_seen + interval '31 days' THEN
        RAISE EXCEPTION 'the clock of the database says %, but it was last seen at %: set it right or, if it is right, '
            'run photogate clock confirm', p_at, v_seen USING ERRCODE = 'PG008';
    END IF;
END $$;

-- The instant at which a movement of an account is booked: the later of now and its last movement.
CREATE FUNCTION book_at(p_moved_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_at timestamptz := clock();
BEGIN
    IF v_at > p_moved_at + interval '31 days' THEN PERFORM check_clock(v_at, p_moved_at); END IF;
    RETURN greatest(v_at, p_moved_at);
END $$;

-- False: the clock is refused.
CREATE FUNCTION is_clock_plausible() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM check_clock(clock(), (SELECT max(moved_at) FROM account));
    RETURN true;
EXCEPTION WHEN SQLSTATE 'PG008' THEN
    RETURN false;
END $$;
GRANT EXECUTE ON FUNCTION is_clock_plausible TO photogate_worker;

-- A person says that the clock is right. Returns the instant that is confirmed.
CREATE FUNCTION confirm_clock(p_actor text) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO clock_confirmation (at, actor) VALUES (clock(), p_actor)
    ON CONFLICT (at) DO UPDATE SET actor = EXCLUDED.actor RETURNING at
$$;
GRANT EXECUTE ON FUNCTION confirm_clock TO photogate_app;
