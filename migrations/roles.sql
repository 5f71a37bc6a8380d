-- Who may do what. `photogate migrate` runs this before the migrations, as whoever connects; running it again changes nothing.
-- Two roles without a login: the owner of every table and function, and the application, which may read, call the
-- functions and write findings, and nothing else. A login of your own becomes one of them: GRANT photogate_app TO my_login.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_owner') THEN
        CREATE ROLE photogate_owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'photogate_app') THEN
        CREATE ROLE photogate_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- roles belong to the cluster: another database's migration was a moment faster
END $$;

DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'photogate_owner', 'MEMBER') THEN
        EXECUTE format('GRANT photogate_owner TO %I', current_user);
    END IF;
    IF NOT pg_has_role(current_user, 'photogate_app', 'MEMBER') THEN
        EXECUTE format('GRANT photogate_app TO %I', current_user);
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS photogate AUTHORIZATION photogate_owner;
REVOKE ALL ON SCHEMA photogate FROM PUBLIC;
GRANT USAGE ON SCHEMA photogate TO photogate_app;

-- A function is for nobody until it is granted.
ALTER DEFAULT PRIVILEGES FOR ROLE photogate_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
