-- Drops the functions of the schema, so that functions/*.sql can create them anew, with any signature. Both run in one
-- transaction: nobody ever sees a schema without functions.
--
-- A function that something else stands on (a trigger, a policy, a default, a constraint, an index, a view) is kept,
-- and its file uses CREATE OR REPLACE. So a new signature of a trigger function needs a numbered migration. So is one
-- that a function of another schema stands on: the functions of pipelines.sql are for others.
-- Functions that an extension brought are left alone.
--
-- The name of this file has a hyphen because sqlx reads every name with an underscore in this directory as a migration.

DO $$
DECLARE v_functions text;
BEGIN
    -- One at a time: two at once would drop the same functions. It is the lock that roles.sql takes.
    PERFORM pg_advisory_xact_lock(7236410915);
    SELECT string_agg(p.oid::regprocedure::text, ', ') INTO v_functions
    FROM pg_proc p
    WHERE p.pronamespace = 'photogate'::regnamespace AND p.prokind = 'f'
      -- Functions may depend on each other: they are dropped together, in one statement.
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = p.oid
                      AND (d.classid <> 'pg_proc'::regclass
                           OR (SELECT u.pronamespace FROM pg_proc u WHERE u.oid = d.objid) <> p.pronamespace))
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.deptype = 'e');
    IF v_functions IS NOT NULL THEN EXECUTE 'DROP FUNCTION ' || v_functions; END IF;
END $$;
