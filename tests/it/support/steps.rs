//! Sessions that go one statement at a time, in an order that the test chooses.
//!
//! The gate's own functions are rewritten, in the test's database, so that before each of their SQL
//! statements they wait at a turnstile, an advisory lock: what is driven is the real function, not
//! a copy of it.
//!
//! Who goes next is decided within the database, one call for a whole way: there are a dozen steps
//! in it, and an answer to this process after each would take longer than the step.

use futures::future::{try_join, try_join_all};
use sqlx::{Connection, Executor, PgConnection, Row};

/// What touches the database: only in front of these a session waits.
const STATEMENTS: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "PERFORM", "RETURN"];

/// Statements that change places with any statement of another session, so that their order need
/// not be tried: what is not committed is seen by nobody, so a statement matters to others by the
/// locks it takes, and to itself by what others have committed before it. These take no lock that
/// the session does not have already (or rows of its own alone: a worker's lease, rows that are
/// new), and read nothing but what those locks guard.
const ALONE: [&str; 28] = [
    "FROM places_of(",
    "PERFORM note_end(",
    "PERFORM make_urgent(",
    "FROM take_stretched(",
    "UPDATE account a SET queue_cursor",
    "FROM run r JOIN event e USING (event_id)",
    "FROM event WHERE event_id = p_undo.event_id",
    "FROM lock_queue(",
    "FROM append_jobs(",
    "SELECT DISTINCT ON (photo_id) photo_id, payload",
    "UPDATE event SET deleted_at",
    "INSERT INTO photo ",
    "INSERT INTO run ",
    "INSERT INTO job ",
    "INSERT INTO hold ",
    "INSERT INTO top_up ",
    "INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, at)",
    "UPDATE account SET funded",
    "UPDATE queue_tail SET",
    "UPDATE account a SET resume_due",
    "DELETE FROM resume_cause ",
    "INSERT INTO resume_cause ",
    "INTO r_available, r_ahead",
    "SELECT q.* INTO v_queue",
    "INTO v_photos FROM unnest(p_",
    "INTO v_quota",
    "INTO v_zero",
    "WITH closed AS",
];

