-- The timeline: what happened to the queues of an event, each as a row, in the transaction that causes it.
--
-- Pauses and resumptions are written by pauses.sql, decisions on how an organisation's photos are processed by the
-- functions that take them (note_decision), all others by the triggers here. These stand on rows that are written
-- rarely: a run, a hold, the first use of a run. A claim or a settlement that begins and ends nothing fires
-- none.
-- (A settlement after which no photo of a run is in flight looks whether the run is over: three lookups.)
-- The triggers take no lock. Their callers have the account (usage), the tail (run) or the queue (queue, hold).
-- Skips, and what is done to a run as a whole, say themselves what they did (skips.sql, runs.sql, undo.sql).

CREATE OR REPLACE FUNCTION timeline_is_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the timeline is append-only' USING ERRCODE = 'PG005';
END $$;

-- What made an organisation's queues go on: the last movement of this kind, or (NULL) what has been due. The caller has
-- the account's lock, so the last movement is the one that it has made. It is looked for from the end.
CREATE FUNCTION cause_of_resuming(p_organisation bigint, p_cause timeline_cause,
    OUT r_cause timeline_cause, OUT r_reference bigint)
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF p_cause IS NULL THEN
        SELECT cause, reference INTO r_cause, r_reference FROM resume_cause WHERE organisation_id = p_organisation;
    ELSIF p_cause = 'budget' THEN
        r_cause := p_cause;
        r_reference := last_budget_change(p_organisation);
    ELSE
        r_cause := p_cause;
        SELECT l.transaction_id INTO r_reference FROM ledger l
        WHERE l.organisation_id = p_organisation AND l.movement::text = p_cause::text ORDER BY l.entry DESC LIMIT 1;
    END IF;
END $$;

-- The number of the last change of a budget. The account's lock keeps others from making one.
CREATE FUNCTION last_budget_change(p_organisation bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT change_id FROM budget_change WHERE organisation_id = p_organisation
    ORDER BY entry DESC, change_id DESC LIMIT 1
$$;

-- What took the last credit that could be spent: a reservation or, by staff, an adjustment; or p_cause, a budget.
CREATE FUNCTION cause_of_pausing(p_organisation bigint, p_cause timeline_cause,
    OUT r_cause timeline_cause, OUT r_reference bigint)
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF p_cause IS NOT NULL THEN
        r_cause := p_cause;
        r_reference := last_budget_change(p_organisation);
        RETURN;
    END IF;
    SELECT CASE WHEN l.movement = 'reserve' THEN 'spent' ELSE 'adjustment' END, l.transaction_id
    INTO r_cause, r_reference FROM ledger l
    WHERE l.organisation_id = p_organisation AND (l.movement = 'reserve' OR l.movement = 'top_up' AND l.amount < 0)
    ORDER BY l.entry DESC LIMIT 1;
END $$;

-- A run: photos were queued.
CREATE OR REPLACE FUNCTION note_run() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO timeline (organisation_id, event_id, operation, kind, actor, reference, photos)
    SELECT q.organisation_id, q.event_id, q.operation, 'queued', NEW.actor, NEW.run_id, NEW.queued
    FROM queue q WHERE q.queue_id = NEW.queue_id;
    RETURN NULL;
END $$;

-- The first claim of a run. (The first one of a later day writes such a row of usage, too.)
CREATE OR REPLACE FUNCTION note_start() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO timeline (organisation_id, event_id, operation, kind, reference)
    SELECT q.organisation_id, q.event_id, q.operation, 'started', NEW.run_id
    FROM queue q WHERE q.queue_id = NEW.queue_id
    ON CONFLICT (reference) WHERE kind = 'started' DO NOTHING;
    RETURN NULL;
END $$;

-- How many photos of a run are skipped.
CREATE FUNCTION skipped_of_run(p_run run) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(least(s.to_position, p_run.first_position + p_run.queued - 1)
                        - greatest(s.from_position, p_run.first_position) + 1), 0)::bigint
    FROM stretches_in(p_run.queue_id, p_run.first_position, p_run.first_position + p_run.queued - 1) s
    WHERE s.kind = 'skipped'
$$;
GRANT EXECUTE ON FUNCTION skipped_of_run TO photogate_app, photogate_organisation;

