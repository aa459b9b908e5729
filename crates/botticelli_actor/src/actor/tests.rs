use super::*;
use crate::skills::testing::{World, time};
use botticelli_server::outcome::SkipReason;
use botticelli_server::post::TextUnit;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the skills made for these tests do, counted by how often they ran.
static RUNS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// Fails so often, then works.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Flaky {
    /// Tells tests apart.
    id: String,
    /// So often.
    failures: u32,
    /// How.
    #[serde(default)]
    unrecoverable: bool,
    /// Or so.
    #[serde(default)]
    panics: bool,
}

#[async_trait]
impl Skill for Flaky {
    async fn run(&self, draft: Draft, _: &ActorContext) -> Result<Step, SkillError> {
        let run = {
            let mut runs = RUNS.lock().unwrap();
            let run = runs.entry(self.id.clone()).or_default();
            *run += 1;
            *run
        };
        assert!(!self.panics, "it hurts");
        if run > self.failures {
            return Ok(Step::Continue { draft, notes: vec![format!("worked in run {run}")] });
        }
        if self.unrecoverable {
            Err(SkillError::Unrecoverable("no such table".to_owned()))
        } else {
            Err(SkillError::Recoverable("the network is down".to_owned()))
        }
    }
}

/// Never ends.
#[derive(Deserialize, JsonSchema)]
struct Stuck {}

#[async_trait]
impl Skill for Stuck {
    async fn run(&self, _: Draft, _: &ActorContext) -> Result<Step, SkillError> {
        futures::future::pending().await
    }
}

fn build(toml: &str) -> Result<PipelineActor, Vec<Fault>> {
    let file: ActorFile = toml::from_str(&format!("actor.name = 'a'\n{toml}")).unwrap();
    let registry = SkillRegistry::standard().register::<Flaky>("flaky").register::<Stuck>("stuck");
    PipelineActor::build(&file, &registry, "sqlite://own.db")
}

const FACTS: &str = "
[[knowledge]]
name = 'facts'
type = 'inline'
items = [{id = 'a', text = 'one two'}, {id = 'b', text = 'three'}]
[[skills]]
name = 'content_selection'
strategy = 'random'
limit = 2
";

fn context(world: &World) -> RunContext {
    let ActorContext {
        task_id, scheduled_for, destinations, text_limits, history, clock, parameters, ..
    } = world.context();
    RunContext {
        task_id,
        scheduled_for,
        destinations,
        text_limits,
        platforms: Platforms::default(),
        on_unknown: OnUnknown::NeedsReview,
        history,
        clock,
        parameters,
        stop: CancellationToken::new(),
        trace: None,
    }
}

async fn run(toml: &str) -> Run {
    build(toml).unwrap().run(context(&World::new())).await
}

