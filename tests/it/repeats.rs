//! Photos that are queued again: nothing is queued twice, and the answer says where they are.

use std::time::Duration;

use photogate::{
    access::{Caller, Role},
    commands::{CommandError, Enqueue, FundingPlan, OnInsufficient, Payloads, Undo, Which},
    ids::{EventId, Operation, Operations, RunId},
    queue::{
        enqueue::{Priority, RUNS_MAX},
        follow_ups, runs,
    },
};
use serde_json::json;

use crate::support::{App, site::Site};

const PROCESSING: Operation = Operation::PhotoProcessing;

fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("rehearsal/ok/{name}")).collect()
}

async fn call(
    app: &App,
    event: EventId,
    operation: Operations,
    keys: &[String],
    dry_run: bool,
) -> FundingPlan {
    let asked = Enqueue {
        operation,
        photos: Which::Keys(keys),
        payloads: Payloads::default(),
        dry_run,
        on_insufficient: OnInsufficient::Wait,
        priority: Priority::Normal,
    };
    app.commands().enqueue(&Caller::trusted("anna"), event, &asked).await.unwrap()
}

async fn follow_now(app: &App) -> u32 {
    follow_ups::follow(&mut *app.db().await, Duration::ZERO).await.unwrap().photos
}

async fn process(app: &App, event: EventId, names: &[&str]) -> FundingPlan {
    call(app, event, Operations::PhotoProcessing, &keys(names), false).await
}

#[tokio::test]
async fn a_repeated_call_creates_no_run_and_says_where_the_photos_are() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    let first = process(&app, event, &["a", "b"]).await;
    assert_eq!((first.runs.len(), &first.runs, first.more_runs), (1, &first.new_runs, false));

    let again = process(&app, event, &["a", "b"]).await;

    assert_eq!((again.queued, again.skipped.already_queued), (0, 2));
    assert_eq!((&again.runs, again.new_runs.len(), again.undo.len()), (&first.runs, 0, 0));
    assert_eq!(app.count("SELECT count(*) FROM run").await, 1);
    // The one thing to ask about is done when the photos are.
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(2).await).await;
    let run = runs::find(&mut *app.db().await, again.runs[0]).await.unwrap().unwrap();
    assert_eq!((run.waiting, run.in_progress, run.processed), (0, 0, 2));
    assert_eq!(process(&app, event, &["b"]).await.runs, first.runs, "also when they are done");
    assert!(process(&app, event, &[]).await.runs.is_empty());
}

#[tokio::test]
async fn a_call_with_some_new_photos_names_its_run_and_those_of_the_others() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    let run = async |names: &[&str]| process(&app, event, names).await.runs[0];
    let (done, open) = (run(&["done"]).await, run(&["open"]).await);
    let unasked = run(&["unasked"]).await;
    let later = run(&["later"]).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    // The same keys of another organisation, and of another operation.
    let (_, foreign) = app.an_event_with(10).await;
    app.queue_keys(foreign, PROCESSING, &keys(&["done", "open", "later", "new"])).await;
    app.queue_keys(event, Operation::AiRotation, &keys(&["done", "open", "later"])).await;

    let asked = ["later", "new", "done", "open"];
    let dry = call(&app, event, Operations::PhotoProcessing, &keys(&asked), true).await;
    let plan = process(&app, event, &asked).await;

    let new = plan.new_runs.clone();
    assert_eq!((plan.queued, new.len()), (1, 1));
    assert_eq!(plan.runs, [new[0], later, open, done], "those that are not done come first");
    assert_eq!((dry.runs, dry.new_runs), (vec![later, open, done], Vec::new()));
    assert!(!plan.runs.contains(&unasked) && !plan.more_runs);
    // Nobody else's.
    let of_event = |run: RunId| {
        let app = &app;
        async move { runs::find(&mut *app.db().await, run).await.unwrap().unwrap().event }
    };
    for run in plan.runs {
        assert_eq!(of_event(run).await, event);
    }
}

