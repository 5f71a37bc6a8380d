-- What an organisation used, by run and month, and how its account stood when each month began. Months are those of the
-- organisation's time zone.

-- The clock of the books. A function, so that a test can stand at the end of a month.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE FUNCTION month_of(p_at timestamptz, p_zone text) RETURNS date LANGUAGE sql STABLE
SET search_path = photogate, pg_temp AS $$ SELECT date_trunc('month', p_at AT TIME ZONE p_zone)::date $$;

-- The first instant of a month. Where clocks are put back over midnight (Havana, 1 November 2026), the first hour of the
-- month happens twice, and AT TIME ZONE means the second one.
CREATE FUNCTION month_begins(p_month date, p_zone text) RETURNS timestamptz LANGUAGE sql STABLE
SET search_path = photogate, pg_temp AS $$
    SELECT min(t) FROM (
        SELECT (p_month::timestamp AT TIME ZONE p_zone) - back AS t
        FROM unnest(ARRAY['0 min', '30 min', '60 min', '120 min']::interval[]) back) s
    WHERE t AT TIME ZONE p_zone >= p_month::timestamp
$$;

-- moved_at: when the account last moved. Whoever moves it holds its lock, and books at the later of now and this: so the
-- instants of an organisation's ledger never decrease, a month is a range of entries, and one that is over stays as it is.
ALTER TABLE account
    ADD COLUMN month         date,
    ADD COLUMN month_ends_at timestamptz,
    ADD COLUMN moved_at      timestamptz NOT NULL DEFAULT now();

-- The account as it stood when a month began. Written once, by the first movement of the month or whoever closes the one
-- before; a month without movements has no row, and began as the next one did.
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

-- The credits that left and came back for a run within a month, counted in the transactions that move them: what the
-- history shows, so that it adds up to the balance at every instant, and each month's rows to that month.
CREATE TABLE usage (
    run_id            bigint NOT NULL REFERENCES run,
    month             date NOT NULL,
    organisation_id   bigint NOT NULL,
    queue_id          bigint NOT NULL,
    claimed           integer NOT NULL DEFAULT 0,    -- credits that left the balance
    refunded          integer NOT NULL DEFAULT 0,    -- credits that came back
    committed         integer NOT NULL DEFAULT 0,
    first_claimed_at  timestamptz,
    last_claimed_at   timestamptz,
    first_refunded_at timestamptz,
    last_refunded_at  timestamptz,
    CHECK (claimed >= 0 AND refunded >= 0 AND committed >= 0),
    CHECK ((claimed > 0) = (first_claimed_at IS NOT NULL)),
    CHECK ((refunded > 0) = (first_refunded_at IS NOT NULL)),
    PRIMARY KEY (run_id, month)
) WITH (fillfactor = 50);
-- On columns that are written once, so that counting stays heap-only.
CREATE INDEX usage_used ON usage (organisation_id, first_claimed_at, run_id) WHERE first_claimed_at IS NOT NULL;
CREATE INDEX usage_refunded ON usage (organisation_id, first_refunded_at, run_id) WHERE first_refunded_at IS NOT NULL;
CREATE INDEX usage_of_queue ON usage (queue_id);

-- What was booked before there were months.
CREATE TEMPORARY TABLE booked ON COMMIT DROP AS
    SELECT l.*, month_of(l.ordered_at, o.time_zone) AS month FROM (
        SELECT *, max(at) OVER (PARTITION BY organisation_id ORDER BY entry) AS ordered_at FROM ledger) l
    JOIN organisation o USING (organisation_id);

INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent)
SELECT organisation_id, month, first - 1, available + reserved + spent, available, reserved, spent FROM (
    SELECT organisation_id, month, min(entry) AS first,
           coalesce(sum(sum(CASE movement WHEN 'top_up' THEN amount WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END)) OVER earlier, 0) AS available,
           coalesce(sum(sum(CASE movement WHEN 'top_up' THEN 0 WHEN 'reserve' THEN 1 ELSE -1 END)) OVER earlier, 0) AS reserved,
           coalesce(sum(count(*) FILTER (WHERE movement = 'commit')) OVER earlier, 0) AS spent
    FROM booked GROUP BY organisation_id, month
    WINDOW earlier AS (PARTITION BY organisation_id ORDER BY month ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) m;
INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent)
SELECT organisation_id, month_of(created_at, time_zone), 0, 0, 0, 0, 0 FROM organisation o
WHERE NOT EXISTS (SELECT FROM month m WHERE m.organisation_id = o.organisation_id);