fn failure(run: &Run) -> (&str, bool) {
    match &run.end {
        AttemptEnd::Failed { error, recoverable } => (error, *recoverable),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn parts_count_up_per_destination_and_say_which_message_they_belong_to() {
    let actor = build(&format!("{FACTS}[[skills]]\nname = 'content_formatter'\nmax_length = 5")).unwrap();
    let mut world = World::new();
    world.destinations.push(Destination { platform: "file".into(), target: "posts.jsonl".into() });
    let run = actor.run(context(&world)).await;
    assert_eq!(run.end, AttemptEnd::Succeeded);
    for platform in ["console", "file"] {
        let of = |post: &&NewPost| post.destination.platform == platform;
        let posts: Vec<_> =
            run.posts.iter().filter(of).map(|p| (p.part, p.first_part, p.content.text.as_str())).collect();
        let expected = match posts[0].2 {
            "one" => vec![(0, 0, "one"), (1, 0, "two"), (2, 2, "three")],
            _ => vec![(0, 0, "three"), (1, 1, "one"), (2, 1, "two")],
        };
        assert_eq!(posts, expected);
        let used: Vec<_> =
            run.used_items.iter().filter(|item| item.destination.platform == platform).collect();
        assert_eq!(used.len(), 2);
        for item in used {
            let first = posts.iter().find(|(part, ..)| *part == item.part).unwrap();
            assert!(item.text.starts_with(first.2) && item.source == "facts");
        }
    }
}

#[tokio::test]
async fn without_a_formatter_the_item_s_own_text_is_posted_if_it_fits() {
    let own = run(FACTS).await;
    assert_eq!(own.posts.len(), 2);
    let mut world = World::new();
    world.text_limit = TextLimit { max: Some(3), unit: TextUnit::Scalars };
    let long = build(FACTS).unwrap().run(context(&world)).await;
    let (error, recoverable) = failure(&long);
    assert!(
        error.contains("(allowed: 3); the skill content_formatter can split it") && !recoverable,
        "{error}"
    );
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_within_the_attempt() {
    let run = run(&format!("{FACTS}[[skills]]\nname = 'flaky'\nid = 'again'\nfailures = 2")).await;
    assert_eq!(run.end, AttemptEnd::Succeeded);
    assert_eq!(run.skills, SkillCounts { succeeded: 2, failed: 0, skipped: 0 });
    let notes = &run.metadata["skills"][1]["notes"];
    assert!(notes[0].as_str().unwrap().starts_with("the network is down; tried again after "), "{notes}");
    assert_eq!(notes[2], "worked in run 3");
}

#[tokio::test]
async fn retries_come_to_an_end() {
    let skill = "[[skills]]\nname = 'flaky'\nid = 'end'\nfailures = 9\n[execution]\nmax_retries = 2";
    let run = run(&format!("{FACTS}{skill}")).await;
    assert_eq!(failure(&run), ("flaky: the network is down", true));
    assert_eq!(RUNS.lock().unwrap()["end"], 3);
    assert_eq!(run.skills, SkillCounts { succeeded: 1, failed: 1, skipped: 0 });
    assert!(run.posts.is_empty() && run.used_items.is_empty());
}

#[tokio::test]
async fn a_failure_that_no_retry_can_mend_is_not_tried_again_and_ends_the_run() {
    let skill = "[[skills]]\nname = 'flaky'\nid = 'no'\nfailures = 9\nunrecoverable = true\n[[skills]]\nname = 'rate_limiting'\nmax_posts_per_day = 1\n";
    let run1 = run(&format!("{FACTS}{skill}[execution]\ncontinue_on_error = true")).await;
    assert_eq!(failure(&run1), ("flaky: no such table", false));
    assert_eq!(RUNS.lock().unwrap()["no"], 1);
    assert_eq!(run1.skills, SkillCounts { succeeded: 1, failed: 1, skipped: 1 });
    assert_eq!(run1.metadata["skills"][2]["notes"][0], "not reached");

    let on =
        run(&format!("{FACTS}{skill}[execution]\ncontinue_on_error = true\nstop_on_unrecoverable = false"))
            .await;
    assert_eq!(on.end, AttemptEnd::Succeeded);
    assert_eq!(on.skills, SkillCounts { succeeded: 2, failed: 1, skipped: 0 });
    assert_eq!(on.posts.len(), 2);
}

#[tokio::test]
async fn a_run_that_goes_on_after_an_error_and_has_nothing_to_post_fails_with_that_error() {
    let run = run("[[skills]]\nname = 'flaky'\nid = 'empty'\nfailures = 9\n[execution]\ncontinue_on_error = true\nmax_retries = 0").await;
    assert_eq!(failure(&run), ("flaky: the network is down", true));
}

#[tokio::test]
async fn a_pipeline_that_selects_nothing_says_so() {
    let run = run("[[skills]]\nname = 'rate_limiting'\nmax_posts_per_day = 1").await;
    let text = "nothing selects content: a pipeline begins with [[skills]] name = \"content_selection\"";
    assert_eq!(failure(&run), (text, false));
}

#[tokio::test]
async fn a_disabled_skill_is_skipped_and_counted() {
    let run =
        run(&format!("{FACTS}[[skills]]\nname = 'flaky'\nenabled = false\nid = 'off'\nfailures = 9")).await;
    assert_eq!(run.end, AttemptEnd::Succeeded);
    assert_eq!(run.skills, SkillCounts { succeeded: 1, failed: 0, skipped: 1 });
    assert_eq!(
        run.metadata["skills"][1],
        serde_json::json!({"name": "flaky", "result": "skipped", "notes": ["disabled"], "ms": 0})
    );
}

#[tokio::test]
async fn a_skill_that_stops_ends_the_run_as_skipped() {
    let actor = build(&format!("{FACTS}[[skills]]\nname = 'duplicate_check'")).unwrap();
    let run = actor.run(context(&World::new().used(&["a", "b"]))).await;
    assert_eq!(run.end, AttemptEnd::Skipped(SkipReason::NothingToPost));
    assert_eq!(run.skills, SkillCounts { succeeded: 1, failed: 0, skipped: 1 });
}

#[tokio::test]
async fn a_shutdown_interrupts_the_run_wherever_it_is() {
    let actor = build(&format!("{FACTS}[[skills]]\nname = 'stuck'")).unwrap();
    let context = context(&World::new());
    let stop = context.stop.clone();
    let (run, ()) = futures::join!(actor.run(context), async { stop.cancel() });
    assert_eq!(run.end, AttemptEnd::Interrupted);
    assert_eq!(run.skills, SkillCounts { succeeded: 1, failed: 0, skipped: 1 });
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt() {
    let actors = RegisteredActors::default();
    let name = ActorName::new("a").unwrap();
    let hurts = build("[[skills]]\nname = 'flaky'\nid = 'panic'\nfailures = 0\npanics = true").unwrap();
    assert!(actors.register(name.clone(), Arc::new(hurts)).is_none());
    let run = actors.run(&name, context(&World::new())).await.unwrap();
    assert_eq!(failure(&run), ("panicked: it hurts", true));
    assert!(actors.register(name.clone(), Arc::new(build(FACTS).unwrap())).is_some());
    assert_eq!(actors.run(&name, context(&World::new())).await.unwrap().end, AttemptEnd::Succeeded);
    assert_eq!(actors.ids(), std::slice::from_ref(&name));
    assert!(actors.deregister(&name) && !actors.deregister(&name));
    assert_eq!(actors.run(&name, context(&World::new())).await.unwrap_err(), UnknownActor("a".to_owned()));
}

#[tokio::test]
async fn a_trace_sees_each_stage_with_its_draft() {
    struct Entries(AtomicU32, AtomicU32);
    impl Trace for Entries {
        fn stage(&self, stage: &Stage, draft: &Draft) {
            assert_eq!(stage.result, StageResult::Succeeded);
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.store(draft.entries.len() as u32, Ordering::Relaxed);
        }
    }
    let seen = Arc::new(Entries(AtomicU32::new(0), AtomicU32::new(0)));
    let mut context = context(&World::new());
    context.trace = Some(seen.clone());
    build(FACTS).unwrap().run(context).await;
    assert_eq!((seen.0.load(Ordering::Relaxed), seen.1.load(Ordering::Relaxed)), (1, 2));
}

#[test]
fn all_that_is_wrong_is_found_at_once_each_with_its_place() {
    let toml = "
        [[knowledge]]
        name = 'facts'
        type = 'file'
        path = 'facts.doc'
        [[skills]]
        name = 'content_selection'
        source = 'fact'
        [[skills]]
        name = 'content_formater'
        [[skills]]
        name = 'rate_limiting'
        enabled = false
        max_posts_per_day = 'three'
        min_interval_minutes = 0
    ";
    let faults = build(toml).err().unwrap();
    let paths: Vec<_> = faults.iter().map(|fault| fault.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "knowledge[0].path",
            "skills[0].source",
            "skills[1].name",
            "skills[2].max_posts_per_day",
            "skills[2].min_interval_minutes"
        ]
    );
    assert!(faults[1].hint.as_ref().unwrap().starts_with("did you mean \"facts\"?"));
    assert_eq!(faults[3].message, "max_posts_per_day is \"three\" (allowed: a whole number, 1-10000)");
    assert_eq!(build("").err().unwrap()[0].message, "the actor has no skills");
}

#[test]
fn the_wait_between_retries_doubles_up_to_half_a_minute() {
    let task = TaskId::new("daily").unwrap();
    let wait = |retry| backoff(&task, retry, time("2026-03-01T12:00:00Z")).as_millis();
    assert!((375..=500).contains(&wait(1)) && (750..=1000).contains(&wait(2)), "{} {}", wait(1), wait(2));
    assert!((22_500..=30_000).contains(&wait(99)));
}

/// What stands in `examples/` is what people copy.
#[tokio::test]
async fn every_example_builds_and_posts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/actors");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let mut file: ActorFile = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        file.folder = folder.clone();
        let actor = PipelineActor::build(&file, &SkillRegistry::standard(), "sqlite://own.db");
        let actor = actor.unwrap_or_else(|faults| panic!("{}: {faults:?}", path.display()));
        let mut world = World::new();
        world.scheduled_for = time("2027-03-01T12:00:00Z");
        world.now = world.scheduled_for;
        let run = actor.run(context(&world)).await;
        assert_eq!(run.end, AttemptEnd::Succeeded, "{}: {}", path.display(), run.metadata);
        assert!(!run.posts.is_empty());
    }
}
