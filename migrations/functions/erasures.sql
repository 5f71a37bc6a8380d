-- Erasing one person of an event: the faces that somebody has pointed out, and a bib number. And what makes erasures
-- outlive a restore: each is noted, and goes to the store by a worker.
--
-- Lock order: the event (FOR UPDATE: it waits for settlements that write findings, and keeps later ones out).

-- Notes an erasure. An erasure that is made again after a restore keeps its ID, and is in the store already.
CREATE FUNCTION note_erasure(p_erasure uuid, p_event bigint, p_kind erasure_kind, p_actor text, p_bib text DEFAULT NULL,
    p_photos uuid[] DEFAULT '{}', p_faces smallint[] DEFAULT '{}')
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO erasure (erasure_id, event_id, kind, actor, bib, photos, faces)
    VALUES (p_erasure, p_event, p_kind, p_actor, p_bib, p_photos, p_faces)
$$;

-- Deletes faces of an event's photos, and all that was read of a bib number, which is not found again either.
CREATE FUNCTION erase_person(p_event bigint, p_photos uuid[], p_faces smallint[], p_bib text, p_actor text,
    p_erasure uuid DEFAULT gen_random_uuid(), OUT r_erasure uuid, OUT r_faces integer, OUT r_bibs integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    r_erasure := p_erasure;
    r_bibs := 0;
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    -- Only of photos of this event.
    SELECT coalesce(array_agg(u.photo_id), '{}'), coalesce(array_agg(u.number), '{}') INTO p_photos, p_faces
    FROM (SELECT DISTINCT photo_id, number FROM unnest(p_photos, p_faces) n (photo_id, number)) u
    JOIN photo p ON p.photo_id = u.photo_id AND p.event_id = p_event;
    DELETE FROM face f USING unnest(p_photos, p_faces) u (photo_id, number)
    WHERE f.photo_id = u.photo_id AND f.number = u.number;
    GET DIAGNOSTICS r_faces = ROW_COUNT;
    IF p_bib IS NOT NULL THEN
        INSERT INTO erased_bib (event_id, number) VALUES (p_event, p_bib) ON CONFLICT DO NOTHING;
        DELETE FROM bib b USING photo p
        WHERE b.number = p_bib AND p.photo_id = b.photo_id AND p.event_id = p_event;
        GET DIAGNOSTICS r_bibs = ROW_COUNT;
        UPDATE bib b SET was = NULL FROM photo p
        WHERE b.was = p_bib AND p.photo_id = b.photo_id AND p.event_id = p_event;
        PERFORM erase_corrected(p_event, p_bib);
        -- The number stays in the start list: without it, what is read would be taken for a neighbour's.
    END IF;
    -- What was read of the number goes from the lines of text, too: not here, because it takes long.
    PERFORM ask_to_reconsider(p_event);
    PERFORM note_erasure(p_erasure, p_event, 'person', p_actor, p_bib, p_photos, p_faces);
    -- What is in an archive is erased while it is restored.
    PERFORM begin_restore(p_event, p_actor);
END $$;
GRANT EXECUTE ON FUNCTION erase_person TO photogate_app;

-- Erasures that are not in the store yet. The instant of the event's making tells it from the event of another database
-- that has the same number.
CREATE FUNCTION erasures_to_store(p_n integer)
RETURNS TABLE (r_erasure uuid, r_event bigint, r_event_made timestamptz, r_kind erasure_kind, r_actor text,
               r_at timestamptz, r_bib text, r_photos uuid[], r_faces smallint[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT r.erasure_id, r.event_id, e.created_at, r.kind, r.actor, r.at, r.bib, r.photos, r.faces
    FROM erasure r JOIN event e USING (event_id) WHERE NOT r.in_store ORDER BY r.at LIMIT p_n
$$;
GRANT EXECUTE ON FUNCTION erasures_to_store TO photogate_worker;

-- These erasures are in the store.
CREATE FUNCTION erasures_are_stored(p_erasures uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE erasure SET in_store = true WHERE erasure_id = ANY (p_erasures)
$$;
GRANT EXECUTE ON FUNCTION erasures_are_stored TO photogate_worker;

-- Makes an erasure again that the database does not know: it was restored from a backup that is older. Returns false if
-- there is nothing to do: it is known, or its event is not this database's, or is deleted. forget() comes next.
CREATE FUNCTION erase_again(p_erasure uuid, p_event bigint, p_event_made timestamptz, p_kind erasure_kind, p_actor text,
    p_bib text, p_photos uuid[], p_faces smallint[])
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_event event;
BEGIN
    IF p_kind <> 'event' THEN
        SELECT * INTO v_event FROM event WHERE event_id = p_event AND created_at = p_event_made AND deleted_at IS NULL
        FOR UPDATE;
    ELSE
        -- delete_event locks it, after the queues.
        SELECT * INTO v_event FROM event WHERE event_id = p_event AND created_at = p_event_made AND deleted_at IS NULL;
    END IF;
    IF NOT FOUND OR EXISTS (SELECT FROM erasure WHERE erasure_id = p_erasure) THEN RETURN false; END IF;
    CASE p_kind
        WHEN 'person' THEN PERFORM erase_person(p_event, p_photos, p_faces, p_bib, p_actor, p_erasure);
        WHEN 'embeddings' THEN PERFORM set_face_search(p_event, false, p_actor, p_erasure);
        WHEN 'event' THEN PERFORM delete_event(p_event, p_actor, p_erasure);
        WHEN 'findings' THEN
            UPDATE event SET forgets = 'findings', forgotten_to = NULL, findings_forgotten_at = clock_timestamp()
            WHERE event_id = p_event;
            PERFORM note_erasure(p_erasure, p_event, 'findings', p_actor);
            PERFORM begin_restore(p_event, p_actor);
    END CASE;
    UPDATE erasure SET in_store = true WHERE erasure_id = p_erasure;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION erase_again TO photogate_app;
