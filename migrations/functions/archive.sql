-- Archives: the rows of an old event are packed into the photo store, and deleted here. Its ledger, chain, runs, usage
-- and timeline stay, and so do its photos' keys: nothing that was paid changes (decision 0084).
--
-- First a row of archive, with the locks of everybody who writes: from then on whoever would write of the event is
-- refused, or (an erasure) ends it. So what is packed stands still, and each step can be done twice: a page is read
-- after the last one that was noted; a part is noted once, by its number; rows are deleted by their keys, and written
-- again where they are missing. src/catalog/archive.rs makes the steps; the service goes on with what was interrupted.
-- Nothing is deleted before seal_archive() has compared what was packed with the counts of the queues.
-- Lock order: tails, then the event, then the archive's row.

-- Refuses what cannot be done any more with an event whose archive was given up: what it had is lost.
CREATE FUNCTION refuse_given_up(p_event bigint) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive;
BEGIN
    SELECT * INTO v FROM archive WHERE event_id = p_event AND given_up_at IS NOT NULL;
    IF FOUND THEN
        RAISE EXCEPTION 'the details of the photos of event % were lost: % gave its archive up on %. What was paid '
            'stays in the books', p_event, v.given_up_by, to_char(v.given_up_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')
            USING ERRCODE = 'PG012';
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION refuse_given_up TO photogate_app, photogate_worker;

-- Refuses to write of an event whose rows are packed, or are being packed.
CREATE FUNCTION refuse_archived(p_event bigint) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_since text;
BEGIN
    -- Each enqueue asks this: one look, if the event is not archived.
    IF NOT EXISTS (SELECT FROM archive WHERE event_id = p_event AND state NOT IN ('restored', 'stopped')) THEN
        RETURN;
    END IF;
    PERFORM refuse_given_up(p_event);
    SELECT to_char(coalesce(archived_at, began_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') INTO v_since FROM archive
    WHERE event_id = p_event AND state NOT IN ('restored', 'stopped');
    RAISE EXCEPTION 'the event % is archived since %: restore it first (photogate archive restore %)',
        p_event, v_since, p_event USING ERRCODE = 'PG011';
END $$;
GRANT EXECUTE ON FUNCTION refuse_archived TO photogate_app, photogate_worker;

-- Refuses to read what is known of an event's photos, if the database does not have all of it: whoever reads would take
-- what is left for all that there was. While rows are only packed, they are all here.
CREATE FUNCTION refuse_packed(p_event bigint) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM archive WHERE event_id = p_event AND state NOT IN ('packing', 'restored', 'stopped')) THEN
        PERFORM refuse_archived(p_event);
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION refuse_packed TO photogate_app, photogate_worker;

CREATE FUNCTION is_archived(p_event bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT EXISTS (SELECT FROM archive WHERE event_id = p_event AND state NOT IN ('restored', 'stopped'))
$$;
GRANT EXECUTE ON FUNCTION is_archived TO photogate_worker, photogate_app, photogate_organisation;

-- Whether rows of an event come back, or are on their way out: what is to be deleted of them waits until they are here.
CREATE FUNCTION comes_back(p_event bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT EXISTS (SELECT FROM archive WHERE event_id = p_event AND state NOT IN ('restored', 'stopped', 'given_up'))
$$;

-- When something of an event last moved: it was created, photos were queued, claimed or refunded, somebody acted on its
-- queues, its numbers were decided again (as after each correction), somebody uploaded photos, or it was restored.
CREATE FUNCTION event_moved_at(p_event bigint) RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT greatest(e.created_at, e.deleted_at, e.findings_forgotten_at,
        (SELECT max(t.at) FROM (SELECT at FROM timeline x WHERE x.event_id = p_event
                                ORDER BY entry_id DESC LIMIT 1) t),
        (SELECT max(r.created_at) FROM queue q CROSS JOIN LATERAL (
             SELECT x.created_at FROM run x WHERE x.queue_id = q.queue_id ORDER BY x.run_id DESC LIMIT 1) r
         WHERE q.event_id = p_event),
        (SELECT max(greatest(u.last_claimed_at, u.last_refunded_at)) FROM queue q CROSS JOIN LATERAL (
             SELECT x.last_claimed_at, x.last_refunded_at FROM usage x WHERE x.queue_id = q.queue_id
             ORDER BY x.day DESC LIMIT 100) u WHERE q.event_id = p_event),
        (SELECT h.claimed_at FROM queue q JOIN queue_head h USING (queue_id) WHERE q.event_id = p_event
         ORDER BY h.claimed_at DESC NULLS LAST LIMIT 1),
        (SELECT max(greatest(c.began_at, c.ended_at)) FROM reconsideration c WHERE c.event_id = p_event),
        (SELECT max(x.at) FROM erasure x WHERE x.event_id = p_event),
        (SELECT x.at FROM upload x WHERE x.event_id = p_event ORDER BY x.at DESC LIMIT 1),
        (SELECT max(a.ended_at) FROM archive a WHERE a.event_id = p_event))
    FROM event e WHERE e.event_id = p_event
$$;

-- Why an event cannot be archived now; NULL: it can. p_before: only if nothing has moved since; NULL: whenever it was.
CREATE FUNCTION archive_hindrance(p_event bigint, p_before timestamptz) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v event; v_queues bigint[];
BEGIN
    SELECT * INTO v FROM event WHERE event_id = p_event;
    SELECT array_agg(queue_id) INTO v_queues FROM queue WHERE event_id = p_event;
    RETURN CASE
        WHEN is_archived(p_event) THEN 'it is archived already, or on its way'
        WHEN NOT EXISTS (SELECT FROM queue_tail WHERE queue_id = ANY (v_queues) AND tail > 0)
        THEN 'none of its photos was ever queued'
        WHEN event_moved_at(p_event) >= p_before THEN 'something has moved since ' || p_before::date
        WHEN EXISTS (SELECT FROM queue_tail t JOIN queue_head h USING (queue_id)
                     WHERE queue_id = ANY (v_queues) AND t.tail - h.head - h.not_waiting > 0)
        THEN 'photos wait: process them, or skip them'
        WHEN EXISTS (SELECT FROM in_flight WHERE queue_id = ANY (v_queues)) THEN 'photos are in progress'
        WHEN EXISTS (SELECT FROM follow_up WHERE queue_id = ANY (v_queues)) THEN 'photos wait for their AI rotation'
        WHEN EXISTS (SELECT FROM schedule WHERE event_id = p_event AND ended_at IS NULL)
        THEN 'a schedule waits: cancel it'
        WHEN EXISTS (SELECT FROM undo WHERE event_id = p_event AND undone_at IS NULL
                     AND at > clock_timestamp() - interval '1 hour')
        THEN 'somebody acted on its queues in the last hour, and could take that back'
        WHEN v.forgets IS NOT NULL THEN 'its findings are being deleted: try again in a minute'
        WHEN v.keep_findings_days IS NOT NULL AND v.deleted_at IS NULL AND (
            findings_kept_until(p_event) > clock() OR findings_due(p_event) IS NOT NULL)
        THEN 'its findings are kept for ' || v.keep_findings_days || ' days: it can be archived when they are deleted'
        WHEN EXISTS (SELECT FROM reconsideration WHERE event_id = p_event AND v.deleted_at IS NULL
                     AND (asked > answered OR taken_until > clock_timestamp()))
        THEN 'its bib numbers are being decided again: try again in a minute'
    END;
END $$;
GRANT EXECUTE ON FUNCTION archive_hindrance TO photogate_app;

-- Begins to archive an event. p_before as in archive_hindrance.
CREATE FUNCTION begin_archive(p_event bigint, p_actor text, p_before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint; v_why text; v_archive bigint;
BEGIN
    -- The locks of whoever queues photos, and of whoever writes findings. The tails are written, too: so a transaction
    -- of a pipeline that has an older snapshot fails, and does not queue what nobody would see.
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id)
    WHERE q.event_id = p_event ORDER BY queue_id FOR NO KEY UPDATE OF t;
    SELECT organisation_id INTO v_organisation FROM event WHERE event_id = p_event FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    -- A later statement than the locks.
    v_why := archive_hindrance(p_event, p_before);
    IF v_why IS NOT NULL THEN
        RAISE EXCEPTION 'the event % cannot be archived now: %', p_event, v_why USING ERRCODE = 'PG010';
    END IF;
    UPDATE queue_tail SET tail = tail WHERE queue_id IN (SELECT queue_id FROM queue WHERE event_id = p_event);
    INSERT INTO archive (event_id, organisation_id, actor, erasures)
    VALUES (p_event, v_organisation, p_actor,
            ARRAY(SELECT erasure_id FROM erasure WHERE event_id = p_event ORDER BY at, erasure_id))
    RETURNING archive_id INTO v_archive;
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    VALUES (p_actor, v_organisation, 'event.archive', 'event ' || p_event,
            jsonb_build_object('archive', v_archive, 'before', p_before));
    RETURN v_archive;
END $$;
GRANT EXECUTE ON FUNCTION begin_archive TO photogate_app;

-- Events in which nothing has moved since p_before, and that can be archived, at most p_n. While the clock is
-- implausible, none: a clock that jumps archives nothing.
CREATE FUNCTION archives_due(p_before timestamptz, p_n integer) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- Once, and not for each event.
    IF NOT is_clock_plausible() THEN RETURN; END IF;
    RETURN QUERY SELECT e.event_id FROM event e
    WHERE e.created_at < p_before AND NOT is_archived(e.event_id)
        AND archive_hindrance(e.event_id, p_before) IS NULL
    ORDER BY e.event_id LIMIT p_n;
END $$;
GRANT EXECUTE ON FUNCTION archives_due TO photogate_app;

-- Takes an archive to work on, for p_lease: this one, or (NULL) any that waits for it. Each step takes it anew. NULL:
-- somebody else has it, or there is nothing to do.
CREATE FUNCTION take_archive(p_archive bigint, p_lease interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_now timestamptz := clock_timestamp(); v_archive bigint;
BEGIN
    -- People wait for what is restored. What the trouble was stays until it is over.
    UPDATE archive SET taken_until = v_now + p_lease WHERE archive_id = (
        SELECT archive_id FROM archive
        WHERE state IN ('packing', 'deleting', 'restoring', 'giving_up')
            AND (p_archive IS NULL OR archive_id = p_archive)
            -- (A time that is too far away: the clock was put back.)
            AND (taken_until IS NULL OR taken_until NOT BETWEEN v_now AND v_now + interval '1 hour')
        ORDER BY state <> 'restoring', archive_id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING archive_id INTO v_archive;
    RETURN v_archive;
END $$;
GRANT EXECUTE ON FUNCTION take_archive TO photogate_app;

-- Gives an archive back; p_trouble says why it could not go on, and then it rests for p_pause.
CREATE FUNCTION leave_archive(p_archive bigint, p_trouble text, p_pause interval) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE archive SET trouble = left(p_trouble, 500),
        taken_until = CASE WHEN p_trouble IS NOT NULL THEN clock_timestamp() + p_pause END
    WHERE archive_id = p_archive
        -- Somebody else has ended it meanwhile.
        AND (p_trouble IS NULL OR ended_at IS NULL)
$$;
GRANT EXECUTE ON FUNCTION leave_archive TO photogate_app;

-- Notes that an archive was verified, and what is wrong with it; NULL: nothing.
CREATE FUNCTION archive_is_verified(p_archive bigint, p_damage text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE archive SET verified_at = clock_timestamp(), damage = left(p_damage, 500)
    WHERE archive_id = p_archive AND state IN ('deleting', 'archived', 'restoring')
$$;
GRANT EXECUTE ON FUNCTION archive_is_verified TO photogate_app;

-- Notes a part that the store has, and that was read back. p_reached: where the stage was when it was read. False: it
-- was noted before, or the archive was stopped; then the caller's file is nobody's.
CREATE FUNCTION note_archive_part(p_archive bigint, p_part integer, p_stage text, p_reached text, p_first text,
    p_last text, p_lines integer, p_jobs bigint, p_text_bytes bigint, p_bytes bigint, p_sha256 bytea,
    p_from bigint[], p_to bigint[], p_committed boolean[], p_lease interval)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive;
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive FOR UPDATE;
    IF v.state <> 'packing' OR v.stage <> p_stage OR v.reached <> p_reached
        OR p_part <> 1 + (SELECT count(*) FROM archive_part WHERE archive_id = p_archive) THEN
        RETURN false;
    END IF;
    INSERT INTO archive_jobs (organisation_id, from_job, to_job, committed, archive_id)
    SELECT v.organisation_id, u.from_job, u.to_job, u.committed, p_archive
    FROM unnest(p_from, p_to, p_committed) u (from_job, to_job, committed);
    INSERT INTO archive_part (archive_id, part, stage, first_key, last_key, lines, jobs, committed, refunded,
        text_bytes, bytes, sha256)
    SELECT p_archive, p_part, p_stage, p_first, p_last, p_lines, p_jobs,
           coalesce(sum(u.to_job - u.from_job + 1) FILTER (WHERE u.committed), 0),
           coalesce(sum(u.to_job - u.from_job + 1) FILTER (WHERE NOT u.committed), 0), p_text_bytes, p_bytes, p_sha256
    FROM unnest(p_from, p_to, p_committed) u (from_job, to_job, committed);
    UPDATE archive SET reached = p_last, taken_until = clock_timestamp() + p_lease WHERE archive_id = p_archive;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION note_archive_part TO photogate_app;

-- Ends a stage of packing in which nothing is left after p_reached.
CREATE FUNCTION end_archive_stage(p_archive bigint, p_stage text, p_reached text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE archive SET reached = '', stage = CASE p_stage WHEN 'photos' THEN 'contents' ELSE 'packed' END
    WHERE archive_id = p_archive AND state = 'packing' AND stage = p_stage AND reached = p_reached
$$;
GRANT EXECUTE ON FUNCTION end_archive_stage TO photogate_app;

-- All that is known of a photo beside its key, and beside what the books say: as it is written into an archive.
-- Payloads are text: JSON's null is not SQL's. `original` is the photo that a duplicate is a copy of.
-- (It has no settings of its own, so that PostgreSQL writes it out where it is called.)
CREATE FUNCTION archive_line(p_photo uuid, p_key text) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'photo', p_photo, 'key', p_key,
        'jobs', (SELECT coalesce(jsonb_agg(to_jsonb(j) || jsonb_build_object(
                     'payload', j.payload::text,
                     'outcome', (SELECT to_jsonb(o) FROM outcome o WHERE o.job_id = j.job_id),
                     'original', (SELECT c.photo_id FROM outcome o JOIN outcome c ON c.job_id = o.same_as
                                  WHERE o.job_id = j.job_id),
                     'attempts', (SELECT coalesce(jsonb_agg(to_jsonb(a) ORDER BY a.number), '[]') FROM attempt a
                                  WHERE a.job_id = j.job_id)) ORDER BY j.queue_id, j.retry), '[]')
                 FROM job j WHERE j.photo_id = p_photo),
        'looked_at', (SELECT to_jsonb(l) FROM looked_at l WHERE l.photo_id = p_photo),
        'faces', (SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.number), '[]') FROM face f
                  WHERE f.photo_id = p_photo),
        'bibs', (SELECT coalesce(jsonb_agg(to_jsonb(b) ORDER BY b.number), '[]') FROM bib b
                 WHERE b.photo_id = p_photo),
        'rotation', (SELECT to_jsonb(r) FROM rotation r WHERE r.photo_id = p_photo),
        'number_correction', (SELECT to_jsonb(c) FROM number_correction c WHERE c.photo_id = p_photo),
        'turn_correction', (SELECT to_jsonb(c) FROM turn_correction c WHERE c.photo_id = p_photo))
$$;

-- The next lines of an archive that is being packed, after what is noted (or after p_after). Each value is written as
-- PostgreSQL reads it again without a loss, whatever the session's settings are.
CREATE FUNCTION archive_page(p_archive bigint, p_after text, p_n integer) RETURNS TABLE (r_key text, r_line text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off
SET plan_cache_mode = force_custom_plan SET timezone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex' AS $$
DECLARE
    c_digits constant text := 'FM0000000000000000000';
    v archive; v_queue bigint; v_after uuid; v_n integer; v_found integer := 0;
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive AND state = 'packing';
    IF v.stage = 'photos' THEN
        RETURN QUERY SELECT p.key, archive_line(p.photo_id, p.key)::text
        FROM (SELECT x.photo_id, x.key FROM photo x WHERE x.event_id = v.event_id AND x.key > p_after
              ORDER BY x.key LIMIT p_n) p;
    ELSIF v.stage = 'contents' THEN
        -- The key is the queue, in as many digits as a bigint has, and the digest.
        FOR v_queue IN SELECT queue_id FROM queue WHERE event_id = v.event_id
            AND to_char(queue_id, c_digits) >= left(p_after, 19) ORDER BY queue_id LOOP
            v_after := CASE WHEN to_char(v_queue, c_digits) = left(p_after, 19) THEN substr(p_after, 20)::uuid END;
            RETURN QUERY
            SELECT to_char(c.queue_id, c_digits) || c.digest, jsonb_build_object('content', c)::text
            FROM (SELECT x.* FROM content x
                  WHERE x.queue_id = v_queue AND (v_after IS NULL OR x.digest > v_after)
                  ORDER BY x.digest LIMIT p_n - v_found) c;
            GET DIAGNOSTICS v_n = ROW_COUNT;
            v_found := v_found + v_n;
        END LOOP;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION archive_page TO photogate_app;

-- How many jobs a queue has: all that were appended, less those that were taken back.
CREATE FUNCTION jobs_of_queue(p_queue bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT t.tail - coalesce((SELECT sum(s.to_position - s.from_position + 1) FROM stretch s
                              WHERE s.queue_id = p_queue AND s.kind = 'undone'), 0)::bigint
    FROM queue_tail t WHERE t.queue_id = p_queue
$$;

-- The whole of an event is packed, and its manifest is in the store: its rows may be deleted. It compares what was
-- packed with what the queues have counted, and packs nothing that does not add up. False: it was done before, or the
-- archive was stopped.
CREATE FUNCTION seal_archive(p_archive bigint, p_manifest bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive; v_packed record; v_counted record; v_photos bigint;
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive;
    PERFORM 1 FROM event WHERE event_id = v.event_id FOR NO KEY UPDATE;
    SELECT * INTO v FROM archive WHERE archive_id = p_archive FOR UPDATE;
    IF v.state <> 'packing' OR v.stage <> 'packed' THEN RETURN false; END IF;
    INSERT INTO archive_queue (queue_id, archive_id, jobs, committed, refunded, undecided, duplicates,
        standing_undecided, standing_duplicates, standing_failed)
    SELECT q.queue_id, p_archive, jobs_of_queue(q.queue_id), s.committed, s.refunded, s.undecided, s.duplicates,
           r.r_undecided, r.r_duplicates, r.r_failed
    FROM queue q JOIN queue_settled s USING (queue_id)
    CROSS JOIN LATERAL standing_refunds(q.queue_id, s.refunded, s.undecided, s.duplicates) r
    WHERE q.event_id = v.event_id;
    SELECT sum(jobs) AS jobs, sum(committed) AS committed, sum(refunded) AS refunded INTO v_counted
    FROM archive_queue WHERE archive_id = p_archive;
    SELECT sum(jobs) AS jobs, sum(committed) AS committed, sum(refunded) AS refunded,
           sum(lines) FILTER (WHERE stage = 'photos') AS photos INTO v_packed
    FROM archive_part WHERE archive_id = p_archive;
    SELECT count(*) INTO v_photos FROM photo WHERE event_id = v.event_id;
    IF (v_packed.jobs, v_packed.committed, v_packed.refunded, v_packed.photos)
        IS DISTINCT FROM (v_counted.jobs, v_counted.committed, v_counted.refunded, v_photos) THEN
        RAISE EXCEPTION 'archive % has %, and the event has % and % photos', p_archive, v_packed, v_counted, v_photos
            USING ERRCODE = 'assert_failure';
    END IF;
    UPDATE archive SET state = 'deleting', manifest = p_manifest, archived_at = clock_timestamp()
    WHERE archive_id = p_archive;
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    VALUES (v.actor, v.organisation_id, 'event.archived', 'event ' || v.event_id, jsonb_build_object(
        'archive', p_archive, 'manifest', encode(p_manifest, 'hex'), 'photos', v_photos,
        'committed', v_counted.committed, 'refunded', v_counted.refunded));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION seal_archive TO photogate_app;

-- Deletes the rows of at most p_photos photos of an archive that is sealed or given up, or ten times as many contents.
-- True: all are gone, or nothing is to be deleted any more.
CREATE FUNCTION delete_archived(p_archive bigint, p_photos integer, p_lease interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v archive; v_photos uuid[]; v_to text; v_jobs bigint[];
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive;
    -- As in forget(): whoever erases or restores waits, and nobody else writes of the event.
    PERFORM 1 FROM event WHERE event_id = v.event_id FOR NO KEY UPDATE;
    SELECT * INTO v FROM archive WHERE archive_id = p_archive FOR NO KEY UPDATE;
    IF v.state NOT IN ('deleting', 'giving_up') THEN RETURN true; END IF;
    UPDATE archive SET taken_until = clock_timestamp() + p_lease WHERE archive_id = p_archive;
    IF forget_contents(v.event_id, 10 * p_photos) THEN RETURN false; END IF;
    SELECT array_agg(photo_id), max(key) INTO v_photos, v_to FROM (
        SELECT photo_id, key FROM photo WHERE event_id = v.event_id AND key > v.deleted_to
        ORDER BY key LIMIT p_photos) p;
    IF v_photos IS NULL THEN
        UPDATE archive SET state = 'archived' WHERE archive_id = p_archive AND state = 'deleting';
        RETURN true;
    END IF;
    WITH gone AS (DELETE FROM job WHERE photo_id = ANY (v_photos) RETURNING job_id)
    SELECT array_agg(job_id) INTO v_jobs FROM gone;
    DELETE FROM outcome WHERE job_id = ANY (v_jobs);
    DELETE FROM attempt WHERE job_id = ANY (v_jobs);
    DELETE FROM looked_at WHERE photo_id = ANY (v_photos);
    DELETE FROM face WHERE photo_id = ANY (v_photos);
    DELETE FROM bib WHERE photo_id = ANY (v_photos);
    DELETE FROM rotation WHERE photo_id = ANY (v_photos);
    DELETE FROM number_correction WHERE photo_id = ANY (v_photos);
    DELETE FROM turn_correction WHERE photo_id = ANY (v_photos);
    UPDATE archive SET deleted_to = v_to WHERE archive_id = p_archive;
    RETURN false;
END $$;
GRANT EXECUTE ON FUNCTION delete_archived TO photogate_app;
