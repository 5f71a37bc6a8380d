//! Sessions that go one statement at a time, in an order that the test chooses.
//!
//! The gate's own functions are rewritten, in the test's database, so that before each of their SQL
//! statements they wait at a turnstile, an advisory lock: what is driven is the real function, not
//! a copy of it.

use sqlx::{Connection, Executor, PgConnection, Row};
use tokio::{sync::oneshot, task::JoinHandle};

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

/// Puts turnstiles into functions of the gate, in this database; but not in front of statements with
/// any of these words.
pub async fn instrument(owner: &str, functions: &[&str], alone: &[&str]) {
    let mut db = PgConnection::connect(owner).await.unwrap();
    // Thousands of small transactions, and nobody pulls a plug here.
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut db).await.unwrap();
    let quick = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    db.execute(sqlx::AssertSqlSafe(quick)).await.unwrap();
    // Two locks a session, in turn: the one in front of it is held by the scheduler, and the one
    // behind it is taken again before it comes round.
    db.execute(
        "CREATE FUNCTION photogate.turnstile() RETURNS void LANGUAGE plpgsql AS $$
         DECLARE v_session int := nullif(current_setting('test.session', true), '')::int; \
             v_step int;
         BEGIN
             IF v_session IS NULL THEN RETURN; END IF;
             v_step := current_setting('test.step')::int;
             PERFORM pg_advisory_lock(v_session, v_step % 2), pg_advisory_unlock(v_session, \
                 v_step % 2);
             PERFORM set_config('test.step', (v_step + 1)::text, false);
         END $$",
    )
    .await
    .unwrap();
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

/// A transaction: one call of the gate.
struct Session {
    pid: i32,
    /// Turnstiles it has passed.
    passed: i32,
    state: State,
    answered: Option<oneshot::Receiver<Result<(), sqlx::Error>>>,
    commit: Option<oneshot::Sender<()>>,
    task: JoinHandle<PgConnection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Busy, or waiting for a lock that another session has.
    Busy,
    /// In front of a statement.
    AtStatement,
    /// In front of its commit.
    AtCommit,
    Committed,
}

/// Drives sessions.
pub struct Scheduler {
    /// Holds the turnstiles.
    keeper: PgConnection,
    /// Looks who waits for what.
    observer: PgConnection,
    idle: Vec<PgConnection>,
    app: String,
}

impl Scheduler {
    pub async fn new(owner: &str) -> Self {
        Self {
            keeper: PgConnection::connect(owner).await.unwrap(),
            observer: PgConnection::connect(owner).await.unwrap(),
            idle: Vec::new(),
            app: format!(
                "{owner}&options=-c%20role%3Dphotogate_app%20-c%20search_path%3Dphotogate"
            ),
        }
    }

