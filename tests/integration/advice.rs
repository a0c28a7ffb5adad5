//! Recommendations on real runs: each is seen where its fault is, and alone; where none is, nothing is said.
//!
//! No rule knows a usual time or number, so the faults here are small and quick: a read timeout of a second, five streams.

use serde_json::Value;

use crate::harness::{client::Client, eventually, progress, sidestream::Sidestream};

mod app;
mod clients;
mod cuts;
mod healthy;
mod limits;
mod sharing;

/// A route at such a pace that an app on this machine is never slower, however busy that is: else that would be said, too.
fn calm(keys: &str) -> String {
    progress(&format!("interval=5s,max-interval=5s,{keys}"))
}

/// What is recommended now.
async fn advice(side: &Sidestream) -> Vec<Value> {
    let stats = side.stats().await;
    stats["recommendations"].as_array().expect("a list").clone()
}

/// The rules of what is recommended now.
async fn rules(side: &Sidestream) -> Vec<String> {
    let name = |one: &Value| one["rule"].as_str().expect("a name").to_owned();
    advice(side).await.iter().map(name).collect()
}

/// Waits for this rule, which must be the only one, and be told with all that belongs to it.
async fn only(side: &Sidestream, rule: &str) -> Value {
    let one = told(side, rule).await;
    assert_eq!(rules(side).await, [rule], "nothing else is at fault");
    one
}

/// Waits for this rule, which must be told with all that belongs to it.
async fn told(side: &Sidestream, rule: &str) -> Value {
    let is_it = |one: &Value| one["rule"] == rule;
    let one = eventually(rule, async || advice(side).await.into_iter().find(is_it)).await;
    for text in ["title", "evidence", "change"] {
        assert!(one[text].as_str().is_some_and(|text| !text.is_empty()), "{one}");
    }
    assert!(one["severity"] == "warning" || one["severity"] == "advice", "{one}");
    one
}

/// One text of a recommendation.
fn text<'a>(one: &'a Value, field: &str) -> &'a str {
    one[field].as_str().unwrap_or_else(|| panic!("no {field}: {one}"))
}

/// A client that has its first event.
async fn opened(request: crate::harness::client::Request) -> Client {
    let mut client = request.open().await;
    client.next_event().await;
    client
}
