//! What a migration locks, as far as its text tells. Whoever waits for a lock of these waits as long
//! as the statement takes: `photogate migrate --check` says so, and a test refuses the long ones.

/// A lock of a table that was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lock {
    /// The table.
    pub(super) table: String,
    /// Who waits for it.
    pub(super) words: &'static str,
    /// Whether it is held the longer the larger the table is.
    pub(super) is_long: bool,
}

const MOMENT: &str = "all who use it wait for a moment";
const NOBODY: &str = "nobody waits";
const WRITERS: &str = "all who write it wait while the whole table is read: use CREATE INDEX \
                       CONCURRENTLY in a file that begins with `-- no-transaction`";
const EVERYBODY: &str = "all who use it wait while the whole table is read: add the constraint as \
                         NOT VALID and validate it in a later migration, or add a new column";
const ROWS: &str = "all who change the same rows wait until it is over: write them in batches";

const UNKNOWN: &str = "what it locks cannot be told from its text: write it in another way";

/// What locks no table that was there before.
const HARMLESS: [&str; 10] = [
    "CREATE TYPE",
    "ALTER TYPE",
    "CREATE FUNCTION",
    "CREATE SEQUENCE",
    "CREATE VIEW",
    "INSERT ",
    "GRANT ",
    "REVOKE ",
    "COMMENT ",
    "SET ",
];

/// Whether an ALTER TABLE reads or writes the whole table under its lock.
fn reads_all(upper: &str) -> bool {
    let count = |what: &str| upper.matches(what).count();
    let constraints: usize =
        ["CONSTRAINT ", "CHECK ", "CHECK(", "FOREIGN KEY", "UNIQUE", "EXCLUDE"]
            .into_iter()
            .map(|kind| count(&format!(" ADD {kind}")))
            .sum();
    let later = count("NOT VALID") + count(" USING INDEX ");
    // Of a new column.
    let inline =
        ["UNIQUE", "PRIMARY KEY", "CHECK", "REFERENCES", "GENERATED", "IDENTITY", "SERIAL"];
    let columns = upper.split(" ADD COLUMN ").skip(1);
    let is_full = |column: &str| {
        // A default is stored once for all rows only if it is the same for all.
        let default = column.split_once("DEFAULT ").map_or("", |(_, default)| default);
        inline.iter().any(|word| column.contains(word))
            || (default.contains('(') && !default.starts_with("NOW()"))
    };
    constraints > later
        || count(" ADD PRIMARY KEY") > count(" USING INDEX ")
        || columns.into_iter().any(is_full)
        || upper.contains(" SET NOT NULL")
        || (upper.contains(" ALTER ") && upper.contains(" TYPE "))
}

/// The locks that these statements take on tables that they do not make themselves.
pub(super) fn locks(sql: &str) -> Vec<Lock> {
    let mut made: Vec<String> = Vec::new();
    let mut locks: Vec<Lock> = Vec::new();
    for statement in statements(sql) {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let upper = words.join(" ").to_uppercase();
        let after = |word: &str| {
            let at = words.iter().position(|one| one.eq_ignore_ascii_case(word))?;
            let skipped = ["IF", "NOT", "EXISTS", "ONLY", "CONCURRENTLY"];
            words[at + 1..].iter().find(|one| !skipped.contains(&one.to_uppercase().as_str()))
        };
        let name = |word: &str| {
            let name = after(word)?.split(['(', ')', ',', ';']).next()?.trim_matches('"');
            Some(name.trim_start_matches("photogate.").to_lowercase())
        };
        let begins = |starts: &[&str]| starts.iter().any(|start| upper.starts_with(start));
        let (table, words, is_long) = if begins(&["CREATE TABLE"]) {
            made.extend(name("TABLE"));
            // The table that is referred to gets a trigger.
            (name("REFERENCES"), MOMENT, false)
        } else if begins(&["CREATE INDEX", "CREATE UNIQUE INDEX"]) {
            if upper.contains("CONCURRENTLY") {
                (name("ON"), NOBODY, false)
            } else {
                (name("ON"), WRITERS, true)
            }
        } else if begins(&["ALTER TABLE"]) {
            match () {
                () if upper.contains("VALIDATE CONSTRAINT") => (name("TABLE"), NOBODY, false),
                () if reads_all(&upper) => (name("TABLE"), EVERYBODY, true),
                () => (name("TABLE"), MOMENT, false),
            }
        } else if begins(&["UPDATE "]) {
            (name("UPDATE"), ROWS, true)
        } else if begins(&["DELETE "]) {
            (name("FROM"), ROWS, true)
        } else if begins(&["DROP TABLE", "TRUNCATE"]) {
            (name("TABLE").or_else(|| name("TRUNCATE")), MOMENT, false)
        } else if begins(&["DROP INDEX CONCURRENTLY"]) {
            (name("INDEX"), NOBODY, false)
        } else if begins(&["DROP INDEX"]) {
            (name("INDEX"), MOMENT, false)
        } else if upper.contains(" TRIGGER ") || upper.contains(" POLICY ") {
            (name("ON"), MOMENT, false)
        } else if begins(&HARMLESS) {
            continue;
        } else {
            (words.first().map(|word| word.to_lowercase()), UNKNOWN, true)
        };
        let Some(table) = table.filter(|table| !made.contains(table)) else { continue };
        let lock = Lock { table, words, is_long };
        if !locks.contains(&lock) {
            locks.push(lock);
        }
    }
    locks
}

