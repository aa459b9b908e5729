//! Requests that count as invalid, by address, and the ban that follows from too many.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

/// When invalid requests lead to a ban of the address, and what it looks like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BanRules {
    /// So many invalid requests …
    pub limit: usize,
    /// … in so many seconds …
    pub window_seconds: u32,
    /// … ban the address for so long.
    pub ban_seconds: u32,
    /// So many requests to one webhook that is gone, from one address, restrict that address there for as long.
    pub dead_webhook_limit: u32,
    /// The status that the banned see: 429 or 403.
    pub status: u16,
    /// What else they see.
    pub page: BanPage,
    /// Whether the page carries `Retry-After`.
    pub retry_after: bool,
}

impl Default for BanRules {
    fn default() -> Self {
        Self {
            limit: 10_000,
            window_seconds: 600,
            ban_seconds: 3600,
            dead_webhook_limit: 10,
            status: 429,
            page: BanPage::Html,
            retry_after: false,
        }
    }
}

/// What a banned address sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BanPage {
    /// A page by Cloudflare.
    Html,
    /// One line of text.
    Plain,
    /// JSON with code 0.
    Json,
}

/// Counts invalid requests by address.
#[derive(Debug, Default)]
pub(crate) struct Invalid {
    requests: HashMap<IpAddr, VecDeque<DateTime<Utc>>>,
    banned_until: HashMap<IpAddr, DateTime<Utc>>,
    /// Requests to webhooks that are gone, by address and webhook, and when the last one came.
    dead_webhooks: HashMap<(IpAddr, String), (u32, DateTime<Utc>)>,
    total: u64,
}

impl Invalid {
    pub(crate) fn count(&mut self, rules: &BanRules, ip: IpAddr, now: DateTime<Utc>) {
        self.total += 1;
        let window = TimeDelta::seconds(rules.window_seconds.into());
        let requests = self.requests.entry(ip).or_default();
        requests.push_back(now);
        while requests.front().is_some_and(|at| now - *at >= window) {
            requests.pop_front();
        }
        if requests.len() >= rules.limit {
            self.ban(ip, now + TimeDelta::seconds(rules.ban_seconds.into()));
        }
    }

    /// Notes a request to a webhook that is gone.
    pub(crate) fn count_dead_webhook(&mut self, ip: IpAddr, webhook: &str, now: DateTime<Utc>) {
        let (count, last) = self.dead_webhooks.entry((ip, webhook.to_owned())).or_insert((0, now));
        *count += 1;
        *last = now;
    }

    /// Until when the address is restricted at that webhook.
    pub(crate) fn restricted_until(
        &self,
        rules: &BanRules,
        ip: IpAddr,
        webhook: &str,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let (count, last) = self.dead_webhooks.get(&(ip, webhook.to_owned()))?;
        let until = *last + TimeDelta::seconds(rules.ban_seconds.into());
        (*count >= rules.dead_webhook_limit && until > now).then_some(until)
    }

    /// All requests to webhooks that were gone.
    pub(crate) fn dead_webhook_requests(&self) -> u32 {
        self.dead_webhooks.values().map(|(count, _)| count).sum()
    }

    pub(crate) fn ban(&mut self, ip: IpAddr, until: DateTime<Utc>) {
        self.banned_until.insert(ip, until);
    }

    pub(crate) fn unban(&mut self) {
        self.banned_until.clear();
        self.dead_webhooks.clear();
        self.requests.clear();
    }

    pub(crate) fn banned_until(&self, ip: IpAddr, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.banned_until.get(&ip).copied().filter(|until| *until > now)
    }

    /// All that ever counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Those in the window that ends now, by address.
    pub(crate) fn in_window(&self, rules: &BanRules, now: DateTime<Utc>) -> Vec<(IpAddr, usize)> {
        let window = TimeDelta::seconds(rules.window_seconds.into());
        let recent = |all: &VecDeque<DateTime<Utc>>| all.iter().filter(|at| now - **at < window).count();
        self.requests.iter().map(|(ip, all)| (*ip, recent(all))).collect()
    }
}
