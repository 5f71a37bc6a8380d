-- Purchases have a ceiling: what an organisation buys in a month beyond its limit waits for staff. Where there is a
-- payment provider, a purchase waits until it was paid, too (payments.sql).
--
-- Lock order: the account, then the request. What was bought in the month is counted under the account's lock, so that
-- two purchases at the same time do not both fit below the limit.

-- Buys credits, or asks (r_request): staff, if the month's purchases would be above the limit, or for the payment.
-- What waits for a payment counts as bought. The same key again changes nothing. A purchase that asks is at the
-- organisation's price of this moment. If the organisation cannot buy, it fails (PG007).
CREATE FUNCTION purchase(p_organisation bigint, p_amount bigint, p_actor text, p_note text, p_key text,
    OUT r_request bigint, OUT r_asked boolean, OUT r_transaction bigint, OUT r_credited boolean, OUT r_available bigint,
    OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_open constant integer := 10;                         -- of an organisation
    v_organisation organisation; v_amount bigint; v_at timestamptz; v_bought bigint; v_fits boolean;
    v_is_done boolean;
BEGIN
    r_asked := false;
    SELECT book_at(moved_at) INTO v_at FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    SELECT request_id, credits INTO r_request, v_amount FROM purchase_request
    WHERE organisation_id = p_organisation AND idempotency_key = p_key;
    IF FOUND THEN
        IF v_amount <> p_amount THEN
            RAISE EXCEPTION 'the idempotency key "%" was used for another purchase', p_key USING ERRCODE = 'PG003';
        END IF;
        RETURN;
    END IF;
    SELECT * INTO v_organisation FROM organisation WHERE organisation_id = p_organisation;
    SELECT coalesce(sum(amount), 0) INTO v_bought FROM top_up
    WHERE organisation_id = p_organisation AND kind = 'purchase'
        AND shown_at >= day_begins(month_of(v_at, v_organisation.time_zone), v_organisation.time_zone);
    SELECT v_bought + coalesce(sum(credits), 0) INTO v_bought FROM purchase_request
    WHERE organisation_id = p_organisation AND state = 'unpaid';
    v_fits := v_bought + p_amount <= v_organisation.purchase_limit;
    v_is_done := EXISTS (
        SELECT FROM top_up WHERE organisation_id = p_organisation AND idempotency_key = p_key);
    IF NOT v_is_done AND NOT can_buy(v_organisation) THEN
        RAISE EXCEPTION 'organisation % cannot buy credits', p_organisation USING ERRCODE = 'PG007';
    END IF;
    IF v_is_done OR v_fits AND must_be_paid(v_organisation.price_per_credit) IS NOT TRUE THEN
        SELECT t.r_transaction, t.r_credited, t.r_available, t.r_resumed
        INTO r_transaction, r_credited, r_available, r_resumed
        FROM top_up(p_organisation, 'purchase', p_amount, p_actor, p_note, p_key) t;
        RETURN;
    END IF;
    IF (SELECT count(*) FROM purchase_request
        WHERE organisation_id = p_organisation AND state IN ('pending', 'unpaid')) >= c_open THEN
        RAISE EXCEPTION '% purchases of organisation % wait for approval or payment: no more can be asked for until '
            'some of them are decided, paid or withdrawn', c_open, p_organisation USING ERRCODE = 'PG009';
    END IF;
    INSERT INTO purchase_request (organisation_id, credits, price_per_credit, currency, actor, note, idempotency_key,
        expires_at, state)
    VALUES (p_organisation, p_amount, v_organisation.price_per_credit, v_organisation.currency, p_actor, p_note, p_key,
        clock() + interval '14 days', CASE WHEN v_fits THEN 'unpaid' ELSE 'pending' END::purchase_state)
    RETURNING request_id INTO r_request;
    r_asked := true;
END $$;
GRANT EXECUTE ON FUNCTION purchase TO photogate_app;

-- Approves or refuses a request that is pending, or withdraws one that is unpaid. r_decided is false if somebody has
-- decided before, or it has expired. Where there is a payment provider, an approval makes no top-up: the purchase waits
-- for its payment.
-- The top-up of an approval has the buyer as its actor: the request tells who approved.
CREATE FUNCTION decide_purchase(p_request bigint, p_approve boolean, p_actor text, OUT r_decided boolean,
    OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_request purchase_request; v_transaction bigint; v_credited boolean;
BEGIN
    r_decided := false;
    r_resumed := false;
    SELECT * INTO v_request FROM purchase_request WHERE request_id = p_request;
    IF NOT FOUND THEN RAISE EXCEPTION 'no purchase request %', p_request USING ERRCODE = 'PG002'; END IF;
    PERFORM 1 FROM account WHERE organisation_id = v_request.organisation_id FOR NO KEY UPDATE;
    -- A later statement than the lock: it sees what others have decided.
    SELECT * INTO v_request FROM purchase_request WHERE request_id = p_request FOR NO KEY UPDATE;
    IF v_request.state NOT IN ('pending', 'unpaid') OR v_request.expires_at <= clock()
        OR p_approve AND v_request.state = 'unpaid' THEN
        RETURN;
    END IF;
    IF p_approve AND must_be_paid(v_request.price_per_credit) THEN
        IF NOT EXISTS (SELECT FROM organisation WHERE organisation_id = v_request.organisation_id
                       AND price_per_credit = v_request.price_per_credit AND currency = v_request.currency) THEN
            RAISE EXCEPTION 'the price has changed since this was asked for: refuse it, and let the buyer ask again'
                USING ERRCODE = 'PG006';
        END IF;
        UPDATE purchase_request SET
            state = 'unpaid',
            approved_at = clock_timestamp(),
            approved_by = p_actor,
            expires_at = clock() + interval '14 days'
        WHERE request_id = p_request;
        r_decided := true;
        RETURN;
    END IF;
    IF p_approve THEN
        SELECT t.r_transaction, t.r_credited, t.r_resumed INTO v_transaction, v_credited, r_resumed
        FROM top_up(v_request.organisation_id, 'purchase', v_request.credits, v_request.actor, v_request.note,
                    v_request.idempotency_key) t;
        IF NOT v_credited THEN
            RAISE EXCEPTION 'the idempotency key "%" was used for another top-up since this was asked for: refuse it',
                v_request.idempotency_key USING ERRCODE = 'PG006';
        END IF;
        -- What was booked, not what was read before.
        IF NOT EXISTS (SELECT FROM top_up WHERE transaction_id = v_transaction
                       AND price_per_credit = v_request.price_per_credit AND currency = v_request.currency) THEN
            RAISE EXCEPTION 'the price has changed since this was asked for: refuse it, and let the buyer ask again'
                USING ERRCODE = 'PG006';
        END IF;
    END IF;
    UPDATE purchase_request SET
        state = CASE WHEN p_approve THEN 'approved' ELSE 'refused' END::purchase_state,
        approved_at = CASE WHEN p_approve THEN clock_timestamp() ELSE approved_at END,
        approved_by = CASE WHEN p_approve THEN p_actor ELSE approved_by END,
        decided_at = clock_timestamp(),
        decided_by = p_actor,
        transaction_id = v_transaction
    WHERE request_id = p_request;
    r_decided := true;
END $$;
GRANT EXECUTE ON FUNCTION decide_purchase TO photogate_app;

-- Ends a request that nobody has decided or paid in time, with an audit entry. Any worker may call it, at any time: the
-- heartbeat's loop calls it. It takes one, so that requests do not wait for the audit log of another organisation.
CREATE FUNCTION expire_purchases() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_n integer;
BEGIN
    IF NOT EXISTS (SELECT FROM purchase_request WHERE state IN ('pending', 'unpaid') AND expires_at <= clock()) THEN
        RETURN 0;
    END IF;
    PERFORM check_clock(clock(), NULL);
    WITH due AS (
        SELECT request_id FROM purchase_request WHERE state IN ('pending', 'unpaid') AND expires_at <= clock()
        ORDER BY expires_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED),
    expired AS (
        UPDATE purchase_request r SET state = 'expired', decided_at = clock_timestamp(), decided_by = 'System'
        FROM due WHERE r.request_id = due.request_id
        RETURNING r.*)
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    SELECT 'System', organisation_id, 'purchase.expire', 'purchase request ' || request_id,
           jsonb_build_object('credits', credits)
    FROM expired;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION expire_purchases TO photogate_worker;