INSERT INTO usage (run_id, month, organisation_id, queue_id, claimed, refunded, committed,
    first_claimed_at, last_claimed_at, first_refunded_at, last_refunded_at)
SELECT j.run_id, b.month, b.organisation_id, j.queue_id, count(*) FILTER (WHERE movement = 'reserve'),
       count(*) FILTER (WHERE movement = 'refund'), count(*) FILTER (WHERE movement = 'commit'),
       min(ordered_at) FILTER (WHERE movement = 'reserve'), max(ordered_at) FILTER (WHERE movement = 'reserve'),
       min(ordered_at) FILTER (WHERE movement = 'refund'), max(ordered_at) FILTER (WHERE movement = 'refund')
FROM booked b JOIN job j ON j.job_id = b.transaction_id GROUP BY j.run_id, b.month, b.organisation_id, j.queue_id;

UPDATE account a SET month = m.month, month_ends_at = month_begins((m.month + interval '1 month')::date, o.time_zone),
    moved_at = greatest(a.moved_at, (SELECT max(at) FROM ledger l WHERE l.organisation_id = a.organisation_id))
FROM organisation o JOIN LATERAL (SELECT * FROM month WHERE month.organisation_id = o.organisation_id ORDER BY month DESC LIMIT 1) m ON true
WHERE o.organisation_id = a.organisation_id;

ALTER TABLE account ALTER COLUMN month SET NOT NULL, ALTER COLUMN month_ends_at SET NOT NULL;
-- A run is written once; what it moved is counted in usage.
ALTER TABLE run DROP COLUMN claimed, DROP COLUMN refunded, DROP COLUMN committed, DROP COLUMN first_claimed_at, DROP COLUMN last_refunded_at;

CREATE TRIGGER month_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON month
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE INDEX top_up_at ON top_up (organisation_id, at, transaction_id);

-- Begins the months that p_ats are in, for those accounts whose month is over. The caller holds their locks. A month that
-- goes on because its end was moved (the rules of a time zone may change) is not begun again.
CREATE FUNCTION open_months(p_organisations bigint[], p_ats timestamptz[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    WITH ended AS MATERIALIZED (
        SELECT a.*, u.at, o.time_zone, greatest(month_of(u.at, o.time_zone), a.month) AS next
        FROM unnest(p_organisations, p_ats) u (organisation_id, at) JOIN account a USING (organisation_id) JOIN organisation o USING (organisation_id)
        WHERE a.month_ends_at <= u.at),
    opened AS (
        INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent)
        SELECT organisation_id, next, entries, funded, available, reserved, spent FROM ended WHERE next > month)
    -- Nothing is booked before the month that is open, even if the clock steps back.
    UPDATE account a SET month = e.next, month_ends_at = month_begins((e.next + interval '1 month')::date, e.time_zone), moved_at = greatest(a.moved_at, e.at)
    FROM ended e WHERE a.organisation_id = e.organisation_id;
END $$;

-- Closes what is over: from now on nothing can be booked in a month that has ended, not even by a transaction that is
-- under way. Answers with the month that is open.
CREATE FUNCTION close_months(p_organisation bigint) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_at timestamptz; v_month date;
BEGIN
    SELECT greatest(clock(), moved_at) INTO v_at FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    PERFORM open_months(ARRAY[p_organisation], ARRAY[v_at]);
    UPDATE account SET moved_at = v_at WHERE organisation_id = p_organisation RETURNING month INTO v_month;
    RETURN v_month;
END $$;

-- The account as it stood when p_month began: the first opening from then on, or, if nothing has moved since, as it is.
-- With the rights of the caller.
CREATE FUNCTION opening_of(p_organisation bigint, p_month date,
    OUT entries bigint, OUT funded bigint, OUT available bigint, OUT reserved bigint, OUT spent bigint)
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT coalesce(m.entries, a.entries), coalesce(m.funded, a.funded), coalesce(m.available, a.available),
           coalesce(m.reserved, a.reserved), coalesce(m.spent, a.spent)
    FROM account a
    LEFT JOIN LATERAL (SELECT * FROM month m WHERE m.organisation_id = a.organisation_id AND m.month >= p_month ORDER BY m.month LIMIT 1) m ON true
    WHERE a.organisation_id = p_organisation
$$;

GRANT SELECT ON month, usage TO photogate_app;
GRANT EXECUTE ON FUNCTION close_months, opening_of, month_of, month_begins, clock TO photogate_app;
