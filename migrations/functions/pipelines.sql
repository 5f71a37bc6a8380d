-- Pipelines: a program that connects to PostgreSQL itself queues photos in a transaction of its own.
--
-- This file is the public interface of the schema. docs/pipelines.md promises what is granted to photogate_pipeline:
-- names, parameters, columns and error codes. What is added has a default or comes last. What would break a program
-- gets a new name, beside the old one. tests/it/pipelines.rs holds the promise.
--
-- The caller is not trusted, and its transaction is not ours: it may stay open, run under other settings, and call
-- again.
-- - It is known by session_user, which SET ROLE does not change. The table pipeline ties it to organisations.
-- - Nothing that others wait for is locked: no account, and not the audit log's chain of the organisation. It locks
--   what enqueue locks (a tail, and a queue that is drained, or gets urgent photos), and the chain of the pipeline
--   itself.
-- - The chain comes first. So the transactions of one pipeline take turns, and do not wait for each other in a circle.
--   With a call of the API that brings the same new photo, a transaction that calls twice may: PostgreSQL ends one.
-- Lock order: the pipeline's chain, then as in enqueue.

-- What is wrong with the key of a photo, or NULL. src/catalog/key.rs has the same rules: a test compares.
CREATE FUNCTION key_trouble(p_key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = photogate, pg_temp AS $$
BEGIN
    RETURN CASE
        WHEN p_key IS NULL OR p_key = '' THEN 'the key is empty'
        WHEN octet_length(p_key) > 1024 THEN 'the key has more than 1024 bytes'
        WHEN starts_with(p_key, '.photogate/')
            THEN 'the key begins with ".photogate/", which is reserved for photogate''s own files'
        -- An empty part, "." and "..", backslashes and control characters.
        WHEN p_key ~ '(^|/)\.{0,2}(/|$)' OR p_key ~ '[\\\u0001-\u001f\u007f-\u009f]'
            THEN format('the key %s is not a plain path such as "2026/marathon/IMG_0001.jpg"', to_json(p_key))
        WHEN octet_length(p_key) > 255
            AND EXISTS (SELECT FROM string_to_table(p_key, '/') name WHERE octet_length(name) > 255)
            THEN 'the key has a name with more than 255 bytes'
    END;
END $$;

-- An id for a photo: it grows with time (UUID version 7; the 12 bits after the milliseconds are their fraction).
CREATE FUNCTION new_photo_id() RETURNS uuid
LANGUAGE sql VOLATILE SET search_path = photogate, pg_temp AS $$
    SELECT encode(set_byte(set_byte(overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(ms) FROM 3) FROM 1),
                                    6, 112 | (fraction >> 8)), 7, fraction & 255), 'hex')::uuid
    FROM (SELECT micros / 1000 AS ms, (micros % 1000 * 4096 / 1000)::integer AS fraction
          FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros) n) t
$$;