/// A PL/pgSQL body with a turnstile in front of each of its SQL statements.
fn with_turnstiles(body: &str, alone: &[&str]) -> String {
    let mut out = String::new();
    let (mut depth, mut in_text, mut in_comment) = (0, false, false);
    let (mut begun, mut starts, mut control) = (false, false, false);
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        if in_comment || in_text {
            in_comment &= c != '\n';
            in_text &= c != '\'';
        } else if rest.starts_with("--") {
            in_comment = true;
        } else if c == '\'' {
            in_text = true;
        } else if c == '(' {
            depth += 1;
        } else if c == ')' {
            depth -= 1;
        } else if c == ';' && depth == 0 {
            (starts, control) = (begun, false);
        } else if c.is_ascii_alphabetic() {
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..end];
            if depth == 0 && starts {
                starts = false;
                control = matches!(word, "IF" | "ELSIF" | "FOR" | "ELSE" | "BEGIN" | "LOOP");
                let queries = word != "RETURN" || rest.starts_with("RETURN QUERY");
                // However its lines are broken.
                let statement = &rest[..rest.find(';').unwrap_or(rest.len())];
                let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
                let alone = ALONE.iter().chain(alone).any(|words| statement.contains(words));
                if STATEMENTS.contains(&word) && queries && !alone {
                    out.push_str("PERFORM photogate.turnstile(); ");
                }
            }
            if depth == 0
                && ((word == "BEGIN" && !begun)
                    || (control && matches!(word, "THEN" | "ELSE" | "LOOP" | "BEGIN")))
            {
                (begun, starts, control) = (true, true, false);
            }
            out.push_str(word);
            rest = &rest[end..];
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// The turnstiles of a session, advisory locks (session, n): it stands in front of 0 and 1 in turn,
/// and of 2 before it commits. The keeper has closed them all when no session moves.
///
/// A session has the one that it passed until it arrives at the next: that is how the keeper, which
/// waits to close it again, learns of the arrival. Nothing but these locks says where a session is:
/// a setting would be rolled back with a block that ends in an exception.
const TURNSTILE: &str = "
CREATE FUNCTION photogate.turnstile() RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_session int := nullif(current_setting('test.session', true), '')::int;
BEGIN
    IF v_session IS NULL THEN RETURN; END IF;
    IF pg_advisory_unlock(v_session, 0) THEN
        PERFORM pg_advisory_lock(v_session, 1);
    ELSE
        PERFORM pg_advisory_unlock(v_session, 1), pg_advisory_lock(v_session, 0);
    END IF;
END $$;";

/// What the keeper runs.
const KEEPER: &str = "
-- Closes a turnstile that a session has passed. False: after a millisecond, it has arrived nowhere. Perhaps it waits
-- for a lock of another session.
CREATE FUNCTION photogate.is_closed(p_session int, p_turnstile int) RETURNS boolean LANGUAGE plpgsql
SET lock_timeout = '1ms' AS $$
BEGIN
    PERFORM pg_advisory_lock(p_session, p_turnstile);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    -- The lock of a session is kept if it came at the same moment as the end of the patience.
    RETURN EXISTS (
        SELECT FROM pg_lock_status() WHERE pid = pg_backend_pid() AND granted AND locktype = 'advisory'
            AND objsubid = 2 AND classid::bigint = p_session AND objid::bigint = p_turnstile);
END $$;

-- Lets sessions go, one statement at a time, until all have committed. p_choices: which of those that could go on does
-- so, where there is a choice; after the last, always the first. Returns how many could go on, at each choice.
CREATE FUNCTION photogate.let_them_go(p_sessions int[], p_choices int[]) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    -- These go together: one element for each session. In front of which turnstile it stands; which one is behind it
    -- and still open; whether it has committed. Without any of these it comes to its first one, or waits for others.
    v_front int[] := array_fill(NULL::int, ARRAY[cardinality(p_sessions)]);
    v_behind int[] := v_front;
    v_done boolean[] := array_fill(false, ARRAY[cardinality(p_sessions)]);
    v_moves boolean; v_one record; v_ready int[]; v_next int; v_of int[] := '{}';
BEGIN
    LOOP
        -- Until each stands in front of something, or waits for a lock of another one, all at the same moment.
        LOOP
            v_moves := false;
            FOR v_one IN
                SELECT s.n::int, s.pid, l.pid IS NOT NULL AS waits, CASE WHEN l.locktype = 'advisory'
                    AND l.objsubid = 2 AND l.classid::bigint = s.n THEN l.objid::int END AS turnstile
                FROM unnest(p_sessions) WITH ORDINALITY s (pid, n)
                LEFT JOIN pg_lock_status() l ON l.pid = s.pid AND NOT l.granted
            LOOP
                CONTINUE WHEN v_done[v_one.n] OR v_front[v_one.n] IS NOT NULL;
                -- Locks of others, such as those of a vacuum, end by themselves.
                CONTINUE WHEN v_one.waits AND v_one.turnstile IS NULL
                    AND pg_blocking_pids(v_one.pid) && p_sessions;
                IF v_behind[v_one.n] IS NOT NULL AND photogate.is_closed(v_one.n, v_behind[v_one.n]) THEN
                    v_done[v_one.n] := v_behind[v_one.n] = 2;
                    v_behind[v_one.n] := NULL;
                END IF;
                IF v_one.turnstile IS NOT NULL AND v_behind[v_one.n] IS NULL THEN
                    v_front[v_one.n] := v_one.turnstile;
                ELSE
                    v_moves := true;
                END IF;
            END LOOP;
            EXIT WHEN NOT v_moves;
        END LOOP;
        v_ready := ARRAY(SELECT n FROM generate_subscripts(v_front, 1) n WHERE v_front[n] IS NOT NULL ORDER BY n);
        IF v_ready = '{}' THEN
            EXIT WHEN true = ALL (v_done);
            RAISE EXCEPTION 'a deadlock';
        END IF;
        v_next := v_ready[1];
        IF cardinality(v_ready) > 1 THEN
            v_next := v_ready[coalesce(p_choices[cardinality(v_of) + 1], 0) + 1];
            v_of := v_of || cardinality(v_ready);
        END IF;
        -- It waits in front of it, so that it has it at this moment, and the keeper not before it has arrived.
        PERFORM pg_advisory_unlock(v_next, v_front[v_next]);
        v_behind[v_next] := v_front[v_next];
        v_front[v_next] := NULL;
        -- It mostly arrives at once: then who waits for what is looked up once a step.
        IF photogate.is_closed(v_next, v_behind[v_next]) THEN
            v_done[v_next] := v_behind[v_next] = 2;
            v_behind[v_next] := NULL;
        END IF;
    END LOOP;
    RETURN v_of;
END $$;";

/// Puts turnstiles into functions of the gate, in this database; but not in front of statements with
/// any of these words.
pub async fn instrument(owner: &str, functions: &[&str], alone: &[&str]) {
    let mut db = PgConnection::connect(owner).await.unwrap();
    // Thousands of small transactions, and nobody pulls a plug here.
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut db).await.unwrap();
    let quick = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    db.execute(sqlx::AssertSqlSafe(quick)).await.unwrap();
    db.execute(TURNSTILE).await.unwrap();
    db.execute(KEEPER).await.unwrap();
    for function in functions {
        let found = sqlx::query(
            "SELECT pg_get_functiondef(oid) AS whole, prosrc AS body FROM pg_proc \
             WHERE pronamespace = 'photogate'::regnamespace AND proname = $1",
        )
        .bind(function)
        .fetch_one(&mut db)
        .await
        .unwrap();
        let (whole, body): (String, String) = (found.get("whole"), found.get("body"));
        let stepped = with_turnstiles(&body, alone);
        assert_ne!(stepped, body, "{function} has no statements");
        db.execute(sqlx::AssertSqlSafe(whole.replace(&body, &stepped))).await.unwrap();
    }
}

