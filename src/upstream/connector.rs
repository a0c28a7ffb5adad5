//! Opens connections to the app, in time or not at all.

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower_service::Service;

use super::{BoxError, UpstreamError, reach::Reach, socket::AppStream};
use crate::{files::Files, tcp::Lent};

/// Opens connections to the app.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    http: HttpConnector,
    /// The app, as the connector wants to be told of it.
    address: Uri,
    /// How long it may take until a connection is there, with all that comes before it.
    timeout: Duration,
    /// Where its connections are counted; `None` where nothing counts them.
    files: Option<Arc<Files>>,
    /// Whether it works; shared by all who ask the app.
    reach: Arc<Reach>,
    /// Takes the place of TCP, so that a test can hold the clock.
    #[cfg(test)]
    pub(super) memory: Option<super::memory::App>,
}

// === impl Connector ===

impl Connector {
    /// Connects to `authority` within `timeout`, with what `http` is set to. Connections are counted among the open
    /// `files`, if there are any to count.
    pub(super) fn new(
        mut http: HttpConnector,
        authority: Authority,
        timeout: Duration,
        files: Option<Arc<Files>>,
    ) -> Self {
        // Divided among the addresses of a name, so that one that drops our packets leaves time for the next.
        http.set_connect_timeout(Some(timeout));
        let mut address = http::uri::Parts::default();
        address.scheme = Some(Scheme::HTTP);
        address.authority = Some(authority);
        address.path_and_query = Some(PathAndQuery::from_static("/"));
        let address = Uri::from_parts(address).expect("a scheme, an authority and a path make an URI");
        Self {
            http,
            address,
            timeout,
            files,
            reach: Arc::new(Reach::new()),
            #[cfg(test)]
            memory: None,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// When the name does not resolve, or nobody takes the connection in time.
    pub(super) async fn connect(&self) -> Result<AppStream, UpstreamError> {
        let opened = self.open().await;
        self.reach.tried(&self.address, &opened);
        opened
    }

    async fn open(&self) -> Result<AppStream, UpstreamError> {
        #[cfg(test)]
        if let Some(app) = &self.memory {
            let stream = app.connect().map_err(|error| UpstreamError::connecting(error.into()))?;
            return Ok(AppStream::new(stream, Lent::nothing(), None));
        }
        let counted = self.files.as_ref().map(Files::opened);
        let stream = within(self.timeout, self.http.clone(), self.address.clone()).await?;
        let socket = Lent::new(&stream);
        #[allow(clippy::useless_conversion, reason = "in tests it is one")]
        Ok(AppStream::new(stream.into(), socket, counted))
    }
}

/// Connects in time, or not at all. The connector's own time begins when the name has resolved, and a name server that
/// does not answer takes as long as the system lets it.
async fn within<R>(timeout: Duration, mut http: HttpConnector<R>, address: Uri) -> Result<TcpStream, UpstreamError>
where
    HttpConnector<R>: Service<Uri, Response = TokioIo<TcpStream>>,
    <HttpConnector<R> as Service<Uri>>::Error: Into<BoxError>,
{
    let connecting = async {
        poll_fn(|cx| http.poll_ready(cx)).await?;
        http.call(address).await
    };
    match tokio::time::timeout(timeout, connecting).await {
        Ok(connected) => Ok(connected.map_err(|error| UpstreamError::connecting(error.into()))?.into_inner()),
        Err(_) => Err(UpstreamError::ConnectTimeout),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Pending,
        io,
        net::SocketAddr,
        task::{Context, Poll},
        vec,
    };

    use hyper_util::client::legacy::connect::dns::Name;

    use super::*;

    /// Takes every name, and never tells an address.
    #[derive(Clone, Debug)]
    struct SilentResolver;

    impl Service<Name> for SilentResolver {
        type Response = vec::IntoIter<SocketAddr>;
        type Error = io::Error;
        type Future = Pending<io::Result<Self::Response>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            std::future::pending()
        }
    }

    // The system's resolver alone may take half a minute.
    #[tokio::test(start_paused = true)]
    async fn a_name_server_that_does_not_answer_counts_into_the_time_to_connect() {
        let http = HttpConnector::new_with_resolver(SilentResolver);
        let connecting = within(Duration::from_secs(5), http, Uri::from_static("http://app.test:3000/"));
        let connected = tokio::time::timeout(Duration::from_secs(6), connecting).await.expect("in time");
        assert!(matches!(connected, Err(UpstreamError::ConnectTimeout)), "{connected:?}");
    }
}
