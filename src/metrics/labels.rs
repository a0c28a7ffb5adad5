//! The closed sets of label values: a label that clients or the app could fill would make series without end.

/// A closed set of label values: an enum whose variants all have a fixed text.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text of the label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

label! {
    /// How a stream's bytes reach the client.
    Transport {
        /// A stream of one of the routes, on HTTP/1.x.
        Http1 => "http1",
        /// The app's own body, passed through on HTTP/1.x with heartbeats in its gaps.
        Guarded => "guarded",
    }
}

label! {
    /// Why a stream ended.
    CloseReason {
        /// The client went away.
        Client => "client",
        /// The job reached its end, or the app said 204 or took the job away.
        Done => "done",
        /// The peer acknowledged nothing for `--reap-after`.
        Stale => "stale",
        /// The reader fell out of the replay window.
        Slow => "slow",
        /// `--max-age`.
        MaxAge => "max_age",
        /// The program is leaving.
        Drain => "drain",
        /// The app ended the stream and will not have it back.
        Upstream => "upstream",
        /// The app withdrew its permission (401, 403), or refused a client that was waiting.
        Denied => "denied",
        /// A fault of our own.
        Error => "error",
    }
}

label! {
    /// Why a stream was turned away before it began.
    RejectReason {
        /// `--max-connections`.
        MaxConnections => "max_connections",
        /// `--max-connections-per-ip`.
        MaxConnectionsPerIp => "max_connections_per_ip",
        /// `--max-topics`, with none that only lingers.
        MaxTopics => "max_topics",
        /// Not ready to serve: the program drains.
        Drain => "drain",
        /// The process may open no more files: somebody was turned away, or for a moment nobody was accepted.
        FileLimit => "file_limit",
    }
}

label! {
    /// Why a request of the public side was refused unread.
    Refused {
        /// A head over 64 KiB, a request line among them, or with over 100 fields.
        HeadTooLarge => "head_too_large",
        /// A head that took longer than `--head-timeout`.
        HeadTimeout => "head_timeout",
        /// It disagrees with itself about its length, host or target, or is no HTTP/1.
        Malformed => "malformed",
    }
}

label! {
    /// Who touched a stream that was already closed.
    InvalidStateSide {
        /// A write to a client that had gone.
        Client => "client",
        /// The app's stream was cut in the middle of an event or a body.
        Upstream => "upstream",
    }
}

label! {
    /// In which way an answer broke the rules of a job's life.
    Violation {
        /// The status is a word outside the vocabulary.
        UnknownStatus => "unknown_status",
        /// No status was found.
        MissingStatus => "missing_status",
        /// The body is not JSON.
        NotJson => "not_json",
        /// The `Content-Type` is not JSON (a login page, say).
        WrongContentType => "wrong_content_type",
        /// The body is over 1 MiB.
        TooLarge => "too_large",
        /// The body is compressed, though nobody asked for that.
        Encoded => "encoded",
        /// The job had ended and runs again.
        Regression => "regression",
    }
}

label! {
    /// The phase of a topic.
    Phase {
        /// The app has not spoken yet.
        Starting => "starting",
        /// The last answer was good.
        Live => "live",
        /// The app is in trouble; the last answer is old.
        Degraded => "degraded",
        /// The job is over.
        Ended => "ended",
    }
}

label! {
    /// The kind of a frame sent to a client.
    FrameKind {
        /// An event of the source.
        Event => "event",
        /// A heartbeat.
        Heartbeat => "heartbeat",
        /// An event sent again from the replay window.
        Replay => "replay",
        /// One of our own: `done`, `gone`, `upstream-error`, a `retry:` hint.
        Control => "control",
    }
}

label! {
    /// What a request to the app was for.
    Purpose {
        /// A poll of a status.
        Poll => "poll",
        /// A subscription to a stream of the app.
        Subscribe => "subscribe",
        /// The admission of one client.
        Authorize => "authorize",
        /// A request passed through.
        Forward => "forward",
    }
}

impl Purpose {
    /// What the program asks for by itself, and what waits for its turn; the first of them all.
    pub const OURS: &'static [Self] = &[Self::Poll, Self::Subscribe, Self::Authorize];
}

label! {
    /// How a request to the app ended.
    Outcome {
        /// 2xx.
        Ok => "ok",
        /// 304.
        NotModified => "not_modified",
        /// 1xx or another 3xx; a protocol switch.
        Redirect => "redirect",
        /// 4xx.
        ClientError => "client_error",
        /// 5xx.
        ServerError => "server_error",
        /// No connection.
        Refused => "refused",
        /// No answer in time.
        Timeout => "timeout",
        /// The connection broke, or the answer was not HTTP.
        Broken => "broken",
        /// We gave up first: the client or the topic had gone.
        Cancelled => "cancelled",
    }
}

impl Outcome {
    /// Those whose time says how long the app takes: it answered, or was waited for in vain. Where nobody listens, a
    /// refusal comes in no time, and a dead app would look like the fastest; what broke, or what we gave up, had no answer.
    pub const TIMED: &'static [Self] =
        &[Self::Ok, Self::NotModified, Self::Redirect, Self::ClientError, Self::ServerError, Self::Timeout];

    /// The outcome that a status stands for.
    pub fn of_status(status: http::StatusCode) -> Self {
        match status.as_u16() {
            304 => Self::NotModified,
            200..=299 => Self::Ok,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            _ => Self::Redirect,
        }
    }
}

label! {
    /// How the app ended that is our child.
    AppExit {
        /// With status 0.
        Ok => "ok",
        /// With another status.
        Error => "error",
        /// By a signal.
        Signal => "signal",
    }
}