-- Refuses what was just queued, if more photos of the organisation wait now without credits than may. Calls at the same
-- time do not see each other, so each may pass the limit once.
CREATE FUNCTION check_unpaid_photos(p_organisation bigint, p_most bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_unpaid bigint := waiting_photos(p_organisation)
    - (SELECT available FROM account WHERE organisation_id = p_organisation);
BEGIN
    IF v_unpaid > p_most THEN
        RAISE EXCEPTION '% photos of this organisation would wait without credits, and % may: add credits, or take '
            'photos out of the queues, and queue these again', v_unpaid, p_most USING ERRCODE = 'PG009';
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION check_unpaid_photos TO photogate_app;

-- The pipeline of the login that calls, for an event. An event of nobody, or of an organisation that is not the
-- login's, is not there.
CREATE FUNCTION calling_pipeline(p_event bigint) RETURNS pipeline
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v pipeline;
BEGIN
    SELECT p.* INTO v FROM event e JOIN pipeline p USING (organisation_id)
    WHERE e.event_id = p_event AND e.deleted_at IS NULL AND p.login = session_user AND p.revoked_at IS NULL;
    IF FOUND THEN RETURN v; END IF;
    IF NOT EXISTS (SELECT FROM pipeline WHERE login = session_user AND revoked_at IS NULL) THEN
        RAISE EXCEPTION 'the login "%" may queue photos of no organisation: ask support to run '
            'photogate pipelines allow', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002';
END $$;

-- Queues photos of an event for an operation, in the transaction of the caller: workers see them when it commits. With
-- not_before it only keeps them (schedules.sql), and schedule is the number; the counts are what would be queued now.
-- With priority 'urgent' they are claimed before the others of the event.
-- The same call again finds the schedule that waits.
-- actor: for whom the pipeline does it; its own name stands beside it in any case.
-- OR REPLACE: a view or a function of another schema may stand on it (../src/functions.rs).
CREATE OR REPLACE FUNCTION enqueue_photos(event bigint, operation text, keys text[], actor text DEFAULT NULL,
    not_before timestamptz DEFAULT NULL, priority text DEFAULT 'normal',
    OUT run bigint, OUT queued integer, OUT repeated integer, OUT already_queued integer,
    OUT already_processed integer, OUT failed_before integer, OUT skipped_before integer,
    OUT available bigint, OUT shortfall bigint, OUT schedule bigint, OUT undecided_before integer, OUT runs bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp
-- The patterns of this file mean something else without it, and the caller has set what it liked.
SET standard_conforming_strings = on AS $$
#variable_conflict use_column
DECLARE
    v_pipeline pipeline; v_actor text; v_under text; v_outside bigint; v_bad record; v_run record;
    v_action text := 'photos.enqueue';
    v_detail jsonb; v_is_new boolean := true;
BEGIN
    -- What a lock protects is read in a later statement. Only here does a later statement see more.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'photos are queued under READ COMMITTED, and this transaction is %',
            upper(current_setting('transaction_isolation')) USING ERRCODE = 'PG006';
    END IF;
    v_pipeline := calling_pipeline(enqueue_photos.event);
    IF enqueue_photos.operation IS NULL OR enqueue_photos.operation <> ALL (enum_range(NULL::operation)::text[]) THEN
        RAISE EXCEPTION 'there is no operation "%": use %', enqueue_photos.operation,
            array_to_string(enum_range(NULL::operation), ' or ') USING ERRCODE = 'PG006';
    END IF;
    IF priority IS NULL OR priority NOT IN ('normal', 'urgent') THEN
        RAISE EXCEPTION 'there is no priority "%": use normal or urgent', priority USING ERRCODE = 'PG006';
    END IF;
    IF coalesce(cardinality(keys), 0) NOT BETWEEN 1 AND 10000 OR array_ndims(keys) > 1 THEN
        RAISE EXCEPTION '% keys: send 1 to 10000 in each call, in a list', coalesce(cardinality(keys), 0)
            USING ERRCODE = 'PG006';
    END IF;
    IF length(enqueue_photos.actor) NOT BETWEEN 1 AND 100 OR enqueue_photos.actor ~ '[\u0001-\u001f\u007f-\u009f]' THEN
        RAISE EXCEPTION 'an actor has 1 to 100 characters' USING ERRCODE = 'PG006';
    END IF;
    v_actor := concat_ws(': ', 'login ' || v_pipeline.login, enqueue_photos.actor);

    SELECT photos_under INTO v_under FROM organisation WHERE organisation_id = v_pipeline.organisation_id;
    IF shares_store(v_pipeline.organisation_id) THEN
        RAISE EXCEPTION 'several organisations may use the whole store: ask support to give each a part of it '
            '(photogate organisations photos-under)' USING ERRCODE = 'PG006';
    END IF;
    v_outside := (keys_outside(v_pipeline.organisation_id, keys))[1];
    SELECT u.n, key_trouble(u.key) AS trouble INTO v_bad
    FROM unnest(keys) WITH ORDINALITY u (key, n)
    WHERE key_trouble(u.key) IS NOT NULL OR u.n = v_outside
    ORDER BY u.n LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'photo % of the call: %', v_bad.n, coalesce(v_bad.trouble, CASE
            WHEN v_under = '' THEN 'this key is in the part of the store of another organisation'
            ELSE format('the keys of the organisation''s photos must start with "%s"', v_under) END)
            USING ERRCODE = 'PG006';
    END IF;

    PERFORM lock_audit_chain(-v_pipeline.pipeline_id);
    IF not_before IS NOT NULL THEN
        SELECT s.r_schedule, s.r_is_new INTO schedule, v_is_new
        FROM schedule_photos(enqueue_photos.event, enqueue_photos.operation::operations, not_before, keys, NULL,
            v_actor, v_pipeline.pipeline_id, priority = 'urgent') s;
        SELECT NULL::bigint AS r_run, p.* INTO v_run
        FROM plan_enqueue(enqueue_photos.event, enqueue_photos.operation::operation, keys) p;
        v_action := 'schedule.create';
        v_detail := jsonb_build_object('operation', enqueue_photos.operation, 'schedule', schedule,
            'photos', cardinality(keys), 'not_before', not_before);
    ELSE
        SELECT * INTO v_run FROM enqueue(enqueue_photos.event, enqueue_photos.operation::operation, keys,
            (SELECT array_agg(new_photo_id()) FROM generate_series(1, cardinality(keys))), v_actor,
            p_urgent => priority = 'urgent');
        IF v_run.r_queued > 0 THEN
            PERFORM check_unpaid_photos(v_pipeline.organisation_id, v_pipeline.unpaid_photos_max);
        END IF;
        v_detail := jsonb_build_object('operation', enqueue_photos.operation,
            'runs', array_remove(ARRAY[v_run.r_run], NULL), 'queued', v_run.r_queued);
    END IF;
    IF v_is_new THEN
        INSERT INTO audit_log (actor, organisation_id, pipeline_id, action, subject, detail)
        VALUES (v_actor, v_pipeline.organisation_id, v_pipeline.pipeline_id, v_action,
            format('event %s', enqueue_photos.event), v_detail);
    END IF;
    run := v_run.r_run;
    runs := (array_remove(ARRAY[v_run.r_run], NULL) || v_run.r_runs)[:100];
    queued := v_run.r_queued;
    repeated := v_run.r_repeated;
    already_queued := v_run.r_waiting;
    already_processed := v_run.r_processed;
    failed_before := v_run.r_failed;
    skipped_before := v_run.r_skipped;
    undecided_before := v_run.r_undecided;
    available := v_run.r_available;
    shortfall := greatest(0, v_run.r_ahead - v_run.r_available);
END $$;
GRANT EXECUTE ON FUNCTION enqueue_photos TO photogate_pipeline;
