//! A platform in memory.

use crate::clock::Clock;
use crate::post::{
    Capabilities, ContentPoster, Doubt, IdempotencyKey, LookUp, PostError, Receipt, TextLimit, TextUnit,
};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Takes any content for any destination, keeps it in memory, recognises keys for ever and can be asked. Clones share
/// one memory. `GenericContentPoster<PostContent, Destination>` is a [`Platform`](crate::post::Platform).
pub struct GenericContentPoster<Content, Destination> {
    clock: Arc<dyn Clock>,
    messages: Arc<Mutex<Vec<Message<Content, Destination>>>>,
}

#[derive(Clone)]
struct Message<Content, Destination> {
    content: Content,
    destination: Destination,
    key: IdempotencyKey,
    receipt: Receipt,
}

impl<Content, Destination> Clone for GenericContentPoster<Content, Destination> {
    fn clone(&self) -> Self {
        Self { clock: self.clock.clone(), messages: self.messages.clone() }
    }
}

impl<Content: Clone, Destination: Clone + PartialEq> GenericContentPoster<Content, Destination> {
    /// An empty platform; `clock` says when something was posted.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, messages: Arc::default() }
    }

    /// What was posted to `destination`, oldest first.
    pub fn posted_to(&self, destination: &Destination) -> Vec<Content> {
        let messages = self.messages();
        let matching = messages.iter().filter(|message| message.destination == *destination);
        matching.map(|message| message.content.clone()).collect()
    }

    fn messages(&self) -> MutexGuard<'_, Vec<Message<Content, Destination>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receipt of the message with this key, as one that was there before.
fn recovered<Content, Destination: PartialEq>(
    messages: &[Message<Content, Destination>],
    destination: &Destination,
    key: &IdempotencyKey,
) -> Option<Receipt> {
    let message =
        messages.iter().find(|message| message.key == *key && message.destination == *destination)?;
    Some(Receipt { recovered: true, ..message.receipt.clone() })
}

#[async_trait]
impl<Content, Destination> ContentPoster for GenericContentPoster<Content, Destination>
where
    Content: Clone + Send + Sync,
    Destination: Clone + PartialEq + Send + Sync,
{
    type Content = Content;
    type Destination = Destination;
    type Posted = Receipt;

    fn capabilities(&self, _: &Content, _: &Destination) -> Capabilities {
        let text = TextLimit { max: None, unit: TextUnit::Scalars };
        Capabilities { idempotent_for: Some(Duration::MAX), look_up: true, text }
    }

    fn validate(&self, _: &Content, _: &Destination) -> Result<(), PostError> {
        Ok(())
    }

    async fn post(
        &self,
        content: &Content,
        destination: &Destination,
        key: &IdempotencyKey,
    ) -> Result<Receipt, PostError> {
        let mut messages = self.messages();
        if let Some(receipt) = recovered(&messages, destination, key) {
            return Ok(receipt);
        }
        let receipt = Receipt {
            message_id: (messages.len() + 1).to_string(),
            posted_at: self.clock.now(),
            link: None,
            recovered: false,
            to_follow: Vec::new(),
            missing: Vec::new(),
        };
        messages.push(Message {
            content: content.clone(),
            destination: destination.clone(),
            key: key.clone(),
            receipt: receipt.clone(),
        });
        Ok(receipt)
    }

    async fn look_up(
        &self,
        _: &Content,
        destination: &Destination,
        key: &IdempotencyKey,
        _: &Doubt,
    ) -> Result<LookUp<Receipt>, PostError> {
        Ok(recovered(&self.messages(), destination, key).map_or(LookUp::Absent, LookUp::Found))
    }
}