    /// Runs the calls at once, each in a transaction of its own: wherever there is a choice whose
    /// statement is next, `choose` says which of those that could go on. Returns how often there
    /// was one.
    pub async fn run(
        &mut self,
        calls: &[String],
        mut choose: impl FnMut(usize, usize) -> usize,
    ) -> usize {
        let mut sessions = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            sessions.push(self.begin(number, call.clone()).await);
        }
        let mut choices = 0;
        loop {
            self.settle_down(&mut sessions).await;
            let ready: Vec<_> = sessions
                .iter()
                .enumerate()
                .filter(|(_, session)| {
                    matches!(session.state, State::AtStatement | State::AtCommit)
                })
                .map(|(number, _)| number)
                .collect();
            let next = match ready.as_slice() {
                [] if sessions.iter().all(|session| session.state == State::Committed) => break,
                [] => panic!("a deadlock: {calls:?}"),
                [only] => *only,
                several => {
                    choices += 1;
                    several[choose(choices - 1, several.len())]
                }
            };
            self.go_on(next, &mut sessions[next]).await;
        }
        for session in sessions {
            self.idle.push(session.task.await.unwrap());
        }
        choices
    }

    async fn begin(&mut self, number: usize, call: String) -> Session {
        let lock = format!("SELECT pg_advisory_lock({number}, 0), pg_advisory_lock({number}, 1)");
        self.keeper.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        let mut db = match self.idle.pop() {
            Some(db) => db,
            None => PgConnection::connect(&self.app).await.unwrap(),
        };
        let set = format!(
            "SELECT pg_backend_pid(), set_config('test.session', '{number}', false), \
             set_config('test.step', '0', false)"
        );
        let pid = sqlx::query(sqlx::AssertSqlSafe(set)).fetch_one(&mut db).await.unwrap().get(0);
        let (answer, answered) = oneshot::channel();
        let (commit, committing) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut tx = db.begin().await.unwrap();
            let done = tx.execute(sqlx::AssertSqlSafe(call)).await.map(|_| ());
            let _ = answer.send(done);
            let _ = committing.await;
            tx.commit().await.unwrap();
            db
        });
        Session {
            pid,
            passed: 0,
            state: State::Busy,
            answered: Some(answered),
            commit: Some(commit),
            task,
        }
    }

    async fn go_on(&mut self, number: usize, session: &mut Session) {
        if session.state == State::AtCommit {
            let _ = session.commit.take().unwrap().send(());
            while !session.task.is_finished() {
                tokio::time::sleep(std::time::Duration::from_micros(100)).await;
            }
            session.state = State::Committed;
            let unlock =
                format!("SELECT pg_advisory_unlock({number}, 0), pg_advisory_unlock({number}, 1)");
            self.keeper.execute(sqlx::AssertSqlSafe(unlock)).await.unwrap();
            return;
        }
        let turnstile = session.passed % 2;
        session.passed += 1;
        session.state = State::Busy;
        // It passes, and the turnstile is taken again as soon as it has.
        let turn = format!(
            "SELECT pg_advisory_unlock({number}, {turnstile}), pg_advisory_lock({number}, \
             {turnstile})"
        );
        self.keeper.execute(sqlx::AssertSqlSafe(turn)).await.unwrap();
    }

    /// Until every session stands in front of something, or waits for a lock of another one.
    async fn settle_down(&mut self, sessions: &mut [Session]) {
        let pids: Vec<_> = sessions.iter().map(|session| session.pid).collect();
        loop {
            for session in sessions.iter_mut().filter(|session| session.state == State::Busy) {
                if let Some(Ok(answer)) = session.answered.as_mut().map(oneshot::Receiver::try_recv)
                {
                    answer.unwrap();
                    session.answered = None;
                    session.state = State::AtCommit;
                }
            }
            let waiting = sqlx::query(
                "SELECT pid, locktype, objid::int FROM pg_locks WHERE NOT granted \
                 AND pid = ANY ($1)",
            )
            .bind(&pids)
            .fetch_all(&mut self.observer)
            .await
            .unwrap();
            let mut moving = false;
            for session in sessions.iter_mut().filter(|session| session.state == State::Busy) {
                match waiting.iter().find(|row| row.get::<i32, _>(0) == session.pid) {
                    Some(row) if row.get::<&str, _>(1) == "advisory" => {
                        if row.get::<i32, _>(2) == session.passed % 2 {
                            session.state = State::AtStatement;
                        } else {
                            moving = true;
                        }
                    }
                    Some(_) => {} // for a row that another session has
                    None => moving = true,
                }
            }
            if !moving {
                return;
            }
        }
    }
}

/// Every way to choose, one after the other: depth first.
#[derive(Debug, Default)]
pub struct Ways {
    /// What was chosen, of how many.
    path: Vec<(usize, usize)>,
}

impl Ways {
    pub fn choose(&mut self, at: usize, of: usize) -> usize {
        if at == self.path.len() {
            self.path.push((0, of));
        }
        assert_eq!(self.path[at].1, of, "the same choices lead to the same place");
        self.path[at].0
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
