-- Top-ups: credit comes in, or an adjustment by staff takes it out.
--
-- Lock order: the account, then its queues. A top-up that brings credit in resumes them in the same transaction.

-- Brings credit in or, with kind 'adjustment' (by staff) and a negative amount, takes it out. The same key again
-- changes nothing. A purchase is at the organisation's price of this moment, or at that of the request that was paid.
-- Without a price it fails (PG007).
CREATE FUNCTION top_up(p_organisation bigint, p_kind top_up_kind, p_amount bigint, p_actor text, p_note text,
    p_key text, OUT r_transaction bigint, OUT r_credited boolean, OUT r_available bigint, OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_entry bigint; v_at timestamptz; v_ends timestamptz; v_price numeric; v_currency text;
    v_is_steered boolean;
BEGIN
    r_credited := false;
    r_resumed := false;
    -- The account comes first in any case: it is the lock order, and a replay reads a settled balance.
    SELECT available, book_at(moved_at), day_ends_at, steered INTO r_available, v_at, v_ends, v_is_steered
    FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    IF p_kind = 'purchase' THEN
        SELECT coalesce(r.price_per_credit, o.price_per_credit), coalesce(r.currency, o.currency)
        INTO v_price, v_currency
        FROM organisation o
        LEFT JOIN purchase_request r ON r.organisation_id = o.organisation_id AND r.idempotency_key = p_key
            AND r.state IN ('unpaid', 'expired', 'failed')
        WHERE o.organisation_id = p_organisation;
    END IF;
    INSERT INTO top_up (transaction_id, organisation_id, kind, amount, actor, note, idempotency_key, at,
        shown_at, price_per_credit, currency)
    VALUES (nextval('transaction_id'), p_organisation, p_kind, p_amount, p_actor, p_note, p_key, v_at,
        v_at, v_price, v_currency)
    ON CONFLICT (organisation_id, idempotency_key) DO NOTHING RETURNING transaction_id INTO r_transaction;
    -- A replay, or the key of another top-up.
    IF r_transaction IS NULL THEN
        SELECT transaction_id INTO r_transaction FROM top_up
        WHERE organisation_id = p_organisation AND idempotency_key = p_key AND amount = p_amount AND kind = p_kind;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the idempotency key "%" was used for another top-up', p_key USING ERRCODE = 'PG003';
        END IF;
        RETURN;
    END IF;
    IF p_kind = 'purchase' AND v_price IS NULL THEN
        RAISE EXCEPTION 'organisation % has no price per credit', p_organisation USING ERRCODE = 'PG007';
    END IF;
    IF r_available + p_amount < 0 THEN
        RAISE EXCEPTION 'only % credits are available', r_available USING ERRCODE = 'PG004';
    END IF;
    IF v_at >= v_ends THEN PERFORM open_days(ARRAY[p_organisation], ARRAY[v_at]); END IF;
    UPDATE account SET funded = funded + p_amount, available = available + p_amount, entries = entries + 1,
        moved_at = v_at
    WHERE organisation_id = p_organisation RETURNING entries, available INTO v_entry, r_available;
    INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, at)
    VALUES (r_transaction, 0, 'top_up', p_organisation, v_entry, p_amount, v_at);
    r_credited := true;
    -- Later statements than the lock: see pauses.sql.
    IF v_is_steered THEN
        UPDATE steering SET shortfall = CASE WHEN p_amount > 0 THEN greatest(0, shortfall - p_amount)
                                             ELSE floors_short(p_organisation) END
        WHERE organisation_id = p_organisation;
    END IF;
    IF p_amount < 0 THEN PERFORM pause_queues(ARRAY[p_organisation], NULL); END IF;
    r_resumed := resume_queues(ARRAY[p_organisation], 'top_up');
END $$;
GRANT EXECUTE ON FUNCTION top_up TO photogate_app;
