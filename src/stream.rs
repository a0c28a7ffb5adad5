//! Answers a stream request: takes a permit, finds out whose it is, joins the topic, and says what becomes of it.
//!
//! The rule behind the order: an EventSource that gets anything but 200 gives up for good. So our own troubles and the
//! app's become a 200 that waits or asks the client to come back, and only the app's own decisions (401, 403, 404, a
//! redirect, 204) become another status.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, uri::PathAndQuery};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Instant;
use tracing::debug;

pub mod admission;
pub mod body;
pub mod patience;

use crate::{
    connections::{ConnState, Connections, Permit, Seat},
    event,
    forward::ResponseBody,
    grant::Grant,
    hub::{Hub, Joined, Order},
    metrics::{Metrics, RejectReason, RouteId, Transport},
    refusal::Refusal,
    route::{Params, Replay, Route, Share, SourceSpec},
    router::{self, StreamRequest},
    scope::{Identity, Lender, Scope, Scopes},
    subscription::Subscription,
    topic::{Resumed, Settled, Store, Topic, TopicKey},
};
use admission::{Admission, Admissions};
use body::{Pacing, StreamBody, Watching};
use patience::Patience;

/// Until when a client waits for a status before it gets a stream that waits: under the 30 s that the strictest platforms
/// allow for the first byte.
const SETTLE_MAX: Duration = Duration::from_secs(25);

/// The headers of every stream. No charset: an event stream is always UTF-8, and some intermediaries know only the bare
/// type.
pub const HEAD: [(&str, &str); 4] = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
    ("vary", "Accept"),
];

/// Everything a stream request needs.
#[derive(Debug)]
pub struct Streams {
    /// The routes, in the order of their ids.
    pub routes: Arc<[Route]>,
    /// Where topics live.
    pub hub: Arc<Hub>,
    /// Where seats are.
    pub connections: Arc<Connections>,
    /// Whose is whose.
    pub scopes: Scopes,
    /// Who may, on `share=authorized` routes.
    pub admissions: Arc<Admissions>,
    /// The times of each route's streams.
    pub pacings: Box<[Arc<Pacing>]>,
    /// Where streams are counted.
    pub metrics: Arc<Metrics>,
}

/// What becomes of a stream request.
#[derive(Debug)]
pub enum Opened {
    /// An answer like any other: a refusal, or a stream that stays with its connection's task.
    Answer(Response<ResponseBody>),
    /// A stream that can begin; how is for the server to say.
    Live(Live),
}

/// A stream that can begin: it has its place in a topic, and the client gets 200.
#[derive(Debug)]
pub struct Live {
    /// Its place in its topic.
    pub subscription: Subscription,
    /// Its place among the open streams.
    pub permit: Permit,
    /// Its times.
    pub pacing: Arc<Pacing>,
}

/// The client behind a request.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address, as far as it can be believed.
    pub ip: IpAddr,
    /// Its connection.
    pub conn: Arc<ConnState>,
}

// === impl Streams ===

impl Streams {
    /// What becomes of a stream request.
    pub async fn open<B>(&self, wanted: StreamRequest, req: Request<B>, client: Client) -> Opened {
        let (head, body) = req.into_parts();
        // Dropped at once: a stream request has no use for a body, and the connection's buffers hang on it.
        drop(body);
        let id = wanted.route;
        let route = &self.routes[id.0];
        let Some(target) = target(route, &wanted.params, &head.uri) else {
            let response = ResponseBody::plain(StatusCode::URI_TOO_LONG, "the path is too long to ask the app for\n");
            return Opened::Answer(response);
        };
        if head.method == Method::HEAD {
            return Opened::Answer(stream_head(ResponseBody::Empty, None));
        }
        let patience = Patience::of(&head.method, &head.headers);
        let permit = match self.connections.permit(id, client.ip, Transport::Http1) {
            Ok(permit) => permit,
            Err(reason) => return Opened::Answer(rejected(&patience, reason)),
        };
        let last_event_id = last_event_id(&head.headers, head.uri.query());
        let (scope, identity) = match route.share {
            Share::Public => self.scopes.without_credentials(&head.headers, client.ip),
            Share::Credentials | Share::Authorized => self.scopes.with_credentials(&head.headers, client.ip),
        };
        if route.share == Share::Credentials {
            self.metrics.route(id).traces.badges_seen(self.scopes.badges(&head.headers));
        }
        let topic_scope = match route.share {
            Share::Authorized => self.scopes.without_credentials(&head.headers, client.ip).0,
            Share::Public | Share::Credentials => scope,
        };
        let key = Arc::new(TopicKey { route: id, target: target.as_str().into(), scope: topic_scope });
        let wish = Wish { key, scope, identity, last_event_id };
        drop(head);
        self.watch(route, wish, &patience, permit, client.conn).await
    }

