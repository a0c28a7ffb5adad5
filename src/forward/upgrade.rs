//! Connections that stop speaking HTTP: WebSockets, hot module replacement, anything the app agrees to with 101.

use std::{error::Error, io};

use http::{HeaderValue, Request, Response, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};

use super::{ForwardContext, headers};
use crate::{tcp, upstream::Causes, wire::Wire};

/// Per direction. Messages of this kind are short, and a page holds its socket open for hours.
const BUFFER: usize = 4 * 1024;

/// A client's wish to speak another protocol.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// The value of its `Upgrade` header.
    pub(super) protocol: HeaderValue,
    client: OnUpgrade,
}

// === impl Upgrade ===

impl Upgrade {
    /// Takes the wish out of a request, if it has a valid one.
    ///
    /// `h2c` is not taken on: the standard has dropped it (RFC 9113, section 3.1), and through such a tunnel requests
    /// would reach the app that nobody here has looked at.
    pub(super) fn requested<B>(request: &mut Request<B>) -> Option<Self> {
        let map = request.headers();
        let mut protocols = map.get_all(header::UPGRADE).iter();
        let (Some(protocol), None) = (protocols.next().cloned(), protocols.next()) else { return None };
        let is_named = map.get_all(header::CONNECTION).iter().any(|value| headers::has_token(value, "upgrade"));
        if !is_named || request.version() != Version::HTTP_11 || headers::has_token(&protocol, "h2c") {
            return None;
        }
        Some(Self { protocol, client: hyper::upgrade::on(request) })
    }

    /// Joins the two connections once both sides have switched. The tunnel is a task of the context's tracker; it ends
    /// with either connection, and with the context's shutdown.
    pub(super) fn join<B>(self, response: &mut Response<B>, context: &ForwardContext) {
        let app = hyper::upgrade::on(response);
        let shutdown = context.shutdown.clone();
        context.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => tracing::debug!("tunnel ended by the shutdown"),
                carried = carry(self.client, app) => match carried {
                    Ok((up, down)) => tracing::debug!(up, down, "tunnel closed"),
                    Err(error) => tracing::debug!(error = %Causes(&*error), "tunnel broken"),
                },
            }
        });
    }
}

/// Bytes carried to the app and to the client. An end of one side is passed on as such and the other may go on; when
/// one side breaks both are closed, by being dropped.
async fn carry(client: OnUpgrade, app: OnUpgrade) -> Result<(u64, u64), Box<dyn Error + Send + Sync>> {
    let (client, app) = tokio::try_join!(client, app)?;
    let mut app = TokioIo::new(app);
    // The plain socket: the wire would go on looking for requests in what it reads.
    match client.downcast::<TokioIo<Wire>>() {
        Ok(parts) => {
            app.write_all(&parts.read_buf).await?;
            let (client, _counted) = parts.io.into_inner().into_inner();
            // Streams have heartbeats and the sweep, and other requests end with the app's answer. In a tunnel both sides may
            // be silent for hours, and nobody would write to a client that has vanished.
            if let Err(error) = tcp::ask_when_silent(&client) {
                tracing::debug!(%error, "SO_KEEPALIVE refused");
            }
            Ok(copy(client, app).await?)
        }
        Err(client) => Ok(copy(TokioIo::new(client), app).await?),
    }
}

async fn copy(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut app: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<(u64, u64)> {
    copy_bidirectional_with_sizes(&mut client, &mut app, BUFFER, BUFFER).await
}
