//! Discord's error codes: what each one means for us, why it happens, and what helps. From Discord's documentation
//! (topics/opcodes-and-status-codes); a code that is not here is judged by its HTTP status.

use super::Class::{self, *};

/// What is known about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Discord's number.
    pub code: u64,
    /// What to do about it.
    pub class: Class,
    /// Why it happens, in plain words.
    pub cause: &'static str,
    /// What helps.
    pub fix: &'static str,
}

/// The entry for `code`.
pub fn known(code: u64) -> Option<&'static Known> {
    TABLE.iter().find(|known| known.code == code)
}

const fn known_as(code: u64, class: Class, cause: &'static str, fix: &'static str) -> Known {
    Known { code, class, cause, fix }
}

const WAIT: &str = "nothing: it is sent later";
const GRANT: &str = "give the bot's role View Channel and the permission to send, in the channel's settings";
const EDIT: &str = "change the post";
const NEW_TOKEN: &str = "make a new token on the Bot page of the developer portal, and set DISCORD_TOKEN";

/// Every code that we know, in order.
pub const TABLE: &[Known] = &[
    known_as(10003, Destination, "the channel does not exist any more", "correct `channel_id`"),
    known_as(10004, Destination, "the bot is not in that server", "invite the bot again"),
    known_as(10008, AlreadyDone, "the message does not exist any more", "nothing"),
    known_as(10015, Destination, "the webhook was deleted", "create a webhook and set its URL"),
    known_as(
        20001,
        Config,
        "bots may not use this part of Discord",
        "use a bot's token with this server only as documented",
    ),
    known_as(
        20009,
        Recipient,
        "explicit content can't be sent to this recipient",
        "change the post or the recipient",
    ),
    known_as(20016, Later, "slow mode of the channel", WAIT),
    known_as(20022, Later, "too many edits of announcements", WAIT),
    known_as(20028, Later, "too much is written in this channel", WAIT),
    known_as(20029, Later, "too much is written in this Discord server", WAIT),
    known_as(30015, Message, "too many files", "attach at most 10"),
    known_as(30040, Later, "too many prune requests", WAIT),
    known_as(30046, Later, "too many edits of messages older than an hour", WAIT),
    known_as(40001, Token, "Discord does not know this token", NEW_TOKEN),
    known_as(40002, Config, "the bot's account must be verified", "verify the account of the bot's owner"),
    known_as(40003, Later, "direct messages are opened too fast", WAIT),
    known_as(40004, Later, "Discord has switched off sending for the moment", WAIT),
    known_as(
        40005,
        Message,
        "the request is too large",
        "attach smaller files: 10 MiB each, 25 MiB together",
    ),
    known_as(40006, Later, "Discord has switched this off for the moment", WAIT),
    known_as(40033, AlreadyDone, "the message is already crossposted", "nothing"),
    known_as(
        40058,
        Destination,
        "the channel is a forum: it takes threads, not messages",
        "set a thread name for the post",
    ),
    known_as(40060, AlreadyDone, "the interaction is already answered", "nothing"),
    known_as(40062, Later, "a service behind Discord is over its limit", WAIT),
    known_as(
        40066,
        Destination,
        "the forum's tags can be set by moderators only",
        "allow others to set a tag, or make the bot a moderator",
    ),
    known_as(40067, Destination, "the forum requires a tag", "name one of the forum's tags in the post"),
    known_as(
        40333,
        Blocked,
        "Discord's edge does not let this request through",
        "check `api_base_url` and what stands between this machine and Discord",
    ),
    known_as(50001, Destination, "the bot can't see the channel", GRANT),
    known_as(50006, Message, "the message is empty", EDIT),
    known_as(
        50007,
        Recipient,
        "this user takes no direct messages from the bot",
        "ask the user to allow them",
    ),
    known_as(50008, Destination, "the channel takes no text", "use a text channel"),
    known_as(
        50009,
        Destination,
        "the server's verification level is too high for the bot",
        "lower it, or give the bot a role",
    ),
    known_as(50013, Destination, "the bot lacks a permission", GRANT),
    known_as(50014, Token, "the token is invalid", NEW_TOKEN),
    known_as(
        50024,
        Destination,
        "that can't be done in a channel of this type",
        "use a channel of another type",
    ),
    known_as(50027, Destination, "the webhook's token is wrong", "copy the webhook's URL again"),
    known_as(50035, Message, "Discord does not take the message as it is", "change the field that is named"),
    known_as(
        50041,
        Config,
        "Discord does not serve this version of its API any more",
        "upgrade this program, or correct `api_base_url`",
    ),
    known_as(50045, Message, "a file is too large", "attach files of at most 10 MiB"),
    known_as(50046, Message, "a file is not valid", EDIT),
    known_as(50080, Message, "a sticker can't be changed like this", EDIT),
    known_as(50081, Message, "a sticker is not valid", EDIT),
    known_as(50083, Destination, "the thread is archived", "open the thread again"),
    known_as(
        50109,
        Message,
        "Discord could not read the request as JSON",
        "report this as a fault of this program",
    ),
    known_as(50110, Message, "a file is not valid", EDIT),
    known_as(50123, Message, "a file is of a type that is not allowed", EDIT),
    known_as(50146, Message, "Discord does not find the file that was uploaded", EDIT),
    known_as(50159, Message, "a voice message may have nothing else", EDIT),
    known_as(50160, Message, "a voice message needs exactly one audio file", EDIT),
    known_as(50161, Message, "a voice message lacks its data", EDIT),
    known_as(
        50278,
        Recipient,
        "this user can't be reached: no server in common",
        "use a recipient who shares a server with the bot",
    ),
    known_as(50600, Message, "the bot may not use this sticker", EDIT),
    known_as(110000, Later, "Discord is still building its index", WAIT),
    known_as(130000, Transient, "Discord is overloaded", WAIT),
    known_as(
        160002,
        Config,
        "a reply needs the permission to read the history",
        "give the bot Read Message History, or post without a reply",
    ),
    known_as(160004, AlreadyDone, "the message has a thread already", "nothing"),
    known_as(160005, Destination, "the thread is locked", "unlock the thread"),
    known_as(160006, Destination, "too many active threads", "archive some threads"),
    known_as(160007, Destination, "too many active announcement threads", "archive some threads"),
    known_as(
        200000,
        Message,
        "the server's AutoMod does not let the text through",
        "change the text or the rule",
    ),
    known_as(
        200001,
        Message,
        "the server's AutoMod does not let the title through",
        "change the title or the rule",
    ),
    known_as(
        220001,
        Destination,
        "a webhook to a forum needs a thread",
        "set a thread name, or the id of a thread",
    ),
    known_as(
        220002,
        Destination,
        "a webhook to a forum takes a thread's name or its id, not both",
        "set one of the two",
    ),
    known_as(220003, Destination, "this webhook can't make threads", "use the webhook of a forum"),
    known_as(220004, Destination, "this kind of webhook can't post to a forum", "use another channel"),
    known_as(240000, Message, "Discord takes a link for harmful", "remove the link"),
    known_as(
        340015,
        Spam,
        "Discord takes the bot for a spammer",
        "look at what the bot posts, then start the server again",
    ),
    known_as(
        400001,
        Destination,
        "uploads are limited in this server",
        "ask the server's owner, or post without files",
    ),
    known_as(
        520002,
        Message,
        "polls are not possible in this channel",
        "remove the poll, or use another channel",
    ),
    known_as(520004, Message, "an emoji of the poll can't be used", "remove the emoji"),
];