    async fn watch(
        &self,
        route: &Route,
        wish: Wish,
        patience: &Patience,
        permit: Permit,
        conn: Arc<ConnState>,
    ) -> Opened {
        // One for both waits, or a slow admission and a slow app would add up.
        let settled_by = Instant::now() + SETTLE_MAX;
        let route_id = wish.key.route;
        let pacing = Arc::clone(&self.pacings[route_id.0]);
        if route.share == Share::Authorized {
            let (admissions, key) = (Arc::clone(&self.admissions), Arc::clone(&wish.key));
            let (scope, identity) = (wish.scope, wish.identity.clone());
            let mut ask = async move { admissions.ask(&key, scope, &identity).await }.boxed();
            // It may not have what others have; it gets a stream that waits until the app has spoken about it.
            let (ask, notice) = match tokio::time::timeout_at(settled_by, &mut ask).await {
                Ok(Admission::Admitted) => (None, None),
                Ok(Admission::Refused(refusal)) => return Opened::Answer(relay(&refusal)),
                Ok(Admission::Trouble(trouble)) => (Some(self.persist(&wish)), trouble.notice(route.errors)),
                // Many came before it, or the app is slow: it keeps its place in the queue.
                Err(_) => (Some(self.go_on(ask, &wish)), None),
            };
            if let Some(ask) = ask {
                if !patience.needs_grant() {
                    let waiting = Watching::Admission { ask, notice, join: Box::new(self.joining(wish)) };
                    return Opened::Answer(self.stream(waiting, permit.listed(conn), pacing));
                }
                match tokio::time::timeout_at(settled_by, ask).await {
                    Ok(Admission::Admitted) => {}
                    Ok(Admission::Refused(refusal)) => return Opened::Answer(relay(&refusal)),
                    Ok(Admission::Trouble(_)) | Err(_) => return Opened::Answer(no_word_yet(patience, &pacing)),
                }
            }
        }
        let joining = self.joining(wish);
        let mut subscription = match joining.join() {
            Ok(Joined::Subscribed(subscription)) => subscription,
            Ok(Joined::Finished(topic)) => return Opened::Answer(self.finished(route_id, &topic)),
            Err(_) => {
                self.metrics.rejected(RejectReason::MaxTopics);
                return Opened::Answer(patience.later());
            }
        };
        let settled = match patience.needs_grant() {
            true => tokio::time::timeout_at(settled_by, subscription.spoken()).await,
            false => tokio::time::timeout_at(settled_by, subscription.settled()).await,
        };
        match settled {
            Ok(Settled::Refused(refusal)) => Opened::Answer(relay(&refusal)),
            Err(_) if patience.needs_grant() => Opened::Answer(no_word_yet(patience, &pacing)),
            Ok(Settled::Open) | Err(_) => match subscription.place(joining.last_event_id.as_deref()) {
                Resumed::Finished => Opened::Answer(self.finished(route_id, subscription.topic())),
                Resumed::New | Resumed::Here => Opened::Live(Live { subscription, permit, pacing }),
            },
        }
    }

    /// Whoever has seen the end need not come again; that it came says something of its front end.
    fn finished(&self, route: RouteId, topic: &Topic) -> Response<ResponseBody> {
        self.metrics.route(route).traces.came_after_end();
        finished(topic.grant().as_deref())
    }

    /// Asks the app about a client again and again, until it has spoken.
    fn persist(&self, wish: &Wish) -> BoxFuture<'static, Admission> {
        Arc::clone(&self.admissions).persist(Arc::clone(&wish.key), wish.scope, wish.identity.clone()).boxed()
    }

    /// The same, with a question that is under way as the first.
    fn go_on(&self, asking: BoxFuture<'static, Admission>, wish: &Wish) -> BoxFuture<'static, Admission> {
        let again = self.persist(wish);
        async move {
            match asking.await {
                Admission::Trouble(_) => again.await,
                spoken => spoken,
            }
        }
        .boxed()
    }

    /// A stream whose connection stays with its task: its socket can't be taken over.
    pub fn body(&self, live: Live, conn: Arc<ConnState>) -> Response<ResponseBody> {
        let Live { subscription, permit, pacing } = live;
        self.stream(Watching::Topic(subscription), permit.listed(conn), pacing)
    }

    fn stream(&self, watching: Watching, seat: Seat, pacing: Arc<Pacing>) -> Response<ResponseBody> {
        let grant = match &watching {
            Watching::Topic(subscription) => subscription.topic().grant(),
            Watching::Admission { .. } | Watching::Word(_) => None,
        };
        let body = StreamBody::new(watching, seat, pacing, Arc::clone(&self.metrics));
        stream_head(ResponseBody::Boxed(UnsyncBoxBody::new(body)), grant.as_deref())
    }

    fn joining(&self, wish: Wish) -> Joining {
        let Wish { key, scope, identity, last_event_id } = wish;
        let route = &self.routes[key.route.0];
        let store = match &route.source {
            SourceSpec::Poll(_) => Store::State,
            SourceSpec::Subscribe(spec) => {
                Store::Log { latest: spec.replay == Replay::Latest, greeting: spec.greeting }
            }
        };
        Joining {
            hub: Arc::clone(&self.hub),
            key,
            store,
            linger: route.linger,
            lender: Lender::new(scope, identity),
            share: route.share,
            last_event_id,
        }
    }
}

