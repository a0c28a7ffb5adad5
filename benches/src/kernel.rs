//! What the kernel holds for sockets, and under which conditions a run is made.

use std::fs;

use crate::process::kib;

/// Bytes that the whole machine's kernel holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kernel {
    /// Of data in TCP buffers (`mem` in `/proc/net/sockstat`).
    pub(crate) buffers: f64,
    /// Of all kernel objects (`Slab` in `/proc/meminfo`).
    pub(crate) slab: f64,
}

/// Reads both; 0 where the kernel does not tell.
pub(crate) fn now() -> Kernel {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages = sockstat
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .and_then(|line| line.split_whitespace().skip_while(|word| *word != "mem").nth(1))
        .and_then(|pages| pages.parse::<f64>().ok());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Kernel { buffers: pages.unwrap_or(0.0) * page_size(), slab: kib(&meminfo, "Slab:") * 1024.0 }
}

fn page_size() -> f64 {
    rustix::param::page_size() as f64
}

/// The sizes in bytes of what a connection is made of, as far as the kernel tells (`/proc/slabinfo` is for root).
pub(crate) fn objects() -> Vec<(String, u64)> {
    let text = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let wanted = ["TCP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "skbuff_head_cache"];
    let sizes = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next().filter(|name| wanted.contains(name))?;
        Some((name.to_owned(), words.nth(2)?.parse().ok()?))
    });
    sizes.collect()
}

/// A value under `/proc/sys`, such as `net/ipv4/tcp_mem`.
pub(crate) fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
