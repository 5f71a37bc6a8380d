-- How a job and a photo stand. A state is not a column: it follows from the position, the outcome and the skip.
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

-- The state of a job. p_ended: its outcome, or NULL. p_head: the head of its queue.
CREATE FUNCTION job_state(p_ended outcome_state, p_is_skipped boolean, p_position bigint, p_head bigint) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_ended IS NOT NULL THEN p_ended::text
                WHEN p_is_skipped THEN 'skipped'
                WHEN p_position > p_head THEN 'waiting'
                ELSE 'in_progress' END
$$;
GRANT EXECUTE ON FUNCTION job_state TO photogate_app, photogate_organisation;

-- The state of a photo, as people see it, from that of its latest job. p_is_stopped: its queue is paused or held.
CREATE FUNCTION photo_state(p_job_state text, p_is_stopped boolean) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_job_state
               WHEN 'quarantined' THEN 'failed'
               WHEN 'waiting' THEN CASE WHEN p_is_stopped THEN 'paused' ELSE 'pending' END
               ELSE p_job_state END
$$;
GRANT EXECUTE ON FUNCTION photo_state TO photogate_app, photogate_organisation;
