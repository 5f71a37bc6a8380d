-- Deleting on request, or when its time has come: the embeddings of an event, its faces and bib numbers, or all that
-- was seen on its photos and sent with them. erasures.sql deletes one person.
--
-- First a flag on the event hides the data. Then forget() deletes it in batches, because one long deletion would block
-- the event's settlements. If the caller stops early, a worker finishes.
-- Of embeddings and of deleted events, nothing is found or written from the flag on: a settlement locks the events that
-- it writes findings of (write_findings, KEY SHARE), and the functions that set the flag wait for that lock (FOR
-- UPDATE). Findings whose days are over may be seen until they are deleted. What is claimed after the flag begins its
-- days anew.
-- Lock order: tails, queues, the account, then events. (Nobody who holds an account waits for a queue.)

-- Switches the search for faces on or off. p_actor has said that the people on the photos agreed. Once it is off, no
-- embedding is written or searched any more, and forget() deletes those that there are: they are biometric data, and
-- kept for nothing else.
CREATE FUNCTION set_face_search(p_event bigint, p_on boolean, p_actor text, p_erasure uuid DEFAULT gen_random_uuid())
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v event;
BEGIN
    -- This waits for settlements that write embeddings, and keeps later ones out (see write_findings).
    SELECT * INTO v FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    IF p_on AND v.forgets IS NOT NULL THEN
        RAISE EXCEPTION 'the embeddings of event % are still being deleted: try again in a minute', p_event
            USING ERRCODE = 'PG006';
    END IF;
    IF p_on THEN
        PERFORM refuse_archived(p_event);
        UPDATE event SET face_search = true, face_consent_by = p_actor, face_consent_at = clock_timestamp()
        WHERE event_id = p_event;
    ELSE
        UPDATE event SET face_search = false, face_consent_by = NULL, face_consent_at = NULL,
            forgets = CASE WHEN forgets = 'findings' THEN 'findings' ELSE 'embeddings' END, forgotten_to = NULL
        WHERE event_id = p_event;
        PERFORM note_erasure(p_erasure, p_event, 'embeddings', p_actor);
        -- What is in an archive is deleted when it is restored.
        PERFORM begin_restore(p_event, p_actor);
    END IF;
    -- Numbers that a person's face has settled are decided again, without it or with it.
    PERFORM ask_to_reconsider(p_event);
END $$;
GRANT EXECUTE ON FUNCTION set_face_search TO photogate_app;