/// Makes transactions, one call of the gate each, and goes through them step by step.
pub struct Scheduler {
    /// Has the turnstiles that are closed, and lets the sessions go.
    keeper: PgConnection,
    sessions: Vec<Session>,
    owner: String,
}

struct Session {
    number: usize,
    pid: i32,
    db: PgConnection,
}

impl Session {
    /// In one message: it stands in front of its commit as in front of any statement.
    async fn runs(&mut self, call: &str) -> sqlx::Result<()> {
        let transaction = format!(
            "BEGIN; {call}; SELECT pg_advisory_unlock_all(), pg_advisory_lock({}, 2); COMMIT; \
             SELECT pg_advisory_unlock_all()",
            self.number
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(transaction)).execute(&mut self.db).await.map(|_| ())
    }
}

impl Scheduler {
    pub async fn new(owner: &str) -> Self {
        // A way takes a tenth of a second: what takes a minute is stuck. When this process has given
        // up, the keeper does, too.
        let settings = "-c jit=off -c statement_timeout=60s -c client_connection_check_interval=1s";
        let keeper = with_settings(owner, settings).await;
        Self { keeper, sessions: Vec::new(), owner: owner.to_owned() }
    }

    /// Runs the calls at once, each in a transaction of its own, on the way that is chosen: wherever
    /// there is a choice whose statement is next, it says which of those that could go on.
    pub async fn run(&mut self, calls: &[String], ways: &mut Ways) {
        while self.sessions.len() < calls.len() {
            self.open().await;
        }
        let sessions = &mut self.sessions[..calls.len()];
        let pids: Vec<_> = sessions.iter().map(|session| session.pid).collect();
        let transactions = sessions.iter_mut().zip(calls).map(|(session, call)| session.runs(call));
        let steps = sqlx::query_scalar("SELECT photogate.let_them_go($1, $2)")
            .bind(&pids)
            .bind(ways.choices())
            .fetch_one(&mut self.keeper);
        // Who is refused ends it: the keeper would wait for it.
        match try_join(try_join_all(transactions), steps).await {
            Ok((_, of)) => ways.went(of),
            Err(error) => panic!("{calls:?}, {ways:?}: {error}"),
        }
    }

    async fn open(&mut self) {
        let number = self.sessions.len() + 1;
        // To open a turnstile that is not there is worth a warning: where a session is, it tries.
        let settings = format!(
            "-c role=photogate_app -c search_path=photogate -c jit=off -c test.session={number} \
             -c client_min_messages=error -c log_min_messages=error"
        );
        let mut db = with_settings(&self.owner, &settings).await;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut db).await.unwrap();
        self.sessions.push(Session { number, pid, db });
        let close = format!("SELECT pg_advisory_lock({number}, n) FROM generate_series(0, 2) n");
        self.keeper.execute(sqlx::AssertSqlSafe(close)).await.unwrap();
    }
}

async fn with_settings(owner: &str, settings: &str) -> PgConnection {
    let settings: String = url::form_urlencoded::byte_serialize(settings.as_bytes()).collect();
    let address = format!("{owner}&options={}", settings.replace('+', "%20"));
    PgConnection::connect(&address).await.unwrap()
}

/// Every way to choose, one after the other: depth first.
#[derive(Debug, Default)]
pub struct Ways {
    /// What was chosen, of how many.
    path: Vec<(i32, i32)>,
}

impl Ways {
    fn choices(&self) -> Vec<i32> {
        self.path.iter().map(|(chosen, _)| *chosen).collect()
    }

    /// From how many there was a choice: wherever nothing was chosen, it was the first.
    fn went(&mut self, of: Vec<i32>) {
        let before: Vec<_> = self.path.iter().map(|(_, of)| *of).collect();
        assert!(
            of.starts_with(&before),
            "the same choices lead to the same place: {self:?}, {of:?}"
        );
        self.path.extend(of[before.len()..].iter().map(|of| (0, *of)));
    }

    /// The next way that was not gone yet; false: that was all.
    pub fn next(&mut self) -> bool {
        while let Some((chosen, of)) = self.path.pop() {
            if chosen + 1 < of {
                self.path.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

#[test]
fn turnstiles_stand_in_front_of_statements_and_nowhere_else() {
    let body = "DECLARE x int := 1; BEGIN\n -- a; comment SELECT\n x := 2; IF x = (SELECT 1) THEN \
                SELECT 1 INTO x; ELSE UPDATE t SET a = CASE WHEN b THEN 'x; DELETE' \
                ELSE c END; END IF; RETURN; END";

    let stepped = with_turnstiles(body, &[]);

    assert_eq!(stepped.matches("turnstile").count(), 2, "{stepped}");
    assert!(stepped.contains("THEN PERFORM photogate.turnstile(); SELECT 1 INTO"), "{stepped}");
    assert!(stepped.contains("ELSE PERFORM photogate.turnstile(); UPDATE"), "{stepped}");
}
