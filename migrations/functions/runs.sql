-- Runs: what one call has queued is cancelled, or claimed first. Its positions stand beside each other, so this takes
-- one step, however many photos wait.
--
-- Locks: as in skips.sql. A run of AI rotation can have follow-ups in the event's other queue, so both tails are locked
-- for it, in the order of delete_event.

-- Locks the queue of a run for people, and finds what of the run waits. The error for a run of nobody, or of a deleted
-- event, is the same.
CREATE FUNCTION lock_run(p_run bigint, OUT r_run run, OUT r_queue queue, OUT r_waiting int8multirange)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM run r JOIN queue q USING (event_id) JOIN queue_tail t ON t.queue_id = q.queue_id
    WHERE r.run_id = p_run ORDER BY t.queue_id FOR NO KEY UPDATE OF t;
    SELECT q.* INTO r_queue FROM run r JOIN queue q USING (queue_id) WHERE r.run_id = p_run FOR NO KEY UPDATE OF q;
    -- Later statements than the locks.
    SELECT r.* INTO r_run FROM run r JOIN event e USING (event_id) WHERE r.run_id = p_run AND e.deleted_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no run %', p_run USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(r_run.event_id);
    r_waiting := CASE WHEN r_run.undone_at IS NOT NULL THEN '{}' ELSE waiting_positions(
        r_run.queue_id, r_run.first_position, r_run.first_position + r_run.queued - 1) END;
END $$;

-- Takes back the photos of a run that wait: they are skipped, and cost nothing. What is in flight is finished. Photos
-- that would follow them are not queued any more. r_in_progress: how many are in flight.
CREATE FUNCTION cancel_run(p_run bigint, p_actor text, OUT r_cancelled bigint, OUT r_in_progress bigint,
    OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v record; v_were stretch[]; v_follow_ups follow_up[];
BEGIN
    SELECT * INTO v FROM lock_run(p_run);
    SELECT coalesce(sum(claimed - committed - refunded), 0) INTO r_in_progress FROM usage WHERE run_id = p_run;
    r_cancelled := number_of(v.r_waiting);
    IF r_cancelled = 0 THEN RETURN; END IF;
    v_were := put_stretches((v.r_run).queue_id, v.r_waiting, 'skipped', NULL, p_run, p_actor, r_cancelled);
    v_follow_ups := take_follow_ups((v.r_run).queue_id, v.r_waiting);
    PERFORM note_ends(v.r_queue, ARRAY[p_run]);
    INSERT INTO timeline (organisation_id, event_id, operation, kind, actor, reference, photos)
    VALUES ((v.r_run).organisation_id, (v.r_run).event_id, (v.r_queue).operation, 'cancelled', p_actor, p_run,
            r_cancelled);
    r_undo := note_undo(v.r_queue, 'cancel', p_actor, ARRAY[p_run], v.r_waiting, v_were, v_follow_ups);
END $$;
GRANT EXECUTE ON FUNCTION cancel_run TO photogate_app;

-- Lets the photos of a run that wait be claimed before all others of their queue. r_moved: how many.
CREATE FUNCTION put_run_first(p_run bigint, p_actor text, OUT r_moved bigint, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v record; v_were stretch[];
BEGIN
    SELECT * INTO v FROM lock_run(p_run);
    r_moved := number_of(v.r_waiting);
    IF r_moved = 0 THEN RETURN; END IF;
    v_were := put_stretches((v.r_run).queue_id, v.r_waiting, 'first',
        (SELECT least(0, min(place)) - 1 FROM stretch WHERE queue_id = (v.r_run).queue_id AND kind = 'first'),
        p_run, p_actor, 0);
    INSERT INTO timeline (organisation_id, event_id, operation, kind, actor, reference, photos)
    VALUES ((v.r_run).organisation_id, (v.r_run).event_id, (v.r_queue).operation, 'first', p_actor, p_run, r_moved);
    r_undo := note_undo(v.r_queue, 'first', p_actor, ARRAY[p_run], v.r_waiting, v_were, NULL);
END $$;
GRANT EXECUTE ON FUNCTION put_run_first TO photogate_app;

-- The newest run of a queue of which photos wait: how many, and how many others are claimed before them. All NULL: no
-- photo waits. Each run that is looked at is a few lookups, so only the latest are.
CREATE FUNCTION newest_run(p_queue bigint, OUT r_run bigint, OUT r_waiting bigint, OUT r_ahead bigint)
LANGUAGE sql STABLE AS $$
    SELECT r.run_id, number_of(w.positions), photos_ahead(p_queue, lower(w.positions))
    FROM (SELECT * FROM run WHERE queue_id = p_queue AND undone_at IS NULL AND queued > 0
          ORDER BY run_id DESC LIMIT 200) r
    CROSS JOIN LATERAL waiting_positions(p_queue, r.first_position, r.first_position + r.queued - 1) w (positions)
    WHERE NOT isempty(w.positions) ORDER BY r.run_id DESC LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION newest_run TO photogate_app;

-- Lets a run that is appended now go first: after what goes first already. The caller has the queue's locks. Nobody may
-- call it but the gate's own functions.
CREATE FUNCTION make_urgent(p_queue bigint, p_run bigint, p_from bigint, p_to bigint, p_actor text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT put_stretches(p_queue, int8multirange(int8range(p_from, p_to, '[]')), 'first', (
        -- Photos that were put back come after all these.
        SELECT greatest(0, max(place)) + 1 FROM stretch
        WHERE queue_id = p_queue AND kind = 'first' AND place < 1000000000), p_run, p_actor, 0)
$$;

-- Takes back a run of which nothing was claimed: its jobs are deleted, as if it had never been queued. Its positions
-- stay, and are passed over. The caller has the locks of lock_run. Nobody may call it but the gate's own functions.
CREATE FUNCTION undo_run(p_run run, p_queue queue, p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_all int8multirange := int8multirange(int8range(p_run.first_position, p_run.first_position + p_run.queued));
BEGIN
    DELETE FROM job WHERE queue_id = p_run.queue_id AND position >= p_run.first_position
        AND position < p_run.first_position + p_run.queued;
    PERFORM put_stretches(p_run.queue_id, v_all, 'undone', NULL, p_run.run_id, p_actor, p_run.queued);
    PERFORM take_follow_ups(p_run.queue_id, v_all);
    UPDATE run SET undone_at = clock_timestamp(), undone_by = p_actor WHERE run_id = p_run.run_id;
    PERFORM note_ends(p_queue, NULL);
    INSERT INTO timeline (organisation_id, event_id, operation, kind, actor, reference)
    VALUES (p_run.organisation_id, p_run.event_id, p_queue.operation, 'undone', p_actor, p_run.run_id);
END $$;
