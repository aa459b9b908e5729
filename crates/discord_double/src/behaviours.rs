//! What the double does, and how we know that Discord does so: one table, which the README shows.

/// How a behaviour is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Discord's documentation or its OpenAPI file.
    Documented,
    /// Read in a project's source.
    Read,
    /// An issue or a pull request.
    Issue,
    /// Unofficial, or a figure that the community goes by.
    Unofficial,
    /// Measured.
    Measured,
    /// Not verified: an assumption.
    Assumed,
}

impl Source {
    /// One letter, as in the README.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Documented => "D",
            Self::Read => "S",
            Self::Issue => "I",
            Self::Unofficial => "U",
            Self::Measured => "M",
            Self::Assumed => "?",
        }
    }
}

/// One behaviour.
#[derive(Clone, Copy, Debug)]
pub struct Behaviour {
    /// What it is about.
    pub area: &'static str,
    /// What the double does.
    pub what: &'static str,
    /// How it is known.
    pub source: Source,
    /// The page or the issue.
    pub reference: &'static str,
    /// What changes it, if anything does.
    pub setting: &'static str,
}

macro_rules! behaviours {
    ($($area:literal { $([$tag:tt] $what:literal, $reference:literal $(=> $setting:literal)?;)* })*) => {
        &[$($(Behaviour {
            area: $area,
            what: $what,
            source: behaviours!(@ $tag),
            reference: $reference,
            setting: concat!("", $($setting)?),
        },)*)*]
    };
    (@ D) => { Source::Documented };
    (@ S) => { Source::Read };
    (@ I) => { Source::Issue };
    (@ U) => { Source::Unofficial };
    (@ M) => { Source::Measured };
    (@ ?) => { Source::Assumed };
}

