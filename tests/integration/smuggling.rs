//! The wire as an attacker sees it: whatever bytes come, the app sees the requests that an honest reader of RFC 9112
//! finds in them, or none; no client sees another's answer; nobody learns another's secrets.
//!
//! [`corpus`] has the attacks that are known, [`mutation`] makes others, which [`reader`] judges; [`recorder`] is the real
//! Node server that says what arrived.

mod answers;
mod corpus;
mod mutation;
mod parameters;
mod reader;
mod recorder;
mod secrets;
mod slow;

use self::{
    corpus::{Case, End},
    reader::Tail,
    recorder::{Seen, Stage, show},
};

/// The poll route is there so that stream requests can be part of an attack.
async fn stage() -> Stage {
    Stage::start(|flags| flags.route("path=/live/{id},poll=/job/{id}")).await
}

/// What is wrong with the outcome of a case; empty if nothing is.
async fn try_case(stage: &mut Stage, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    // Behind the last request that may pass, wait for a close only where there has to be one.
    let most = if case.end == End::Open { case.answers() } else { usize::MAX };
    let through = stage.attack(&case.bytes, most).await;
    let direct = stage.node.direct(&case.bytes).await;

    let complete: Vec<_> = through.seen.iter().filter(|seen| seen.complete).map(|seen| seen.essence()).collect();
    let expected: Vec<_> = case.seen.iter().map(|(m, u, b)| ((*m).to_owned(), (*u).to_owned(), b.clone())).collect();
    if case.end == End::Broken {
        let heads: Vec<_> = through.seen.iter().map(|seen| (&*seen.method, &*seen.url)).collect();
        // One that broke off may come late, and is the same one then.
        if !complete.is_empty() || heads.iter().any(|head| *head != (case.seen[0].0, case.seen[0].1)) {
            wrong.push(format!("Node saw {heads:?}, complete {complete:?}"));
        }
    } else if complete != expected || through.seen.len() != complete.len() {
        wrong.push(format!("Node saw {:?} instead of {expected:?}", through.seen));
    }
    // Requests that a broken body has cut off end in an error there, too.
    if case.end != End::Broken && !case.differs && !through.errors.is_empty() {
        wrong.push(format!("Node could not read what we made of it: {:?}", through.errors));
    }

    let statuses = through.statuses();
    let (answered, refusal) = match case.end {
        End::Refused => (&statuses[..statuses.len().saturating_sub(1)], statuses.last()),
        End::Dropped | End::Broken if statuses.len() > expected.len() || case.end == End::Broken => {
            (&statuses[..statuses.len().saturating_sub(1)], statuses.last())
        }
        _ => (&statuses[..], None),
    };
    let is_refusal = |status: Option<&u16>| status.is_some_and(|status| [400, 414, 431, 501].contains(status));
    let is_right_end = match case.end {
        End::Open => true,
        End::Closed => through.is_closed,
        End::Refused => through.is_closed && is_refusal(refusal),
        End::Dropped | End::Broken => through.is_closed && (refusal.is_none() || is_refusal(refusal)),
    };
    if !is_right_end || (!case.differs && answered.iter().any(|status| *status != 200)) {
        wrong.push(format!("answers {statuses:?}, closed: {}", through.is_closed));
    }
    // The second opinion: what passes is a beginning of what Node reads out of the very same bytes.
    let alone: Vec<_> = direct.seen.iter().filter(|seen| seen.complete).map(|seen| seen.essence()).collect();
    if !case.differs && !alone.starts_with(&complete) {
        wrong.push(format!("asked directly, Node saw {alone:?}"));
    }
    for seen in &through.seen {
        let framing = seen.header("content-length").len() + seen.header("transfer-encoding").len();
        if framing > 1 || seen.header("host").len() > 1 {
            wrong.push(format!("what we sent can be read in two ways: {:?}", seen.raw_headers));
        }
        if seen.trailers.iter().any(|name| name.eq_ignore_ascii_case("content-length")) {
            wrong.push(format!("a trailer that is none: {:?}", seen.trailers));
        }
    }
    wrong.iter().map(|what| format!("{}: {what}\n    {}", case.name, show(&case.bytes))).collect()
}

