//! What the app prints goes on as it comes, and the errors in it are counted.
//!
//! A thread for each of the two outputs reads and writes and blocks in both. So nothing is buffered but the bytes of one
//! read, and an app that prints faster than somebody reads has to wait, as without us. In the runtime a write that blocks
//! would hold up streams; and output that does not block would be changed for all who share it with us.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::fd::AsFd,
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::{sync::oneshot, time::timeout};
use tracing::{debug, warn};

use crate::{app_errors::ErrorCounter, metrics::Metrics};

/// One read: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// The output of an app that has ended is waited for as long as something of it moves within this.
const MOVES_WITHIN: Duration = Duration::from_secs(2);

/// The output of one life of the app.
#[derive(Debug)]
pub(super) struct Output {
    /// Reads and writes so far, by both threads.
    moved: Arc<AtomicU64>,
    /// One of each thread, dropped at its end.
    ends: Vec<oneshot::Receiver<()>>,
}

/// What one thread does.
struct Copier<R, W> {
    from: R,
    to: W,
    metrics: Arc<Metrics>,
    moved: Arc<AtomicU64>,
}

// === impl Output ===

impl Output {
    /// Copies both outputs of `app` to our own; each thread ends with the last process that has the other end of its pipe,
    /// or with whoever reads ours.
    pub(super) fn copy(app: &mut Child, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let mut output = Self { moved: Arc::default(), ends: Vec::new() };
        if let Some(pipe) = app.stdout.take() {
            output.spawn("app-stdout", pipe, &io::stdout(), metrics)?;
        }
        if let Some(pipe) = app.stderr.take() {
            output.spawn("app-stderr", pipe, &io::stderr(), metrics)?;
        }
        Ok(output)
    }

    fn spawn(
        &mut self,
        name: &str,
        from: impl Read + Send + 'static,
        to: &impl AsFd,
        metrics: &Arc<Metrics>,
    ) -> io::Result<()> {
        // A file of its own, since the standard library's keeps what has no line end.
        let to = File::from(to.as_fd().try_clone_to_owned()?);
        let copier = Copier { from, to, metrics: Arc::clone(metrics), moved: Arc::clone(&self.moved) };
        let (sender, end) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = copier.run() {
                // The app is told in the same way, by its next write.
                debug!(%error, "nobody takes the app's output any more");
            }
            drop(sender);
        })?;
        self.ends.push(end);
        Ok(())
    }

    /// Waits until all that was printed has been written; not for somebody who holds the pipe and is silent, and not for a
    /// reader of ours who does not read.
    pub(super) async fn end(self) {
        let Self { moved, ends } = self;
        for mut end in ends {
            let mut before = moved.load(Ordering::Relaxed);
            // An error is what is waited for: the sender is dropped.
            while timeout(MOVES_WITHIN, &mut end).await.is_err() {
                let now = moved.load(Ordering::Relaxed);
                if now == before {
                    warn!("the app has ended, but its output is still open or unread; going on without its end");
                    return;
                }
                before = now;
            }
        }
    }
}

// === impl Copier ===

impl<R: Read, W: Write + AsFd> Copier<R, W> {
    fn run(self) -> io::Result<()> {
        let Self { mut from, mut to, metrics, moved } = self;
        let mut errors = ErrorCounter::default();
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let chunk = &buffer[..length];
            // First, so that who sees an error sees its count.
            metrics.app_errors(errors.push(chunk));
            write_all(&mut to, chunk, &moved)?;
        }
        metrics.app_errors(errors.finish());
        Ok(())
    }
}

/// Writes it all, however the file has been set by those who share it.
fn write_all<W: Write + AsFd>(to: &mut W, mut bytes: &[u8], moved: &AtomicU64) -> io::Result<()> {
    while !bytes.is_empty() {
        moved.fetch_add(1, Ordering::Relaxed);
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(to, PollFlags::OUT)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use prometheus::Registry;

    use super::*;

    fn metrics() -> Arc<Metrics> {
        Arc::new(Metrics::register(&Registry::new(), &[]).unwrap())
    }

    /// Copies in a thread from one socket to another, and gives the far ends.
    fn copied(metrics: &Arc<Metrics>) -> (UnixStream, UnixStream, std::thread::JoinHandle<io::Result<()>>) {
        let (app, from) = UnixStream::pair().unwrap();
        let (to, reader) = UnixStream::pair().unwrap();
        // As some parents leave it.
        to.set_nonblocking(true).unwrap();
        let copier = Copier { from, to, metrics: Arc::clone(metrics), moved: Arc::default() };
        (app, reader, std::thread::spawn(|| copier.run()))
    }

    #[test]
    fn a_line_that_is_not_ended_goes_on_at_once() {
        let (mut app, mut reader, copier) = copied(&metrics());
        let mut seen = [0; 7];

        app.write_all(b"> really").unwrap();
        reader.read_exact(&mut seen).unwrap();

        assert_eq!(&seen, b"> reall");
        drop(app);
        copier.join().unwrap().unwrap();
    }

    // Over a file that somebody has set to not block, which a write that does not look would take for an error.
    #[test]
    fn every_byte_reaches_a_reader_that_is_slow() {
        let metrics = metrics();
        let (mut app, mut reader, copier) = copied(&metrics);
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let printed = sent.clone();
        let printing = std::thread::spawn(move || app.write_all(&printed).unwrap());

        let mut seen = Vec::new();
        let mut buffer = [0; 1000];
        while let length @ 1.. = reader.read(&mut buffer).unwrap() {
            seen.extend_from_slice(&buffer[..length]);
        }

        assert!(seen == sent, "{} of {} bytes", seen.len(), sent.len());
        printing.join().unwrap();
        copier.join().unwrap().unwrap();
    }

    #[test]
    fn when_nobody_reads_any_more_the_app_is_told() {
        let (mut app, reader, copier) = copied(&metrics());
        drop(reader);

        // Whatever was sent before it was noticed is lost, as in any pipe.
        while app.write_all(&[b'x'; 4096]).is_ok() {}

        assert_eq!(copier.join().unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[test]
    fn errors_are_counted_on_their_way() {
        let metrics = metrics();
        let (mut app, reader, copier) = copied(&metrics);

        app.write_all(b"TypeError [ERR_INVALID_STATE]: Invalid ").unwrap();
        app.write_all(b"state\nand one without an end: Controller is already closed").unwrap();
        drop(app);

        copier.join().unwrap().unwrap();
        drop(reader);
        assert_eq!(metrics.app_error_count(), 2);
    }
}
