//! The clock of the past: while the history is made, PostgreSQL takes an instant that we say for
//! now.
//!
//! The gate is not changed for this. Its functions and the defaults of its columns ask
//! `clock_timestamp()` and `now()`. In the private database of the demo they ask a function of this
//! file instead, and get their own text back at the end. So the history is booked by the same
//! statements as always: instants, months and seals of the ledger are true to each other.

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection, PgPool};

use crate::database;

/// Every function and every default that asks what time it is, with its own text.
const SET_BACK: &str = r"
    CREATE SCHEMA demo_past;
    GRANT USAGE ON SCHEMA demo_past TO PUBLIC;
    CREATE FUNCTION demo_past.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.current_setting('demo_past.now')::timestamptz $$;
    CREATE TABLE demo_past.own AS
        SELECT pg_get_functiondef(oid) AS text FROM pg_proc
        WHERE pronamespace = 'photogate'::regnamespace AND prosrc ~ '\m(now|clock_timestamp)\(\)'
        UNION ALL
        SELECT format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', attrelid::regclass, attname,
                      pg_get_expr(adbin, adrelid))
        FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'photogate'::regnamespace)
            AND pg_get_expr(adbin, adrelid) ~ '\m(now|clock_timestamp)\(\)';
    DO $$ DECLARE v_text text; BEGIN
        FOR v_text IN SELECT text FROM demo_past.own LOOP
            EXECUTE regexp_replace(v_text, '\m(now|clock_timestamp)\(\)', 'demo_past.now()', 'g');
        END LOOP;
    END $$";

const PUT_BACK: &str = r"
    DO $$ DECLARE v_text text; BEGIN
        FOR v_text IN SELECT text FROM demo_past.own LOOP EXECUTE v_text; END LOOP;
    END $$;
    DROP SCHEMA demo_past CASCADE";

/// A digest of all functions and defaults: the same before and after.
const TEXTS: &str = r"
    SELECT md5(string_agg(text, '' ORDER BY text)) FROM (
        SELECT pg_get_functiondef(oid) AS text FROM pg_proc
        WHERE pronamespace = 'photogate'::regnamespace AND prokind <> 'a'
        UNION ALL
        SELECT adrelid::regclass || ' ' || adnum || ' ' || pg_get_expr(adbin, adrelid) FROM pg_attrdef) t";

/// The clock, and the one connection that lives in the past.
pub(super) struct Past {
    owner: PgConnection,
    texts: Option<String>,
    /// It has one connection: the instant is a setting of that.
    pub(super) pool: PgPool,
    now: DateTime<Utc>,
}

impl Past {
    /// Goes back to an instant. `url` is the address of the private database, as its owner.
    pub(super) async fn begin(url: &str, at: DateTime<Utc>) -> anyhow::Result<Self> {
        let mut owner = PgConnection::connect(url).await?;
        // Functions are not checked while they are replaced one by one, as in a migration.
        let options = "SET search_path = photogate; SET check_function_bodies = off";
        sqlx::raw_sql(options).execute(&mut owner).await?;
        // (These texts name what is not there when photogate is compiled.)
        let texts = sqlx::query_scalar(TEXTS).fetch_one(&mut owner).await?;
        sqlx::raw_sql(SET_BACK).execute(&mut owner).await.context("setting the clock back")?;
        let pool = database::connect(url, 1).await?;
        let mut past = Self { owner, texts, pool, now: at };
        past.set().await?;
        Ok(past)
    }

    /// What time it is in the past.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Goes on to an instant, or stays where it is if that is over.
    pub(super) async fn until(&mut self, at: DateTime<Utc>) -> anyhow::Result<()> {
        self.now = self.now.max(at);
        self.set().await
    }

    pub(super) async fn pass(&mut self, time: TimeDelta) -> anyhow::Result<()> {
        self.until(self.now + time).await
    }

    async fn set(&mut self) -> anyhow::Result<()> {
        sqlx::query("SELECT set_config('demo_past.now', $1, false)")
            .bind(self.now.to_rfc3339())
            .execute(&self.pool)
            .await?;
        // As a worker does it (worker/pulse.rs).
        sqlx::query("SELECT take_pulse(slot_of(demo_past.now()) - 1)").execute(&self.pool).await?;
        Ok(())
    }

    /// Back to the present: the database is as it was migrated.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.pool.close().await;
        sqlx::raw_sql(PUT_BACK)
            .execute(&mut self.owner)
            .await
            .context("setting the clock right")?;
        let texts: Option<String> = sqlx::query_scalar(TEXTS).fetch_one(&mut self.owner).await?;
        ensure!(texts == self.texts, "the functions of the database are not what they were");
        self.owner.close().await?;
        Ok(())
    }
}
