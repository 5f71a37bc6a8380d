-- Changes: what photogate says to the outside. Each is written in the transaction of its cause, and numbered later.
--
-- Changes that are written at the same time become visible in any order. So nobody reads them before they have a
-- number: whoever numbers sees what is committed, and goes on behind what was numbered before. Two changes of one
-- subject whose causes follow each other (under the lock of the account or the queue) have numbers in that order.
-- Lock order: the organisation's row of change_end, then its webhooks, then its mailboxes. Nobody who writes a change
-- takes these.

-- An entry of the timeline that concerns others, too. Decisions are for people; they stand in the timeline.
CREATE OR REPLACE FUNCTION tell_timeline() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_type change_type;
BEGIN
    v_type := CASE NEW.kind WHEN 'queued' THEN 'run.queued' WHEN 'started' THEN 'run.started'
        WHEN 'finished' THEN 'run.finished' WHEN 'cancelled' THEN 'run.cancelled' WHEN 'undone' THEN 'run.undone'
        WHEN 'paused' THEN 'event.paused' WHEN 'resumed' THEN 'event.resumed' WHEN 'held' THEN 'event.held'
        WHEN 'lifted' THEN 'event.lifted' WHEN 'deleted' THEN 'event.deleted' END::change_type;
    INSERT INTO new_change (organisation_id, type, subject, data)
    VALUES (NEW.organisation_id, v_type,
        CASE WHEN v_type::text LIKE 'run.%' THEN 'runs/' || NEW.reference ELSE 'events/' || NEW.event_id END,
        jsonb_strip_nulls(jsonb_build_object(
            'event', NEW.event_id, 'operation', CASE WHEN NEW.kind <> 'deleted' THEN NEW.operation END,
            'actor', NEW.actor, 'cause', NEW.cause,
            'photos', NEW.photos,
            'run', CASE WHEN v_type::text LIKE 'run.%' THEN NEW.reference END,
            'hold', CASE WHEN NEW.kind IN ('held', 'lifted') OR NEW.cause IN ('lift', 'expiry')
                         THEN NEW.reference END,
            'transaction', CASE WHEN NEW.cause IN ('spent', 'adjustment', 'top_up', 'refund') THEN NEW.reference END)));
    RETURN NULL;
END $$;

