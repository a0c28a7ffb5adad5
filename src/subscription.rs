//! One client's place in one topic. Dropping it means leaving.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    event,
    hub::Hub,
    metrics::CloseReason,
    scope::Lender,
    topic::{Cursor, Delivery, End, Resumed, Settled, Topic},
};

/// A subscriber's handle on a topic.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    topic: Arc<Topic>,
    topic_id: u64,
    cursor: Cursor,
    /// On `share=authorized` routes: what keeps this client's credentials usable, and tells when the app withdrew them.
    lender: Option<Arc<Lender>>,
}

// === impl Subscription ===

impl Subscription {
    /// Called by the hub alone, which has counted this subscriber already.
    pub(crate) fn new(
        hub: Arc<Hub>,
        topic: Arc<Topic>,
        topic_id: u64,
        cursor: Cursor,
        lender: Option<Arc<Lender>>,
    ) -> Self {
        Self { hub, topic, topic_id, cursor, lender }
    }

    /// Waits until the app has spoken about this topic, or is known to be in trouble.
    pub async fn settled(&mut self) -> Settled {
        poll_fn(|cx| self.topic.poll_settled(cx, &mut self.cursor)).await
    }

    /// Takes its place in the topic; to be called once, before the first [`Subscription::poll_next`].
    pub fn place(&mut self, last_event_id: Option<&str>) -> Resumed {
        self.topic.place(&mut self.cursor, last_event_id)
    }

    /// The next thing to send.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        let polled = self.topic.poll_next(cx, &mut self.cursor);
        // Asked after the waker is in place, so that a denial in between is not missed, and before anything of the topic
        // is handed out: a client that was turned away gets nothing more.
        if let Some(reason) = self.lender.as_ref().and_then(|lender| lender.denied()) {
            let frame = (reason == CloseReason::Done).then(event::gone);
            return Poll::Ready(Delivery::End(End { frame, reason, finished: false }));
        }
        polled
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.forget(&mut self.cursor);
        self.hub.leave(self.topic.key(), self.topic_id);
    }
}