-- Sets for how many days faces and bib numbers are kept; NULL: until the event is deleted.
CREATE FUNCTION set_retention(p_event bigint, p_days integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM event WHERE event_id = p_event FOR NO KEY UPDATE;
    PERFORM refuse_archived(p_event);
    UPDATE event SET keep_findings_days = p_days WHERE event_id = p_event AND deleted_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION set_retention TO photogate_app;

-- Until when the findings of an event are kept; NULL: until it is deleted. The days count from the last claim, so an
-- event whose photos still come keeps them.
CREATE FUNCTION findings_kept_until(p_event bigint) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT max(u.last_claimed_at) + make_interval(days => max(e.keep_findings_days))
    FROM event e JOIN queue q USING (event_id) JOIN usage u USING (queue_id) WHERE e.event_id = p_event
$$;

-- When the findings of an event are due to be deleted; NULL: not yet. While photos are in flight nothing is due: what
-- is seen on them is still written.
CREATE FUNCTION findings_due(p_event bigint) RETURNS timestamptz
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT due.at
    FROM event e
    CROSS JOIN LATERAL findings_kept_until(e.event_id) due (at)
    WHERE e.event_id = p_event AND e.deleted_at IS NULL AND e.forgets IS NULL AND due.at <= clock()
        AND NOT is_archived(e.event_id)
        AND (e.findings_forgotten_at IS NULL OR e.findings_forgotten_at < due.at)
        AND NOT EXISTS (SELECT FROM queue q JOIN in_flight f USING (queue_id) WHERE q.event_id = e.event_id)
$$;

-- Marks the findings that were kept for as long as their event says, for forget() to delete, with an audit entry each.
-- Any worker may call it. A clock that jumps deletes nothing: it is refused (clock.sql).
CREATE FUNCTION forget_what_is_due() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v record; v_due timestamptz; v_n integer := 0;
BEGIN
    PERFORM check_clock(clock(), NULL);
    PERFORM forget_old_acts();
    FOR v IN
        SELECT e.event_id, e.organisation_id, e.keep_findings_days FROM event e
        WHERE e.keep_findings_days IS NOT NULL AND e.deleted_at IS NULL AND findings_due(e.event_id) IS NOT NULL
        -- The order of the audit log's chains.
        ORDER BY e.organisation_id, e.event_id LIMIT 100
    LOOP
        -- Settlements that write findings have the event too: if one does now, a later call comes.
        PERFORM 1 FROM event WHERE event_id = v.event_id FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        -- A later statement than the lock.
        v_due := findings_due(v.event_id);
        CONTINUE WHEN v_due IS NULL;
        UPDATE event SET forgets = 'findings', forgotten_to = NULL, findings_forgotten_at = v_due
        WHERE event_id = v.event_id;
        PERFORM note_erasure(gen_random_uuid(), v.event_id, 'findings', 'System');
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        VALUES ('System', v.organisation_id, 'event.forget', 'event ' || v.event_id,
                jsonb_build_object('keep_findings_days', v.keep_findings_days));
        v_n := v_n + 1;
    END LOOP;
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION forget_what_is_due TO photogate_worker;

-- Deletes an event: nothing more of it runs, and nobody sees it. forget() deletes what was seen on its photos, and
-- lists the files that were made of them, for a worker to delete. What was paid stays in the books, and the photos
-- themselves stay in the store. Photos that a worker has in hand are finished and charged; what is seen on them is not
-- kept.
CREATE FUNCTION delete_event(p_event bigint, p_actor text, p_erasure uuid DEFAULT gen_random_uuid()) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_account account;
BEGIN
    -- Tails keep out enqueues, which would write what nobody forgets any more. Queues come before events, as
    -- settlements have it.
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id)
    WHERE q.event_id = p_event ORDER BY queue_id FOR NO KEY UPDATE OF t;
    PERFORM 1 FROM queue WHERE event_id = p_event ORDER BY queue_id FOR NO KEY UPDATE;
    SELECT a.* INTO v_account FROM account a JOIN event e USING (organisation_id) WHERE e.event_id = p_event
    FOR NO KEY UPDATE OF a;
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    UPDATE event SET deleted_at = clock_timestamp(), deleted_by = p_actor, face_search = false, face_consent_by = NULL,
        face_consent_at = NULL, forgets = 'everything', forgotten_to = NULL, class = 'normal', turn = NULL
    WHERE event_id = p_event;
    DELETE FROM follow_up WHERE queue_id IN (SELECT queue_id FROM queue WHERE event_id = p_event);
    INSERT INTO hold (queue_id, owner, note, for_good)
    SELECT queue_id, p_actor, 'the event was deleted', true FROM queue WHERE event_id = p_event;
    UPDATE queue SET held = true WHERE event_id = p_event;
    -- No credits are kept for it any more.
    IF v_account.steered THEN
        DELETE FROM pace WHERE event_id = p_event;
        IF EXISTS (SELECT FROM budget WHERE event_id = p_event) THEN
            PERFORM put_budget(v_account.organisation_id, p_event, NULL, 0, v_account.entries, p_actor);
        ELSE
            PERFORM keep_steering(v_account.organisation_id);
        END IF;
        PERFORM resume_queues(ARRAY[v_account.organisation_id], 'budget');
    END IF;
    PERFORM note_erasure(p_erasure, p_event, 'event', p_actor);
    -- What is in an archive is deleted when it is restored.
    PERFORM begin_restore(p_event, p_actor);
END $$;
GRANT EXECUTE ON FUNCTION delete_event TO photogate_app;