-- A run is over, or photos were taken out. If nothing of the queue waits or is in flight any more, that is finished,
-- too. Who ends several runs says it once. Nobody may call it but the gate's own functions.
CREATE FUNCTION tell_finished(p_queue bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    INSERT INTO new_change (organisation_id, type, subject, data)
    SELECT q.organisation_id, 'event.finished', 'events/' || q.event_id,
        jsonb_build_object('event', q.event_id, 'operation', q.operation, 'photos', h.claimed)
    FROM queue q JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
    JOIN queue_settled s USING (queue_id)
    WHERE q.queue_id = p_queue AND t.tail - h.head - h.not_waiting = 0 AND h.claimed > 0
        AND h.claimed = s.committed + s.refunded
    ON CONFLICT (subject, (data ->> 'operation'), (data ->> 'photos')) WHERE type = 'event.finished' DO NOTHING
$$;

-- Credits came in, or staff have taken some out.
CREATE OR REPLACE FUNCTION tell_top_up() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO new_change (organisation_id, type, subject, data)
    VALUES (NEW.organisation_id, 'credits.added', 'organisations/' || NEW.organisation_id, jsonb_build_object(
        'transaction', NEW.transaction_id, 'kind', NEW.kind, 'credits', NEW.amount, 'actor', NEW.actor));
    RETURN NULL;
END $$;

-- A purchase waits for approval or payment, or that was decided: an approval may leave it unpaid, and then it is told
-- again when it was paid. The staff hear of those that wait for their approval.
CREATE OR REPLACE FUNCTION tell_purchase_request() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO new_change (organisation_id, type, subject, data)
    SELECT o.organisation_id,
        CASE WHEN TG_OP = 'INSERT' THEN 'purchase.asked' ELSE 'purchase.decided' END::change_type,
        'purchases/' || NEW.request_id, jsonb_strip_nulls(jsonb_build_object(
            'organisation', NEW.organisation_id, 'request', NEW.request_id, 'state', NEW.state,
            'credits', NEW.credits, 'actor', NEW.actor, 'decided_by', NEW.decided_by,
            'transaction', NEW.transaction_id))
    FROM (VALUES (NEW.organisation_id), (0)) o (organisation_id)
    WHERE o.organisation_id > 0 OR NEW.state = 'pending' OR TG_OP = 'UPDATE' AND OLD.state = 'pending';
    RETURN NULL;
END $$;

-- A payment came that cannot become credits. The staff decide what becomes of it.
CREATE OR REPLACE FUNCTION tell_payment() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO new_change (organisation_id, type, subject, data)
    VALUES (0, 'payment.kept', 'payments/' || NEW.payment_id, jsonb_strip_nulls(jsonb_build_object(
        'payment', NEW.payment_id, 'organisation', NEW.organisation_id, 'request', NEW.request_id,
        'reason', NEW.kept, 'amount', NEW.amount, 'currency', NEW.currency)));
    RETURN NULL;
END $$;

-- An automatic top-up has stopped. The organisation and the staff hear it.
CREATE OR REPLACE FUNCTION tell_auto_top_up() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO new_change (organisation_id, type, subject, data)
    SELECT o.organisation_id, 'auto_top_up.stopped', 'organisations/' || NEW.organisation_id,
        jsonb_build_object('organisation', NEW.organisation_id, 'reason', NEW.stopped)
    FROM (VALUES (NEW.organisation_id), (0)) o (organisation_id);
    RETURN NULL;
END $$;

-- Photos of runs were settled: one change for each run. Only of organisations that want to hear it. The caller has
-- their accounts, and calls it before it notes that a run is over. Nobody may call it but the gate's own functions.
CREATE FUNCTION tell_photos(p_flights in_flight[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO new_change (organisation_id, type, subject, data, jobs)
    SELECT f.organisation_id, 'photo.processed', 'runs/' || f.run_id, '{}', array_agg(f.job_id ORDER BY f.job_id)
    FROM unnest(p_flights) f JOIN account a USING (organisation_id) WHERE a.tells_photos
    GROUP BY f.organisation_id, f.run_id
$$;

-- Organisations that have changes without a number, at most 100, after p_after and then from the start.
CREATE FUNCTION organisations_with_changes(p_after bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    WITH RECURSIVE o (n, organisation_id) AS (
        SELECT 1, (SELECT organisation_id FROM new_change WHERE organisation_id > p_after
                   ORDER BY organisation_id, change_id LIMIT 1)
        UNION ALL
        SELECT n + 1, (SELECT c.organisation_id FROM new_change c WHERE c.organisation_id > o.organisation_id
                       ORDER BY c.organisation_id, c.change_id LIMIT 1)
        FROM o WHERE o.organisation_id IS NOT NULL AND n < 100)
    SELECT organisation_id FROM o WHERE organisation_id IS NOT NULL
$$;
GRANT EXECUTE ON FUNCTION organisations_with_changes TO photogate_worker;

-- Numbers an organisation's new changes, at most 5000, addresses them to its webhooks, and tells its mailboxes. Anybody
-- may call it at any time. If somebody else does it already, it does nothing. Returns how many got a number.
CREATE FUNCTION number_changes(p_organisation bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c_photos constant integer := 250;                      -- in a change
    v_end bigint; v_n integer;
BEGIN
    IF NOT EXISTS (SELECT FROM new_change WHERE organisation_id = p_organisation) THEN RETURN 0; END IF;
    INSERT INTO change_end (organisation_id) VALUES (p_organisation) ON CONFLICT DO NOTHING;
    SELECT position INTO v_end FROM change_end WHERE organisation_id = p_organisation FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN 0; END IF;
    -- It waits for no webhook: somebody comes again in a moment. For a mailbox it waits only if a change for it was
    -- committed since have_mailboxes has looked; whoever has a mailbox waits for nobody who numbers.
    IF (SELECT count(*) FROM webhook WHERE organisation_id = p_organisation) > (SELECT count(*) FROM (
        SELECT FROM webhook WHERE organisation_id = p_organisation ORDER BY webhook_id FOR NO KEY UPDATE SKIP LOCKED) w)
    THEN
        RETURN 0;
    END IF;
    IF NOT have_mailboxes(p_organisation) THEN RETURN 0; END IF;
    -- Later statements than the locks. Photos of a run that were settled soon after each other are one change, unless
    -- something else was said of the run in between.
    WITH new AS MATERIALIZED (
        DELETE FROM new_change WHERE organisation_id = p_organisation AND change_id <= (
            SELECT max(change_id) FROM (
                SELECT change_id FROM new_change WHERE organisation_id = p_organisation
                ORDER BY organisation_id, change_id LIMIT 5000) s)
        RETURNING *),
    parts AS (
        SELECT *, count(*) FILTER (WHERE jobs IS NULL) OVER (PARTITION BY subject ORDER BY change_id) AS part FROM new),
    photos AS (
        SELECT p.change_id, p.subject, p.part, p.at, j.job, row_number() OVER (
            PARTITION BY p.subject, p.part ORDER BY p.change_id, j.n) - 1 AS n
        FROM parts p CROSS JOIN LATERAL unnest(p.jobs) WITH ORDINALITY j (job, n)),
    told AS (
        SELECT change_id, 0 AS lot, type, subject, at, data, jobs FROM new WHERE jobs IS NULL
        UNION ALL
        SELECT max(change_id), n / c_photos, 'photo.processed', subject, max(at), '{}', array_agg(job ORDER BY n)
        FROM photos GROUP BY subject, part, n / c_photos)
    INSERT INTO change (organisation_id, position, type, subject, at, data, jobs)
    SELECT p_organisation, v_end + row_number() OVER (ORDER BY change_id, lot), type, subject, at, data, jobs FROM told;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    UPDATE change_end e SET position = v_end + v_n, oldest_at = coalesce(e.oldest_at, c.at)
    FROM change c
    WHERE e.organisation_id = p_organisation AND c.organisation_id = p_organisation AND c.position = v_end + 1;
    PERFORM address_changes(p_organisation, v_end);
    PERFORM tell_mailboxes(p_organisation, v_end);
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION number_changes TO photogate_worker;

-- What a change says. What came of its photos is read now: outcomes do not change. Keys of a deleted event are not said
-- any more.
CREATE FUNCTION said(p_change change) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT CASE WHEN p_change.jobs IS NULL THEN p_change.data ELSE (
        SELECT jsonb_build_object('event', min(q.event_id), 'operation', min(q.operation), 'run', min(o.run_id),
            'photos', jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
                'photo', o.photo_id, 'key', CASE WHEN e.deleted_at IS NULL THEN p.key END, 'state', o.state,
                'reason', o.reason)) ORDER BY j.n))
        FROM unnest(p_change.jobs) WITH ORDINALITY j (job, n) JOIN outcome o ON o.job_id = j.job
        JOIN queue q USING (queue_id) JOIN event e USING (event_id) LEFT JOIN photo p ON p.photo_id = o.photo_id) END
$$;
GRANT EXECUTE ON FUNCTION said TO photogate_app;

-- Deletes old changes of the organisation that has the oldest one, at most 1000, and what was to be delivered of them.
-- Returns how many.
CREATE FUNCTION forget_changes(p_keep interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_organisation bigint; v_upto bigint; v_n integer; v_before timestamptz := clock() - p_keep;
BEGIN
    IF NOT EXISTS (SELECT FROM change_end WHERE oldest_at < v_before) THEN RETURN 0; END IF;
    -- A clock that has jumped ahead deletes nothing.
    PERFORM check_clock(clock(), NULL);
    SELECT organisation_id INTO v_organisation FROM change_end WHERE oldest_at < v_before
    ORDER BY oldest_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN RETURN 0; END IF;
    -- From the start, up to the first that is kept.
    SELECT max(position) FILTER (WHERE is_old) INTO v_upto FROM (
        SELECT position, bool_and(at < v_before) OVER (ORDER BY position) AS is_old
        FROM (SELECT * FROM change WHERE organisation_id = v_organisation
              ORDER BY organisation_id, position LIMIT 1000) oldest) s;
    DELETE FROM change WHERE organisation_id = v_organisation AND position <= v_upto;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    UPDATE change_end SET
        forgotten = coalesce(v_upto, forgotten),
        oldest_at = (SELECT at FROM change WHERE organisation_id = v_organisation
                     ORDER BY organisation_id, position LIMIT 1)
    WHERE organisation_id = v_organisation;
    IF v_upto IS NOT NULL THEN PERFORM forget_deliveries(v_organisation, v_upto); END IF;
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION forget_changes TO photogate_worker;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'timeline'::regclass AND tgname = 'entry_is_told') THEN
        RETURN;
    END IF;
    CREATE TRIGGER entry_is_told AFTER INSERT ON timeline
        FOR EACH ROW WHEN (NEW.kind IN ('queued', 'started', 'finished', 'cancelled', 'undone', 'paused', 'resumed',
            'held', 'lifted')
            -- The timeline has a row for each queue.
            OR NEW.kind = 'deleted' AND NEW.operation = 'photo_processing')
        EXECUTE FUNCTION tell_timeline();
    CREATE TRIGGER top_up_is_told AFTER INSERT ON top_up FOR EACH ROW EXECUTE FUNCTION tell_top_up();
    CREATE TRIGGER request_is_told AFTER INSERT ON purchase_request
        FOR EACH ROW EXECUTE FUNCTION tell_purchase_request();
    CREATE TRIGGER decision_is_told AFTER UPDATE OF state ON purchase_request
        FOR EACH ROW WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION tell_purchase_request();
    CREATE TRIGGER kept_payment_is_told AFTER INSERT ON payment
        FOR EACH ROW WHEN (NEW.kept IS NOT NULL) EXECUTE FUNCTION tell_payment();
    CREATE TRIGGER stop_is_told AFTER UPDATE OF stopped ON auto_top_up
        FOR EACH ROW WHEN (OLD.stopped IS NULL AND NEW.stopped IS NOT NULL) EXECUTE FUNCTION tell_auto_top_up();
END $$;
