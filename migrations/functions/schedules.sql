-- Schedules: photos that are queued at a later time.
--
-- A schedule is kept beside the queues, so that positions stay dense: its photos get theirs when it is due. Workers
-- look every second for schedules that are due, and queue one part (at most 10,000 photos) in a transaction. It deletes
-- the part, or moves the place up to which all photos of the event are queued. So each part is queued exactly once,
-- however many workers look, and a schedule that was missed is queued as soon as a worker is there again.
--
-- Lock order: the schedule, then as in enqueue; the audit log comes last. A schedule that somebody else has is passed
-- over (SKIP LOCKED), and a queue that somebody keeps locked is not waited for: the part is put off.
-- Whoever forgets a deleted event ends its schedules (forget.sql).

-- Keeps photos for later: those with these keys, or (p_keys is NULL) all that the event has then. p_payloads: as in
-- enqueue. p_pipeline: which pipeline asks, or NULL. A schedule that waits is made once: the same call again, by the
-- same caller, finds it (r_is_new is false).
CREATE FUNCTION schedule_photos(p_event bigint, p_operation operations, p_due_at timestamptz, p_keys text[],
    p_payloads jsonb[], p_actor text, p_pipeline bigint DEFAULT NULL, p_urgent boolean DEFAULT false,
    OUT r_schedule bigint, OUT r_is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_schedules constant integer := 100;                   -- that may wait, of an organisation
    c_photos constant bigint := 1000000;                   -- that may wait in them
    c_call constant integer := 100000;                     -- photos in one schedule
    c_part constant integer := 10000;
    v_asked bytea; v_organisation bigint; v_photos bigint;
BEGIN
    IF cardinality(p_keys) NOT BETWEEN 1 AND c_call OR cardinality(p_keys) <> cardinality(p_payloads) THEN
        RAISE EXCEPTION 'a schedule has 1 to % photos, and a payload for each', c_call USING ERRCODE = 'PG006';
    END IF;
    SELECT organisation_id INTO v_organisation FROM event WHERE event_id = p_event AND deleted_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(p_event);
    PERFORM check_due_at(p_due_at);
    IF p_keys IS NOT NULL THEN
        v_asked := sha256(convert_to(concat(to_json(p_keys), to_json(p_payloads)), 'UTF8'));
    END IF;
    -- One at a time looks and counts. Only calls of the same organisation wait.
    PERFORM pg_advisory_xact_lock(hashtextextended('schedules of ' || v_organisation, 0));
    SELECT schedule_id INTO r_schedule FROM schedule
    WHERE event_id = p_event AND operation = p_operation AND due_at = p_due_at AND asked IS NOT DISTINCT FROM v_asked
        AND urgent = p_urgent AND actor = p_actor AND pipeline_id IS NOT DISTINCT FROM p_pipeline AND ended_at IS NULL
    ORDER BY schedule_id LIMIT 1;
    r_is_new := NOT FOUND;
    IF NOT r_is_new THEN RETURN; END IF;
    IF c_schedules <= (SELECT count(*) FROM schedule WHERE organisation_id = v_organisation AND ended_at IS NULL) THEN
        RAISE EXCEPTION 'an organisation has at most % schedules that wait: cancel some', c_schedules
            USING ERRCODE = 'PG009';
    END IF;
    INSERT INTO schedule (organisation_id, event_id, operation, due_at, asked, photos, urgent, actor, pipeline_id)
    VALUES (v_organisation, p_event, p_operation, p_due_at, v_asked, coalesce(cardinality(p_keys), 0), p_urgent,
            p_actor, p_pipeline)
    RETURNING schedule_id INTO r_schedule;
    SELECT sum(photos) INTO v_photos FROM schedule WHERE organisation_id = v_organisation AND ended_at IS NULL;
    IF v_photos > c_photos THEN
        RAISE EXCEPTION 'at most % photos of an organisation wait in schedules, and these would be %: cancel a '
            'schedule, or schedule all photos of the event, which are not counted', c_photos, v_photos
            USING ERRCODE = 'PG009';
    END IF;
    INSERT INTO schedule_part (schedule_id, keys, payloads)
    SELECT r_schedule, p_keys[n : n + c_part - 1], p_payloads[n : n + c_part - 1]
    FROM generate_series(1, cardinality(p_keys), c_part) n ORDER BY n;
    -- If the event is deleted meanwhile, the schedule ends when it is due, or with the findings.
END $$;
GRANT EXECUTE ON FUNCTION schedule_photos TO photogate_app;

-- Refuses a time that is no later time, or too far away to be meant.
CREATE FUNCTION check_due_at(p_due_at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
BEGIN
    IF p_due_at > clock() AND p_due_at < clock() + interval '366 days' THEN RETURN; END IF;
    RAISE EXCEPTION 'choose a time that is later than now and within a year' USING ERRCODE = 'PG006';
END $$;
GRANT EXECUTE ON FUNCTION check_due_at TO photogate_app;

-- Changes when a schedule is due. Whoever changes it answers for it from then on. False: it has ended.
CREATE FUNCTION move_schedule(p_schedule bigint, p_due_at timestamptz, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM check_due_at(p_due_at);
    UPDATE schedule SET due_at = p_due_at, actor = p_actor, pipeline_id = NULL, trouble = NULL, tried_at = NULL
    WHERE schedule_id = p_schedule AND ended_at IS NULL;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION move_schedule TO photogate_app;

-- Ends a schedule: what of it was not queued yet is not queued. False: it has ended already.
CREATE FUNCTION end_schedule(p_schedule bigint, p_end schedule_end, p_by text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE schedule SET ended_at = clock_timestamp(), ended = p_end, ended_by = p_by
    WHERE schedule_id = p_schedule AND ended_at IS NULL;
    IF NOT FOUND THEN RETURN false; END IF;
    DELETE FROM schedule_part WHERE schedule_id = p_schedule;
    RETURN true;
END $$;

CREATE FUNCTION cancel_schedule(p_schedule bigint, p_actor text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT end_schedule(p_schedule, 'cancelled', p_actor)
$$;
GRANT EXECUTE ON FUNCTION cancel_schedule TO photogate_app;

-- Ends the schedules of a deleted event. It is called with the event's lock: a part that is queued now is waited for.
CREATE FUNCTION end_schedules_of(p_event bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT end_schedule(schedule_id, 'refused', 'event_deleted')
    FROM schedule WHERE event_id = p_event AND ended_at IS NULL ORDER BY schedule_id
$$;

-- The next schedule that is due, or NULL: that of the first organisation after p_organisation, then of the others. What
-- could not be queued is tried again after a minute. While the clock is implausible, nothing is due.
CREATE FUNCTION next_due_schedule(p_organisation bigint, OUT r_organisation bigint, OUT r_schedule bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_now timestamptz := clock();
BEGIN
    SELECT organisation_id, schedule_id INTO r_organisation, r_schedule FROM schedule
    WHERE ended_at IS NULL AND due_at <= v_now
        -- (A time in the future: the clock was put back.)
        AND (tried_at IS NULL OR tried_at NOT BETWEEN v_now - interval '1 minute' AND v_now)
    ORDER BY organisation_id <= p_organisation, organisation_id, due_at, schedule_id LIMIT 1;
    IF FOUND AND NOT is_clock_plausible() THEN
        r_organisation := NULL;
        r_schedule := NULL;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION next_due_schedule TO photogate_worker;

-- Whether the one who scheduled may not come in any more: a person who was disabled, a token or a pipeline that was
-- revoked. (A token that has expired was good when it was used.)
CREATE FUNCTION actor_is_gone(p_actor text, p_pipeline bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT CASE WHEN p_pipeline IS NOT NULL
                THEN EXISTS (SELECT FROM pipeline WHERE pipeline_id = p_pipeline AND revoked_at IS NOT NULL)
                ELSE EXISTS (SELECT FROM person WHERE email = p_actor AND disabled_at IS NOT NULL)
                  OR EXISTS (SELECT FROM token WHERE revoked_at IS NOT NULL
                             AND token_id = substring(p_actor FROM '^token ([0-9]{1,18}) ')::bigint) END
$$;

-- Queues the next part of a schedule that is due. r_queued is NULL if there was nothing to do: somebody else has it, or
-- it has ended. r_woke: workers can claim its photos. p_unpaid_max: as check_unpaid_photos has it.
-- A lock that is not free after a second is not waited for (lock_timeout): the caller puts the schedule off.
CREATE FUNCTION enqueue_scheduled(p_schedule bigint, p_unpaid_max bigint, OUT r_queued integer, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    c_part constant integer := 10000;
    v schedule; v_refusal text; v_keys text[]; v_payloads jsonb[]; v_ids uuid[]; v_runs bigint[];
    v_following integer := 0;
BEGIN
    SELECT * INTO v FROM schedule
    WHERE schedule_id = p_schedule AND ended_at IS NULL AND due_at <= clock() FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN; END IF;
    r_queued := 0;
    r_woke := false;
    -- Later statements than the lock.
    IF v.asked IS NULL THEN
        SELECT array_agg(key ORDER BY key) INTO v_keys FROM (
            SELECT key FROM photo WHERE event_id = v.event_id AND key > v.reached ORDER BY key LIMIT c_part) p;
    ELSE
        DELETE FROM schedule_part
        WHERE part_id = (SELECT min(part_id) FROM schedule_part WHERE schedule_id = v.schedule_id)
        RETURNING keys, payloads INTO v_keys, v_payloads;
    END IF;
    v_refusal := CASE
        WHEN EXISTS (SELECT FROM event WHERE event_id = v.event_id AND deleted_at IS NOT NULL) THEN 'event_deleted'
        WHEN actor_is_gone(v.actor, v.pipeline_id) THEN 'actor_gone'
        -- The organisation has another part of the store now.
        WHEN keys_outside(v.organisation_id, v_keys) IS NOT NULL THEN 'outside_photos_under'
    END;
    IF v_refusal IS NOT NULL THEN
        PERFORM end_schedule(v.schedule_id, 'refused', v_refusal);
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        VALUES ('System', v.organisation_id, 'schedule.refuse', format('event %s', v.event_id),
            jsonb_build_object('schedule', v.schedule_id, 'reason', v_refusal, 'scheduled_by', v.actor));
        RETURN;
    END IF;
    IF v_keys IS NOT NULL THEN
        SELECT array_agg(new_photo_id()) INTO v_ids FROM generate_series(1, cardinality(v_keys));
        IF v.operation = 'both' THEN
            SELECT array_remove(array_agg(e.r_run ORDER BY e.r_operation = 'photo_processing'), NULL),
                   sum(e.r_queued), sum(e.r_following),
                   bool_or(e.r_woke)
            INTO v_runs, r_queued, v_following, r_woke
            FROM enqueue_both(v.event_id, v_keys, v_ids, v.actor, v_payloads, NULL, v.urgent) e;
        ELSE
            SELECT array_remove(ARRAY[e.r_run], NULL), e.r_queued, e.r_woke INTO v_runs, r_queued, r_woke
            FROM enqueue(v.event_id, v.operation::text::operation, v_keys, v_ids, v.actor, v_payloads, NULL,
                v.urgent) e;
        END IF;
        IF r_queued > 0 THEN PERFORM check_unpaid_photos(v.organisation_id, p_unpaid_max); END IF;
        UPDATE schedule SET
            queued = queued + r_queued,
            reached = CASE WHEN asked IS NULL THEN v_keys[cardinality(v_keys)] ELSE reached END,
            trouble = NULL,
            tried_at = NULL
        WHERE schedule_id = v.schedule_id;
    END IF;
    IF v.asked IS NULL AND coalesce(cardinality(v_keys), 0) < c_part
        OR v.asked IS NOT NULL AND NOT EXISTS (SELECT FROM schedule_part WHERE schedule_id = v.schedule_id) THEN
        PERFORM end_schedule(v.schedule_id, 'done', v.actor);
    END IF;
    IF v_keys IS NOT NULL THEN
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        VALUES (v.actor, v.organisation_id, 'photos.enqueue', format('event %s', v.event_id),
            jsonb_build_object('operation', v.operation, 'runs', v_runs, 'queued', r_queued,
                'following', v_following, 'schedule', v.schedule_id));
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION enqueue_scheduled TO photogate_worker;

-- Notes that a part could not be queued, and why. It is tried again after a minute.
CREATE FUNCTION put_off_schedule(p_schedule bigint, p_trouble text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE schedule SET trouble = left(p_trouble, 500), tried_at = clock()
    WHERE schedule_id = p_schedule AND ended_at IS NULL AND due_at <= clock()
$$;
GRANT EXECUTE ON FUNCTION put_off_schedule TO photogate_worker;
