-- Restoring an archived event: its rows are written again as they were. functions/archive.sql packs them.
--
-- What people asked to be erased meanwhile is not written again. An erasure of an archived event restores it: what is
-- in the files could not be erased otherwise.
-- Lock order: as in archive.sql.

-- Begins to restore an event; or ends its packing, if nothing was deleted yet. Returns the archive, NULL if there is
-- none that can be restored. The caller has the event's lock, or takes it here.
CREATE FUNCTION begin_restore(p_event bigint, p_actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive;
BEGIN
    PERFORM 1 FROM event WHERE event_id = p_event FOR NO KEY UPDATE;
    SELECT * INTO v FROM archive
    WHERE event_id = p_event AND state NOT IN ('restored', 'stopped', 'giving_up', 'given_up') FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    CASE v.state
        WHEN 'packing' THEN
            DELETE FROM archive_jobs WHERE archive_id = v.archive_id;
            UPDATE archive SET state = 'stopped', ended_at = clock_timestamp() WHERE archive_id = v.archive_id;
        WHEN 'deleting', 'archived' THEN
            UPDATE archive SET state = 'restoring', restored_by = p_actor, taken_until = NULL
            WHERE archive_id = v.archive_id;
        WHEN 'restoring', 'restored', 'stopped', 'giving_up', 'given_up' THEN NULL;
    END CASE;
    RETURN v.archive_id;
END $$;
GRANT EXECUTE ON FUNCTION begin_restore TO photogate_app;

-- Writes jobs and what became of them, from the lines of an archive. What is there already stays.
CREATE FUNCTION restore_jobs(p_lines jsonb[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO job (queue_id, position, job_id, photo_id, run_id, retry, payload)
    SELECT r.queue_id, r.position, r.job_id, r.photo_id, r.run_id, r.retry, (j.one->>'payload')::jsonb
    FROM unnest(p_lines) l CROSS JOIN LATERAL jsonb_array_elements(l->'jobs') j (one)
    CROSS JOIN LATERAL jsonb_populate_record(NULL::job, j.one - 'payload') r
    ON CONFLICT DO NOTHING;
    INSERT INTO outcome
    SELECT r.* FROM unnest(p_lines) l CROSS JOIN LATERAL jsonb_array_elements(l->'jobs') j (one)
    CROSS JOIN LATERAL jsonb_populate_record(NULL::outcome, nullif(j.one->'outcome', 'null')) r
    WHERE r.job_id IS NOT NULL
    ON CONFLICT DO NOTHING;
    INSERT INTO attempt
    SELECT r.* FROM unnest(p_lines) l CROSS JOIN LATERAL jsonb_array_elements(l->'jobs') j (one)
    CROSS JOIN LATERAL jsonb_populate_recordset(NULL::attempt, j.one->'attempts') r
    ON CONFLICT DO NOTHING;
    INSERT INTO content
    SELECT r.* FROM unnest(p_lines) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::content, nullif(l->'content', 'null')) r
    WHERE r.job_id IS NOT NULL
    ON CONFLICT DO NOTHING
$$;

-- Whether the jobs of these lines are there, each in its place and with its outcome: what was there already is not
-- taken for what should be.
CREATE FUNCTION jobs_are_restored(p_lines jsonb[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    SELECT NOT EXISTS (
        SELECT FROM unnest(p_lines) l CROSS JOIN LATERAL jsonb_array_elements(l->'jobs') j (one)
        LEFT JOIN LATERAL (
            SELECT x.job_id, x.photo_id FROM job x WHERE x.queue_id = (j.one->>'queue_id')::bigint
                AND x.position = (j.one->>'position')::bigint LIMIT 1) x ON true
        LEFT JOIN LATERAL (
            SELECT o.state, o.photo_id FROM outcome o WHERE o.job_id = x.job_id LIMIT 1) o ON true
        WHERE (x.job_id, x.photo_id) IS DISTINCT FROM ((j.one->>'job_id')::bigint, (l->>'photo')::uuid)
            OR o.state::text IS DISTINCT FROM j.one->'outcome'->>'state'
            OR o.photo_id <> (l->>'photo')::uuid)
$$;

-- Writes what was seen on photos, and what people corrected.
CREATE FUNCTION restore_findings(p_lines jsonb[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO looked_at
    SELECT r.* FROM unnest(p_lines) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::looked_at, nullif(l->'looked_at', 'null')) r
    WHERE r.photo_id IS NOT NULL ON CONFLICT DO NOTHING;
    INSERT INTO face
    SELECT r.* FROM unnest(p_lines) l CROSS JOIN LATERAL jsonb_populate_recordset(NULL::face, l->'faces') r
    ON CONFLICT DO NOTHING;
    INSERT INTO bib
    SELECT r.* FROM unnest(p_lines) l CROSS JOIN LATERAL jsonb_populate_recordset(NULL::bib, l->'bibs') r
    ON CONFLICT DO NOTHING;
    INSERT INTO rotation
    SELECT r.* FROM unnest(p_lines) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::rotation, nullif(l->'rotation', 'null')) r
    WHERE r.photo_id IS NOT NULL ON CONFLICT DO NOTHING;
    INSERT INTO number_correction
    SELECT r.* FROM unnest(p_lines) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::number_correction, nullif(l->'number_correction', 'null')) r
    WHERE r.photo_id IS NOT NULL ON CONFLICT DO NOTHING;
    INSERT INTO turn_correction
    SELECT r.* FROM unnest(p_lines) l
    CROSS JOIN LATERAL jsonb_populate_record(NULL::turn_correction, nullif(l->'turn_correction', 'null')) r
    WHERE r.photo_id IS NOT NULL ON CONFLICT DO NOTHING
$$;

-- Erases from these photos whom somebody asked to erase, but for the erasures in p_but.
CREATE FUNCTION erase_later(p_event bigint, p_but uuid[], p_photos uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v erasure;
BEGIN
    FOR v IN SELECT * FROM erasure
             WHERE event_id = p_event AND kind = 'person' AND erasure_id <> ALL (p_but) ORDER BY at LOOP
        DELETE FROM face f USING unnest(v.photos, v.faces) u (photo_id, number)
        WHERE f.photo_id = u.photo_id AND f.number = u.number AND f.photo_id = ANY (p_photos);
        IF v.bib IS NOT NULL THEN
            DELETE FROM bib WHERE number = v.bib AND photo_id = ANY (p_photos);
            UPDATE bib SET was = NULL WHERE was = v.bib AND photo_id = ANY (p_photos);
            PERFORM erase_corrected_of(p_photos, v.bib);
        END IF;
    END LOOP;
END $$;

-- Writes the next lines of a part again. p_part, p_done: how far it was. Returns false if it was not so far, or is
-- further: somebody else restores it.
CREATE FUNCTION restore_lines(p_archive bigint, p_part integer, p_done integer, p_lines text[], p_lease interval)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive; v_lines jsonb[] := p_lines::jsonb[]; v_all integer; v_photos uuid[];
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive;
    -- Erasures come before or after this.
    PERFORM 1 FROM event WHERE event_id = v.event_id FOR NO KEY UPDATE;
    SELECT * INTO v FROM archive WHERE archive_id = p_archive FOR UPDATE;
    IF v.state <> 'restoring' OR v.restored_part <> p_part OR v.restored_lines <> p_done THEN RETURN false; END IF;
    PERFORM restore_jobs(v_lines);
    -- A later statement.
    IF NOT jobs_are_restored(v_lines) THEN
        RAISE EXCEPTION 'part % of archive % does not fit what the database has', p_part, p_archive
            USING ERRCODE = 'assert_failure';
    END IF;
    PERFORM restore_findings(v_lines);
    SELECT array_agg((l->>'photo')::uuid) INTO v_photos FROM unnest(v_lines) l WHERE l ? 'photo';
    PERFORM erase_later(v.event_id, v.erasures, v_photos);
    SELECT lines INTO v_all FROM archive_part WHERE archive_id = p_archive AND part = p_part;
    IF p_done + cardinality(p_lines) > v_all THEN
        RAISE EXCEPTION 'part % of archive % has % lines', p_part, p_archive, v_all USING ERRCODE = 'PG006';
    END IF;
    IF p_done + cardinality(p_lines) = v_all THEN
        UPDATE archive SET restored_part = p_part + 1, restored_lines = 0 WHERE archive_id = p_archive;
    ELSE
        UPDATE archive SET restored_lines = p_done + cardinality(p_lines) WHERE archive_id = p_archive;
    END IF;
    UPDATE archive SET taken_until = clock_timestamp() + p_lease WHERE archive_id = p_archive;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION restore_lines TO photogate_app;

-- All lines are written: the event is as it was. False: something is missing, or it was done before.
CREATE FUNCTION end_restore(p_archive bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive;
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive;
    PERFORM 1 FROM event WHERE event_id = v.event_id FOR NO KEY UPDATE;
    SELECT * INTO v FROM archive WHERE archive_id = p_archive FOR UPDATE;
    IF v.state <> 'restoring'
        OR v.restored_part <= (SELECT count(*) FROM archive_part WHERE archive_id = p_archive) THEN
        RETURN false;
    END IF;
    -- The next check of the books looks at all of its jobs again.
    DELETE FROM queue_checked WHERE queue_id IN (SELECT queue_id FROM archive_queue WHERE archive_id = p_archive);
    DELETE FROM archive_queue WHERE archive_id = p_archive;
    DELETE FROM archive_jobs WHERE archive_id = p_archive;
    UPDATE archive SET state = 'restored', ended_at = clock_timestamp(), taken_until = NULL
    WHERE archive_id = p_archive;
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    VALUES (v.restored_by, v.organisation_id, 'event.restored', 'event ' || v.event_id,
            jsonb_build_object('archive', p_archive));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION end_restore TO photogate_app;

-- An archive whose files can be deleted; NULL: none. What was packed in vain: at once, when nobody writes any more.
-- What was given up: again after a day, when the store that had lost them may be there as it was. What was restored:
-- after 30 days. A backup of the database from before may still need the files.
CREATE FUNCTION archive_to_clear(OUT r_archive bigint, OUT r_directory uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT archive_id, directory FROM archive
    WHERE files_gone_at IS NULL
        AND ended_at < clock() - CASE state
            WHEN 'stopped' THEN interval '1 hour' WHEN 'given_up' THEN interval '1 day' ELSE interval '30 days' END
    ORDER BY ended_at LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION archive_to_clear TO photogate_app;

CREATE FUNCTION archive_is_cleared(p_archive bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE archive SET files_gone_at = clock_timestamp() WHERE archive_id = p_archive AND ended_at IS NOT NULL
$$;
GRANT EXECUTE ON FUNCTION archive_is_cleared TO photogate_app;
