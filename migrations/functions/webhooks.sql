-- Webhooks: changes are delivered to addresses of an organisation, at least once, those of one subject in their order.
--
-- A delivery is a row from the moment its change has a number. Workers take what is due under a lease, call the address
-- outside of any transaction, and say what came of it. A worker that dies leaves a lease that runs out: then the change
-- is delivered again. Who receives tells by its number that it has it already.
-- After a failure the address rests, longer each time, and then hears one change at a time; such addresses have calls
-- of their own. So one that does not answer keeps nobody else waiting.
-- Lock order: the webhook, then its deliveries; the audit log comes last.

-- How many changes are sent to one address at the same time. (They are of different subjects.)
CREATE FUNCTION calls_at_once(p_webhook webhook) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN p_webhook.failing_since IS NULL THEN 4 ELSE 1 END $$;

-- How many more changes can be sent to it now. An organisation has eight calls at the same time.
CREATE FUNCTION calls_free(p_webhook webhook, p_now timestamptz) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    SELECT greatest(0, least(calls_at_once(p_webhook) - count(*) FILTER (WHERE webhook_id = p_webhook.webhook_id),
                             8 - count(*)))
    FROM delivery WHERE organisation_id = p_webhook.organisation_id AND leased_until > p_now
$$;

-- Notes when there is something to do for a webhook: not before now, so that whoever was just served comes after the
-- others. The caller has its lock.
CREATE FUNCTION keep_webhook(p_webhook bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v webhook; v_now timestamptz := clock_timestamp(); v_due timestamptz; v_full_until timestamptz;
BEGIN
    SELECT * INTO v FROM webhook WHERE webhook_id = p_webhook;
    SELECT due_at INTO v_due FROM delivery
    WHERE webhook_id = p_webhook AND state = 'waiting' AND due_at IS NOT NULL ORDER BY webhook_id, due_at LIMIT 1;
    IF v_due IS NOT NULL THEN
        -- Whoever ends a call comes here again. If nobody does, its lease runs out.
        IF calls_free(v, v_now) = 0 THEN
            SELECT min(leased_until) INTO v_full_until
            FROM delivery WHERE organisation_id = v.organisation_id AND leased_until > v_now
                AND webhook_id = p_webhook;
        END IF;
        -- greatest() leaves out what is NULL.
        v_due := greatest(v_due, v_now, v.rests_until, v_full_until);
    END IF;
    UPDATE webhook SET due_at = v_due WHERE webhook_id = p_webhook AND due_at IS DISTINCT FROM v_due;
END $$;

-- Addresses an organisation's changes after p_after to its webhooks. The caller has the organisation's change_end.
-- Nobody may call it but number_changes.
CREATE FUNCTION address_changes(p_organisation bigint, p_after bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_webhook bigint;
BEGIN
    FOR v_webhook IN
        SELECT webhook_id FROM webhook WHERE organisation_id = p_organisation ORDER BY webhook_id FOR NO KEY UPDATE
    LOOP
        -- A later statement than the lock: no delivery ends meanwhile.
        INSERT INTO delivery (webhook_id, position, organisation_id, type, subject, due_at)
        SELECT v_webhook, c.position, p_organisation, c.type, c.subject,
            CASE WHEN row_number() OVER (PARTITION BY c.subject ORDER BY c.position) = 1 AND NOT EXISTS (
                     SELECT FROM delivery d
                     WHERE d.webhook_id = v_webhook AND d.subject = c.subject AND d.state = 'waiting')
                 THEN clock_timestamp() END
        FROM change c JOIN webhook w ON w.webhook_id = v_webhook
        WHERE c.organisation_id = p_organisation AND c.position > p_after
            AND CASE WHEN c.type = 'webhook.ping' THEN c.subject = 'webhooks/' || v_webhook
                     ELSE c.type = ANY (w.types) END;
        PERFORM keep_webhook(v_webhook);
    END LOOP;
END $$;

-- Takes at most p_n deliveries that are due, for p_lease: those of addresses that fail, or of the others. Whoever has
-- waited longest comes first. Each row is one call; the secrets sign it.
CREATE FUNCTION take_deliveries(p_key uuid, p_failing boolean, p_n integer, p_lease interval)
RETURNS TABLE (r_webhook bigint, r_attempt integer, r_url text, r_secrets bytea[], r_organisation bigint,
    r_position bigint, r_type change_type, r_subject text, r_at timestamptz, r_data jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v webhook; v_due bigint[]; v_left integer := p_n; v_n integer; v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM leased_worker(p_key);
    -- Each has an index of its own.
    IF p_failing THEN
        v_due := ARRAY(SELECT webhook_id FROM webhook
            WHERE disabled_at IS NULL AND failing_since IS NOT NULL AND due_at <= v_now ORDER BY due_at LIMIT p_n);
    ELSE
        v_due := ARRAY(SELECT webhook_id FROM webhook
            WHERE disabled_at IS NULL AND failing_since IS NULL AND due_at <= v_now ORDER BY due_at LIMIT p_n);
    END IF;
    FOR v IN
        SELECT * FROM webhook w WHERE w.webhook_id = ANY (v_due) AND w.disabled_at IS NULL AND w.due_at <= v_now
        ORDER BY w.due_at FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        EXIT WHEN v_left = 0;
        RETURN QUERY
        WITH due AS (
            SELECT d.position FROM delivery d
            WHERE d.webhook_id = v.webhook_id AND d.state = 'waiting' AND d.due_at <= v_now
            ORDER BY d.webhook_id, d.due_at LIMIT least(v_left, calls_free(v, v_now))),
        taken AS (
            UPDATE delivery d SET
                attempts = d.attempts + 1,
                tried_at = v_now,
                leased_until = v_now + p_lease,
                due_at = v_now + p_lease
            FROM due WHERE d.webhook_id = v.webhook_id AND d.position = due.position
            RETURNING d.*)
        SELECT v.webhook_id, t.attempts, v.url,
            CASE WHEN v.old_secret_until > v_now THEN ARRAY[v.secret, v.old_secret] ELSE ARRAY[v.secret] END,
            c.organisation_id, c.position, c.type, c.subject, c.at, said(c)
        FROM taken t JOIN change c ON c.organisation_id = t.organisation_id AND c.position = t.position
        ORDER BY c.position;
        GET DIAGNOSTICS v_n = ROW_COUNT;
        v_left := v_left - v_n;
        PERFORM keep_webhook(v.webhook_id);
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION take_deliveries TO photogate_worker;

-- What came of a call to p_url. p_trouble: NULL if it was accepted. The status 410 says that there is nobody any more.
-- The pauses after failures begin with p_pause and become longer, up to an hour. After p_patience without success, of
-- the address or of one change, the address is disabled. What is late counts, as long as nobody else has tried since.
-- r_disabled: this ended it.
CREATE FUNCTION end_delivery(p_webhook bigint, p_position bigint, p_attempt integer, p_url text, p_status integer,
    p_trouble text, p_pause interval, p_patience interval, OUT r_disabled boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v webhook; v_delivery delivery; v_now timestamptz := clock_timestamp(); v_gone boolean;
BEGIN
    r_disabled := false;
    SELECT * INTO v FROM webhook WHERE webhook_id = p_webhook FOR NO KEY UPDATE;
    SELECT * INTO v_delivery FROM delivery WHERE webhook_id = p_webhook AND position = p_position
        AND attempts = p_attempt AND state = 'waiting' AND leased_until IS NOT NULL;
    IF NOT FOUND THEN RETURN; END IF;
    IF p_trouble IS NULL THEN
        UPDATE delivery SET state = 'delivered', delivered_at = v_now, due_at = NULL, leased_until = NULL,
            failing_since = NULL, failures = 0, status = p_status, trouble = NULL
        WHERE webhook_id = p_webhook AND position = p_position;
        PERFORM let_next_go(p_webhook, v_delivery.subject);
        UPDATE webhook SET failing_since = NULL, failures = 0, rests_until = NULL
        WHERE webhook_id = p_webhook AND failing_since IS NOT NULL;
    ELSE
        UPDATE delivery SET due_at = v_now + pause_after(failures + 1, p_pause), leased_until = NULL,
            failing_since = coalesce(failing_since, v_now), failures = failures + 1, status = p_status,
            trouble = left(p_trouble, 300)
        WHERE webhook_id = p_webhook AND position = p_position;
        -- Calls that fail together count once.
        UPDATE webhook SET failing_since = coalesce(failing_since, v_now), failures = failures + 1,
            rests_until = v_now + pause_after(failures + 1, p_pause)
        WHERE webhook_id = p_webhook AND (rests_until IS NULL OR rests_until <= v_now);
        -- What the address before has said does not concern this one.
        v_gone := p_status = 410 AND v.url = p_url;
        r_disabled := v.disabled_at IS NULL AND (coalesce(v_gone, false)
            OR coalesce(least(v.failing_since, v_delivery.failing_since) < v_now - p_patience, false));
    END IF;
    PERFORM keep_webhook(p_webhook);
    IF r_disabled THEN PERFORM give_webhook_up(v, CASE WHEN v_gone THEN 'gone' ELSE 'no_answer' END); END IF;
END $$;
GRANT EXECUTE ON FUNCTION end_delivery TO photogate_worker;

-- How long to wait after so many failures in a row: three times as long each time, at most an hour.
CREATE FUNCTION pause_after(p_failures integer, p_pause interval) RETURNS interval
LANGUAGE sql IMMUTABLE AS $$
    SELECT least(p_pause * power(3, least(p_failures, 20) - 1), interval '1 hour')
$$;

-- The earliest delivery of a subject that waits is due.
CREATE FUNCTION let_next_go(p_webhook bigint, p_subject text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    UPDATE delivery d SET due_at = clock_timestamp()
    FROM (SELECT position FROM delivery
          WHERE webhook_id = p_webhook AND subject = p_subject AND state = 'waiting'
          ORDER BY webhook_id, subject, position LIMIT 1) next
    WHERE d.webhook_id = p_webhook AND d.position = next.position AND d.due_at IS NULL
$$;

-- The same for all subjects of a webhook, in one pass.
CREATE FUNCTION let_all_heads_go(p_webhook bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    UPDATE delivery d SET due_at = clock_timestamp()
    FROM (SELECT min(position) AS position FROM delivery WHERE webhook_id = p_webhook AND state = 'waiting'
          GROUP BY subject HAVING count(due_at) = 0) head
    WHERE d.webhook_id = p_webhook AND d.position = head.position
$$;

-- Nothing is sent to an address any more that does not answer. What waits for it is kept as long as changes are. The
-- organisation hears of it at its other addresses. The caller has the webhook's lock.
CREATE FUNCTION give_webhook_up(p_webhook webhook, p_reason text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE webhook SET disabled_at = clock_timestamp(), disabled_by = 'System' WHERE webhook_id = p_webhook.webhook_id;
    INSERT INTO new_change (organisation_id, type, subject, data)
    VALUES (p_webhook.organisation_id, 'webhook.disabled', 'webhooks/' || p_webhook.webhook_id,
        -- Without the address: it may have a secret in it.
        jsonb_build_object('webhook', p_webhook.webhook_id, 'reason', p_reason));
    INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
    VALUES ('System', p_webhook.organisation_id, 'webhook.disable', 'webhook ' || p_webhook.webhook_id,
        jsonb_build_object('url', p_webhook.url, 'reason', p_reason));
END $$;

-- Settlements say which photos they settle if somebody hears it. The caller holds no lock of the account's queues.
CREATE FUNCTION keep_tells_photos(p_organisation bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_tells boolean;
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    SELECT o.feeds_photos OR EXISTS (
        SELECT FROM webhook w WHERE w.organisation_id = p_organisation AND 'photo.processed' = ANY (w.types))
    INTO v_tells FROM organisation o WHERE o.organisation_id = p_organisation;
    UPDATE account SET tells_photos = v_tells WHERE organisation_id = p_organisation AND tells_photos <> v_tells;
END $$;

-- Whether an organisation's feed says which photos are settled. True if that was not so before.
CREATE FUNCTION feed_photos(p_organisation bigint, p_on boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE organisation SET feeds_photos = p_on WHERE organisation_id = p_organisation AND feeds_photos <> p_on;
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM keep_tells_photos(p_organisation);
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION feed_photos TO photogate_app;

-- A new address. (PG009: an organisation has at most ten.)
CREATE FUNCTION add_webhook(p_organisation bigint, p_url text, p_types change_type[], p_secret bytea, p_actor text)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_webhooks constant integer := 10;
    v_webhook bigint;
BEGIN
    -- One at a time, or two would both be the tenth.
    PERFORM 1 FROM organisation WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND AND p_organisation <> 0 THEN
        RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002';
    END IF;
    IF (SELECT count(*) FROM webhook WHERE organisation_id = p_organisation) >= c_webhooks THEN
        RAISE EXCEPTION 'an organisation has at most % webhooks: remove one first', c_webhooks USING ERRCODE = 'PG009';
    END IF;
    INSERT INTO webhook (organisation_id, url, types, secret, created_by)
    VALUES (p_organisation, p_url, p_types, p_secret, p_actor) RETURNING webhook_id INTO v_webhook;
    PERFORM keep_tells_photos(p_organisation);
    RETURN v_webhook;
END $$;
GRANT EXECUTE ON FUNCTION add_webhook TO photogate_app;

-- Changes what an address hears, where it is, and whether anything is sent to it (NULL: as it is). Enabled again, it is
-- sent all that waits.
CREATE FUNCTION change_webhook(p_webhook bigint, p_url text, p_types change_type[], p_enabled boolean, p_actor text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v webhook;
BEGIN
    SELECT * INTO v FROM webhook WHERE webhook_id = p_webhook FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no webhook %', p_webhook USING ERRCODE = 'PG002'; END IF;
    UPDATE webhook SET url = coalesce(p_url, url), types = coalesce(p_types, types) WHERE webhook_id = p_webhook;
    IF p_enabled IS FALSE AND v.disabled_at IS NULL THEN
        UPDATE webhook SET disabled_at = clock_timestamp(), disabled_by = p_actor WHERE webhook_id = p_webhook;
    ELSIF p_enabled AND v.disabled_at IS NOT NULL OR p_url <> v.url THEN
        UPDATE webhook SET
            disabled_at = CASE WHEN p_enabled THEN NULL ELSE disabled_at END,
            disabled_by = CASE WHEN p_enabled THEN NULL ELSE disabled_by END,
            failing_since = NULL, failures = 0, rests_until = NULL
        WHERE webhook_id = p_webhook;
        UPDATE delivery SET failing_since = NULL, failures = 0, due_at = least(due_at, clock_timestamp())
        WHERE webhook_id = p_webhook AND state = 'waiting' AND due_at IS NOT NULL
            AND (leased_until IS NULL OR leased_until <= clock_timestamp());
    END IF;
    PERFORM keep_webhook(p_webhook);
    PERFORM keep_tells_photos(v.organisation_id);
END $$;
GRANT EXECUTE ON FUNCTION change_webhook TO photogate_app;

-- Signs with another secret from now on, and for p_overlap with the one before, too.
CREATE FUNCTION rotate_webhook_secret(p_webhook bigint, p_secret bytea, p_overlap interval) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE webhook SET old_secret = secret, old_secret_until = clock_timestamp() + p_overlap, secret = p_secret
    WHERE webhook_id = p_webhook;
    IF NOT FOUND THEN RAISE EXCEPTION 'no webhook %', p_webhook USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION rotate_webhook_secret TO photogate_app;

-- Removes an address, and what waits for it.
CREATE FUNCTION remove_webhook(p_webhook bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint;
BEGIN
    DELETE FROM webhook WHERE webhook_id = p_webhook RETURNING organisation_id INTO v_organisation;
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM keep_tells_photos(v_organisation);
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION remove_webhook TO photogate_app;

-- A change that only this address hears, to try it.
CREATE FUNCTION ping_webhook(p_webhook bigint, p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO new_change (organisation_id, type, subject, data)
    SELECT organisation_id, 'webhook.ping', 'webhooks/' || webhook_id,
        jsonb_build_object('webhook', webhook_id, 'actor', p_actor)
    FROM webhook WHERE webhook_id = p_webhook;
    IF NOT FOUND THEN RAISE EXCEPTION 'no webhook %', p_webhook USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION ping_webhook TO photogate_app;

-- Delivers again what was delivered, from p_from to p_upto (NULL: the last one), as far as the address hears it and it
-- is kept; at most 10,000 changes. They go in their order. r_next: where to go on, if there are more.
CREATE FUNCTION replay_deliveries(p_webhook bigint, p_from bigint, p_upto bigint, OUT r_changes bigint,
    OUT r_next bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c_changes constant integer := 10000;
    v webhook; v_last bigint;
BEGIN
    SELECT * INTO v FROM webhook WHERE webhook_id = p_webhook FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no webhook %', p_webhook USING ERRCODE = 'PG002'; END IF;
    SELECT max(position) INTO v_last FROM (
        SELECT position FROM change
        WHERE organisation_id = v.organisation_id AND position BETWEEN p_from AND coalesce(p_upto, 9223372036854775807)
        ORDER BY organisation_id, position LIMIT c_changes) s;
    -- Also what came before it existed, or before it heard this type.
    INSERT INTO delivery (webhook_id, position, organisation_id, type, subject)
    SELECT p_webhook, position, organisation_id, type, subject FROM change
    WHERE organisation_id = v.organisation_id AND position BETWEEN p_from AND v_last AND type = ANY (v.types)
    ON CONFLICT (webhook_id, position) DO UPDATE SET state = 'waiting', delivered_at = NULL, failures = 0
    WHERE delivery.state = 'delivered';
    GET DIAGNOSTICS r_changes = ROW_COUNT;
    SELECT min(position) INTO r_next FROM change
    WHERE organisation_id = v.organisation_id AND position > v_last AND position <= coalesce(p_upto, position);
    PERFORM let_all_heads_go(p_webhook);
    PERFORM keep_webhook(p_webhook);
END $$;
GRANT EXECUTE ON FUNCTION replay_deliveries TO photogate_app;

-- What is not kept any more is not delivered any more. Nobody may call it but forget_changes.
CREATE FUNCTION forget_deliveries(p_organisation bigint, p_upto bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_webhook bigint;
BEGIN
    FOR v_webhook IN
        SELECT webhook_id FROM webhook WHERE organisation_id = p_organisation ORDER BY webhook_id FOR NO KEY UPDATE
    LOOP
        DELETE FROM delivery WHERE webhook_id = v_webhook AND position <= p_upto;
        PERFORM let_all_heads_go(v_webhook);
        PERFORM keep_webhook(v_webhook);
    END LOOP;
END $$;
