-- Pauses: an account without credit pauses its queues; credit that comes in, or comes back, resumes them.
--
-- Whoever calls these holds the account's row lock. They write only queue.paused_since: a hold stays a hold.
-- First lock the account. Call these functions in a later statement. In the same statement, the snapshot would be older
-- than the lock and could miss a pause. Paid photos would then wait for ever.
--
-- Neither waits for a queue (SKIP LOCKED). A claim or a settlement holds the accounts of several organisations, and an
-- organisation can keep its own queue locked for as long as it likes. A queue that is passed over is dealt with by a
-- later claim: one that should be paused is found because its account is empty, one that should be resumed because its
-- account says so (resume_due).
-- Nobody may call these but the gate's own functions.

-- Credit came in or came back: lifts the pauses that were for want of it, and only those. Returns whether any was, or
-- is still to be lifted.
CREATE FUNCTION resume_queues(p_organisations bigint[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_resumed boolean;
BEGIN
    WITH free AS MATERIALIZED (
        SELECT q.queue_id FROM queue q JOIN account a USING (organisation_id)
        WHERE q.organisation_id = ANY (p_organisations) AND q.paused_since IS NOT NULL AND a.available > 0
        ORDER BY q.queue_id FOR NO KEY UPDATE OF q SKIP LOCKED)
    UPDATE queue q SET paused_since = NULL FROM free WHERE q.queue_id = free.queue_id;
    v_resumed := FOUND;
    UPDATE account a SET resume_due = NOT a.resume_due
    WHERE a.organisation_id = ANY (p_organisations)
        AND a.resume_due <> (a.available > 0 AND EXISTS (
            SELECT FROM queue q WHERE q.organisation_id = a.organisation_id AND q.paused_since IS NOT NULL));
    RETURN v_resumed OR FOUND;
END $$;

-- The account is empty: pauses what would run.
CREATE FUNCTION pause_queues(p_organisations bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    WITH free AS MATERIALIZED (
        SELECT queue_id FROM queue WHERE organisation_id = ANY (p_organisations) AND runnable
        ORDER BY queue_id FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE queue q SET paused_since = clock_timestamp() FROM free WHERE q.queue_id = free.queue_id;
END $$;
