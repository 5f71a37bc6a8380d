-- Reconciliations: whose turn it is to check the books, and what was found. src/ledger/reconcile.rs has the checks.

-- It is p_worker's turn if nobody has begun a check of this kind for p_every. NULL: it is not.
CREATE FUNCTION begin_reconciliation(p_worker bigint, p_kind reconciliation_kind, p_every interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_id bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM worker WHERE worker_id = p_worker AND gone_at IS NULL) THEN RETURN NULL; END IF;
    IF NOT pg_try_advisory_xact_lock(7236410916) THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM reconciliation WHERE kind = p_kind AND started_at > clock_timestamp() - p_every
               -- A check that was interrupted is no check.
               AND (ended_at IS NOT NULL OR started_at > clock_timestamp() - interval '1 hour')) THEN
        RETURN NULL;
    END IF;
    -- A check that found nothing is forgotten after a week. One that found something is kept, and so is every full one.
    DELETE FROM reconciliation
    WHERE kind = 'incremental' AND coalesce(violations, 0) = 0 AND started_at < clock_timestamp() - interval '7 days';
    INSERT INTO reconciliation (kind, worker_id) VALUES (p_kind, p_worker) RETURNING reconciliation_id INTO v_id;
    RETURN v_id;
END $$;
GRANT EXECUTE ON FUNCTION begin_reconciliation TO photogate_worker;

CREATE FUNCTION end_reconciliation(p_id bigint, p_violations bigint, p_broken jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE reconciliation SET ended_at = clock_timestamp(), violations = p_violations,
        broken = CASE WHEN p_violations > 0 THEN p_broken END
    WHERE reconciliation_id = p_id AND ended_at IS NULL
$$;
GRANT EXECUTE ON FUNCTION end_reconciliation TO photogate_worker;