/// Each attack by itself, through us and directly, and an honest client behind each.
#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn node_sees_of_an_attack_what_an_honest_reader_would_or_nothing() {
    let mut stage = stage().await;
    let mut wrong = Vec::new();

    let (broken, others): (Vec<_>, Vec<_>) = corpus::all().into_iter().partition(|case| case.end == End::Broken);
    for case in others.into_iter().chain(broken) {
        wrong.extend(try_case(&mut stage, &case).await);
    }

    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// Damaged requests, each by itself, read by an honest reader, by us and by Node.
///
/// `SMUGGLING_SEEDS=1000..100000` tries others, or more.
#[tokio::test]
#[ignore = "needs node; tests/run runs it"]
async fn node_sees_of_damaged_requests_no_more_than_an_honest_reader() {
    let seeds = std::env::var("SMUGGLING_SEEDS").unwrap_or_else(|_| "0..300".to_owned());
    let (from, to) = seeds.split_once("..").expect("SMUGGLING_SEEDS is from..to");
    let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
    let mut stage = stage().await;
    let (mut wrong, mut passed, mut refused) = (Vec::new(), 0, 0);

    for seed in from..to {
        let bytes = mutation::bytes(seed);
        let (honest, tail) = reader::read(&bytes);
        let is_open = match &tail {
            Tail::Nothing => !honest.last().is_some_and(|request| request.is_last),
            Tail::Incomplete(_) => true,
            Tail::Malformed(_) => false,
        };
        let through = stage.attack(&bytes, if is_open { honest.len() } else { usize::MAX }).await;

        let (complete, cut): (Vec<_>, Vec<_>) = through.seen.iter().partition(|seen| seen.complete);
        let complete: Vec<_> = complete.iter().map(|seen| seen.essence()).collect();
        // Node has a list of the methods that it takes, and wants ASCII.
        let is_known = honest.iter().all(|it| ["GET", "PUT", "POST"].contains(&&*it.method) && it.target.is_ascii());
        let honest: Vec<_> = honest.into_iter().map(|it| (it.method, it.target, it.body)).collect();
        // What another seed has broken off may have come late.
        let is_ours = |seen: &&&Seen| seen.url.starts_with(&format!("/{seed}/")) || seen.url.starts_with("/smuggled");
        let cut: Vec<_> =
            cut.iter().filter(is_ours).map(|seen| Some((seen.method.clone(), seen.url.clone()))).collect();
        let head = match &tail {
            Tail::Nothing => &None,
            Tail::Incomplete(head) | Tail::Malformed(head) => head,
        };
        let statuses = through.statuses();
        let answered = statuses.iter().filter(|status| **status == 200).count();
        let is_refused = statuses.last().is_some_and(|status| [400, 414, 431, 501].contains(status));
        let mut fault = |what: String| wrong.push(format!("seed {seed}: {what}\n    {}", show(&bytes)));

        let is_over = through.is_closed || through.answers.last().is_some_and(|answer| answer.is_last);
        let is_part = match is_known {
            true => honest.starts_with(&complete),
            false => complete.iter().all(|it| honest.contains(it)),
        };
        if !is_part {
            fault(format!("Node saw {complete:?}, an honest reader {honest:?}"));
        }
        if !(cut.is_empty() || cut.len() == 1 && cut[0].is_some() && cut[0] == *head) {
            fault(format!("Node saw the beginnings of {cut:?}, an honest reader {head:?}"));
        }
        if answered != complete.len() {
            fault(format!("answers {statuses:?}, Node saw {complete:?}"));
        }
        // We may be stricter than the reader, but not in silence.
        if is_known && complete.len() < honest.len() && !(is_refused && is_over) {
            fault(format!("answers {statuses:?} for {honest:?}"));
        }
        if matches!(tail, Tail::Malformed(_)) && !is_over {
            fault(format!("{tail:?}, and the connection goes on, {statuses:?}"));
        }
        passed += complete.len();
        refused += usize::from(is_refused);
    }

    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} seeds: {passed} requests passed, {refused} refused", to - from);
    assert!(passed > 0 && refused > 0, "{passed} requests passed, {refused} were refused: this proves nothing");
}
