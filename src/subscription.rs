//! One client's place in one topic. Dropping it means leaving.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use crate::{
    event,
    hub::Hub,
    metrics::CloseReason,
    scope::Lender,
    topic::{Cursor, Delivery, End, Glance, Glimpse, Resumed, Settled, Topic},
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
        poll_fn(|cx| self.poll_settled(cx)).await
    }

    /// Waits until the app has spoken about this topic, also through trouble.
    pub async fn spoken(&mut self) -> Settled {
        let settled = poll_fn(|cx| self.topic.poll_spoken(cx, &mut self.cursor)).await;
        self.told(settled)
    }

    /// Ready when the app has spoken about this topic, or is known to be in trouble.
    pub fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Settled> {
        let settled = ready!(self.topic.poll_settled(cx, &mut self.cursor));
        Poll::Ready(self.told(settled))
    }

    /// As much of it as is for this client.
    fn told(&self, settled: Settled) -> Settled {
        match (settled, &self.lender) {
            // The words are for the last whose credentials were tried. Whoever was turned away before it, or not asked
            // about at all, has its stream ended instead, and hears its own when it comes back.
            (Settled::Refused(refusal), Some(lender)) if !refusal.is_for(lender.scope()) => Settled::Open,
            (settled, _) => settled,
        }
    }

    /// Takes its place in the topic; to be called once, before the first [`Subscription::poll_next`].
    pub fn place(&mut self, last_event_id: Option<&str>) -> Resumed {
        self.topic.place(&mut self.cursor, last_event_id)
    }

    /// The topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Which topic it is, of those of its hub that follow each other under one key.
    #[cfg(test)]
    pub(crate) fn topic_id(&self) -> u64 {
        self.topic_id
    }

    /// The next thing to send, if there is one now.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let next = self.topic.try_next(&mut self.cursor);
        // Asked last, so that nothing is handed out that was published after a denial.
        self.denied().or(next)
    }

    /// What a glimpse of its topic says to this client.
    pub fn glance(&mut self, glimpse: &Glimpse) -> Glance {
        // As in `try_next`: the glimpse is older than the question about a denial. And an event of another topic must never
        // be shown, whoever asks.
        if !glimpse.is_of(&self.topic) || self.denied().is_some() {
            return Glance::Ask;
        }
        glimpse.show(&mut self.cursor)
    }

    /// The next thing to send.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Delivery> {
        let polled = self.topic.poll_next(cx, &mut self.cursor);
        // Asked after the waker is in place, so that a denial in between is not missed, and before anything of the topic
        // is handed out: a client that was turned away gets nothing more.
        if let Some(end) = self.denied() {
            return Poll::Ready(end);
        }
        polled
    }

    /// Where it stands.
    #[cfg(test)]
    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The end, if the app has turned this client away from a topic that others still watch.
    fn denied(&self) -> Option<Delivery> {
        let reason = self.lender.as_ref()?.denied()?;
        let frame = (reason == CloseReason::Done).then(event::gone);
        Some(Delivery::End(End { frame, reason, finished: false }))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.forget(&mut self.cursor.waiter);
        self.hub.leave(self.topic.key(), self.topic_id);
    }
}
