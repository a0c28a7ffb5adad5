//! A request of the program, as the app reads it.

use tokio::io::{AsyncReadExt, DuplexStream};

use super::user::Marks;

/// A request, as the app reads it.
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
}

// === impl Asked ===

impl Asked {
    pub(super) async fn read(pipe: &mut DuplexStream, read: &mut Vec<u8>) -> Option<Self> {
        loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(read.drain(..end + 4).collect()).expect("a head is text");
                let mut lines = head.split("\r\n");
                let target = lines.next()?.split(' ').nth(1)?.to_owned();
                let headers = lines.filter_map(|line| line.split_once(':'));
                let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
                return Some(Self { target, headers: headers.collect() });
            }
            if pipe.read_buf(read).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&String> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn marks(&self) -> Marks {
        Marks::of(&self.target, |name| self.all(name))
    }

    pub(super) fn known_as(&self) -> String {
        Marks::of("", |name| self.all(name)).own
    }

    /// The mark of data at this target: one's own, or all's where the operator has said that it is the same for all.
    pub(super) fn mark(&self) -> String {
        let marks = self.marks();
        if self.target.starts_with("/own/") { marks.own } else { marks.all }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.target.contains("/events")
    }

    pub(super) fn is_public(&self) -> bool {
        self.target.starts_with("/public/")
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.headers.iter().any(|(name, _)| matches!(&**name, "cookie" | "authorization" | "proxy-authorization"))
    }
}
