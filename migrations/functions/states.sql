-- How a job and a photo stand. A state is not a column: it follows from the position, the outcome and the stretch.
--
-- PostgreSQL inlines these functions into the queries that call them, so they must have no SET and must not be SECURITY
-- DEFINER. They run with the rights of the caller.

-- The latest job of a photo in a queue: the one that says how the photo stands. "+ 0" hides the queue from the primary
-- key. With statistics of few queues, PostgreSQL took that index and read the whole queue for each photo.
CREATE FUNCTION latest_job(p_photo uuid, p_queue bigint) RETURNS SETOF job
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT j.* FROM job j WHERE j.photo_id = p_photo AND j.queue_id + 0 = p_queue ORDER BY j.retry DESC LIMIT 1
$$;
GRANT EXECUTE ON FUNCTION latest_job TO photogate_worker, photogate_app, photogate_organisation;

-- The state of a job. p_ended: its outcome, or NULL. p_stretch: the kind of the stretch that its position is in, or
-- NULL. p_head: the head of its queue.
CREATE FUNCTION job_state(p_ended outcome_state, p_stretch stretch_kind, p_position bigint, p_head bigint) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_ended IS NOT NULL THEN p_ended::text
                WHEN p_stretch = 'skipped' THEN 'skipped'
                WHEN p_stretch = 'first' OR p_stretch IS NULL AND p_position > p_head THEN 'waiting'
                ELSE 'in_progress' END
$$;
GRANT EXECUTE ON FUNCTION job_state TO photogate_app, photogate_organisation;

-- The jobs of a queue that were claimed last, about p_n of them: before its head, and before their turn.
CREATE FUNCTION recent_jobs(p_queue bigint, p_head bigint, p_n integer) RETURNS SETOF bigint
LANGUAGE sql STABLE ROWS 100 AS $$
    SELECT j.job_id FROM job j WHERE j.queue_id = p_queue AND j.position <= p_head AND j.position > p_head - p_n
    UNION ALL
    SELECT j.job_id FROM (
        SELECT s.to_position FROM stretch s WHERE s.queue_id = p_queue AND s.from_position > p_head AND s.kind = 'taken'
        ORDER BY s.from_position DESC LIMIT 1) t
    CROSS JOIN LATERAL (
        SELECT x.job_id FROM job x
        WHERE x.queue_id = p_queue AND x.position <= t.to_position AND x.position > t.to_position - p_n OFFSET 0) j
$$;
GRANT EXECUTE ON FUNCTION recent_jobs TO photogate_app, photogate_organisation;

-- A queue's refunds that stand. Refunds stay in the ledger, but a photo that was queued again does not count any more.
-- All but the first parameter are what queue_settled says.
CREATE FUNCTION standing_refunds(p_queue bigint, p_refunded bigint, p_undecided bigint, p_duplicates bigint)
RETURNS TABLE (r_undecided bigint, r_duplicates bigint, r_failed bigint)
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT p_undecided, p_duplicates, p_refunded - p_undecided - p_duplicates
    WHERE p_refunded = 0 OR NOT EXISTS (SELECT FROM run WHERE run.queue_id = p_queue AND run.retry)
    UNION ALL
    -- Its outcomes are in an archive.
    SELECT a.standing_undecided, a.standing_duplicates, a.standing_failed FROM archive_queue a
    WHERE a.queue_id = p_queue AND p_refunded > 0
        AND EXISTS (SELECT FROM run WHERE run.queue_id = p_queue AND run.retry)
    UNION ALL
    SELECT count(*) FILTER (WHERE o.state = 'undecided'), count(*) FILTER (WHERE o.state = 'duplicate'),
           count(*) FILTER (WHERE o.state IN ('failed', 'quarantined'))
    FROM outcome o
    WHERE o.queue_id = p_queue AND o.state <> 'processed'
        AND o.job_id = (SELECT l.job_id FROM latest_job(o.photo_id, o.queue_id) l)
    HAVING p_refunded > 0 AND EXISTS (SELECT FROM run WHERE run.queue_id = p_queue AND run.retry)
        AND NOT EXISTS (SELECT FROM archive_queue a WHERE a.queue_id = p_queue)
$$;
GRANT EXECUTE ON FUNCTION standing_refunds TO photogate_app, photogate_organisation;

-- The state of a photo, as people see it, from that of its latest job. p_is_stopped: its queue is paused or held.
CREATE FUNCTION photo_state(p_job_state text, p_is_stopped boolean) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_job_state
               WHEN 'quarantined' THEN 'failed'
               WHEN 'waiting' THEN CASE WHEN p_is_stopped THEN 'paused' ELSE 'pending' END
               ELSE p_job_state END
$$;
GRANT EXECUTE ON FUNCTION photo_state TO photogate_app, photogate_organisation;
