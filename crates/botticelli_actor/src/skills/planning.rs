//! When each entry goes out, by all limits that the skills have set so far.

use crate::draft::Draft;
use crate::skill::{ActorContext, SkillError, Step};
use botticelli_server::limits::{DeliveryLimits, Verdict};
use botticelli_server::outcome::SkipReason;
use botticelli_server::post::Destination;
use chrono::{DateTime, Utc};
use std::collections::HashMap;

/// Adds limits to every delivery, and sets anew when each goes out. `seed` tells entries apart.
pub(super) async fn plan(
    mut draft: Draft,
    context: &ActorContext,
    limit: impl Fn(&mut DeliveryLimits, &str),
) -> Result<Step, SkillError> {
    let mut planned: HashMap<Destination, Vec<DateTime<Utc>>> = HashMap::new();
    let mut notes = Vec::new();
    for entry in &mut draft.entries {
        let seed = format!("{}/{}/{}", context.task_id, entry.item.source, entry.item.key);
        let mut kept = Vec::new();
        for mut delivery in std::mem::take(&mut entry.deliveries) {
            limit(&mut delivery.limits, &seed);
            let start = start(&delivery.limits, context);
            let earlier = match planned.get_mut(&delivery.destination) {
                Some(earlier) => earlier,
                None => {
                    let times = posted(&delivery.destination, start, &delivery.limits, context).await?;
                    planned.entry(delivery.destination.clone()).or_insert(times)
                }
            };
            let at = match delivery.limits.verdict(earlier, start) {
                Verdict::Now => start,
                Verdict::Later(at) => at,
                Verdict::Skip => {
                    notes.push(format!(
                        "left out {:?} for {}: over the limit",
                        entry.item.key, delivery.destination
                    ));
                    continue;
                }
            };
            earlier.push(at);
            delivery.not_before = (at > context.clock.now()).then_some(at);
            if let Some(at) = delivery.not_before {
                let at = at.format("%Y-%m-%dT%H:%M:%SZ");
                notes.push(format!("{:?} goes to {} at {at}", entry.item.key, delivery.destination));
            }
            kept.push(delivery);
        }
        entry.deliveries = kept;
    }
    let before = draft.entries.len();
    draft.entries.retain(|entry| !entry.deliveries.is_empty());
    if before > 0 && draft.entries.is_empty() {
        return Ok(Step::Stop { reason: SkipReason::RateLimited, note: notes.join("; ") });
    }
    Ok(Step::Continue { draft, notes })
}

/// Where planning starts: the nominal time, so that it comes out the same in every attempt, or now if that is later.
fn start(limits: &DeliveryLimits, context: &ActorContext) -> DateTime<Utc> {
    let nominal = context.scheduled_for;
    limits.window.as_ref().map_or(nominal, |window| window.place(nominal)).max(context.clock.now())
}

async fn posted(
    destination: &Destination,
    start: DateTime<Utc>,
    limits: &DeliveryLimits,
    context: &ActorContext,
) -> Result<Vec<DateTime<Utc>>, SkillError> {
    let since = start.min(context.clock.now()) - limits.looks_back();
    Ok(context.history.post_times(&context.task_id, destination, since).await?)
}