/// The statements of a file, without comments. Bodies between dollars are one statement's.
fn statements(sql: &str) -> Vec<String> {
    let text: String = sql
        .lines()
        .map(|line| line.split_once("--").map_or(line, |(code, _)| code))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = vec![String::new()];
    let mut is_body = false;
    for (n, part) in text.split("$$").enumerate() {
        if n > 0 {
            is_body = !is_body;
        }
        let mut pieces = if is_body { vec![part] } else { part.split(';').collect() };
        let first = pieces.remove(0);
        if let Some(last) = found.last_mut() {
            last.push_str(first);
        }
        found.extend(pieces.into_iter().map(str::to_owned));
    }
    found.into_iter().map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_a_whole_table_is_told_from_what_takes_a_moment() {
        for (sql, expected) in [
            (
                "CREATE TABLE new (a int); CREATE INDEX ON new (a); ALTER TABLE new ADD CHECK (a > 0)",
                None,
            ),
            ("CREATE INDEX job_a ON job (a)", Some(("job", true))),
            (
                "-- no-transaction\nCREATE INDEX CONCURRENTLY job_a ON job (a);",
                Some(("job", false)),
            ),
            (
                "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a ON photogate.job (a)",
                Some(("job", false)),
            ),
            ("ALTER TABLE job ADD COLUMN a integer;", Some(("job", false))),
            ("ALTER TABLE job ADD COLUMN a uuid DEFAULT gen_random_uuid()", Some(("job", true))),
            ("ALTER TABLE ONLY job ADD CONSTRAINT a CHECK (a > 0)", Some(("job", true))),
            ("ALTER TABLE job ADD CONSTRAINT a CHECK (a > 0) NOT VALID", Some(("job", false))),
            ("ALTER TABLE job VALIDATE CONSTRAINT a", Some(("job", false))),
            ("ALTER TABLE job ALTER a TYPE bigint", Some(("job", true))),
            ("ALTER TABLE job ALTER a SET NOT NULL", Some(("job", true))),
            ("UPDATE job SET a = 1", Some(("job", true))),
            ("CREATE TRIGGER a AFTER INSERT ON job EXECUTE FUNCTION b()", Some(("job", false))),
            ("GRANT SELECT ON job TO photogate_worker", None),
            (
                "DO $$ BEGIN PERFORM 1; ALTER TABLE job ADD CHECK (a > 0); END $$",
                Some(("do", true)),
            ),
            ("LOCK job", Some(("lock", true))),
            ("WITH a AS (SELECT 1) UPDATE job SET a = 1", Some(("with", true))),
            ("DROP INDEX job_a", Some(("job_a", false))),
            ("CREATE TABLE new (a int REFERENCES job)", Some(("job", false))),
            ("ALTER TABLE job ADD COLUMN a int UNIQUE", Some(("job", true))),
            ("ALTER TABLE job ADD COLUMN a int CHECK (a > 0)", Some(("job", true))),
            ("ALTER TABLE job ADD COLUMN a timestamptz DEFAULT clock()", Some(("job", true))),
            ("ALTER TABLE job ADD COLUMN a timestamptz DEFAULT now()", Some(("job", false))),
            ("ALTER TABLE job ADD COLUMN a int DEFAULT 0 NOT NULL", Some(("job", false))),
            (
                "ALTER TABLE job ADD COLUMN a int GENERATED BY DEFAULT AS IDENTITY",
                Some(("job", true)),
            ),
            (
                "ALTER TABLE job ADD CONSTRAINT a CHECK (a > 0) NOT VALID, ADD CONSTRAINT b CHECK (b > 0)",
                Some(("job", true)),
            ),
        ] {
            let found = locks(sql);
            let found = found.first().map(|lock| (lock.table.as_str(), lock.is_long));
            assert_eq!(found, expected, "{sql}");
        }
    }
}
