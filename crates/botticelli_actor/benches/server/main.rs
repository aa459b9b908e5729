//! The benchmark: the product beside the floor, in the same run. Prints JSON lines.
//!
//! `scripts/bench.sh` starts a PostgreSQL with its default durability and runs this; `--only NAME` and `--runs N` pick.

mod api;
#[cfg(feature = "discord")]
mod discord;
mod floor;
mod harness;
mod lateness;
mod machine;
mod process;
mod throughput;
mod triggers;

use clap::Parser;
use harness::Database;
use serde_json::{Value, json};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Args {
    /// Only benchmarks whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
    /// So many runs of each
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// So long each fault script of the benchmark `discord_faults` goes on, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// What cargo passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&args));
    runtime.shutdown_background();
}

async fn run(args: &Args) {
    println!("{}", machine::describe().await);
    for database in Database::all() {
        let kind = database.kind();
        let wanted = |name: &str| format!("{kind}/{name}").contains(&args.only);
        if wanted("floor") || wanted("throughput") {
            for batch in [1, 200] {
                repeat(args, kind, &format!("floor_batches_of_{batch}"), "runs/s", async || {
                    floor::runs_per_second(&database, batch).await
                })
                .await;
            }
        }
        if wanted("throughput") {
            repeat(args, kind, "throughput", "runs/s", async || throughput::runs_per_second(&database).await)
                .await;
        }
        for case in lateness::CASES {
            if wanted(case.name) {
                repeat(args, kind, case.name, "ms", async || lateness::measure(&database, case).await).await;
            }
        }
        if wanted("metrics_10000_tasks") {
            repeat(args, kind, "metrics_10000_tasks", "ms", async || api::metrics(&database).await).await;
        }
        if kind == "postgres" && wanted("api_lists") {
            repeat(args, kind, "api_lists", "ms", async || api::lists(&database).await).await;
        }
    }
    for database in Database::all() {
        for case in triggers::CASES.iter().filter(|case| case.is_for(&database)) {
            if format!("{}/{}", database.kind(), case.name).contains(&args.only) {
                repeat(args, database.kind(), case.name, "ms", async || {
                    triggers::measure(&database, case).await
                })
                .await;
            }
        }
    }
    for case in process::CASES {
        if case.name.contains(&args.only) {
            repeat(args, "sqlite", case.name, case.unit, async || process::measure(case).await).await;
        }
    }
    #[cfg(feature = "discord")]
    discord::run(args).await;
}

/// Prints every run and the median of each figure with its spread.
async fn repeat(
    args: &Args,
    database: &str,
    name: &str,
    unit: &str,
    run: impl AsyncFn() -> Vec<(&'static str, f64)>,
) {
    let mut runs = Vec::new();
    for _ in 0..args.runs.max(1) {
        runs.push(run().await);
    }
    let mut line = json!({ "database": database, "benchmark": name, "unit": unit, "runs": runs.len() });
    for (figure, _) in &runs[0] {
        let mut values: Vec<f64> = runs
            .iter()
            .flat_map(|run| run.iter().filter(|(name, _)| name == figure).map(|(_, value)| *value))
            .collect();
        values.sort_by(f64::total_cmp);
        line[*figure] = spread(&values);
    }
    println!("{line}");
}

fn spread(values: &[f64]) -> Value {
    let round = |value: f64| (value * 100.0).round() / 100.0;
    json!({
        "median": round(values[values.len() / 2]),
        "min": round(values[0]),
        "max": round(values[values.len() - 1]),
    })
}
