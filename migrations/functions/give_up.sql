-- Giving an archive up whose files are lost or damaged: nothing of it can be restored, so nothing of it would ever be
-- erased either. What is left of it is deleted, in the store and in the database. What was paid stays: the ledger and
-- its chain, the counts of the queues, and which jobs were committed (archive_jobs, archive_queue). So the books are
-- checked as before. Erasures that waited for the restore have nothing to wait for any more.
-- Lock order: as in archive.sql.

-- Begins to give the archive of an event up. r_begun: false if that was done before.
CREATE FUNCTION begin_give_up(p_event bigint, p_actor text, p_why text, OUT r_archive bigint, OUT r_begun boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive;
BEGIN
    -- Whoever restores, deletes or erases has this lock for each step, so this comes before or after it.
    PERFORM 1 FROM event WHERE event_id = p_event FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    SELECT * INTO v FROM archive WHERE event_id = p_event AND state NOT IN ('restored', 'stopped') FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'the event % is not archived', p_event USING ERRCODE = 'PG010'; END IF;
    IF v.state = 'packing' THEN
        RAISE EXCEPTION 'nothing of event % was deleted yet: restore it (photogate archive restore %)', p_event, p_event
            USING ERRCODE = 'PG010';
    END IF;
    IF v.given_up_at IS NULL AND v.damage IS NULL THEN
        RAISE EXCEPTION 'no damage of the archive of event % is known: run photogate archive verify %', p_event, p_event
            USING ERRCODE = 'PG010';
    END IF;
    r_archive := v.archive_id;
    r_begun := v.given_up_at IS NULL;
    IF r_begun THEN
        UPDATE archive SET state = 'giving_up', given_up_at = clock_timestamp(), given_up_by = p_actor,
            given_up_why = p_why, taken_until = NULL, trouble = NULL, deleted_to = ''
        WHERE archive_id = v.archive_id;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION begin_give_up TO photogate_app;

-- Its rows and files are deleted. False: rows are left, or it was done before.
CREATE FUNCTION end_give_up(p_archive bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v archive;
BEGIN
    SELECT * INTO v FROM archive WHERE archive_id = p_archive;
    PERFORM 1 FROM event WHERE event_id = v.event_id FOR NO KEY UPDATE;
    SELECT * INTO v FROM archive WHERE archive_id = p_archive FOR UPDATE;
    IF v.state <> 'giving_up'
        OR EXISTS (SELECT FROM queue q JOIN job j USING (queue_id) WHERE q.event_id = v.event_id) THEN
        RETURN false;
    END IF;
    -- Its files are deleted once more (archive_to_clear): somebody who was late may have written one meanwhile.
    UPDATE archive SET state = 'given_up', ended_at = clock_timestamp(), taken_until = NULL, trouble = NULL
    WHERE archive_id = p_archive;
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    VALUES (v.given_up_by, v.organisation_id, 'event.given_up', 'event ' || v.event_id,
            jsonb_build_object('archive', p_archive));
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION end_give_up TO photogate_app;