-- Deletes what is to be forgotten of at most p_photos photos. p_event names the event; NULL takes any event that nobody
-- else works on. Returns the event (NULL: none), the number of faces that changed, and whether the event is finished.
CREATE FUNCTION forget(p_event bigint, p_photos integer, OUT r_event bigint, OUT r_faces integer, OUT r_done boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    v        event;
    v_photos uuid[];
    v_to     text;
BEGIN
    r_faces := 0;
    r_done := true;
    -- NO KEY UPDATE lets settlements go on. An event that is named is waited for. Otherwise an event that somebody else
    -- works on is passed over: whoever has it goes on with it.
    IF p_event IS NOT NULL THEN
        SELECT * INTO v FROM event WHERE event_id = p_event AND forgets IS NOT NULL FOR NO KEY UPDATE;
    ELSE
        SELECT * INTO v FROM event WHERE forgets IS NOT NULL AND NOT comes_back(event_id)
        ORDER BY event_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    -- While an event is restored, a worker waits: what comes back later is deleted too.
    IF NOT FOUND OR comes_back(v.event_id) THEN RETURN; END IF;
    r_event := v.event_id;
    -- First the hashes: so no photo becomes a duplicate of one whose findings are gone.
    IF v.forgets <> 'embeddings' AND forget_contents(v.event_id, 10 * p_photos) THEN
        r_done := false;
        RETURN;
    END IF;
    SELECT array_agg(photo_id), max(key) INTO v_photos, v_to FROM (
        SELECT photo_id, key FROM photo
        WHERE event_id = v.event_id AND (v.forgotten_to IS NULL OR key > v.forgotten_to)
        ORDER BY key LIMIT p_photos) p;
    IF v.forgets = 'embeddings' THEN
        UPDATE face SET embedding = NULL WHERE photo_id = ANY (v_photos) AND embedding IS NOT NULL;
        GET DIAGNOSTICS r_faces = ROW_COUNT;
    ELSIF v.forgets = 'findings' THEN
        -- Turns and upright copies show nobody more than the photos do: they stay.
        -- First, because it waits for whoever decides numbers again (reconsider.sql).
        UPDATE looked_at SET lines = '[]' WHERE photo_id = ANY (v_photos) AND lines <> '[]';
        DELETE FROM face WHERE photo_id = ANY (v_photos);
        GET DIAGNOSTICS r_faces = ROW_COUNT;
        DELETE FROM bib WHERE photo_id = ANY (v_photos);
        DELETE FROM number_correction WHERE photo_id = ANY (v_photos);
    ELSE
        -- Also of photos that failed: their thumbnail may have been written before.
        INSERT INTO leftover_file (photo_id) SELECT n FROM unnest(v_photos) n ORDER BY n ON CONFLICT DO NOTHING;
        DELETE FROM looked_at WHERE photo_id = ANY (v_photos);
        DELETE FROM face WHERE photo_id = ANY (v_photos);
        GET DIAGNOSTICS r_faces = ROW_COUNT;
        DELETE FROM bib WHERE photo_id = ANY (v_photos);
        DELETE FROM rotation WHERE photo_id = ANY (v_photos);
        DELETE FROM number_correction WHERE photo_id = ANY (v_photos);
        DELETE FROM turn_correction WHERE photo_id = ANY (v_photos);
        UPDATE job SET payload = NULL WHERE photo_id = ANY (v_photos) AND payload IS NOT NULL;
    END IF;
    r_done := coalesce(cardinality(v_photos), 0) < p_photos;
    IF r_done THEN
        IF v.forgets = 'everything' THEN
            PERFORM end_schedules_of(v.event_id);
            DELETE FROM start_list WHERE event_id = v.event_id;
            DELETE FROM erased_bib WHERE event_id = v.event_id;
            DELETE FROM reconsideration WHERE event_id = v.event_id;
            -- Its follow-ups have payloads.
            DELETE FROM undo WHERE event_id = v.event_id;
            UPDATE erasure SET bib = NULL, photos = '{}', faces = '{}'
            WHERE event_id = v.event_id AND kind = 'person';
        END IF;
        UPDATE event SET forgets = NULL, forgotten_to = NULL WHERE event_id = v.event_id;
    ELSE
        UPDATE event SET forgotten_to = v_to WHERE event_id = v.event_id;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION forget TO photogate_worker;

-- Photos whose files are to be deleted. One that is in flight must wait: its files may still be written.
CREATE FUNCTION leftover_files(p_n integer) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT photo_id FROM leftover_file l
    WHERE NOT EXISTS (SELECT FROM in_flight f WHERE f.photo_id = l.photo_id)
    ORDER BY photo_id LIMIT p_n
$$;
GRANT EXECUTE ON FUNCTION leftover_files TO photogate_worker;

-- The files of these photos are deleted.
CREATE FUNCTION files_are_deleted(p_photos uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    DELETE FROM leftover_file WHERE photo_id = ANY (p_photos)
$$;
GRANT EXECUTE ON FUNCTION files_are_deleted TO photogate_worker;
