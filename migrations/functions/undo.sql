-- Undo: what a person did to an event's queues is taken back, for a short time, if it still can be. It is the exact
-- inverse, or it is refused (PG010), and the error says what has happened since.
--
-- Lock order: the row of undo, and then as what is taken back.

-- Keeps what a person did. p_positions: those that it concerned; p_stretches: the stretches that they were in before;
-- p_follow_ups: those that it wrote (queue), deleted (cancel), or that wait for them (skip). Nobody may call it but the
-- gate's own functions.
CREATE FUNCTION note_undo(p_queue queue, p_act undo_act, p_actor text, p_runs bigint[], p_positions int8multirange,
    p_stretches stretch[], p_follow_ups follow_up[], p_holds bigint[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_undo bigint;
BEGIN
    -- Nobody would delete it.
    IF EXISTS (SELECT FROM event WHERE event_id = p_queue.event_id AND deleted_at IS NOT NULL) THEN RETURN NULL; END IF;
    INSERT INTO undo (organisation_id, event_id, act, actor, runs, holds, queue_id, positions, stretches, follow_ups)
    VALUES (p_queue.organisation_id, p_queue.event_id, p_act, p_actor, p_runs, p_holds, p_queue.queue_id, p_positions,
            p_stretches, p_follow_ups)
    RETURNING undo_id INTO v_undo;
    RETURN v_undo;
END $$;

-- Deletes acts that are too old to be taken back, at most 1000. (undo_seconds is at most an hour.)
CREATE FUNCTION forget_old_acts() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    DELETE FROM undo WHERE undo_id IN (
        SELECT undo_id FROM undo WHERE at < clock_timestamp() - interval '1 hour'
        ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED)
$$;

-- Locks several acts, for a transaction that takes all of them back.
CREATE FUNCTION lock_acts(p_undos bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM undo WHERE undo_id = ANY (p_undos) ORDER BY undo_id FOR UPDATE;
END $$;
GRANT EXECUTE ON FUNCTION lock_acts TO photogate_app;

-- Ties the acts of one call together, in its transaction, so that they are taken back as one. Returns their number.
CREATE FUNCTION tie_acts(p_undos bigint[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    WITH tied AS (
        UPDATE undo SET bulk_id = (SELECT min(u) FROM unnest(p_undos) u)
        WHERE undo_id = ANY (p_undos) AND bulk_id IS NULL RETURNING bulk_id)
    SELECT min(bulk_id) FROM tied
$$;
GRANT EXECUTE ON FUNCTION tie_acts TO photogate_app;

-- Takes an act back that is at most p_within old. r_photos: how many photos this concerns. r_woke: they can be claimed,
-- the workers should be told.
CREATE FUNCTION undo(p_undo bigint, p_actor text, p_within interval, OUT r_act undo_act, OUT r_photos bigint,
    OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v undo; v_age interval;
BEGIN
    SELECT u.* INTO v FROM undo u WHERE u.undo_id = p_undo FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM event WHERE event_id = v.event_id AND deleted_at IS NOT NULL) THEN
        RAISE EXCEPTION 'nothing to undo has the number %', p_undo USING ERRCODE = 'PG002';
    END IF;
    IF v.undone_at IS NOT NULL THEN
        RAISE EXCEPTION 'this was undone already' USING ERRCODE = 'PG010';
    END IF;
    v_age := clock_timestamp() - v.at;
    IF v_age NOT BETWEEN -interval '1 minute' AND p_within THEN
        RAISE EXCEPTION 'it is too late: this could be undone within % seconds', extract(epoch FROM p_within)::bigint
            USING ERRCODE = 'PG010';
    END IF;
    r_act := v.act;
    CASE v.act
        WHEN 'queue', 'retry' THEN r_photos := undo_queueing(v, p_actor);
        WHEN 'skip', 'cancel' THEN r_photos := undo_skip(v, p_actor);
        WHEN 'restore' THEN r_photos := undo_restore(v, p_actor);
        WHEN 'first' THEN r_photos := undo_first(v, p_actor);
        WHEN 'hold', 'lift' THEN
            PERFORM undo_hold(v, p_actor);
            r_photos := 0;
    END CASE;
    UPDATE undo SET undone_at = clock_timestamp() WHERE undo_id = p_undo;
    r_woke := v.act IN ('skip', 'cancel', 'first', 'hold')
        AND EXISTS (SELECT FROM queue WHERE queue_id = v.queue_id AND runnable);
END $$;
GRANT EXECUTE ON FUNCTION undo TO photogate_app;

-- The photos are not queued any more, as if they never had been.
CREATE FUNCTION undo_queueing(p_undo undo, p_actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v record; v_run bigint; v_photos bigint := 0; v_n bigint;
BEGIN
    -- There may be follow-ups, and no run.
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id) WHERE q.event_id = p_undo.event_id
    ORDER BY queue_id FOR NO KEY UPDATE OF t;
    FOREACH v_run IN ARRAY p_undo.runs LOOP
        SELECT * INTO v FROM lock_run(v_run);
        v_n := (v.r_run).queued - number_of(v.r_waiting);
        IF v_n > 0 THEN
            RAISE EXCEPTION '% of the photos do not wait any more: cancel run % to take back those that do', v_n, v_run
                USING ERRCODE = 'PG010';
        END IF;
        IF EXISTS (
            SELECT FROM follow_up f
            WHERE f.after_queue = (v.r_run).queue_id AND f.after_position >= (v.r_run).first_position
                AND f.after_position < (v.r_run).first_position + (v.r_run).queued
                AND NOT EXISTS (SELECT FROM unnest(p_undo.follow_ups) w
                                WHERE w.photo_id = f.photo_id AND w.after_job = f.after_job)) THEN
            RAISE EXCEPTION 'another call has queued Photo Processing after these since: cancel run % instead', v_run
                USING ERRCODE = 'PG010';
        END IF;
        PERFORM undo_run(v.r_run, v.r_queue, p_actor);
        v_photos := v_photos + (v.r_run).queued;
    END LOOP;
    -- Those that its photos would be followed by are gone with them. Others waited for photos of earlier calls.
    DELETE FROM follow_up f USING unnest(p_undo.follow_ups) w
    WHERE f.queue_id = w.queue_id AND f.photo_id = w.photo_id AND f.after_job = w.after_job;
    -- What followed had no job then, or only one of a file that has changed.
    IF EXISTS (SELECT FROM unnest(p_undo.follow_ups) w CROSS JOIN LATERAL latest_job(w.photo_id, w.queue_id) j
               WHERE j.run_id > p_undo.runs[1] OR NOT takes_job(w.photo_id, w.queue_id, w.take)) THEN
        RAISE EXCEPTION 'some of the photos were queued for Photo Processing already: skip them there'
            USING ERRCODE = 'PG010';
    END IF;
    RETURN v_photos + coalesce(cardinality(p_undo.follow_ups), 0);
END $$;

-- The photos wait again where they stood, and what follows them follows them.
CREATE FUNCTION undo_skip(p_undo undo, p_actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    PERFORM lock_queues_of(p_undo);
    IF p_undo.positions <> (
        SELECT coalesce(range_agg(int8range(from_position, to_position, '[]')), '{}') * p_undo.positions
        FROM stretches_in(p_undo.queue_id, lower(p_undo.positions), upper(p_undo.positions) - 1)
        -- Not by another act since.
        WHERE kind = 'skipped' AND at <= p_undo.at) THEN
        RAISE EXCEPTION 'some of the photos were put back already: restore the others' USING ERRCODE = 'PG010';
    END IF;
    IF p_undo.act = 'skip' AND EXISTS (
        SELECT FROM unnest(p_undo.follow_ups) w WHERE NOT EXISTS (
            SELECT FROM follow_up f WHERE f.queue_id = w.queue_id AND f.photo_id = w.photo_id)) THEN
        RAISE EXCEPTION 'Photo Processing of some of the photos was queued since: restore them' USING ERRCODE = 'PG010';
    END IF;
    PERFORM put_back(p_undo.queue_id, p_undo.positions, p_actor, -1);
    PERFORM put_first_again(p_undo);
    IF p_undo.act = 'cancel' THEN
        INSERT INTO follow_up SELECT (f).* FROM unnest(p_undo.follow_ups) f ON CONFLICT DO NOTHING;
    END IF;
    PERFORM note_undone(p_undo, p_actor);
    RETURN number_of(p_undo.positions);
END $$;

-- The photos are skipped again.
CREATE FUNCTION undo_restore(p_undo undo, p_actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_n bigint := number_of(p_undo.positions); v_waiting bigint;
BEGIN
    PERFORM lock_queues_of(p_undo);
    v_waiting := number_of(p_undo.positions * waiting_positions(
        p_undo.queue_id, lower(p_undo.positions), upper(p_undo.positions) - 1));
    IF v_waiting < v_n THEN
        RAISE EXCEPTION '% of the photos do not wait any more: skip the others', v_n - v_waiting
            USING ERRCODE = 'PG010';
    END IF;
    PERFORM put_stretches(p_undo.queue_id, p_undo.positions, 'skipped', NULL, NULL, p_actor, v_n);
    -- With the names of those who had skipped them.
    DELETE FROM stretch s
    WHERE s.queue_id = p_undo.queue_id AND s.from_position >= lower(p_undo.positions)
        AND s.from_position < upper(p_undo.positions)
        AND int8range(s.from_position, s.to_position, '[]') <@ p_undo.positions;
    INSERT INTO stretch (queue_id, from_position, to_position, kind, run_id, actor, at)
    SELECT s.queue_id, lower(r), upper(r) - 1, s.kind, s.run_id, s.actor, s.at
    FROM queue_head h CROSS JOIN unnest(p_undo.stretches) s
    CROSS JOIN LATERAL cut_at(int8multirange(int8range(s.from_position, s.to_position, '[]')), h.head) r
    WHERE h.queue_id = p_undo.queue_id;
    PERFORM note_ends((SELECT q FROM queue q WHERE q.queue_id = p_undo.queue_id), (
        SELECT array_agg(DISTINCT j.run_id) FROM unnest(p_undo.positions) r JOIN job j
            ON j.queue_id = p_undo.queue_id AND j.position >= lower(r) AND j.position < upper(r)));
    RETURN v_n;
END $$;

-- What of the run waits is claimed in its turn again.
CREATE FUNCTION undo_first(p_undo undo, p_actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    PERFORM lock_queues_of(p_undo);
    SELECT coalesce(range_agg(int8range(from_position, to_position, '[]')), '{}') * p_undo.positions
    INTO p_undo.positions
    FROM stretches_in(p_undo.queue_id, lower(p_undo.positions), upper(p_undo.positions) - 1)
    -- Not by another act since.
    WHERE kind = 'first' AND at <= p_undo.at;
    IF isempty(p_undo.positions) THEN
        RAISE EXCEPTION 'all of the photos were claimed or moved since' USING ERRCODE = 'PG010';
    END IF;
    PERFORM put_back(p_undo.queue_id, p_undo.positions, p_actor, 0);
    PERFORM put_first_again(p_undo);
    PERFORM note_undone(p_undo, p_actor);
    RETURN number_of(p_undo.positions);
END $$;

-- A hold is lifted, or one that was lifted is placed again.
CREATE FUNCTION undo_hold(p_undo undo, p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_hold hold;
BEGIN
    SELECT q.* INTO v_queue FROM queue q WHERE q.queue_id = p_undo.queue_id FOR NO KEY UPDATE;
    SELECT h.* INTO v_hold FROM hold h WHERE h.hold_id = p_undo.holds[1];
    IF p_undo.act = 'hold' THEN
        IF NOT (SELECT r_lifted FROM take_hold_away(v_hold.hold_id, p_actor)) THEN
            RAISE EXCEPTION 'the hold was lifted already' USING ERRCODE = 'PG010';
        END IF;
    ELSIF v_hold.until <= clock_timestamp() THEN
        RAISE EXCEPTION 'the hold would have ended by now' USING ERRCODE = 'PG010';
    ELSE
        PERFORM place_hold(v_queue.event_id, v_queue.operation, v_hold.owner, v_hold.note, v_hold.until);
    END IF;
END $$;

-- Locks the queue of an act, and the tails of its event. (Nobody who has them waits for a row of undo.)
CREATE FUNCTION lock_queues_of(p_undo undo) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id) WHERE q.event_id = p_undo.event_id
    ORDER BY queue_id FOR NO KEY UPDATE OF t;
    PERFORM 1 FROM queue WHERE queue_id = p_undo.queue_id FOR NO KEY UPDATE;
    -- A later statement than the locks: nobody would delete what is written now of a deleted event.
    IF EXISTS (SELECT FROM event WHERE event_id = p_undo.event_id AND deleted_at IS NOT NULL) THEN
        RAISE EXCEPTION 'no event %', p_undo.event_id USING ERRCODE = 'PG002';
    END IF;
    PERFORM refuse_archived(p_undo.event_id);
END $$;

-- Photos that went first before the act go first again, in their place.
CREATE FUNCTION put_first_again(p_undo undo) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v stretch;
BEGIN
    FOR v IN SELECT * FROM unnest(p_undo.stretches) WHERE kind = 'first' LOOP
        PERFORM put_stretches(v.queue_id, int8multirange(int8range(v.from_position, v.to_position, '[]'))
            * p_undo.positions, 'first', v.place, v.run_id, v.actor, 0);
        -- By the act that it was before.
        UPDATE stretch SET at = v.at
        WHERE queue_id = v.queue_id AND kind = 'first' AND from_position BETWEEN v.from_position AND v.to_position;
    END LOOP;
END $$;

CREATE FUNCTION note_undone(p_undo undo, p_actor text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO timeline (organisation_id, event_id, operation, kind, actor, reference)
    SELECT q.organisation_id, q.event_id, q.operation, 'undone', p_actor, p_undo.runs[1]
    FROM queue q WHERE q.queue_id = p_undo.queue_id AND p_undo.runs IS NOT NULL
$$;