-- Notes that a run is over, if it is: all its photos are settled, or a person has taken them out.
CREATE FUNCTION note_end(p_run bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_run run; v_settled bigint; v_claimed bigint;
BEGIN
    SELECT sum(committed + refunded), sum(claimed) INTO v_settled, v_claimed FROM usage WHERE run_id = p_run;
    IF v_settled < v_claimed OR coalesce(v_settled, 0) = 0 THEN RETURN; END IF;
    SELECT * INTO v_run FROM run WHERE run_id = p_run;
    -- In most queues nothing is skipped. (skipped_of_run is planned in each call.)
    IF v_settled < v_run.queued AND (
        NOT EXISTS (SELECT FROM stretch WHERE queue_id = v_run.queue_id)
        OR v_run.queued - v_settled > skipped_of_run(v_run)) THEN
        RETURN;
    END IF;
    INSERT INTO timeline (organisation_id, event_id, operation, kind, reference, photos)
    SELECT q.organisation_id, q.event_id, q.operation, 'finished', p_run, v_settled
    FROM queue q WHERE q.queue_id = v_run.queue_id
    ON CONFLICT (reference, photos) WHERE kind = 'finished' DO NOTHING;
    IF FOUND THEN PERFORM tell_finished(v_run.queue_id); END IF;
END $$;

-- The same after a person has taken photos of these runs out of a queue, whose lock the caller has. Under the account's
-- lock no settlement is under way: of two that end a run together, the second one sees the first.
CREATE FUNCTION note_ends(p_queue queue, p_runs bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM account WHERE organisation_id = p_queue.organisation_id FOR NO KEY UPDATE;
    PERFORM note_end(run_id) FROM unnest(p_runs) run_id;
    PERFORM tell_finished(p_queue.queue_id);
END $$;

CREATE OR REPLACE FUNCTION note_end_of_run() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    -- Mostly the run has more photos than it used on this day, it has no other day, and nothing of it is skipped.
    IF NEW.committed + NEW.refunded >= (SELECT queued FROM run WHERE run_id = NEW.run_id)
        OR EXISTS (SELECT FROM stretch WHERE queue_id = NEW.queue_id)
        OR EXISTS (SELECT FROM usage WHERE run_id = NEW.run_id AND day < NEW.day)
    THEN
        PERFORM note_end(NEW.run_id);
    END IF;
    RETURN NULL;
END $$;

-- A queue has nothing left that waits, or no hold keeps it any more and it runs.
CREATE OR REPLACE FUNCTION note_queue() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    IF NEW.drained AND NOT OLD.drained THEN
        INSERT INTO timeline (organisation_id, event_id, operation, kind)
        VALUES (NEW.organisation_id, NEW.event_id, NEW.operation, 'drained');
    END IF;
    IF OLD.held AND NEW.runnable THEN
        INSERT INTO timeline (organisation_id, event_id, operation, kind, cause, reference)
        SELECT NEW.organisation_id, NEW.event_id, NEW.operation, 'resumed',
            CASE WHEN h.lifted_by = 'expired' THEN 'expiry' ELSE 'lift' END::timeline_cause, h.hold_id
        FROM hold h WHERE h.queue_id = NEW.queue_id ORDER BY h.lifted_at DESC NULLS LAST, h.hold_id DESC LIMIT 1;
    END IF;
    RETURN NULL;
END $$;

-- A budget was set, or taken away. It concerns both operations.
CREATE OR REPLACE FUNCTION note_budget() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    INSERT INTO timeline (organisation_id, event_id, kind, actor, reference)
    VALUES (NEW.organisation_id, NEW.event_id, 'budget', NEW.actor, NEW.change_id);
    RETURN NULL;
END $$;

-- Somebody decided how the photos of an event, or (p_event NULL) of all events of an organisation, are processed from
-- now on. Nobody may call it but the functions that take the decision, and only where it changes something.
CREATE FUNCTION note_decision(p_organisation bigint, p_event bigint, p_kind timeline_kind, p_actor text,
    p_decided jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO timeline (organisation_id, event_id, kind, actor, decided)
    VALUES (p_organisation, p_event, p_kind, p_actor, p_decided)
$$;

-- A hold was placed, or lifted. The holds of a deleted event stand for good.
CREATE OR REPLACE FUNCTION note_hold() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_kind timeline_kind; v_actor text; v_cause timeline_cause;
BEGIN
    IF TG_OP = 'INSERT' THEN
        v_kind := CASE WHEN NEW.for_good THEN 'deleted' ELSE 'held' END;
        v_actor := NEW.owner;
    ELSIF NEW.lifted_by = 'expired' THEN
        v_kind := 'lifted';
        v_cause := 'expiry';
    ELSE
        v_kind := 'lifted';
        v_actor := NEW.lifted_by;
    END IF;
    INSERT INTO timeline (organisation_id, event_id, operation, kind, actor, cause, reference)
    SELECT q.organisation_id, q.event_id, q.operation, v_kind, v_actor, v_cause, NEW.hold_id
    FROM queue q WHERE q.queue_id = NEW.queue_id;
    RETURN NULL;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'timeline'::regclass AND tgname = 'timeline_is_append_only') THEN
        RETURN;
    END IF;
    CREATE TRIGGER timeline_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON timeline
        FOR EACH STATEMENT EXECUTE FUNCTION timeline_is_append_only();
    CREATE TRIGGER run_is_noted AFTER INSERT ON run
        FOR EACH ROW EXECUTE FUNCTION note_run();
    CREATE TRIGGER start_is_noted AFTER INSERT ON usage
        FOR EACH ROW WHEN (NEW.claimed > 0) EXECUTE FUNCTION note_start();
    CREATE TRIGGER end_is_noted AFTER UPDATE OF committed, refunded ON usage
        FOR EACH ROW WHEN (NEW.committed + NEW.refunded >= NEW.claimed) EXECUTE FUNCTION note_end_of_run();
    CREATE TRIGGER end_on_another_day_is_noted AFTER INSERT ON usage
        FOR EACH ROW WHEN (NEW.committed + NEW.refunded > 0) EXECUTE FUNCTION note_end_of_run();
    CREATE TRIGGER change_is_noted AFTER UPDATE OF drained, held ON queue
        FOR EACH ROW WHEN (NEW.drained AND NOT OLD.drained OR OLD.held AND NEW.runnable)
        EXECUTE FUNCTION note_queue();
    CREATE TRIGGER budget_is_noted AFTER INSERT ON budget_change
        FOR EACH ROW EXECUTE FUNCTION note_budget();
    CREATE TRIGGER hold_is_noted AFTER INSERT ON hold
        FOR EACH ROW EXECUTE FUNCTION note_hold();
    CREATE TRIGGER lift_is_noted AFTER UPDATE OF lifted_at ON hold
        FOR EACH ROW WHEN (OLD.lifted_at IS NULL AND NEW.lifted_at IS NOT NULL) EXECUTE FUNCTION note_hold();
END $$;
