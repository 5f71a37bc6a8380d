-- The clock of the books.
--
-- An account's movements are booked at instants that never decrease (months.sql). So one movement in a wrong year would
-- take all later ones with it. An instant is refused (PG008) if it is more than a month after everything that tells
-- what time it is: the account's last movement, the start of the server, the lease of any worker, the last migration,
-- and the last time that a person has said that the clock is right. While the clock is wrong, nothing is booked and no
-- lease is extended. When it is right again, everything goes on. If it was right (nobody has worked for a month), a
-- person confirms it.
-- A clock can be wrong by less, or from the start of the server on. Then movements are booked in the future, and all
-- later ones too, until that time has come. A person puts the accounts back (repair_account).

-- It is a function so that a test can stand at the end of a month.
CREATE FUNCTION clock() RETURNS timestamptz
LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';
GRANT EXECUTE ON FUNCTION clock TO photogate_worker, photogate_app, photogate_organisation;

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

-- The accounts that were booked in the future. A minute is no matter: it passes.
CREATE FUNCTION accounts_of_the_future() RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT organisation_id FROM account WHERE moved_at > clock() + interval '1 minute' ORDER BY organisation_id
$$;
GRANT EXECUTE ON FUNCTION accounts_of_the_future TO photogate_app;

-- Puts an account back that was booked in the future, after the clock was set right. The entries stay as they are,
-- and sealed: they keep their instants. They belong to the day that is open now, and history and statement show them
-- as of now. A month that has not begun is taken back. From now on the account is booked at the right time.
-- Returns how many entries were of the future. p_today is what the person says: a clock that is slow makes all right
-- accounts look as if they were of the future, and the months that have begun as if they had not.
CREATE FUNCTION repair_account(p_organisation bigint, p_actor text, p_today date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
#variable_conflict use_column
DECLARE v account; v_now timestamptz; v_zone text; v_day date; v_month date; v_early month; v_n bigint;
BEGIN
    SELECT * INTO v FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    v_now := clock(); -- after the lock: whoever had it may have moved the account meanwhile
    IF abs((v_now AT TIME ZONE 'UTC')::date - p_today) > 1 THEN
        RAISE EXCEPTION 'the clock of the database says %, and you say %: set it right first', v_now, p_today
            USING ERRCODE = 'PG006';
    END IF;
    IF v.moved_at IS NULL OR v.moved_at <= v_now THEN RETURN 0; END IF;
    SELECT time_zone INTO v_zone FROM organisation WHERE organisation_id = p_organisation;
    v_day := day_of(v_now, v_zone);
    v_month := date_trunc('month', v_day)::date;

    -- The first month that was opened too early tells how the account stood before what was booked too early.
    SELECT * INTO v_early FROM month
    WHERE organisation_id = p_organisation AND month > v_month ORDER BY month LIMIT 1;
    INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent)
    SELECT p_organisation, v_month, v_early.entries, v_early.funded, v_early.available, v_early.reserved, v_early.spent
    WHERE v_early.month IS NOT NULL
    ON CONFLICT (organisation_id, month) DO NOTHING;
    -- What runs used on days that were opened too early, they have used on this one. It is one statement: whoever
    -- notes that a run is over adds up its days, and must not find it in both.
    WITH early AS (DELETE FROM usage WHERE organisation_id = p_organisation AND day > v_day RETURNING *)
    INSERT INTO usage AS u (run_id, day, organisation_id, queue_id, claimed, refunded, committed, undecided,
        duplicates, first_claimed_at, last_claimed_at, claimed_entry, first_refunded_at, last_refunded_at,
        refunded_entry)
    SELECT run_id, v_day, p_organisation, min(queue_id), sum(claimed), sum(refunded), sum(committed),
           sum(undecided), sum(duplicates), min(first_claimed_at), max(last_claimed_at), max(claimed_entry),
           min(first_refunded_at), max(last_refunded_at), max(refunded_entry)
    FROM early GROUP BY run_id
    ON CONFLICT (run_id, day) DO UPDATE SET
        claimed = u.claimed + EXCLUDED.claimed,
        refunded = u.refunded + EXCLUDED.refunded,
        committed = u.committed + EXCLUDED.committed,
        undecided = u.undecided + EXCLUDED.undecided,
        duplicates = u.duplicates + EXCLUDED.duplicates,
        first_claimed_at = coalesce(u.first_claimed_at, EXCLUDED.first_claimed_at),
        last_claimed_at = coalesce(EXCLUDED.last_claimed_at, u.last_claimed_at),
        claimed_entry = coalesce(EXCLUDED.claimed_entry, u.claimed_entry),
        first_refunded_at = coalesce(u.first_refunded_at, EXCLUDED.first_refunded_at),
        last_refunded_at = coalesce(EXCLUDED.last_refunded_at, u.last_refunded_at),
        refunded_entry = coalesce(EXCLUDED.refunded_entry, u.refunded_entry);
    DELETE FROM month WHERE organisation_id = p_organisation AND month > v_month;

    -- Where the history and the statement show what was booked too early.
    UPDATE usage SET
        -- (least() would make an instant of NULL.)
        first_claimed_at = CASE WHEN first_claimed_at > v_now THEN v_now ELSE first_claimed_at END,
        last_claimed_at = CASE WHEN last_claimed_at > v_now THEN v_now ELSE last_claimed_at END,
        first_refunded_at = CASE WHEN first_refunded_at > v_now THEN v_now ELSE first_refunded_at END,
        last_refunded_at = CASE WHEN last_refunded_at > v_now THEN v_now ELSE last_refunded_at END
    WHERE organisation_id = p_organisation AND greatest(last_claimed_at, last_refunded_at) > v_now;
    UPDATE top_up SET shown_at = v_now WHERE organisation_id = p_organisation AND shown_at > v_now;

    UPDATE account SET
        day = v_day,
        day_ends_at = day_begins(v_day + 1, v_zone),
        moved_at = v_now
    WHERE organisation_id = p_organisation;
    INSERT INTO clock_repair (organisation_id, entry, booked_to, at, actor)
    VALUES (p_organisation, v.entries, v.moved_at, v_now, p_actor)
    ON CONFLICT (organisation_id, entry) DO NOTHING;
    SELECT coalesce(sum(last_entry - first_entry + 1), 0) INTO v_n
    FROM link WHERE organisation_id = p_organisation AND at > v_now;
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION repair_account TO photogate_app;

-- What else waits for a time that is far away: leases of the dead, and photos that are to be tried again. No lease
-- lasts longer than a day, so none is cut short that a worker could have.
CREATE FUNCTION repair_waits() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE worker SET lease_until = clock_timestamp() + interval '1 day'
    WHERE gone_at IS NULL AND lease_until > clock_timestamp() + interval '1 day';
    UPDATE in_flight SET due_at = clock_timestamp() WHERE due_at > clock_timestamp() + interval '1 day';
$$;
GRANT EXECUTE ON FUNCTION repair_waits TO photogate_app;
