-- Automatic top-ups: an organisation that runs low buys credits by itself, as one of its people would.
--
-- Lock order: the account, then auto_top_up; the audit log comes last. Whoever ends a request has that first, and then
-- takes auto_top_up. Nobody who has auto_top_up waits for a request.
--
-- Everything that decides is read after the account is locked. So of two workers that look at the same time, the second
-- one sees what the first one has bought. The number of the purchase is in its idempotency key, and a unique index lets
-- one request wait: that holds without the lock, too.

-- Switches the automatic top-up of an organisation on, at its present price. Returns false if that changes nothing.
CREATE FUNCTION set_auto_top_up(p_organisation bigint, p_below bigint, p_credits bigint, p_monthly_max bigint,
    p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v organisation;
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    SELECT * INTO v FROM organisation WHERE organisation_id = p_organisation;
    IF NOT can_buy(v) THEN
        RAISE EXCEPTION 'organisation % cannot buy credits', p_organisation USING ERRCODE = 'PG007';
    END IF;
    INSERT INTO auto_top_up AS u (organisation_id, switched_on, below, credits, monthly_max, price_per_credit, currency,
        set_by, set_at)
    VALUES (p_organisation, true, p_below, p_credits, p_monthly_max, v.price_per_credit, v.currency, p_actor,
        clock_timestamp())
    ON CONFLICT (organisation_id) DO UPDATE SET
        switched_on = true,
        below = EXCLUDED.below,
        credits = EXCLUDED.credits,
        monthly_max = EXCLUDED.monthly_max,
        price_per_credit = EXCLUDED.price_per_credit,
        currency = EXCLUDED.currency,
        set_by = EXCLUDED.set_by,
        set_at = EXCLUDED.set_at,
        stopped = NULL,
        stopped_at = NULL,
        waits_for = NULL,
        tried_at = NULL
    WHERE (u.below, u.credits, u.monthly_max, u.price_per_credit, u.currency)
            <> (EXCLUDED.below, EXCLUDED.credits, EXCLUDED.monthly_max, EXCLUDED.price_per_credit, EXCLUDED.currency)
        OR NOT u.switched_on OR u.stopped IS NOT NULL;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION set_auto_top_up TO photogate_app;

-- Switches it off. A purchase that waits goes on waiting. Returns false if it was off.
CREATE FUNCTION switch_auto_top_up_off(p_organisation bigint, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE auto_top_up SET
        switched_on = false,
        set_by = p_actor,
        set_at = clock_timestamp(),
        stopped = NULL,
        stopped_at = NULL,
        waits_for = NULL,
        tried_at = NULL
    WHERE organisation_id = p_organisation AND switched_on;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION switch_auto_top_up_off TO photogate_app;

-- The first organisation after this one that is to buy now, or NULL. Of those without an automatic top-up, nothing is
-- read. One that could not buy is looked at again after a minute.
CREATE FUNCTION next_auto_top_up(p_after bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE v_now timestamptz := clock();
BEGIN
    RETURN (
        SELECT u.organisation_id FROM auto_top_up u JOIN account a USING (organisation_id)
        WHERE u.switched_on AND u.stopped IS NULL AND u.organisation_id > p_after AND a.available < u.below
            -- A clock that was in the future does not keep it waiting until then.
            AND (u.tried_at IS NULL OR u.tried_at NOT BETWEEN v_now - interval '1 minute' AND v_now)
            AND NOT EXISTS (SELECT FROM purchase_request r
                            WHERE r.organisation_id = u.organisation_id AND r.actor = 'auto top-up'
                                AND r.state IN ('pending', 'unpaid'))
        ORDER BY u.organisation_id LIMIT 1);
END $$;
GRANT EXECUTE ON FUNCTION next_auto_top_up TO photogate_worker;

-- Buys for an organisation, once, if it is to buy now. r_bought: credits were added, or asked for. r_resumed: queues go
-- on. The ceiling, the approval and the price are those of purchase(). A lock that is not free after a second is not
-- waited for: the next look tries again.
CREATE FUNCTION top_up_automatically(p_organisation bigint, OUT r_bought boolean, OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET lock_timeout = '1s' AS $$
DECLARE v auto_top_up; v_at timestamptz; v_available bigint; v_waits_for auto_top_up_reason; v_done record;
BEGIN
    r_bought := false;
    r_resumed := false;
    SELECT book_at(moved_at) INTO v_at FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    SELECT * INTO v FROM auto_top_up WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    -- Later statements than the locks.
    SELECT available INTO v_available FROM account WHERE organisation_id = p_organisation;
    IF v.switched_on IS NOT TRUE OR v.stopped IS NOT NULL OR v_available >= v.below OR EXISTS (
        SELECT FROM purchase_request
        WHERE organisation_id = p_organisation AND actor = 'auto top-up'
            AND state IN ('pending', 'unpaid')) THEN
        RETURN;
    END IF;
    v_waits_for := auto_top_up_waits_for(v, v_at);
    IF v_waits_for = 'price_changed' THEN
        PERFORM stop_auto_top_up(p_organisation, v_waits_for, '{}');
        RETURN;
    END IF;
    IF v_waits_for IS NULL THEN
        BEGIN
            SELECT * INTO v_done FROM purchase(p_organisation, v.credits, 'auto top-up',
                format('fewer than %s credits were available', v.below), 'auto top-up ' || v.purchases + 1);
            r_bought := v_done.r_asked OR coalesce(v_done.r_credited, false);
        EXCEPTION
            WHEN SQLSTATE 'PG009' THEN v_waits_for := 'too_many_requests';
            -- A person has used this key for a purchase of another size: the next one is free.
            WHEN SQLSTATE 'PG003' THEN NULL;
        END;
    END IF;
    UPDATE auto_top_up SET
        purchases = purchases + CASE WHEN v_waits_for IS NULL THEN 1 ELSE 0 END,
        waits_for = v_waits_for,
        tried_at = CASE WHEN v_waits_for IS NOT NULL THEN clock() END
    WHERE organisation_id = p_organisation;
    IF r_bought THEN
        r_resumed := coalesce(v_done.r_resumed, false);
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        SELECT 'auto top-up', p_organisation, 'purchase.ask', 'purchase request ' || v_done.r_request,
               jsonb_build_object('credits', v.credits, 'available', v_available, 'below', v.below)
        WHERE v_done.r_asked
        UNION ALL
        SELECT 'auto top-up', p_organisation, 'credits.top_up', 'organisation ' || p_organisation,
               jsonb_build_object('kind', 'purchase', 'credits', v.credits, 'transaction', v_done.r_transaction,
                   'available', v_available, 'below', v.below)
        WHERE NOT v_done.r_asked;
    ELSIF v_waits_for IS DISTINCT FROM v.waits_for AND v_waits_for IS NOT NULL THEN
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        VALUES ('auto top-up', p_organisation, 'auto_top_up.wait', 'organisation ' || p_organisation,
            jsonb_build_object('reason', v_waits_for));
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION top_up_automatically TO photogate_worker;

-- What keeps it from buying at this instant, or NULL. The caller holds the account. A month is that of the
-- organisation, as the ceiling has it: if the clock was in the future, what was bought then counts for this month, too.
CREATE FUNCTION auto_top_up_waits_for(p auto_top_up, p_at timestamptz) RETURNS auto_top_up_reason
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp AS $$
DECLARE v organisation; v_bought bigint;
BEGIN
    SELECT * INTO v FROM organisation WHERE organisation_id = p.organisation_id;
    IF NOT can_buy(v) THEN RETURN 'no_price'; END IF;
    IF v.price_per_credit > p.price_per_credit OR v.currency <> p.currency THEN RETURN 'price_changed'; END IF;
    SELECT coalesce(sum(amount), 0) INTO v_bought FROM top_up
    WHERE organisation_id = p.organisation_id AND kind = 'purchase' AND actor = 'auto top-up'
        AND shown_at >= day_begins(month_of(p_at, v.time_zone), v.time_zone);
    IF v_bought + p.credits > p.monthly_max THEN RETURN 'month_used_up'; END IF;
    RETURN NULL;
END $$;

-- Notes that the database has refused a purchase. It is tried again after a minute; others come first.
CREATE FUNCTION put_off_auto_top_up(p_organisation bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE auto_top_up SET waits_for = 'trouble', tried_at = clock()
    WHERE organisation_id = p_organisation AND switched_on AND stopped IS NULL
$$;
GRANT EXECUTE ON FUNCTION put_off_auto_top_up TO photogate_worker;

-- Stops it until a person switches it on again, with an audit entry.
CREATE FUNCTION stop_auto_top_up(p_organisation bigint, p_why auto_top_up_reason, p_detail jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE auto_top_up SET stopped = p_why, stopped_at = clock_timestamp(), waits_for = NULL, tried_at = NULL
    WHERE organisation_id = p_organisation AND switched_on AND stopped IS NULL;
    IF NOT FOUND THEN RETURN; END IF;
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    VALUES ('auto top-up', p_organisation, 'auto_top_up.stop', 'organisation ' || p_organisation,
        jsonb_build_object('reason', p_why) || p_detail);
END $$;

-- A purchase of it was refused, its payment failed, or nobody decided or paid in time: somebody does not want it, or
-- nobody looks. It stops.
CREATE OR REPLACE FUNCTION auto_top_up_was_refused() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM stop_auto_top_up(NEW.organisation_id, NEW.state::text::auto_top_up_reason,
        jsonb_build_object('request', NEW.request_id));
    RETURN NULL;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'purchase_request'::regclass
                   AND tgname = 'auto_top_up_was_refused') THEN
        CREATE TRIGGER auto_top_up_was_refused AFTER UPDATE OF state ON purchase_request FOR EACH ROW
            WHEN (NEW.actor = 'auto top-up' AND NEW.state IN ('refused', 'expired', 'failed'))
            EXECUTE FUNCTION auto_top_up_was_refused();
    END IF;
END $$;
