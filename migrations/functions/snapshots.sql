-- Snapshots: how long somebody has kept old versions of rows from being removed.

-- The age of the oldest snapshot in this database, in seconds; 0 if there is none but ours. PostgreSQL shows the
-- snapshots of other logins only to members of pg_read_all_stats (roles.sql makes the owner one, if it may).
CREATE FUNCTION oldest_snapshot_seconds() RETURNS double precision
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0)::double precision
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
$$;
GRANT EXECUTE ON FUNCTION oldest_snapshot_seconds TO photogate_worker;
