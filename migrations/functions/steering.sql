-- Steering: from which queues of an organisation a claim takes photos, where the organisation has decided that
-- (account.steered). From all others, claim.sql takes by itself: the next few queues in turn, in equal shares.
--
-- The caller has the account's lock. As everywhere in a claim, no queue is waited for (SKIP LOCKED).

-- Sets the share of an organisation, beside others whose turn it is in the same claim. Returns false if it had this
-- share already.
CREATE FUNCTION set_weight(p_organisation bigint, p_weight integer, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    IF p_weight = coalesce((SELECT weight FROM steering WHERE organisation_id = p_organisation), 1) THEN
        RETURN false;
    END IF;
    INSERT INTO steering (organisation_id, weight) VALUES (p_organisation, p_weight)
    ON CONFLICT (organisation_id) DO UPDATE SET weight = EXCLUDED.weight;
    PERFORM keep_steering(p_organisation);
    PERFORM note_decision(p_organisation, NULL, 'weight', p_actor, jsonb_build_object('weight', p_weight));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION set_weight TO photogate_app;

-- Sets in which order an organisation's events get its credits. p_turns: for 'finish_first', the events in this order;
-- all others come after them, the oldest first. Returns false if this was the order already.
CREATE FUNCTION set_spend_order(p_organisation bigint, p_order spend_order, p_turns bigint[], p_actor text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    IF EXISTS (SELECT FROM unnest(p_turns) t (event_id) WHERE NOT EXISTS (
        SELECT FROM event e
        WHERE e.event_id = t.event_id AND e.organisation_id = p_organisation AND e.deleted_at IS NULL)) THEN
        RAISE EXCEPTION 'the order names an event that organisation % does not have', p_organisation
            USING ERRCODE = 'PG006';
    END IF;
    UPDATE event e SET turn = array_position(p_turns, e.event_id)
    WHERE e.organisation_id = p_organisation AND e.turn IS DISTINCT FROM array_position(p_turns, e.event_id);
    IF NOT FOUND AND p_order = coalesce(
        (SELECT spend_order FROM steering WHERE organisation_id = p_organisation), 'fair') THEN
        RETURN false;
    END IF;
    INSERT INTO steering (organisation_id, spend_order) VALUES (p_organisation, p_order)
    ON CONFLICT (organisation_id) DO UPDATE SET spend_order = EXCLUDED.spend_order;
    PERFORM keep_steering(p_organisation);
    PERFORM note_decision(p_organisation, NULL, 'order', p_actor,
                          jsonb_build_object('order', p_order, 'events', p_turns));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION set_spend_order TO photogate_app;

-- Sets the class of an event, which counts where its organisation's order is 'priority'. Returns false if it had this
-- class already.
CREATE FUNCTION set_event_class(p_event bigint, p_class event_class, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_events constant integer := 500;                      -- each claim of the organisation reads all of them
    v_organisation bigint;
BEGIN
    IF p_class <> 'normal' AND c_events <= (
        SELECT count(*) FROM event e WHERE e.class <> 'normal' AND e.event_id <> p_event
            AND e.organisation_id = (SELECT x.organisation_id FROM event x WHERE x.event_id = p_event)) THEN
        RAISE EXCEPTION 'at most % events of an organisation are not normal: make one normal that is over', c_events
            USING ERRCODE = 'PG009';
    END IF;
    UPDATE event SET class = p_class WHERE event_id = p_event AND deleted_at IS NULL AND class <> p_class
    RETURNING organisation_id INTO v_organisation;
    IF FOUND THEN
        PERFORM note_decision(v_organisation, p_event, 'class', p_actor, jsonb_build_object('class', p_class));
        RETURN true;
    END IF;
    IF NOT EXISTS (SELECT FROM event WHERE event_id = p_event AND deleted_at IS NULL) THEN
        RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002';
    END IF;
    RETURN false;
END $$;
GRANT EXECUTE ON FUNCTION set_event_class TO photogate_app;

-- The class of a queue's event, as a number: 0 is the first. It gets better by one for each hour in which the queue had
-- photos, could run, and nobody claimed any (since p_since), so that no class starves another for ever. (VOLATILE: see
-- tokens_of.)
CREATE FUNCTION aged_class(p_class event_class, p_since timestamptz) RETURNS integer
LANGUAGE sql VOLATILE AS $$
    SELECT greatest(0, CASE p_class WHEN 'urgent' THEN 0 WHEN 'normal' THEN 1 WHEN 'background' THEN 2 END
                       - greatest(0, floor(extract(epoch FROM clock_timestamp() - p_since) / 3600)))::integer
$$;

-- Locks the next few queues that may spend anything and are not too fast, in the organisation's order. Queues of the
-- same rank get equal shares. r_is_empty: nothing waits in it. Nobody may call it but the claim. (In PL/pgSQL, because
-- a function in SQL would be planned in each call: that was most of what a claim took.)
CREATE FUNCTION lock_steered_queues(p_organisation bigint, p_cursor bigint, p_most integer)
RETURNS TABLE (r_queue bigint, r_rank bigint, r_is_empty boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    WITH s AS MATERIALIZED (SELECT * FROM spendable(ARRAY[p_organisation])),
    full_up AS MATERIALIZED (SELECT r_event FROM rooms(p_organisation) WHERE r_room <= 0),
    quiet AS MATERIALIZED (SELECT * FROM quiet_ends(p_organisation)),
    -- Not all queues: an organisation may have thousands, and the accounts of others are locked meanwhile. Those of
    -- events with a class or a place of their own, and the next of all others. (More than can be too fast: set_pace.)
    near AS MATERIALIZED (
        (SELECT q.queue_id FROM event e JOIN queue q USING (event_id)
         WHERE e.organisation_id = p_organisation AND (e.class <> 'normal' OR e.turn IS NOT NULL) AND q.runnable
         LIMIT 2000)
        UNION
        (SELECT q.queue_id FROM queue q
         WHERE q.organisation_id = p_organisation AND q.runnable AND q.queue_id > (
             SELECT CASE WHEN g.spend_order = 'finish_first' THEN 0 ELSE p_cursor END
             FROM steering g WHERE g.organisation_id = p_organisation)
         ORDER BY q.queue_id LIMIT 500)
        UNION
        (SELECT q.queue_id FROM queue q
         WHERE q.organisation_id = p_organisation AND q.runnable AND q.queue_id <= p_cursor
         ORDER BY q.queue_id LIMIT 500)),
    chosen AS MATERIALIZED (
        SELECT q.queue_id, dense_rank() OVER (ORDER BY r.place, r.event_id) AS rank,
               row_number() OVER (ORDER BY r.place, r.event_id, q.queue_id <= p_cursor, q.queue_id) AS n
        FROM near JOIN queue q USING (queue_id) JOIN event e USING (event_id)
        JOIN steering g ON g.organisation_id = p_organisation
        JOIN s others ON others.r_event IS NULL LEFT JOIN s own ON own.r_event = q.event_id
        LEFT JOIN quiet all_quiet ON all_quiet.r_event IS NULL
        LEFT JOIN quiet own_quiet ON own_quiet.r_event = q.event_id
        CROSS JOIN LATERAL (
            SELECT CASE g.spend_order WHEN 'fair' THEN 0
                                      WHEN 'priority' THEN aged_class(e.class, greatest(q.filled_at, (
                                          SELECT h.claimed_at FROM queue_head h
                                          WHERE h.queue_id BETWEEN q.queue_id AND q.queue_id
                                          ORDER BY h.queue_id DESC LIMIT 1),
                                          all_quiet.r_ended_at, own_quiet.r_ended_at))
                                      WHEN 'finish_first' THEN coalesce(e.turn, 1000001) END AS place,
                   CASE WHEN g.spend_order = 'finish_first' THEN q.event_id END AS event_id) r
        WHERE q.runnable AND coalesce(own.r_spendable, others.r_spendable) > 0
            AND NOT EXISTS (SELECT FROM full_up f WHERE f.r_event IS NULL OR f.r_event = q.event_id)
        ORDER BY n LIMIT 4 * p_most),
    -- A queue that is empty comes last: somebody may append to it for a long time, and would keep its place.
    few AS MATERIALIZED (
        SELECT c.* FROM chosen c JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
        ORDER BY t.tail - h.head - h.not_waiting = 0, c.n LIMIT p_most),
    locked AS MATERIALIZED (
        SELECT q.queue_id, c.rank, c.n FROM few c JOIN queue q USING (queue_id) WHERE q.runnable
        FOR NO KEY UPDATE OF q SKIP LOCKED)
    SELECT l.queue_id, l.rank, t.tail - h.head - h.not_waiting = 0
    FROM locked l JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id) ORDER BY l.n;
END $$;

-- How many photos of each of these queues a claim takes, p_quota of them at most: as its rank, and the budget and the
-- pace of its event allow. What it says is taken. The queues are locked, and come in the order and with the ranks of
-- lock_steered_queues. First, each queue of a rank is offered an equal share (pass 1). What is left then goes to those
-- of the rank that want more (pass 2), and only after that to the next rank. Nobody may call it but the claim.
CREATE FUNCTION share_steered(p_organisation bigint, p_quota bigint, p_queues bigint[], p_ranks bigint[])
RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v record; v_events bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(p_queues)]);
    v_take bigint[] := array_fill(0::bigint, ARRAY[cardinality(p_queues)]);
    v_left bigint; v_free bigint; v_before bigint; v_kept bigint; v_more bigint;
BEGIN
    FOR v IN
        WITH s AS MATERIALIZED (SELECT * FROM spendable(ARRAY[p_organisation])),
        m AS MATERIALIZED (SELECT * FROM rooms(p_organisation))
        SELECT u.n, q.event_id, own.r_cap_left AS cap_left, coalesce(own.r_floor_left, 0) AS floor_left,
               others.r_free AS free, t.tail - h.head - h.not_waiting AS waiting, m.r_room AS room,
               (SELECT min(r_room) FROM m WHERE r_event IS NULL) AS room_of_all,
               CASE pass WHEN 1 THEN count(*) OVER (PARTITION BY u.rank, pass ORDER BY u.n
                                                    ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
                         ELSE 1 END AS sharers
        FROM unnest(p_queues, p_ranks) WITH ORDINALITY u (queue_id, rank, n) CROSS JOIN generate_series(1, 2) pass
        JOIN queue q USING (queue_id) JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
        JOIN s others ON others.r_event IS NULL LEFT JOIN s own ON own.r_event = q.event_id
        LEFT JOIN m ON m.r_event = q.event_id
        ORDER BY u.rank, pass, u.n
    LOOP
        v_left := coalesce(v_left, least(p_quota, v.room_of_all));
        v_free := coalesce(v_free, v.free);
        -- What this claim has taken already from the event.
        SELECT coalesce(sum(take), 0) INTO v_before
        FROM unnest(v_events, v_take) x (event_id, take) WHERE x.event_id = v.event_id;
        v_kept := greatest(0, v.floor_left - v_before);
        v_more := greatest(0, least(
            v.waiting - v_take[v.n], (v_left + v.sharers - 1) / v.sharers, v.cap_left - v_before, v.room - v_before,
            v_kept + v_free));
        v_events[v.n] := v.event_id;
        v_take[v.n] := v_take[v.n] + v_more;
        v_free := v_free - greatest(0, v_more - v_kept);
        v_left := v_left - v_more;
    END LOOP;
    PERFORM take_tokens(p_organisation, v_events, v_take);
    RETURN v_take;
END $$;