#[tokio::test]
async fn the_list_of_runs_is_bounded_however_many_keys_there_are() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(1).await;
    let own: Vec<String> = (0..=RUNS_MAX).map(|n| format!("rehearsal/ok/{n}")).collect();
    let mut singles = Vec::new();
    for key in &own {
        singles
            .push(app.queue_keys(event, PROCESSING, std::slice::from_ref(key)).await.run.unwrap());
    }
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    singles.reverse();

    // More than 100,000 keys, nearly all of them of the same photos: eleven transactions.
    let many: Vec<String> = own.iter().cycle().take(100_001).cloned().collect();
    let plan = call(&app, event, Operations::PhotoProcessing, &many, false).await;

    assert_eq!((plan.photos, plan.queued, plan.new_runs.len()), (100_001, 0, 0));
    // The one that is done is the one that is left out.
    assert_eq!((&plan.runs[..], plan.more_runs), (&singles[..RUNS_MAX], true));
    let with_new = [many, vec!["rehearsal/ok/new".into()]].concat();
    let plan = call(&app, event, Operations::PhotoProcessing, &with_new, false).await;
    assert_eq!((plan.runs.len(), plan.runs[0], plan.more_runs), (100, plan.new_runs[0], true));
}

#[tokio::test]
async fn a_dry_run_of_both_operations_tells_when_all_is_done() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    let ask = async |dry_run| {
        let found = call(&app, event, Operations::Both, &keys(&["a"]), dry_run).await;
        (found.queued + u64::from(found.skipped.already_queued), found.runs)
    };
    let rotation = ask(false).await.1;
    assert_eq!((rotation.len(), ask(true).await), (1, (2, rotation.clone())));

    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    assert_eq!(ask(true).await, (1, rotation.clone()), "it waits to be queued for processing");
    assert!(follow_now(&app).await > 0);
    let (open, runs) = ask(true).await;
    assert_eq!((open, runs.len(), runs[1]), (1, 2, rotation[0]));
    hand.succeed_all(hand.claim(1).await).await;
    assert_eq!(ask(true).await.0, 0);
}

/// Photo Processing of photos whose AI Rotation waits already: there is no run, and still something
/// that can be taken back.
#[tokio::test]
async fn a_call_that_only_adds_what_follows_is_taken_back() {
    let app = App::new().await;
    let (_, event) = app.an_event_with(10).await;
    app.queue_keys(event, Operation::AiRotation, &keys(&["a", "b"])).await;
    let plan = call(&app, event, Operations::Both, &keys(&["a", "b"]), false).await;
    assert_eq!((plan.queued, plan.following, plan.new_runs.len()), (2, 2, 0));

    let caller = Caller::trusted("anna");
    let open = app.commands().undoable(&caller, event).await.unwrap();
    assert_eq!((open[0].photos, open[0].operation), (Some(2), None));
    let undo = Undo { undo: plan.undo };
    assert_eq!(app.commands().undo(&caller, &undo).await.unwrap().photos, 2);
    assert_eq!(app.count("SELECT count(*) FROM follow_up").await, 0);

    // Once one of them was queued, it is too late.
    let plan = call(&app, event, Operations::Both, &keys(&["a", "b"]), false).await;
    let hand = app.a_worker().await;
    hand.succeed_all(hand.claim(1).await).await;
    assert_eq!(follow_now(&app).await, 1);
    let late = app.commands().undo(&caller, &Undo { undo: plan.undo }).await;
    assert!(matches!(late, Err(CommandError::Conflict { code: "moved_on", .. })), "{late:?}");
    assert_eq!(app.count("SELECT count(*) FROM follow_up").await, 1, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_and_the_command_line_say_where_the_photos_are() {
    let app = App::new().await;
    let (organisation, event) = app.an_event_with(10).await;
    let site = Site::of(&app).await;
    let token = app.a_token(Role::Pipeline, Some(organisation)).await;
    let path = format!("/v1/events/{event}/runs");
    let body = json!({ "operation": "photo_processing", "keys": ["rehearsal/ok/1"] });
    let (_, first) = site.post(&path, &token, body.clone()).await;
    let (status, again) = site.post(&path, &token, body).await;
    assert_eq!(status, 202);
    assert_eq!((&again["runs"], &again["new_runs"]), (&first["new_runs"], &json!([])));
    // A retry of nothing has no run either.
    let staff = app.a_token(Role::Staff, None).await;
    let retry = json!({ "operation": "photo_processing" });
    let (_, retried) = site.post(&format!("/v1/events/{event}/retry"), &staff, retry).await;
    assert_eq!((&retried["queued"], &retried["run"]), (&json!(0), &json!(null)));

    let says = app.says(&["enqueue", &event.to_string(), "rehearsal/ok/1"]);
    let run = again["runs"][0].to_string();
    let line = |name: &str| says.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(line("New runs").trim(), "New runs");
    assert_eq!(line("Queued before in").split_whitespace().last(), Some(run.as_str()), "{says}");
}
