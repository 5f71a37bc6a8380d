-- What `photogate migrate` did last, in the transaction that replaced the functions. Workers and the service compare it
-- with their own when they start: they need not be of the version that migrated, but of one that it serves
-- (docs/decisions/0083). Every version reads `version`, `serves` and `hash`: these columns stay as they are.

CREATE TABLE functions_applied (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- The program that migrated, and the oldest program whose calls its schema still answers.
    version    text NOT NULL,
    serves     text NOT NULL,
    -- The SHA-256 of the numbered migrations and of all files of functions/.
    hash       text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    -- A hash for each function, by its name and parameters: `photogate migrate --check` says with it what will change.
    texts      jsonb NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT ON functions_applied TO photogate_worker, photogate_app;
