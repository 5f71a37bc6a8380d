-- Which version of functions/ the database has: the SHA-256 of all files. `photogate migrate` writes it in the
-- transaction that replaces the functions. Workers and the service compare it with their own when they start.

CREATE TABLE functions_applied (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    hash       text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT now()
);

GRANT SELECT ON functions_applied TO photogate_worker, photogate_app;
