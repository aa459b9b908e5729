//! How one request is answered: ban, user agent, token, limits, handler, and what the reply carries.

use crate::call::Call;
use crate::error::{self, ApiError};
use crate::faults::What;
use crate::id::Id;
use crate::invalid::BanPage;
use crate::limits::{self, Announced, Limited, Scope, ScopeHeader};
use crate::routes::{Auth, Context, Reply, Route};
use crate::state::State;
use chrono::{DateTime, TimeDelta, Utc};

/// An answer before it becomes bytes.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn html(status: u16) -> Self {
        let body = format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n\
             <hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
        );
        Self { status, headers: Vec::new(), content_type: "text/html", body: body.into_bytes() }
    }

    fn json(status: u16, body: &serde_json::Value) -> Self {
        let body = serde_json::to_vec(body).expect("a value is JSON");
        Self { status, headers: Vec::new(), content_type: "application/json", body }
    }

    fn error(error: &ApiError) -> Self {
        let mut answer = Self::json(error.status, &error.body());
        if let Some(Limited { header_seconds, .. }) = &error.limited {
            answer.headers.push(("retry-after", format!("{:.0}", header_seconds.ceil())));
        }
        answer
    }
}

impl State {
    /// Answers a request as Discord would. `fault` is what else happens inside Discord, if anything.
    pub(crate) fn answer(&mut self, route: &Route, call: &Call, fault: Option<&What>) -> Answer {
        let now = self.clock.now();
        let webhook = call.params.get("webhook_id").map(String::as_str).unwrap_or_default();
        let rules = &self.settings.ban;
        let banned = self.invalid.banned_until(call.ip, now);
        let banned = banned.or_else(|| self.invalid.restricted_until(rules, call.ip, webhook, now));
        if let Some(until) = banned {
            let answer = self.ban_page(until, now);
            self.log_status(call.seq, answer.status, None);
            return answer;
        }
        let (announced, outcome) = self.limited_and_handled(route, call, fault, now);
        let (mut answer, limited) = match &outcome {
            Ok(Reply { status, body: Some(body) }) => (Answer::json(*status, body), None),
            Ok(Reply { status, body: None }) => {
                let (headers, body) = (Vec::new(), Vec::new());
                (Answer { status: *status, headers, content_type: "", body }, None)
            }
            Err(error) => (Answer::error(error), error.limited.as_ref()),
        };
        let is_shared = limited.is_some_and(|limited| limited.scope == Scope::Shared);
        if matches!(answer.status, 401 | 403 | 429) && !is_shared {
            self.invalid.count(&self.settings.ban, call.ip, now);
        }
        if outcome.as_ref().is_err_and(|error| *error == error::unknown_webhook()) {
            self.invalid.count_dead_webhook(call.ip, webhook, now);
        }
        self.rate_headers(&mut answer, announced, limited, now);
        self.log_status(call.seq, answer.status, outcome.err().map(|error| error.code));
        answer
    }

    fn limited_and_handled(
        &mut self,
        route: &Route,
        call: &Call,
        fault: Option<&What>,
        now: DateTime<Utc>,
    ) -> (Option<Announced>, Result<Reply, ApiError>) {
        let bot = match self.caller(route, call) {
            Ok(bot) => bot,
            Err(error) => return (None, Err(error)),
        };
        let who = match route.auth {
            Auth::Bot => call.authorization.clone().unwrap_or_default(),
            Auth::Path => call.ip.to_string(),
        };
        // Webhooks are not under the global limit.
        if !call.params.contains_key("webhook_token")
            && let Err(error) = self.windows.global(&self.settings.limits, &who, now)
        {
            return (None, Err(error));
        }
        let major = self.major(call, &who);
        let limits = &self.settings.limits;
        let (announced, granted) =
            self.windows.bucket(limits, (route.name, route.bucket), &major, now, self.seed);
        if let Some(error) = struck(fault) {
            return (announced, Err(error));
        }
        if let Err(error) = granted {
            return (announced, Err(error));
        }
        let (mut stripped, mut hidden_for) = (String::new(), TimeDelta::zero());
        match fault {
            Some(What::StripCharacters { characters }) => stripped.clone_from(characters),
            Some(What::HideInReads { millis }) => {
                hidden_for = TimeDelta::milliseconds(i64::try_from(*millis).unwrap_or(i64::MAX));
            }
            _ => {}
        }
        let mut context = Context { state: self, call, bot, now, stripped, hidden_for };
        (announced, (route.handler)(&mut context))
    }