/// What a client wants to watch, and who it is.
#[derive(Debug)]
struct Wish {
    key: Arc<TopicKey>,
    scope: Scope,
    identity: Identity,
    last_event_id: Option<String>,
}

/// What is needed to join a topic, now or, after an admission that took time, later.
#[derive(Debug)]
pub struct Joining {
    hub: Arc<Hub>,
    key: Arc<TopicKey>,
    store: Store,
    linger: Duration,
    lender: Arc<Lender>,
    share: Share,
    /// The client's place.
    pub last_event_id: Option<String>,
}

// === impl Joining ===

impl Joining {
    /// Joins the topic.
    ///
    /// # Errors
    /// When that would be one topic too many.
    pub fn join(&self) -> Result<Joined, crate::hub::TooManyTopics> {
        // What one client says it saw may set where the app's stream begins only while nobody else depends on it; and an
        // id of ours would mean nothing to the app.
        let own = self.last_event_id.as_deref().is_some_and(event::is_own_id);
        let first_id = (self.share == Share::Credentials && !own).then(|| self.last_event_id.clone()).flatten();
        let finished_by = self.last_event_id.clone();
        self.hub.subscribe(Order {
            key: Arc::clone(&self.key),
            store: self.store,
            linger: self.linger,
            lender: Arc::clone(&self.lender),
            admitted: self.share == Share::Authorized,
            last_event_id: finished_by,
            first_id,
        })
    }
}

/// The request to the app that a topic of this route stands for.
fn target(route: &Route, params: &Params, uri: &http::Uri) -> Option<PathAndQuery> {
    match &route.source {
        SourceSpec::Poll(spec) => spec.target.fill(params).ok(),
        SourceSpec::Subscribe(spec) => match &spec.target {
            Some(target) => target.fill(params).ok(),
            None => router::without_last_event_id(uri),
        },
    }
}

/// `Last-Event-ID`, from its header or, for clients that can't set one, from `lastEventId` in the query.
fn last_event_id(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let header = headers.get("last-event-id").and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let id = match header {
        Some(id) => id.to_owned(),
        None => router::last_event_id_in(query?)?,
    };
    // What can't come back was not given, and is as unknown as any other.
    event::as_returned(&id).map(str::to_owned)
}

/// The head of every stream, with what the app grants to pages of another origin.
fn stream_head(body: ResponseBody, grant: Option<&Grant>) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    for (name, value) in HEAD {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Some(grant) = grant {
        grant.apply(response.headers_mut());
    }
    response
}

/// The app's decision, in its own words.
fn relay(refusal: &Refusal) -> Response<ResponseBody> {
    debug!(status = refusal.status.as_u16(), "the app's refusal is relayed");
    let mut response = Response::new(ResponseBody::Text(Some(refusal.body.clone())));
    *response.status_mut() = refusal.status;
    *response.headers_mut() = refusal.headers.clone();
    for cookie in refusal.take_cookies() {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// 204 is the one answer after which an EventSource does not come back.
fn finished(grant: Option<&Grant>) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Some(grant) = grant {
        grant.apply(response.headers_mut());
    }
    response
}

/// Over a limit.
fn rejected(patience: &Patience, reason: RejectReason) -> Response<ResponseBody> {
    debug!(reason = reason.as_str(), "a stream was turned away");
    match reason {
        RejectReason::FileLimit => patience.later_without_file(),
        _ => patience.later(),
    }
}

/// The app has not said in time what it grants to pages of another origin. A head without that would end their EventSource
/// for good, so they come back for one, as they would to an app that is down.
fn no_word_yet(patience: &Patience, pacing: &Pacing) -> Response<ResponseBody> {
    debug!("a page of another origin is asked to come back, as the app has said nothing yet");
    patience.soon(pacing.retry)
}

#[cfg(test)]
mod tests;
