//! The database's functions are replaced together, whatever was there before.

use photogate::database::{self, DatabaseError};

use crate::support::{App, read, root};

#[tokio::test]
async fn functions_are_replaced_whatever_their_signature_was_and_triggers_stay() {
    let app = App::new().await;
    let organisation = app.an_organisation_with(3).await;
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal";
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'photogate'::regnamespace";
    let before = (app.count(triggers).await, app.count(functions).await);
    assert!(before.0 > 3 && before.1 > 30, "{before:?}");

    // As another version of photogate would have left it: an overload, another signature, one that
    // is no more.
    app.owner_runs(
        "CREATE FUNCTION claim(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
         DROP FUNCTION lift_hold;
         CREATE FUNCTION lift_hold(p_hold bigint) RETURNS void LANGUAGE sql AS 'SELECT';
         CREATE FUNCTION of_yesterday() RETURNS void LANGUAGE sql AS 'SELECT';
         UPDATE functions_applied SET hash = repeat('0', 64)",
    )
    .await;

    let refused = database::connect(&app.owner, 1).await.err();
    assert!(matches!(refused, Some(DatabaseError::OtherFunctions)), "{refused:?}");
    database::migrate(&app.owner).await.unwrap();
    let app = app.reconnected().await;

    assert_eq!((app.count(triggers).await, app.count(functions).await), before);
    // The trigger still seals what is written, and the functions still work.
    app.top_up(organisation, 2).await;
    assert_eq!(app.credits(organisation).await, (5, 0, 0));
}

#[tokio::test]
async fn every_function_has_one_body_in_the_files() {
    let mut names = Vec::new();
    for file in std::fs::read_dir(root().join("migrations/functions")).unwrap() {
        let path = file.unwrap().path();
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            assert!(line.chars().count() <= 120, "{}:{} is too long", path.display(), number + 1);
            let body = line
                .strip_prefix("CREATE FUNCTION ")
                .or_else(|| line.strip_prefix("CREATE OR REPLACE FUNCTION "));
            names.extend(body.and_then(|body| body.split('(').next()).map(str::to_owned));
        }
    }
    names.sort();
    let bodies = names.len();
    names.dedup();
    assert_eq!(names.len(), bodies, "a function has two bodies: {names:?}");

    let app = App::new().await;
    let there = app
        .count("SELECT count(*) FROM pg_proc WHERE pronamespace = 'photogate'::regnamespace")
        .await;
    assert_eq!(i64::try_from(bodies).unwrap(), there, "{names:?}");
}

/// What docs/scaling.md says of the schema, with a heading of the page before each list.
const SPREADING: [(&str, &str); 3] = [
    (
        "### Unique keys",
        "SELECT string_agg('`' || x.relname || '`', ', ' ORDER BY x.relname)
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organisation_id'
         WHERE i.indisunique AND c.relnamespace = 'photogate'::regnamespace
           AND NOT a.attnum = ANY (i.indkey::int2[])",
    ),
    (
        "### Tables",
        "SELECT string_agg('`' || c.relname || '`', ', ' ORDER BY c.relname) FROM pg_class c
         WHERE c.relkind = 'r' AND c.relnamespace = 'photogate'::regnamespace
           AND c.relname <> '_sqlx_migrations'
           AND NOT EXISTS (SELECT FROM pg_attribute a
                           WHERE a.attrelid = c.oid AND a.attname = 'organisation_id')",
    ),
    (
        "### References",
        "SELECT string_agg('`' || f.conname || '`', ', ' ORDER BY f.conname) FROM pg_constraint f
         WHERE f.contype = 'f' AND f.connamespace = 'photogate'::regnamespace
           AND f.confrelid <> 'organisation'::regclass
           AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = f.conrelid
                           AND a.attname = 'organisation_id' AND a.attnum = ANY (f.conkey))",
    ),
];

#[tokio::test]
async fn the_page_about_scaling_says_what_keeps_tables_from_being_spread() {
    let app = App::new().await;
    let page = read("docs/scaling.md");
    for (heading, asked) in SPREADING {
        let list: String =
            sqlx::query_scalar(asked).fetch_one(&mut app.as_owner().await).await.unwrap();
        let (_, section) = page.split_once(heading).expect(heading);
        let section = section.split("\n###").next().unwrap();
        let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(section.contains(&format!(" {list}.")), "below {heading:?} should stand:\n{list}.");
    }
    let triggers = app.count("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").await;
    assert!(page.contains(&format!("\n- {triggers} triggers")), "{triggers} triggers");
}