/// All of them.
pub const BEHAVIOURS: &[Behaviour] = behaviours! {
    "wire" {
        [D] "paths begin with `/api/v10`; another version, or none, is 50041", "reference, API versioning";
        [D] "snowflakes are strings, made from the clock", "reference, snowflakes";
        [D] "the `Date` header of an answer shows the double's clock", "RFC 9110";
        [D] "requests without a `User-Agent` that begins with `DiscordBot (` get 403 and code 40333", "reference, user agent" => "`settings.require_user_agent`";
        [D] "a body that is not JSON is 50109, a wrong `Content-Type` is 50035", "reference, error messages; opcodes and status codes";
        [?] "the error inside the 50035 for a wrong `Content-Type` is `CONTENT_TYPE_INVALID`; forms that are not multipart are not known", "assumption; the words as in CrazyHackGUT/Discord#14";
        [D] "a request of more than 25 MiB is 413 and 40005", "reference, uploading files";
        [?] "the limit of the request is refused before anything else is looked at", "assumption";
    }
    "permissions" {
        [D] "computed from owner, ADMINISTRATOR, roles, and overwrites for @everyone, roles, member, in this order", "topics/permissions";
        [D] "without VIEW_CHANNEL nothing is allowed (50001)", "topics/permissions, implicit permissions";
        [D] "without SEND_MESSAGES there are no mentions of everyone, TTS, files or embeds", "topics/permissions, implicit permissions";
        [D] "a thread goes by its parent's overwrites, with SEND_MESSAGES_IN_THREADS in place of SEND_MESSAGES", "topics/permissions, threads";
        [D] "a private thread is seen by its members and by those with MANAGE_THREADS", "topics/threads";
        [D] "a member who is timed out may only view and read", "topics/permissions, timed out members";
        [D] "pins need PIN_MESSAGES", "change-log 2026-02-23";
        [I] "a message with nothing but embeds is 50013 without EMBED_LINKS", "discord-api-docs#2601";
        [?] "beside other content, embeds without EMBED_LINKS are dropped in silence", "assumption; so JDA#2028";
        [I] "an edit without EMBED_LINKS loses its embeds in silence, and is 50006 if nothing else is there", "discord-api-docs#2601";
        [?] "a file or a poll without its permission is 50013", "assumption";
        [?] "in a voice channel without CONNECT one may only look", "assumption";
    }
    "messages" {
        [D] "2000 characters of content for bots", "resources/message" => "`settings.content_unit`";
        [S] "characters are Unicode scalar values", "twilight-validate, serenity" => "`settings.content_unit`";
        [?] "content is trimmed before it is counted", "assumption";
        [D] "embeds: at most 10, 6000 characters in all of them, counted after trimming, and each part has its limit", "resources/message, embed limits";
        [I] "too large embeds are `MAX_EMBED_SIZE_EXCEEDED` at `embeds`", "NelsonDane/auto-rsa#451";
        [I] "too many embeds are `BASE_TYPE_MAX_LENGTH` at `embeds`", "member-gentei/member-gentei#127";
        [D] "embeds with the same URL become the first one", "resources/message";
        [?] "an embed with nothing in it is `BASE_TYPE_REQUIRED` at its description", "assumption";
        [D] "at most 10 files, 10 MiB each (50 and 100 with boosts); larger ones are 413 and 40005", "reference, uploading files";
        [D] "an attachment that names no file is 50146", "opcodes and status codes";
        [D] "with IS_COMPONENTS_V2 there is no content, embed, poll or sticker, and at most 40 components; the flag stays", "components/reference";
        [D] "their texts have at most 4000 characters in all", "components/reference";
        [?] "the codes for these are `MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2`, `COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED` and `COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED`", "assumption";
        [D] "components of the first version: at most 5 rows with 1 to 5 components", "components/reference";
        [D] "polls: question 300, 1 to 10 answers of 55, 1 to 768 hours; not in a forum's first message; never edited", "resources/poll";
        [?] "a poll in an edit is ignored", "assumption; OpenAPI: MessageEditRequest has no such field";
        [D] "at most 3 stickers", "resources/message";
        [D] "flags that a request may not set are ignored", "resources/message, message flags";
        [D] "nothing in a message is 50006", "opcodes and status codes";
        [D] "a reply needs READ_MESSAGE_HISTORY (160002), and its original unless `fail_if_not_exists` is false", "resources/message";
        [D] "only its author edits a message (50005); `attachments` names what is kept", "resources/message, edit message";
        [D] "crosspost: type 5 only (50024), once (40033), with MANAGE_MESSAGES for what others wrote", "resources/message, crosspost message";
        [D] "characters may be missing from what is stored", "resources/message" => "fault `strip_characters`";
        [D] "a message in a forum is 40058", "opcodes and status codes";
    }
    "mentions" {
        [D] "without `allowed_mentions` everything pings, for webhooks only users", "resources/message, allowed mentions";
        [D] "`parse` and the list of ids exclude each other unless the list is empty", "resources/message, allowed mentions";
        [I] "the error for that is `MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE` at `allowed_mentions`", "Mephisto5558/Teufelsbot#287";
        [D] "an edit without `allowed_mentions` parses with the defaults again", "resources/message, edit message";
        [D] "@everyone, @here and roles that are not mentionable need MENTION_EVERYONE", "topics/permissions";
        [D] "texts in components ping, embeds do not", "components/reference, text display";
        [?] "mentions in code blocks, and of users that nobody knows, count as pings: a strict judge", "our choice";
    }
    "nonce" {
        [D] "a nonce of at most 25 characters or an integer comes back in the reply", "resources/message";
        [D] "with `enforce_nonce` the message that had the nonce is returned, and none is made", "resources/message";
        [?] "a nonce is known for 180 seconds", "discord-api-docs#6647, no answer" => "`settings.nonce.window_seconds`, `--nonce-window`";
        [D] "nonces are compared for one author", "resources/message" => "`settings.nonce.scope`, `--nonce-scope`";
        [I] "content is not compared: the old one is returned", "elizaOS/eliza#17942";
        [I] "if that message was deleted, the answer is Unknown Message", "discord-api-docs#6647";
        [?] "that answer is a 404 with code 10008", "assumption";
        [I] "reads don't show a nonce", "discord.py#2451" => "`settings.nonce_in_reads`";
        [M] "it works with files too", "twilight#2570";
        [D] "webhooks and forum posts know no nonce", "OpenAPI: only in MessageCreateRequest";
        [?] "a nonce that was not enforced is remembered too", "assumption";
    }
    "limits" {
        [D] "50 requests a second for a token, for an address without one", "topics/rate-limits" => "`settings.limits.global`";
        [U] "webhooks are not under that limit", "Discord Userdoccers";
        [D] "a bucket is shared by routes and kept for each channel, guild or webhook", "topics/rate-limits" => "`settings.limits.routes`";
        [U] "5 messages in 5 seconds a channel; the other figures of the buckets", "community figures" => "`settings.limits.buckets`";
        [D] "headers with decimals; some routes send none", "topics/rate-limits" => "`settings.limits.routes`";
        [D] "`X-RateLimit-Scope` comes with a 429 only", "topics/rate-limits" => "`settings.limits.scope_header`";
        [D] "a global 429 has no bucket's headers", "topics/rate-limits";
        [I] "a 429 can come before `remaining` is 0", "discord-api-docs#7394" => "`early` of a bucket";
        [I] "10 crossposts an hour in a channel, which no header announces", "pycord#2316, discord.js#4956" => "`settings.limits.crosspost`";
        [I] "its 429 has code 20028, scope shared, and a `Retry-After` of 1 against a long body", "discord-api-docs#6109" => "`settings.limits.headers_contradict_body`";
        [U] "3 edits in 6 seconds of messages older than an hour (30046)", "Discord Userdoccers" => "`settings.limits.old_edits`";
        [I] "a channel's webhooks share a limit that no header announces", "discord-api-docs#1297" => "`settings.limits.webhook_channel`";
        [U] "that limit is 30 messages a minute", "community figure" => "`settings.limits.webhook_channel`";
        [?] "a bucket's window begins with its first request and is then fixed", "assumption";
        [D] "limits can change at any time", "topics/rate-limits" => "change `limits`";
    }
    "ban" {
        [D] "10,000 requests in 10 minutes from one address that end in 401, 403 or 429 (not shared) ban it", "topics/rate-limits, invalid requests" => "`settings.ban`";
        [I] "the banned see a 429 with a page that is no JSON, or JSON with code 0, and no rate limit headers", "discord-api-docs#1808, http-proxy#57" => "`settings.ban.page`";
        [?] "the status is 429; 403 is reported too", "reports differ" => "`settings.ban.status`";
        [D] "who keeps asking for a webhook that is gone is restricted", "resources/webhook; topics/rate-limits, invalid requests";
        [?] "that begins after 10 such requests to one webhook, and looks like a ban", "assumption" => "`settings.ban.dead_webhook_limit`";
        [U] "a ban lasts an hour", "older reports; 24 h by Discord Userdoccers" => "`settings.ban.ban_seconds`";
        [?] "`Retry-After` is absent from that page", "assumption" => "`settings.ban.retry_after`";
    }
    "history" {
        [D] "newest first, `before`, `after` and `around`, 1 to 100 at a time", "resources/message, get channel messages";
        [?] "also with `after` the newest of the page comes first", "assumption" => "`settings.after_order`";
        [D] "without READ_MESSAGE_HISTORY the answer is 200 and empty", "resources/message, get channel messages";
        [D] "without the intent MESSAGE_CONTENT, what others wrote is empty unless it mentions the bot", "events/gateway, message content intent";
        [D] "a new message may be missing from reads for a while", "reference, consistency" => "fault `hide_in_reads`";
        [?] "a message that is hidden by that fault is 10008 when asked for by its id", "assumption";
    }
    "threads" {
        [D] "a thread of a message has the message's id; a second one is 160004", "resources/channel, start thread from message";
        [D] "names of 1 to 100 characters; archived after 60, 1440, 4320 or 10080 minutes", "resources/channel";
        [D] "a forum's post needs SEND_MESSAGES, not CREATE_PUBLIC_THREADS; at most 5 tags; 40067 where one is required", "resources/channel, start thread in forum";
        [D] "the reply to a forum's post is 201, a channel with its message", "OpenAPI";
        [U] "the first message of a forum's post has the thread's id", "Discord Userdoccers";
        [D] "a message opens an archived thread that is not locked", "topics/threads";
        [D] "a locked thread is 160005, archived and locked is 50083", "opcodes and status codes";
        [?] "a tag that does not exist is `FORUM_TAG_INVALID`", "assumption";
    }
    "webhooks" {
        [D] "an unknown id is 404 and 10015, a wrong token 401 and 50027", "opcodes and status codes";
        [D] "`wait=false` answers 204, also when the message could not be saved", "resources/webhook, execute webhook";
        [?] "that holds for archived, locked and unknown threads; a wrong form is refused all the same", "assumption";
        [D] "a forum needs `thread_id` or `thread_name` (220001), not both (220002); no `thread_name` elsewhere (220003)", "opcodes and status codes";
        [D] "names of 1 to 80 characters, without clyde and discord", "resources/webhook";
        [I] "the error for that is `USERNAME_INVALID_CONTAINS`", "Xujiayao/Discord-MC-Chat#286";
        [I] "here and everyone are no names: `USERNAME_INVALID`", "MinnDevelopment/discord-webhooks#100";
        [D] "components are ignored without `with_components=true`", "resources/webhook, execute webhook";
    }
    "faults" {
        [D] "operations may happen 0, 1 or N times: lost, done and not answered, delivered twice", "reference, consistency" => "faults";
        [?] "what has arrived is done, also when the client has gone in the meantime", "assumption";
        [I] "500, 502, 503 and 504 can follow what was done", "common reports; see the 500 in discord-api-docs#7528" => "faults `fail_after_commit`, `fail_before_commit`";
    }
};

/// The table of the README.
#[must_use]
pub fn behaviours_markdown() -> String {
    let head = "| about | what the double does | source | where | what changes it |\n|---|---|---|---|---|\n";
    let rows = BEHAVIOURS.iter().map(|known| {
        let Behaviour { area, what, source, reference, setting } = known;
        format!("| {area} | {what} | {} | {reference} | {setting} |\n", source.tag())
    });
    rows.fold(head.to_owned(), |table, row| table + &row)
}
