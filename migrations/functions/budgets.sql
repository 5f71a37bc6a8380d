-- Budgets: how many credits of its organisation an event may use (the cap), and how many are kept for it (the floor).
--
-- An event uses the credits that its photos have reserved or spent. Claims and settlements count these already
-- (queue_head.claimed, queue_settled.refunded), so a budget adds no write to them. What is left of it is computed.
-- The account's lock protects all of this: whoever claims, settles, tops up or sets a budget holds it.

-- The credits that an event uses now, reserved for its photos or spent. It runs with the rights of the caller.
CREATE FUNCTION event_used(p_event bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(h.claimed - s.refunded), 0)::bigint
    FROM queue q
    -- From the end, as in claim.sql.
    CROSS JOIN LATERAL (
        SELECT x.claimed FROM queue_head x WHERE x.queue_id BETWEEN q.queue_id AND q.queue_id
        ORDER BY x.queue_id DESC LIMIT 1) h
    CROSS JOIN LATERAL (
        SELECT x.refunded FROM queue_settled x WHERE x.queue_id BETWEEN q.queue_id AND q.queue_id
        ORDER BY x.queue_id DESC LIMIT 1) s
    WHERE q.event_id = p_event
$$;
GRANT EXECUTE ON FUNCTION event_used TO photogate_worker, photogate_app, photogate_organisation;

-- What the events of these organisations may spend now, where an organisation has decided anything: a row for each
-- event with a budget, and one (r_event NULL) for each of its other events. No rows: any event may spend what is
-- available. r_spendable = min(cap left, floor left + free, available). Free is what is available and under no floor.
CREATE FUNCTION spendable(p_organisations bigint[])
RETURNS TABLE (r_organisation bigint, r_event bigint, r_spendable bigint, r_cap_left bigint, r_floor_left bigint,
               r_free bigint)
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    WITH a AS MATERIALIZED (
        SELECT a.organisation_id, a.available FROM unnest(p_organisations) w (n)
        CROSS JOIN LATERAL (
            SELECT x.organisation_id, x.available, x.steered FROM account x WHERE x.organisation_id BETWEEN w.n AND w.n
            ORDER BY x.organisation_id DESC LIMIT 1) a
        WHERE a.steered),
    b AS MATERIALIZED (
        SELECT b.organisation_id, b.event_id, b.cap - u.used AS cap_left, greatest(0, b.floor - u.used) AS floor_left
        FROM a JOIN budget b USING (organisation_id)
        -- This is event_used(). Two hundred calls of it took six times as long.
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(h.claimed - s.refunded), 0)::bigint AS used
            FROM queue q
            CROSS JOIN LATERAL (
                SELECT x.claimed FROM queue_head x WHERE x.queue_id BETWEEN q.queue_id AND q.queue_id
                ORDER BY x.queue_id DESC LIMIT 1) h
            CROSS JOIN LATERAL (
                SELECT x.refunded FROM queue_settled x WHERE x.queue_id BETWEEN q.queue_id AND q.queue_id
                ORDER BY x.queue_id DESC LIMIT 1) s
            WHERE q.event_id = b.event_id) u),
    f AS MATERIALIZED (
        SELECT a.organisation_id, a.available, greatest(0, a.available - coalesce(
            (SELECT sum(b.floor_left) FROM b WHERE b.organisation_id = a.organisation_id), 0))::bigint AS free
        FROM a)
    SELECT f.organisation_id, b.event_id, greatest(0, least(b.cap_left, b.floor_left + f.free, f.available)),
           b.cap_left, b.floor_left, f.free
    FROM f JOIN b USING (organisation_id)
    UNION ALL
    SELECT organisation_id, NULL, free, NULL, 0, free FROM f;
END $$;
GRANT EXECUTE ON FUNCTION spendable TO photogate_worker, photogate_app, photogate_organisation;

-- The same for one event of an organisation that has decided anything.
CREATE FUNCTION event_spendable(p_organisation bigint, p_event bigint, OUT r_spendable bigint, OUT r_cap_left bigint)
LANGUAGE sql STABLE AS $$
    SELECT s.r_spendable, s.r_cap_left FROM spendable(ARRAY[p_organisation]) s
    WHERE s.r_event = p_event OR s.r_event IS NULL ORDER BY s.r_event LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION event_spendable TO photogate_worker, photogate_app, photogate_organisation;

