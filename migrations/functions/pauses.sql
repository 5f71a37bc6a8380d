-- Pauses: what has nothing to spend is paused; credit that comes in, or comes back, or is allowed again, resumes it.
--
-- A queue may spend what is available. Where its organisation has decided more (account.steered), it may spend what its
-- event may (budgets.sql).
-- Whoever calls these holds the account's row lock. They write only queue.paused_since: a hold stays a hold.
-- First lock the account. Call these functions in a later statement. In the same statement, the snapshot would be older
-- than the lock and could miss a pause. Paid photos would then wait for ever.
--
-- Neither waits for a queue (SKIP LOCKED). A claim or a settlement holds the accounts of several organisations, and an
-- organisation can keep its own queue locked for as long as it likes. A queue that is passed over is dealt with by a
-- later claim: one that should be paused is found because it may spend nothing, one that should be resumed because its
-- account says so (resume_due).
-- Each queue that is paused or resumed is a row of the timeline, in the same transaction. A queue that is dealt with
-- later has the cause that made it due (resume_cause).
-- Nobody may call these but the gate's own functions.

-- Paused queues that may spend something again. Of an organisation with thousands of queues it reads only those whose
-- event may, because whoever calls this has the accounts of others, too.
CREATE FUNCTION resumable_queues(p_organisations bigint[]) RETURNS TABLE (r_queue bigint, r_organisation bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY
    WITH s AS MATERIALIZED (SELECT * FROM spendable(p_organisations))
    SELECT q.queue_id, q.organisation_id FROM s JOIN queue q ON q.event_id = s.r_event
    WHERE s.r_spendable > 0 AND q.paused_since IS NOT NULL
    UNION ALL
    SELECT q.queue_id, a.organisation_id
    FROM account a
    LEFT JOIN s ON s.r_organisation = a.organisation_id AND s.r_event IS NULL
    CROSS JOIN LATERAL (
        SELECT x.queue_id FROM queue x
        WHERE x.organisation_id = a.organisation_id AND x.paused_since IS NOT NULL
            AND NOT EXISTS (SELECT FROM s own WHERE own.r_event = x.event_id) OFFSET 0) q
    WHERE a.organisation_id = ANY (p_organisations) AND coalesce(s.r_spendable, a.available) > 0;
END $$;

-- The other way round: queues that would run and have nothing to spend.
CREATE FUNCTION spent_queues(p_organisations bigint[]) RETURNS TABLE (r_queue bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY
    WITH s AS MATERIALIZED (SELECT * FROM spendable(p_organisations))
    SELECT q.queue_id FROM s JOIN queue q ON q.event_id = s.r_event WHERE s.r_spendable = 0 AND q.runnable
    UNION ALL
    SELECT q.queue_id
    FROM account a
    LEFT JOIN s ON s.r_organisation = a.organisation_id AND s.r_event IS NULL
    CROSS JOIN LATERAL (
        SELECT x.queue_id FROM queue x
        WHERE x.organisation_id = a.organisation_id AND x.runnable
            AND NOT EXISTS (SELECT FROM s own WHERE own.r_event = x.event_id) OFFSET 0) q
    WHERE a.organisation_id = ANY (p_organisations) AND coalesce(s.r_spendable, a.available) = 0;
END $$;

-- Credit came in or came back, or a budget allows more: lifts the pauses of what can spend again, and only those.
-- Returns whether any was, or is still to be lifted. p_cause: NULL if it was due before.
CREATE FUNCTION resume_queues(p_organisations bigint[], p_cause timeline_cause) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_resumed boolean; v_due bigint[]; v_changed bigint[];
BEGIN
    WITH free AS MATERIALIZED (
        SELECT q.queue_id FROM resumable_queues(p_organisations) r JOIN queue q ON q.queue_id = r.r_queue
        WHERE q.paused_since IS NOT NULL ORDER BY q.queue_id FOR NO KEY UPDATE OF q SKIP LOCKED),
    resumed AS (
        UPDATE queue q SET paused_since = NULL, filled_at = clock_timestamp() FROM free WHERE q.queue_id = free.queue_id
        RETURNING q.organisation_id, q.event_id, q.operation),
    caused AS MATERIALIZED (
        SELECT o.organisation_id, c.* FROM (SELECT DISTINCT organisation_id FROM resumed) o
        CROSS JOIN LATERAL cause_of_resuming(o.organisation_id, p_cause) c)
    INSERT INTO timeline (organisation_id, event_id, operation, kind, cause, reference)
    SELECT organisation_id, event_id, operation, 'resumed', r_cause, r_reference
    FROM resumed JOIN caused USING (organisation_id);
    v_resumed := FOUND;
    WITH due AS MATERIALIZED (SELECT DISTINCT r_organisation FROM resumable_queues(p_organisations)),
    changed AS (
        UPDATE account a SET resume_due = NOT a.resume_due
        WHERE a.organisation_id = ANY (p_organisations)
            AND a.resume_due <> EXISTS (SELECT FROM due WHERE due.r_organisation = a.organisation_id)
        RETURNING a.organisation_id, a.resume_due)
    SELECT array_agg(organisation_id) FILTER (WHERE resume_due), array_agg(organisation_id)
    INTO v_due, v_changed FROM changed;
    IF v_changed IS NULL THEN RETURN v_resumed; END IF;
    DELETE FROM resume_cause WHERE organisation_id = ANY (v_changed);
    INSERT INTO resume_cause (organisation_id, cause, reference)
    SELECT n, c.r_cause, c.r_reference FROM unnest(v_due) n CROSS JOIN LATERAL cause_of_resuming(n, p_cause) c
    WHERE c.r_cause IS NOT NULL;
    RETURN true;
END $$;

-- Pauses what would run and has nothing to spend. p_cause: 'budget', or NULL if a movement of credits is the cause.
CREATE FUNCTION pause_queues(p_organisations bigint[], p_cause timeline_cause) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    WITH free AS MATERIALIZED (
        SELECT q.queue_id FROM spent_queues(p_organisations) r JOIN queue q ON q.queue_id = r.r_queue
        WHERE q.runnable ORDER BY q.queue_id FOR NO KEY UPDATE OF q SKIP LOCKED),
    paused AS (
        UPDATE queue q SET paused_since = clock_timestamp() FROM free WHERE q.queue_id = free.queue_id
        RETURNING q.organisation_id, q.event_id, q.operation),
    caused AS MATERIALIZED (
        SELECT o.organisation_id, c.* FROM (SELECT DISTINCT organisation_id FROM paused) o
        CROSS JOIN LATERAL cause_of_pausing(o.organisation_id, p_cause) c)
    INSERT INTO timeline (organisation_id, event_id, operation, kind, cause, reference)
    SELECT organisation_id, event_id, operation, 'paused', r_cause, r_reference
    FROM paused JOIN caused USING (organisation_id);
END $$;
