-- Payments: a purchase becomes credits when the payment provider says that it was paid.
--
-- Lock order: the account, then the request; the audit log comes last. Whether a purchase waits for a payment is a row
-- of payment_provider and no setting of a process: otherwise a worker or a command without the setting would give
-- credits away.
-- A payment is a row: with the top-up that it has made, or kept for finance with the reason. The reference of the
-- provider is unique, and so is the payment that a request was credited for.

-- From now on, purchases wait for a payment. Returns false if that changes nothing.
CREATE FUNCTION use_payment_provider(p_provider text, p_pay_at text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO payment_provider AS p (provider, pay_at) VALUES (p_provider, p_pay_at)
    ON CONFLICT (only_row) DO UPDATE SET provider = EXCLUDED.provider, pay_at = EXCLUDED.pay_at
    WHERE p.provider <> EXCLUDED.provider OR p.pay_at IS DISTINCT FROM EXCLUDED.pay_at;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION use_payment_provider TO photogate_app;

-- From now on, purchases are credited at once, and invoiced. Those that wait for a payment go on waiting.
CREATE FUNCTION use_no_payment_provider() RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    DELETE FROM payment_provider;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION use_no_payment_provider TO photogate_app;

-- How many decimals the smallest unit of a currency has, as providers count it. (Stripe counts ISK and UGX in
-- hundredths, although they have none.)
CREATE FUNCTION decimals_of(p_currency text) RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = photogate, pg_temp AS $$
    SELECT CASE WHEN p_currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'JPY', 'KMF', 'KRW', 'MGA', 'PYG', 'RWF', 'VND', 'VUV',
                                    'XAF', 'XOF', 'XPF') THEN 0
                WHEN p_currency IN ('BHD', 'JOD', 'KWD', 'OMR', 'TND') THEN 3
                ELSE 2 END
$$;
GRANT EXECUTE ON FUNCTION decimals_of TO photogate_app;

-- What a purchase costs, in whole smallest units of its currency. A part of one is rounded up: rounded down, a credit
-- for less than half a cent would be free, as often as somebody wants.
CREATE FUNCTION amount_due(p_credits bigint, p_price numeric, p_currency text) RETURNS numeric
LANGUAGE sql IMMUTABLE SET search_path = photogate, pg_temp AS $$
    SELECT ceil(p_credits * p_price * (10 ^ decimals_of(p_currency))::numeric)
$$;
GRANT EXECUTE ON FUNCTION amount_due TO photogate_app;

-- Whether a purchase at this price waits for a payment. What costs nothing does not.
CREATE FUNCTION must_be_paid(p_price numeric) RETURNS boolean
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT p_price > 0 AND EXISTS (SELECT FROM payment_provider)
$$;

-- The provider says that a payment has come. p_request: the purchase that it names, or NULL if it names none of ours.
-- The payment becomes credits if it is what the purchase costs, and the purchase waits for it, or has ended without
-- anybody refusing it. Otherwise it is kept for finance (r_kept says why). A payment that is known changes nothing.
CREATE FUNCTION receive_payment(p_provider text, p_reference text, p_purchase text, p_request bigint, p_amount bigint,
    p_currency text, OUT r_payment bigint, OUT r_is_new boolean, OUT r_kept payment_kept, OUT r_transaction bigint,
    OUT r_organisation bigint, OUT r_credits bigint, OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v purchase_request; v_credited boolean;
BEGIN
    r_resumed := false;
    SELECT organisation_id INTO r_organisation FROM purchase_request WHERE request_id = p_request;
    PERFORM 1 FROM account WHERE organisation_id = r_organisation FOR NO KEY UPDATE;
    -- Later statements than the lock. Two with the same reference name the same purchase; if not, the second one fails.
    SELECT * INTO v FROM purchase_request WHERE request_id = p_request FOR NO KEY UPDATE;
    SELECT payment_id, kept, transaction_id INTO r_payment, r_kept, r_transaction FROM payment
    WHERE provider = p_provider AND reference = p_reference;
    r_is_new := NOT FOUND;
    IF NOT r_is_new THEN RETURN; END IF;
    r_credits := v.credits;
    r_kept := CASE
        WHEN v.request_id IS NULL THEN 'unknown_purchase'
        WHEN upper(p_currency) <> v.currency
            OR p_amount <> amount_due(v.credits, v.price_per_credit, v.currency) THEN 'wrong_amount'
        WHEN v.state IN ('paid', 'approved') THEN 'paid_before'
        WHEN v.state = 'pending' THEN 'not_approved'
        WHEN v.state = 'refused' THEN 'refused'
        WHEN EXISTS (SELECT FROM top_up WHERE organisation_id = v.organisation_id
                     AND idempotency_key = v.idempotency_key) THEN 'key_reused'
    END;
    IF r_kept IS NULL THEN
        -- At the price of the request: see top_up().
        SELECT t.r_transaction, t.r_credited, t.r_resumed INTO STRICT r_transaction, v_credited, r_resumed
        FROM top_up(v.organisation_id, 'purchase', v.credits, v.actor, v.note, v.idempotency_key) t;
        UPDATE purchase_request SET
            state = 'paid',
            decided_at = clock_timestamp(),
            decided_by = p_provider,
            transaction_id = r_transaction
        WHERE request_id = v.request_id;
    END IF;
    INSERT INTO payment (provider, reference, purchase, request_id, organisation_id, amount, currency, transaction_id,
        kept)
    VALUES (p_provider, p_reference, p_purchase, v.request_id, r_organisation, p_amount, upper(p_currency),
        r_transaction, r_kept)
    RETURNING payment_id INTO r_payment;
END $$;
GRANT EXECUTE ON FUNCTION receive_payment TO photogate_app;

-- The provider says that a purchase will not be paid: the payment has failed, or its time is over. r_ended is false if
-- the purchase did not wait for a payment (any more).
CREATE FUNCTION end_unpaid_purchase(p_provider text, p_request bigint, p_state purchase_state, OUT r_ended boolean,
    OUT r_organisation bigint, OUT r_credits bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    SELECT organisation_id, credits INTO r_organisation, r_credits FROM purchase_request WHERE request_id = p_request;
    PERFORM 1 FROM account WHERE organisation_id = r_organisation FOR NO KEY UPDATE;
    -- A later statement than the lock. A state that means credits breaks a CHECK.
    UPDATE purchase_request SET state = p_state, decided_at = clock_timestamp(), decided_by = p_provider
    WHERE request_id = p_request AND state = 'unpaid';
    r_ended := FOUND;
END $$;
GRANT EXECUTE ON FUNCTION end_unpaid_purchase TO photogate_app;

-- Somebody has dealt with a payment that was kept. Returns false if nothing was left to do.
CREATE FUNCTION settle_payment(p_payment bigint, p_actor text, p_note text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE payment SET settled_at = clock_timestamp(), settled_by = p_actor, settled_note = p_note
    WHERE payment_id = p_payment AND kept IS NOT NULL AND settled_at IS NULL;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION settle_payment TO photogate_app;