    /// The bot that calls, where the route asks for one.
    fn caller(&self, route: &Route, call: &Call) -> Result<Id, ApiError> {
        let is_bot = call.user_agent.as_deref().is_some_and(|agent| agent.starts_with("DiscordBot ("));
        if self.settings.require_user_agent && !is_bot {
            return Err(error::user_agent());
        }
        if route.auth == Auth::Path {
            return Ok(Id(0));
        }
        let token = call.authorization.as_deref().and_then(|header| header.strip_prefix("Bot "));
        let bot = token.and_then(|token| self.world.tokens.get(token));
        bot.copied().ok_or_else(error::unauthorized)
    }

    /// What a bucket is kept for: caller and top-level resource.
    fn major(&self, call: &Call, who: &str) -> String {
        let param = |name: &str| call.params.get(name).map(String::as_str).unwrap_or_default();
        match call.params.contains_key("webhook_token") {
            true => format!("webhook/{}/{}", param("webhook_id"), param("webhook_token")),
            false => {
                let resource = ["channel_id", "guild_id", "webhook_id"].map(param).join("/");
                format!("{who}/{resource}")
            }
        }
    }

    fn rate_headers(
        &self,
        answer: &mut Answer,
        announced: Option<Announced>,
        limited: Option<&Limited>,
        now: DateTime<Utc>,
    ) {
        let is_global = limited.is_some_and(|limited| limited.scope == Scope::Global);
        let mut scope = limited.map(|limited| limited.scope);
        if let Some(announced) = announced.filter(|_| !is_global) {
            let after = limits::seconds(announced.resets_at - now);
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
            let reset = announced.resets_at.timestamp_millis() as f64 / 1000.0;
            answer.headers.extend([
                ("x-ratelimit-limit", announced.limit.to_string()),
                ("x-ratelimit-remaining", announced.remaining.to_string()),
                ("x-ratelimit-reset", format!("{reset:.3}")),
                ("x-ratelimit-reset-after", format!("{after:.3}")),
                ("x-ratelimit-bucket", announced.bucket),
            ]);
            scope = scope.or(Some(Scope::User));
        }
        if is_global {
            answer.headers.push(("x-ratelimit-global", "true".into()));
        }
        let shows_scope = match self.settings.limits.scope_header {
            ScopeHeader::On429 => limited.is_some(),
            ScopeHeader::Always => true,
            ScopeHeader::Never => false,
        };
        if let Some(scope) = scope.filter(|_| shows_scope) {
            answer.headers.push(("x-ratelimit-scope", scope.name().into()));
        }
    }

    /// What a banned address sees: nothing that tells of Discord's limits.
    fn ban_page(&self, until: DateTime<Utc>, now: DateTime<Utc>) -> Answer {
        let rules = &self.settings.ban;
        let mut answer = match rules.page {
            BanPage::Html => Answer::html(rules.status),
            BanPage::Plain => Answer {
                content_type: "text/plain",
                body: b"error code: 1015".to_vec(),
                ..Answer::html(rules.status)
            },
            BanPage::Json => {
                let message = "You are being blocked from accessing our API temporarily due to exceeding our rate \
                               limits frequently. Please read our docs at https://discord.com/developers/docs/topics/\
                               rate-limits to prevent this moving forward.";
                Answer::json(rules.status, &serde_json::json!({"message": message, "code": 0}))
            }
        };
        if rules.retry_after {
            answer.headers.push(("retry-after", format!("{:.0}", limits::seconds(until - now).ceil())));
        }
        answer
    }
}

/// The error that a fault makes of a request.
fn struck(fault: Option<&What>) -> Option<ApiError> {
    match fault? {
        What::RateLimit { scope, retry_after_seconds, header_seconds, code } => {
            let mut error = limits::limited(*scope, *retry_after_seconds);
            error.code = *code;
            if let (Some(limited), Some(seconds)) = (&mut error.limited, header_seconds) {
                limited.header_seconds = *seconds;
            }
            Some(error)
        }
        What::Error { status, code, message } => Some(ApiError::new(*status, *code, message.clone())),
        _ => None,
    }
}
