-- Reconciliations: whose turn it is to check the books, and what was found. src/ledger/reconcile.rs has the checks.

-- It is this worker's turn if nobody has begun a check of this kind for p_every. NULL: it is not.
CREATE FUNCTION begin_reconciliation(p_key uuid, p_kind reconciliation_kind, p_every interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_worker bigint := present_worker(p_key); v_id bigint;
BEGIN
    IF v_worker IS NULL THEN RETURN NULL; END IF;
    IF NOT pg_try_advisory_xact_lock(7236410916) THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM reconciliation r WHERE kind = p_kind AND started_at > clock_timestamp() - p_every
               -- One of the future is of a clock that was wrong.
               AND started_at < clock_timestamp() + interval '1 minute'
               -- A check that was interrupted is no check. A full one goes on at the marks of the one before.
               AND (ended_at IS NOT NULL
                    OR started_at > clock_timestamp() - interval '6 hours'
                       AND EXISTS (SELECT FROM worker w WHERE w.worker_id = r.worker_id AND w.gone_at IS NULL))) THEN
        RETURN NULL;
    END IF;
    -- A check that found nothing is forgotten after a week. One that found something is kept, and so is every full one.
    DELETE FROM reconciliation
    WHERE kind = 'incremental' AND coalesce(violations, 0) = 0 AND started_at < clock_timestamp() - interval '7 days';
    INSERT INTO reconciliation (kind, worker_id) VALUES (p_kind, v_worker) RETURNING reconciliation_id INTO v_id;
    RETURN v_id;
END $$;
GRANT EXECUTE ON FUNCTION begin_reconciliation TO photogate_worker;

-- A worker ends its own check. The staff's alerts are judged by it.
CREATE FUNCTION end_reconciliation(p_key uuid, p_id bigint, p_violations bigint, p_broken jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE reconciliation SET ended_at = clock_timestamp(), violations = p_violations,
        broken = CASE WHEN p_violations > 0 THEN p_broken END
    WHERE reconciliation_id = p_id AND worker_id = present_worker(p_key) AND ended_at IS NULL;
    IF FOUND THEN PERFORM judge_alerts(0, '{books_drift}'); END IF;
END $$;
GRANT EXECUTE ON FUNCTION end_reconciliation TO photogate_worker;

-- A check of a slice found nothing wrong: the next one goes on where the slice ended. A mark moves only from where the
-- slice began. So it never passes a slice in which something was wrong.
CREATE FUNCTION mark_ledgers_checked(p_key uuid, p_organisations bigint[], p_after bigint[], p_entries bigint[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF present_worker(p_key) IS NULL THEN RETURN; END IF;
    UPDATE ledger_checked c SET entries = u.entries
    FROM unnest(p_organisations, p_after, p_entries) u (organisation_id, after, entries)
    JOIN account a USING (organisation_id)
    WHERE c.organisation_id = u.organisation_id AND c.entries = u.after AND u.entries <= a.entries;
    INSERT INTO ledger_checked (organisation_id, entries)
    SELECT organisation_id, u.entries
    FROM unnest(p_organisations, p_after, p_entries) u (organisation_id, after, entries)
    JOIN account a USING (organisation_id)
    WHERE u.after = 0 AND u.entries <= a.entries
    ORDER BY organisation_id ON CONFLICT (organisation_id) DO NOTHING;
END $$;
GRANT EXECUTE ON FUNCTION mark_ledgers_checked TO photogate_worker;

CREATE FUNCTION mark_queues_checked(p_key uuid, p_queues bigint[], p_heads_after bigint[], p_heads bigint[],
    p_tails_after bigint[], p_tails bigint[], p_settled bigint[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF present_worker(p_key) IS NULL THEN RETURN; END IF;
    UPDATE queue_checked c SET head = u.head, tail = u.tail, settled = u.settled
    FROM unnest(p_queues, p_heads_after, p_heads, p_tails_after, p_tails, p_settled)
        AS u (queue_id, head_after, head, tail_after, tail, settled)
    JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
    WHERE c.queue_id = u.queue_id AND c.head = u.head_after AND c.tail = u.tail_after
        AND u.head <= h.head AND u.tail <= t.tail;
    INSERT INTO queue_checked (queue_id, head, tail, settled)
    SELECT queue_id, u.head, u.tail, u.settled
    FROM unnest(p_queues, p_heads_after, p_heads, p_tails_after, p_tails, p_settled)
        AS u (queue_id, head_after, head, tail_after, tail, settled)
    JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
    WHERE u.head_after = 0 AND u.tail_after = 0 AND u.head <= h.head AND u.tail <= t.tail
    ORDER BY queue_id ON CONFLICT (queue_id) DO NOTHING;
END $$;
GRANT EXECUTE ON FUNCTION mark_queues_checked TO photogate_worker;
