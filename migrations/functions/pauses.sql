-- Pauses: an account without credit pauses its queues; credit that comes in, or comes back, resumes them.
--
-- Whoever calls these holds the account's row lock. They write only queue.paused_since: a hold stays a hold.
-- First lock the account. Call these functions in a later statement. In the same statement, the snapshot would be older
-- than the lock and could miss a pause. Paid photos would then wait for ever.
-- Nobody may call these but the gate's own functions.

-- Credit came in or came back: lifts the pauses that were for want of it, and only those. Returns whether any was.
CREATE FUNCTION resume_queues(p_organisations bigint[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE queue SET paused_since = NULL
    WHERE organisation_id = ANY (p_organisations) AND paused_since IS NOT NULL;
    RETURN FOUND;
END $$;

-- The account is empty: pauses what would run.
CREATE FUNCTION pause_queues(p_organisations bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE queue SET paused_since = clock_timestamp()
    WHERE organisation_id = ANY (p_organisations) AND runnable;
END $$;
