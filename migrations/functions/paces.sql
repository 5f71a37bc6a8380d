-- Paces: how fast the photos of an organisation, or of one event, are claimed at most. A queue that is too fast is not
-- paused: the next claim may find that there is room again.
--
-- The account's lock protects a pace: only claims take from its bucket, and they hold it.

-- How many photos a bucket lets through. In a minute, per_minute come in. It holds those of ten seconds, or one. A time
-- in the future means that the clock was put back: then it is full. (VOLATILE, as the clock is: so PostgreSQL puts the
-- expression in place of the call. A claim asks 200 times.)
CREATE FUNCTION tokens_of(p_pace pace) RETURNS double precision
LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN p_pace.filled_at > clock_timestamp() THEN greatest(1, p_pace.per_minute / 6.0)
                ELSE least(greatest(1, p_pace.per_minute / 6.0), p_pace.tokens
                    + extract(epoch FROM clock_timestamp() - p_pace.filled_at) * p_pace.per_minute / 60) END
$$;
GRANT EXECUTE ON FUNCTION tokens_of TO photogate_app, photogate_organisation;

-- How many photos each pace of an organisation lets through now (NULL: any number), and what keeps back more. r_event
-- NULL: all its events together. It runs with the rights of the caller.
CREATE FUNCTION rooms(p_organisation bigint) RETURNS TABLE (r_event bigint, r_room bigint, r_by text)
LANGUAGE sql STABLE AS $$
    SELECT p.event_id, least(CASE WHEN n.is_quiet OR n.flying >= p.in_flight_max THEN 0 END,
                             p.in_flight_max - n.flying, n.tokens),
           CASE WHEN n.is_quiet THEN 'quiet_hours' WHEN n.flying >= p.in_flight_max THEN 'in_flight'
                WHEN n.tokens < 1 THEN 'rate' END
    FROM pace p JOIN organisation o USING (organisation_id)
    CROSS JOIN LATERAL (SELECT (clock_timestamp() AT TIME ZONE o.time_zone)::time AS now) t
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.per_minute IS NOT NULL THEN floor(tokens_of(p))::bigint END AS tokens,
               CASE WHEN p.quiet_from < p.quiet_to THEN t.now >= p.quiet_from AND t.now < p.quiet_to
                    ELSE t.now >= p.quiet_from OR t.now < p.quiet_to END AS is_quiet,
               CASE WHEN p.event_id IS NULL
                    THEN (SELECT a.reserved FROM account a WHERE a.organisation_id = p_organisation)
                    ELSE (SELECT sum(h.claimed - s.committed - s.refunded)
                          FROM queue q JOIN queue_head h USING (queue_id) JOIN queue_settled s USING (queue_id)
                          WHERE q.event_id = p.event_id) END AS flying) n
    WHERE p.organisation_id = p_organisation
$$;
GRANT EXECUTE ON FUNCTION rooms TO photogate_app, photogate_organisation;

-- Whether any queue of an organisation that can run may go on now.
CREATE FUNCTION has_room(p_organisation bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_full bigint[];
BEGIN
    SELECT array_agg(r_event) INTO v_full FROM rooms(p_organisation) WHERE r_room <= 0;
    RETURN v_full IS NULL OR array_position(v_full, NULL) IS NULL AND EXISTS (
        SELECT FROM queue q
        WHERE q.organisation_id = p_organisation AND q.runnable AND q.event_id <> ALL (v_full));
END $$;

-- What keeps back the photos of an event now; NULL: nothing does.
CREATE FUNCTION kept_back_by(p_organisation bigint, p_event bigint) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT r_by FROM rooms(p_organisation) WHERE r_room <= 0 AND (r_event IS NULL OR r_event = p_event)
    ORDER BY r_event NULLS FIRST LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION kept_back_by TO photogate_app, photogate_organisation;

-- When the quiet hours of an organisation (r_event NULL) and of its events ended last.
CREATE FUNCTION quiet_ends(p_organisation bigint) RETURNS TABLE (r_event bigint, r_ended_at timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT p.event_id, (t.today + p.quiet_to - CASE WHEN t.today + p.quiet_to > t.now THEN interval '1 day'
                                                    ELSE interval '0' END) AT TIME ZONE o.time_zone
    FROM pace p JOIN organisation o USING (organisation_id)
    CROSS JOIN LATERAL (
        SELECT x.now, date_trunc('day', x.now) AS today
        FROM (SELECT clock_timestamp() AT TIME ZONE o.time_zone AS now) x) t
    WHERE p.organisation_id = p_organisation AND p.quiet_to IS NOT NULL
$$;

-- Takes photos that are claimed out of the buckets. p_events and p_photos go together: so many photos of an event. The
-- caller has the account's lock.
CREATE FUNCTION take_tokens(p_organisation bigint, p_events bigint[], p_photos bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE pace p SET tokens = greatest(0, tokens_of(p) - t.photos), filled_at = clock_timestamp()
    FROM (SELECT event_id, sum(photos) AS photos
          FROM unnest(p_events, p_photos) u (event_id, photos) GROUP BY ROLLUP (event_id)) t
    WHERE p.organisation_id = p_organisation AND p.per_minute IS NOT NULL AND t.photos > 0
        AND p.event_id IS NOT DISTINCT FROM t.event_id
$$;

-- Sets the pace of an event, or (p_event NULL) of an organisation; all NULL: it has none. A new rate begins with a full
-- bucket. Returns false if this was the pace already; then its bucket stays as it is.
CREATE FUNCTION set_pace(p_organisation bigint, p_event bigint, p_in_flight_max integer, p_per_minute integer,
    p_quiet_from time, p_quiet_to time, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_paces constant integer := 200;                       -- each claim of the organisation reads all of them
    v_old pace;
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    IF p_event IS NOT NULL AND NOT EXISTS (
        SELECT FROM event WHERE event_id = p_event AND organisation_id = p_organisation AND deleted_at IS NULL) THEN
        RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002';
    END IF;
    SELECT * INTO v_old FROM pace WHERE organisation_id = p_organisation AND event_id IS NOT DISTINCT FROM p_event;
    IF (v_old.in_flight_max, v_old.per_minute, v_old.quiet_from, v_old.quiet_to)
        IS NOT DISTINCT FROM (p_in_flight_max, p_per_minute, p_quiet_from, p_quiet_to) THEN
        RETURN false;
    END IF;
    DELETE FROM pace WHERE organisation_id = p_organisation AND event_id IS NOT DISTINCT FROM p_event;
    IF c_paces <= (SELECT count(*) FROM pace WHERE organisation_id = p_organisation) THEN
        RAISE EXCEPTION 'an organisation has at most % paces: take one away from an event that is over', c_paces
            USING ERRCODE = 'PG009';
    END IF;
    IF num_nonnulls(p_in_flight_max, p_per_minute, p_quiet_from) > 0 THEN
        INSERT INTO pace (organisation_id, event_id, in_flight_max, per_minute, quiet_from, quiet_to, tokens)
        VALUES (p_organisation, p_event, p_in_flight_max, p_per_minute, p_quiet_from, p_quiet_to,
                coalesce(greatest(1, p_per_minute / 6.0), 0));
    END IF;
    PERFORM keep_steering(p_organisation);
    PERFORM note_decision(p_organisation, p_event, 'pace', p_actor, jsonb_build_object('pace', jsonb_build_object(
        'in_flight_max', p_in_flight_max, 'photos_per_minute', p_per_minute,
        'quiet_from', p_quiet_from, 'quiet_to', p_quiet_to)));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION set_pace TO photogate_app;