-- By how much an organisation's floors are more than what it has. It runs with the rights of the caller.
CREATE FUNCTION floors_short(p_organisation bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT greatest(0, coalesce(sum(greatest(0, b.floor - event_used(b.event_id))), 0)
                       - (SELECT a.available FROM account a WHERE a.organisation_id = p_organisation))::bigint
    FROM budget b WHERE b.organisation_id = p_organisation AND b.floor > 0
$$;
GRANT EXECUTE ON FUNCTION floors_short TO photogate_worker, photogate_app, photogate_organisation;

-- Sets the budget of an event; without cap and floor (NULL, 0) it has none any more. Queues that have nothing to spend
-- any more are paused, and queues that have something again go on, in this same transaction. r_changed: it was another
-- budget before.
CREATE FUNCTION set_budget(p_event bigint, p_cap bigint, p_floor bigint, p_actor text,
    OUT r_changed boolean, OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_budgets constant integer := 200;                     -- each claim of the organisation reads all of them
    v_organisation bigint; v_entry bigint; v_old budget;
BEGIN
    r_changed := false;
    r_resumed := false;
    SELECT organisation_id INTO v_organisation FROM event WHERE event_id = p_event;
    SELECT entries INTO v_entry FROM account WHERE organisation_id = v_organisation FOR NO KEY UPDATE;
    -- Later statements than the account's lock. Whoever deletes the event holds that lock, too.
    IF NOT EXISTS (SELECT FROM event WHERE event_id = p_event AND deleted_at IS NULL) THEN
        RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002';
    END IF;
    SELECT * INTO v_old FROM budget WHERE event_id = p_event;
    IF (v_old.cap, coalesce(v_old.floor, 0)) IS NOT DISTINCT FROM (p_cap, p_floor) THEN RETURN; END IF;
    IF v_old.event_id IS NULL AND c_budgets <= (SELECT count(*) FROM budget WHERE organisation_id = v_organisation) THEN
        RAISE EXCEPTION 'an organisation has at most % budgets: take one away from an event that is over', c_budgets
            USING ERRCODE = 'PG009';
    END IF;
    PERFORM put_budget(v_organisation, p_event, p_cap, p_floor, v_entry, p_actor);
    r_changed := true;
    PERFORM pause_queues(ARRAY[v_organisation], 'budget');
    r_resumed := resume_queues(ARRAY[v_organisation], 'budget');
END $$;
GRANT EXECUTE ON FUNCTION set_budget TO photogate_app;

-- Writes a budget, and that it was set. The caller has the account's lock. Nobody may call it but the gate's functions.
CREATE FUNCTION put_budget(p_organisation bigint, p_event bigint, p_cap bigint, p_floor bigint, p_entry bigint,
    p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    DELETE FROM budget WHERE event_id = p_event;
    IF p_cap IS NOT NULL OR p_floor > 0 THEN
        INSERT INTO budget (event_id, organisation_id, cap, floor, used_then)
        VALUES (p_event, p_organisation, p_cap, p_floor, event_used(p_event));
    END IF;
    INSERT INTO budget_change (organisation_id, entry, event_id, cap, floor, actor)
    VALUES (p_organisation, p_entry, p_event, p_cap, p_floor, p_actor);
    PERFORM keep_steering(p_organisation, true);
END $$;

-- Notes whether an organisation has decided anything, and how many credits of its floors are missing. Only a change of
-- a budget can make these more: with any other, the invariant would forgive what a claim has taken. The caller has the
-- account's lock, and has changed a decision.
CREATE FUNCTION keep_steering(p_organisation bigint, p_is_budget boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO steering (organisation_id, shortfall) VALUES (p_organisation, floors_short(p_organisation))
    ON CONFLICT (organisation_id) DO UPDATE SET
        shortfall = CASE WHEN p_is_budget THEN EXCLUDED.shortfall
                         ELSE least(steering.shortfall, EXCLUDED.shortfall) END;
    DELETE FROM steering s
    WHERE s.organisation_id = p_organisation AND s.spend_order = 'fair' AND s.weight = 1
        AND NOT EXISTS (SELECT FROM budget b WHERE b.organisation_id = p_organisation)
        AND NOT EXISTS (SELECT FROM pace p WHERE p.organisation_id = p_organisation);
    UPDATE account SET steered = NOT steered
    WHERE organisation_id = p_organisation
        AND steered <> EXISTS (SELECT FROM steering WHERE organisation_id = p_organisation);
END $$;
