//! `--app-log`: the file in which an app logs that runs elsewhere is followed, and the errors in it are counted.
//!
//! It is looked at four times a second, by its name and by what was open before. That is late enough to cost nothing and
//! early enough for a graph, and it sees what the kernel's notices don't tell, on network file systems and behind links.
//!
//! - What is there at our start has happened before it: reading begins at the end. A file that comes later is read from
//!   its beginning.
//! - **Renamed, and a new one made:** the old one is read to its end first, and for ten seconds more after it last grew,
//!   since apps go on writing to it until they are told.
//! - **Copied and truncated:** seen by its length, and by the last bytes that were read: they are not there any more.
//! - **Gone for a while:** what is open is read on; the next file of that name is a new one.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tracing::{info, warn};

use crate::{app_errors::ErrorCounter, metrics::Metrics};

const EVERY: Duration = Duration::from_millis(250);

/// Looks after which a file that was rotated away and has not grown is let go: ten seconds.
const QUIET_MAX: u32 = 40;

/// Files that are open at once, the rotated ones among them; the oldest goes first.
const OPEN_MAX: usize = 4;

/// So much of a file is read in one look, so that a stop need not wait for gigabytes.
const LOOK_MAX: u64 = 16 * 1024 * 1024;

const CHUNK: usize = 64 * 1024;

/// So many of the last bytes that were read are remembered: a line with its time.
const LAST: usize = 64;

/// The file, by its name.
#[derive(Debug)]
pub struct AppLog {
    path: PathBuf,
    metrics: Arc<Metrics>,
    /// The oldest first; the last one is what the name led to when it last led anywhere.
    tails: Vec<Tail>,
    /// What was last said about a name that leads nowhere.
    told: Option<ErrorKind>,
}

/// One file that is open, and how far it was read.
#[derive(Debug)]
struct Tail {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    read_to: u64,
    last: Vec<u8>,
    errors: ErrorCounter,
    /// Looks since it last grew.
    quiet: u32,
}

// === impl AppLog ===

impl AppLog {
    /// Begins at the end of what is there.
    pub fn open(path: PathBuf, metrics: Arc<Metrics>) -> Self {
        let mut log = Self { path, metrics, tails: Vec::new(), told: None };
        log.find();
        if let Some(tail) = log.tails.last_mut() {
            tail.skip();
            info!(path = %log.path.display(), "following the app's log");
        }
        log
    }

    /// Follows the file until dropped.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            // Reads of files block, and some disks are slow.
            match tokio::task::spawn_blocking(move || {
                self.look();
                self
            })
            .await
            {
                Ok(log) => self = log,
                // It has panicked, and said so.
                Err(_) => return,
            }
        }
    }

    /// Reads what is new, and follows the name to another file.
    fn look(&mut self) {
        self.read();
        if self.find() {
            // What came to the old one until now stands before the new one.
            self.read();
        }
        let rotated = self.tails.len().saturating_sub(1);
        let mut index = 0;
        self.tails.retain_mut(|tail| {
            index += 1;
            let is_over = index <= rotated && (tail.quiet >= QUIET_MAX || rotated + 1 - index >= OPEN_MAX);
            if is_over {
                self.metrics.app_errors(tail.errors.finish());
            }
            !is_over
        });
    }

    fn read(&mut self) {
        for tail in &mut self.tails {
            if let Err(error) = tail.read(&self.metrics) {
                tell(&mut self.told, &error, &self.path);
            }
        }
    }

    /// Sees where the name leads, and says whether that is another file than before.
    fn find(&mut self) -> bool {
        let known = self.tails.last().map(|tail| tail.id);
        match fs::metadata(&self.path) {
            Ok(found) if Some((found.dev(), found.ino())) == known => return false,
            Ok(found) if !found.is_file() => {
                tell(&mut self.told, &io::Error::from(ErrorKind::InvalidInput), &self.path);
                return false;
            }
            _ => {}
        }
        match File::open(&self.path).and_then(Tail::new) {
            Ok(tail) => {
                if known.is_some() || self.told.is_some() {
                    info!(path = %self.path.display(), "following a new file of the app's log");
                }
                self.told = None;
                // It may have been rotated away and back.
                let tail = match self.tails.iter().position(|open| open.id == tail.id) {
                    Some(index) => self.tails.remove(index),
                    None => tail,
                };
                self.tails.push(tail);
                true
            }
            // Between a rename and the next file there is none; only at the start that is worth a word.
            Err(error) if error.kind() == ErrorKind::NotFound && known.is_some() => false,
            Err(error) => {
                tell(&mut self.told, &error, &self.path);
                false
            }
        }
    }
}

/// Says once what is wrong, until it is another thing or was well.
fn tell(told: &mut Option<ErrorKind>, error: &io::Error, path: &Path) {
    let kind = error.kind();
    if told.replace(kind) == Some(kind) {
        return;
    }
    match kind {
        ErrorKind::NotFound => info!(path = %path.display(), "there is no log of the app yet; waiting for it"),
        ErrorKind::InvalidInput => warn!(path = %path.display(), "the app's log is no regular file; waiting for one"),
        _ => warn!(%error, path = %path.display(), "the app's log can't be read; trying on"),
    }
}

// === impl Tail ===

impl Tail {
    /// At the beginning of a file.
    fn new(file: File) -> io::Result<Self> {
        let found = file.metadata()?;
        let id = (found.dev(), found.ino());
        Ok(Self { file, id, read_to: 0, last: Vec::new(), errors: ErrorCounter::default(), quiet: 0 })
    }

    /// Goes to the end. What can't be read will be told of by the next look.
    fn skip(&mut self) {
        let length = self.file.metadata().map_or(0, |found| found.len());
        let from = length.saturating_sub(LAST as u64);
        let mut last = vec![0; LAST];
        if let Ok(read) = self.file.read_at(&mut last, from) {
            self.note(from, &last[..read]);
        }
    }

    /// Reads what is new.
    fn read(&mut self, metrics: &Metrics) -> io::Result<()> {
        if self.is_truncated()? {
            metrics.app_errors(self.errors.finish());
            (self.read_to, self.last) = (0, Vec::new());
        }
        self.quiet = self.quiet.saturating_add(1);
        let mut buffer = vec![0; CHUNK];
        let until = self.read_to + LOOK_MAX;
        while self.read_to < until {
            let read = match self.file.read_at(&mut buffer, self.read_to) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            metrics.app_errors(self.errors.push(&buffer[..read]));
            self.note(self.read_to, &buffer[..read]);
            self.quiet = 0;
        }
        Ok(())
    }

    /// Whether it has begun anew since it was last read. The bytes that were read are not there then, or others are. A
    /// writer that does not append goes on where it was, and leaves zeros before it: then nothing has begun anew.
    fn is_truncated(&self) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.read_to {
            return Ok(true);
        }
        let mut now = vec![0; self.last.len()];
        let from = self.read_to - self.last.len() as u64;
        match self.file.read_exact_at(&mut now, from) {
            Ok(()) => Ok(now != self.last && now.iter().any(|byte| *byte != 0)),
            // Truncated in this very moment.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Remembers bytes that were read at `from`.
    fn note(&mut self, from: u64, bytes: &[u8]) {
        self.read_to = from + bytes.len() as u64;
        self.last.extend_from_slice(&bytes[bytes.len().saturating_sub(LAST)..]);
        let surplus = self.last.len().saturating_sub(LAST);
        self.last.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
