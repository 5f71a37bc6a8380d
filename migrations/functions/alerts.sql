-- Alerts: a rule of an organisation, or of the staff (organisation 0), is raised when something it measures crosses a
-- threshold, and cleared when that is well over. Both are changes, which webhooks and the feed say.
--
-- A low balance is judged in the transaction that moves the credits: the account knows the next balance at which a rule
-- changes, so a movement compares two numbers. The other rules are judged by workers, every few seconds.
-- Between raising and clearing there is a fifth of the threshold, so that a balance that goes up and down around it
-- raises one alert.
-- Lock order: the account (of a low balance, and of whoever changes rules), then the rules.

-- What a rule measures, in the unit of its threshold. NULL: there is nothing to measure.
CREATE FUNCTION alert_measure(p_organisation bigint, p_kind alert_kind) RETURNS numeric
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_now account; v_before link; v_hours numeric;
BEGIN
    SELECT * INTO v_now FROM account WHERE organisation_id = p_organisation;
    CASE p_kind
        WHEN 'low_balance' THEN RETURN v_now.available;
        WHEN 'time_to_zero' THEN
            -- Hours, at the rate of the last hour: what is spent or reserved now, and was not then.
            SELECT * INTO v_before FROM link
            WHERE organisation_id = p_organisation AND at <= clock_timestamp() - interval '1 hour'
            ORDER BY organisation_id DESC, at DESC, last_entry DESC LIMIT 1;
            IF NOT FOUND THEN
                SELECT * INTO v_before FROM link WHERE organisation_id = p_organisation
                ORDER BY organisation_id, at, last_entry LIMIT 1;
            END IF;
            v_hours := least(1, extract(epoch FROM clock_timestamp() - v_before.at) / 3600);
            IF v_now.spent + v_now.reserved <= v_before.spent + v_before.reserved OR v_hours < 1.0 / 60 THEN
                RETURN NULL;
            END IF;
            RETURN round(v_now.available * v_hours
                         / (v_now.spent + v_now.reserved - v_before.spent - v_before.reserved), 2);
        WHEN 'failures' THEN
            -- In a hundred, of the photos of runs that began in the last day, if they are twenty at least.
            RETURN (SELECT round(100.0 * sum(refunded - undecided - duplicates) / sum(committed + refunded), 1)
                    FROM usage WHERE organisation_id = p_organisation
                        -- A day anywhere begins at most 14 hours before it does in UTC, or 12 after it.
                        AND day >= (clock_timestamp() AT TIME ZONE 'UTC' - interval '1 day')::date - 1
                        -- (A row that only refunds is of photos that were claimed the day before.)
                        AND coalesce(first_claimed_at, first_refunded_at) > clock_timestamp() - interval '1 day'
                    HAVING sum(committed + refunded) >= 20);
        WHEN 'floor_short' THEN RETURN floors_short(p_organisation);
        WHEN 'hold_ends' THEN
            -- Minutes until the next hold ends.
            RETURN (SELECT round(extract(epoch FROM min(h.until) - clock_timestamp()) / 60, 1)
                    FROM queue q JOIN hold h USING (queue_id)
                    WHERE q.organisation_id = p_organisation AND h.lifted_at IS NULL AND h.until > clock_timestamp());
        WHEN 'books_drift' THEN
            -- Rows that break an invariant, of the last check of each kind: a short one sees less than a full one.
            RETURN (SELECT sum(r.violations)
                    FROM unnest(enum_range(NULL::reconciliation_kind)) k (kind) CROSS JOIN LATERAL (
                        SELECT violations FROM reconciliation WHERE kind = k.kind AND ended_at IS NOT NULL
                        ORDER BY kind DESC, started_at DESC LIMIT 1) r);
        WHEN 'purchase_waits' THEN
            -- Hours since the oldest purchase was asked for that staff must decide on.
            RETURN (SELECT round(extract(epoch FROM clock_timestamp() - min(asked_at)) / 3600, 1)
                    FROM purchase_request WHERE state = 'pending');
    END CASE;
END $$;

