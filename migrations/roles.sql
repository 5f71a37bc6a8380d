-- Who may do what. `photogate migrate` runs this before the migrations, as whoever connects. Running it again changes
-- nothing.
--
-- These roles have no login:
--   photogate_owner         owns every table and function
--   photogate_worker        may claim, settle and write findings
--   photogate_app           may do what a worker may, read everything, and call the functions that enqueue photos and
--                           move credits
--   photogate_organisation  looks at one organisation; for it, no row of another exists (0009_row_security.sql)
--   photogate_pipeline      a program of an organisation: may call enqueue_photos, and nothing else. It is for logins
--                           that are not ours: photogate itself never acts as it (functions/pipelines.sql)
-- Only the owner's functions write money. A login of your own becomes one of these: GRANT photogate_worker TO my_login.

-- One migration at a time. `photogate migrate` has this lock already.
SELECT pg_advisory_xact_lock(7236410915);

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_owner') THEN
        CREATE ROLE photogate_owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_worker') THEN
        CREATE ROLE photogate_worker NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_app') THEN
        CREATE ROLE photogate_app NOLOGIN;
        GRANT photogate_worker TO photogate_app;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_organisation') THEN
        CREATE ROLE photogate_organisation NOLOGIN;
        GRANT photogate_organisation TO photogate_app;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_pipeline') THEN
        CREATE ROLE photogate_pipeline NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- roles belong to the cluster: another database's migration was a moment faster
END $$;

-- The login that connects must be able to SET ROLE to each of these roles. From PostgreSQL 16 on, membership alone does
-- not allow that.
DO $$
DECLARE
    v_right text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    v_role  text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['photogate_owner', 'photogate_worker', 'photogate_app', 'photogate_organisation'] LOOP
        IF NOT pg_has_role(current_user, v_role, v_right) THEN
            EXECUTE format('GRANT %I TO %I', v_role, current_user);
        END IF;
    END LOOP;
END $$;

-- The owner's functions tell how old the oldest snapshot is, whoever has it. Without this right they see only our own.
DO $$
BEGIN
    IF NOT pg_has_role('photogate_owner', 'pg_read_all_stats', 'USAGE') THEN
        GRANT pg_read_all_stats TO photogate_owner;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'photogate_owner cannot see the snapshots of other logins: a superuser must '
        'GRANT pg_read_all_stats TO photogate_owner';
END $$;

-- Without the condition, it would need the right to create schemas also where there is nothing to create.
DO $$
BEGIN
    IF to_regnamespace('photogate') IS NULL THEN
        CREATE SCHEMA photogate AUTHORIZATION photogate_owner;
    END IF;
END $$;
REVOKE ALL ON SCHEMA photogate FROM PUBLIC;
GRANT USAGE ON SCHEMA photogate TO photogate_worker, photogate_app, photogate_organisation, photogate_pipeline;

-- A function is for nobody until it is granted.
ALTER DEFAULT PRIVILEGES FOR ROLE photogate_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
