-- Holds: a person, or maintenance, keeps a queue from running.
--
-- These take the queue's lock, and write only queue.held. Nobody else writes it, but delete_event.

CREATE FUNCTION hold_queue(p_event bigint, p_operation operation, p_owner text, p_note text, p_until timestamptz,
    OUT r_hold bigint, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    r_hold := place_hold(p_event, p_operation, p_owner, p_note, p_until);
    r_undo := note_undo(q, 'hold', p_owner, NULL, NULL, NULL, NULL, ARRAY[r_hold])
    FROM queue q WHERE q.event_id = p_event AND q.operation = p_operation;
END $$;
GRANT EXECUTE ON FUNCTION hold_queue TO photogate_app;

-- Holds a queue unless a hold stands on it: then r_hold is null. Somebody who presses twice places one hold.
CREATE FUNCTION hold_free_queue(p_event bigint, p_operation operation, p_owner text, p_note text, p_until timestamptz,
    OUT r_hold bigint, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    -- A later statement than the lock: it sees every hold that was placed before us.
    IF EXISTS (SELECT FROM queue q JOIN hold h USING (queue_id)
               WHERE q.event_id = p_event AND q.operation = p_operation AND h.lifted_at IS NULL) THEN
        RETURN;
    END IF;
    SELECT x.r_hold, x.r_undo INTO r_hold, r_undo FROM hold_queue(p_event, p_operation, p_owner, p_note, p_until) x;
END $$;
GRANT EXECUTE ON FUNCTION hold_free_queue TO photogate_app;

-- Nobody may call it but the gate's own functions.
CREATE FUNCTION place_hold(p_event bigint, p_operation operation, p_owner text, p_note text, p_until timestamptz)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue bigint; v_hold bigint;
BEGIN
    UPDATE queue SET held = true WHERE event_id = p_event AND operation = p_operation
    RETURNING queue_id INTO v_queue;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    INSERT INTO hold (queue_id, owner, note, until) VALUES (v_queue, p_owner, p_note, p_until)
    RETURNING hold_id INTO v_hold;
    RETURN v_hold;
END $$;

-- Lifts one hold; the queue runs when no other hold stands. r_woke: it runs now.
CREATE FUNCTION lift_hold(p_hold bigint, p_actor text, OUT r_lifted boolean, OUT r_woke boolean, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    SELECT x.r_lifted, x.r_woke INTO r_lifted, r_woke FROM take_hold_away(p_hold, p_actor) x;
    IF r_lifted THEN
        r_undo := note_undo(q, 'lift', p_actor, NULL, NULL, NULL, NULL, ARRAY[p_hold])
        FROM queue q JOIN hold h USING (queue_id) WHERE h.hold_id = p_hold;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION lift_hold TO photogate_app;

-- Nobody may call it but the gate's own functions.
CREATE FUNCTION take_hold_away(p_hold bigint, p_actor text, OUT r_lifted boolean, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue bigint; v_for_good boolean;
BEGIN
    r_woke := false;
    SELECT queue_id, for_good INTO v_queue, v_for_good FROM hold WHERE hold_id = p_hold;
    IF NOT FOUND THEN RAISE EXCEPTION 'no hold %', p_hold USING ERRCODE = 'PG002'; END IF;
    -- This error says why the hold cannot be lifted. Without it, a constraint would refuse with no explanation.
    IF v_for_good THEN
        RAISE EXCEPTION 'hold % stands for good: its event was deleted', p_hold USING ERRCODE = 'PG006';
    END IF;
    PERFORM 1 FROM queue WHERE queue_id = v_queue FOR NO KEY UPDATE;
    UPDATE hold SET lifted_at = clock_timestamp(), lifted_by = p_actor WHERE hold_id = p_hold AND lifted_at IS NULL;
    r_lifted := FOUND;
    -- A later statement than the lock: it sees every hold that was placed before us.
    UPDATE queue q SET held = false, filled_at = clock_timestamp()
    WHERE q.queue_id = v_queue AND q.held
        AND NOT EXISTS (SELECT FROM hold h WHERE h.queue_id = v_queue AND h.lifted_at IS NULL)
    RETURNING q.runnable INTO r_woke;
    r_woke := coalesce(r_woke, false);
END $$;

-- Lifts the holds whose time is over, and returns how many. Any worker may call it, at any time.
CREATE FUNCTION expire_holds() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_hold bigint; v_n integer := 0;
BEGIN
    FOR v_hold IN
        SELECT h.hold_id FROM hold h WHERE h.lifted_at IS NULL AND h.until <= clock_timestamp()
        ORDER BY h.queue_id, h.hold_id
    LOOP
        -- It never waits, because the heartbeat's loop calls it. If somebody has the queue now, a later call lifts it:
        -- there is one every second.
        PERFORM 1 FROM queue q JOIN hold h USING (queue_id) WHERE h.hold_id = v_hold
        FOR NO KEY UPDATE OF q SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        IF (SELECT r_lifted FROM take_hold_away(v_hold, 'expired')) THEN v_n := v_n + 1; END IF;
    END LOOP;
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION expire_holds TO photogate_worker;