-- Raises and clears an organisation's alerts of these kinds. Returns how many changed.
CREATE FUNCTION judge_alerts(p_organisation bigint, p_kinds alert_kind[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v alert; v_measure numeric; v_is_low boolean; v_edge numeric; v_is_raised boolean; v_changed integer := 0;
BEGIN
    FOR v IN
        SELECT * FROM alert WHERE organisation_id = p_organisation AND kind = ANY (p_kinds)
        ORDER BY alert_id FOR NO KEY UPDATE
    LOOP
        v_measure := alert_measure(p_organisation, v.kind);
        -- Of these, little is bad; of the others, much.
        v_is_low := v.kind IN ('low_balance', 'time_to_zero', 'hold_ends');
        v_edge := CASE WHEN v.raised_at IS NULL THEN v.threshold WHEN v_is_low THEN v.threshold * 1.2
                       ELSE v.threshold / 1.2 END;
        v_is_raised := coalesce(CASE WHEN v_is_low THEN v_measure < v_edge ELSE v_measure > v_edge END, false);
        CONTINUE WHEN v_is_raised = (v.raised_at IS NOT NULL);
        UPDATE alert SET raised_at = CASE WHEN v_is_raised THEN clock_timestamp() END, measured = v_measure
        WHERE alert_id = v.alert_id;
        INSERT INTO new_change (organisation_id, type, subject, data)
        VALUES (p_organisation, CASE WHEN v_is_raised THEN 'alert.raised' ELSE 'alert.cleared' END::change_type,
            'alerts/' || v.alert_id, jsonb_strip_nulls(jsonb_build_object(
                'alert', v.alert_id, 'kind', v.kind, 'threshold', v.threshold, 'measured', v_measure,
                'credits_missing', CASE WHEN v.kind IN ('low_balance', 'time_to_zero')
                                        THEN credits_missing(p_organisation) END)));
        v_changed := v_changed + 1;
    END LOOP;
    RETURN v_changed;
END $$;

-- How many credits more all photos need that wait, held or not.
CREATE FUNCTION credits_missing(p_organisation bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT greatest(0, coalesce(sum(t.tail - h.head - h.not_waiting), 0)
                       - (SELECT available FROM account WHERE organisation_id = p_organisation))::bigint
    FROM queue q JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
    WHERE q.organisation_id = p_organisation AND NOT q.drained
$$;

-- Notes on the account at which balances a rule changes. The caller has the account.
CREATE FUNCTION keep_alarms(p_organisation bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE account SET (alarm_below, calm_from) = (
        SELECT coalesce(max(ceil(threshold)) FILTER (WHERE raised_at IS NULL), 0)::bigint,
               coalesce(min(ceil(threshold * 1.2)) FILTER (WHERE raised_at IS NOT NULL), 9223372036854775807)::bigint
        FROM alert WHERE organisation_id = p_organisation AND kind = 'low_balance')
    WHERE organisation_id = p_organisation
$$;

-- The balance has crossed a threshold. The caller has the account.
CREATE OR REPLACE FUNCTION judge_balance() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM judge_alerts(NEW.organisation_id, '{low_balance}');
    PERFORM keep_alarms(NEW.organisation_id);
    RETURN NULL;
END $$;

-- Judges the rules that no movement judges: those that were not looked at for p_every, of at most 100 organisations.
-- Any worker may call it, at any time. It passes over rules that somebody else has.
CREATE FUNCTION judge_due_alerts(p_every interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v record; v_changed integer := 0;
BEGIN
    FOR v IN
        WITH due AS (
            SELECT alert_id, organisation_id, kind FROM alert
            WHERE kind <> 'low_balance' AND judged_at < clock_timestamp() - p_every
            ORDER BY judged_at LIMIT 100 FOR NO KEY UPDATE SKIP LOCKED),
        judged AS (UPDATE alert a SET judged_at = clock_timestamp() FROM due WHERE a.alert_id = due.alert_id)
        SELECT organisation_id, array_agg(DISTINCT kind) AS kinds FROM due GROUP BY organisation_id ORDER BY 1
    LOOP
        v_changed := v_changed + judge_alerts(v.organisation_id, v.kinds);
    END LOOP;
    RETURN v_changed;
END $$;
GRANT EXECUTE ON FUNCTION judge_due_alerts TO photogate_worker;

-- Adds a rule, or finds the same one. It is judged at once. (PG009: an organisation has at most twenty.)
CREATE FUNCTION add_alert(p_organisation bigint, p_kind alert_kind, p_threshold numeric, p_actor text,
    OUT r_alert bigint, OUT r_is_new boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_alerts constant integer := 20;
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND AND p_organisation <> 0 THEN
        RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002';
    END IF;
    SELECT alert_id INTO r_alert FROM alert
    WHERE organisation_id = p_organisation AND kind = p_kind AND threshold = p_threshold;
    r_is_new := NOT FOUND;
    IF NOT r_is_new THEN RETURN; END IF;
    IF (SELECT count(*) FROM alert WHERE organisation_id = p_organisation) >= c_alerts THEN
        RAISE EXCEPTION 'an organisation has at most % alerts: remove one first', c_alerts USING ERRCODE = 'PG009';
    END IF;
    INSERT INTO alert (organisation_id, kind, threshold, created_by)
    VALUES (p_organisation, p_kind, p_threshold, p_actor)
    -- The staff have no account, and so two of them may come at the same time.
    ON CONFLICT (organisation_id, kind, threshold) DO UPDATE SET kind = excluded.kind
    RETURNING alert_id INTO r_alert;
    PERFORM judge_alerts(p_organisation, ARRAY[p_kind]);
    PERFORM keep_alarms(p_organisation);
END $$;
GRANT EXECUTE ON FUNCTION add_alert TO photogate_app;

-- Removes a rule. False if it is gone already.
CREATE FUNCTION remove_alert(p_alert bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint;
BEGIN
    SELECT organisation_id INTO v_organisation FROM alert WHERE alert_id = p_alert;
    IF NOT FOUND THEN RETURN false; END IF;
    PERFORM 1 FROM account WHERE organisation_id = v_organisation FOR NO KEY UPDATE;
    DELETE FROM alert WHERE alert_id = p_alert;
    PERFORM keep_alarms(v_organisation);
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION remove_alert TO photogate_app;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'account'::regclass AND tgname = 'balance_is_judged') THEN
        RETURN;
    END IF;
    CREATE TRIGGER balance_is_judged AFTER UPDATE OF available ON account
        FOR EACH ROW WHEN (NEW.available < NEW.alarm_below OR NEW.available >= NEW.calm_from)
        EXECUTE FUNCTION judge_balance();
END $$;
