-- Days and months: when one begins and ends, and how an account stood when a month began.
--
-- They are those of the organisation's time zone. A day, and a month, is a range of ledger entries: an account's
-- movements are booked at instants that never decrease, each taken under the account's lock. So what is over stays as
-- it is. Whoever books holds the account's lock and opens the day first, if the one that is open has ended.

CREATE FUNCTION month_of(p_at timestamptz, p_zone text) RETURNS date
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT date_trunc('month', p_at AT TIME ZONE p_zone)::date
$$;
GRANT EXECUTE ON FUNCTION month_of TO photogate_app, photogate_organisation;

CREATE FUNCTION day_of(p_at timestamptz, p_zone text) RETURNS date
LANGUAGE sql STABLE AS 'SELECT (p_at AT TIME ZONE p_zone)::date';
GRANT EXECUTE ON FUNCTION day_of TO photogate_app, photogate_organisation;

-- The first instant of a day. A month begins as its first day does. Where clocks are put back over midnight (Havana,
-- 1 November 2026), the first hour of the day happens twice, and AT TIME ZONE means the second one. So we look back,
-- and take the earliest.
CREATE FUNCTION day_begins(p_day date, p_zone text) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT min(t) FROM (
        SELECT (p_day::timestamp AT TIME ZONE p_zone) - back AS t
        FROM unnest(ARRAY['0 min', '30 min', '60 min', '120 min']::interval[]) back) s
    WHERE t AT TIME ZONE p_zone >= p_day::timestamp
$$;
GRANT EXECUTE ON FUNCTION day_begins TO photogate_app, photogate_worker, photogate_organisation;

-- Opens the days that p_ats are in, and their months, for those accounts whose day is over. The caller holds the
-- accounts' locks. A day that goes on because its end was moved (the rules of a time zone may change) is not opened
-- again.
CREATE FUNCTION open_days(p_organisations bigint[], p_ats timestamptz[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    WITH ended AS MATERIALIZED (
        SELECT a.*, u.at, o.time_zone, greatest(day_of(u.at, o.time_zone), a.day) AS next
        FROM unnest(p_organisations, p_ats) u (organisation_id, at)
        JOIN account a USING (organisation_id)
        JOIN organisation o USING (organisation_id)
        WHERE a.day_ends_at <= u.at),
    opened AS (
        INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent)
        SELECT organisation_id, date_trunc('month', next)::date, entries, funded, available, reserved, spent
        FROM ended WHERE date_trunc('month', next) > date_trunc('month', day))
    -- With moved_at, nothing is booked before the day that is open, even if the clock steps back.
    UPDATE account a SET
        day = e.next,
        day_ends_at = day_begins(e.next + 1, e.time_zone),
        moved_at = greatest(a.moved_at, e.at)
    FROM ended e WHERE a.organisation_id = e.organisation_id;
END $$;

-- Closes what is over. From now on nothing can be booked in a month that has ended, not even by a transaction that is
-- under way. Returns the month that is open.
CREATE FUNCTION close_months(p_organisation bigint) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_at timestamptz; v_month date;
BEGIN
    SELECT book_at(moved_at) INTO v_at
    FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    PERFORM open_days(ARRAY[p_organisation], ARRAY[v_at]);
    UPDATE account SET moved_at = v_at WHERE organisation_id = p_organisation
    RETURNING date_trunc('month', day)::date INTO v_month;
    RETURN v_month;
END $$;
GRANT EXECUTE ON FUNCTION close_months TO photogate_app;

-- Returns the account as it stood when p_month began. That is the first opening at or after p_month. If there is none,
-- nothing has moved since, and it is the account of now. It runs with the rights of the caller.
CREATE FUNCTION opening_of(p_organisation bigint, p_month date,
    OUT entries bigint, OUT funded bigint, OUT available bigint, OUT reserved bigint, OUT spent bigint)
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT coalesce(m.entries, a.entries), coalesce(m.funded, a.funded), coalesce(m.available, a.available),
           coalesce(m.reserved, a.reserved), coalesce(m.spent, a.spent)
    FROM account a
    LEFT JOIN LATERAL (
        SELECT * FROM month m
        WHERE m.organisation_id = a.organisation_id AND m.month >= p_month
        ORDER BY m.month LIMIT 1) m ON true
    WHERE a.organisation_id = p_organisation
$$;
GRANT EXECUTE ON FUNCTION opening_of TO photogate_app, photogate_organisation;
