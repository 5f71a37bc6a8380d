-- The trace that an enqueuer's call belonged to goes with its photos, so that their work is seen in it.

ALTER TABLE run ADD trace text CHECK (trace ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');

CREATE FUNCTION trace_runs(p_runs bigint[], p_trace text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE run SET trace = p_trace WHERE run_id = ANY (p_runs)
$$;
GRANT EXECUTE ON FUNCTION trace_runs TO photogate_app;
GRANT SELECT (run_id, trace) ON run TO photogate_worker;
