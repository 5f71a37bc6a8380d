-- Files that are uploaded through the service. The service writes them into the store, and notes them here.

-- Refuses a file of so many bytes, if the organisation has uploaded enough in the last 24 hours. Uploads at the same
-- time do not see each other, so a few more may pass.
CREATE FUNCTION check_uploads(p_organisation bigint, p_bytes bigint, p_files_max bigint, p_bytes_max bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
DECLARE v_since timestamptz := clock() - interval '1 day'; v_files bigint; v_bytes bigint;
BEGIN
    SELECT count(*), coalesce(sum(bytes), 0) INTO v_files, v_bytes FROM upload
    WHERE organisation_id = p_organisation AND at > v_since;
    IF v_files >= p_files_max THEN
        RAISE EXCEPTION 'this organisation has uploaded % files in the last 24 hours, and may upload % in that time: '
            'upload the others tomorrow, or ask support', v_files, p_files_max USING ERRCODE = 'PG009';
    END IF;
    IF v_bytes + p_bytes > p_bytes_max THEN
        RAISE EXCEPTION 'this organisation has uploaded % MB in the last 24 hours, and may upload % MB in that time: '
            'upload the others tomorrow, or ask support', v_bytes / 1000000, p_bytes_max / 1000000
            USING ERRCODE = 'PG009';
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION check_uploads TO photogate_app;

-- Notes that the store has a file, and from whom. The same file once more changes nothing. True: the audit log gets a
-- line, because this actor has uploaded nothing to the event for an hour.
CREATE FUNCTION note_upload(p_event bigint, p_key text, p_bytes bigint, p_sha256 bytea, p_actor text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint; v_at timestamptz := clock(); v_before timestamptz;
BEGIN
    SELECT organisation_id INTO v_organisation FROM event
    WHERE event_id = p_event AND deleted_at IS NULL FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(p_event);
    -- Several come at the same time, and only the first of them is the first.
    PERFORM pg_advisory_xact_lock(hashtextextended('photogate.upload', p_event));
    SELECT at INTO v_before FROM upload WHERE event_id = p_event AND actor = p_actor ORDER BY at DESC LIMIT 1;
    INSERT INTO upload (event_id, key, organisation_id, bytes, sha256, actor, at)
    VALUES (p_event, p_key, v_organisation, p_bytes, p_sha256, p_actor, v_at)
    ON CONFLICT (event_id, key) DO UPDATE
        SET bytes = excluded.bytes, sha256 = excluded.sha256, actor = excluded.actor, at = excluded.at
        WHERE upload.sha256 <> excluded.sha256;
    RETURN FOUND AND (v_before IS NULL OR v_before <= v_at - interval '1 hour');
END $$;
GRANT EXECUTE ON FUNCTION note_upload TO photogate_app;
