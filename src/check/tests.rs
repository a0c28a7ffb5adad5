use super::*;

fn described(args: &[&str]) -> String {
    described_within(Some(20_000), args)
}

fn described_within(open_files: Option<u64>, args: &[&str]) -> String {
    describe(&Config::from_args(args).unwrap_or_else(|error| panic!("{error}")), open_files, 2)
}

/// The description without its line breaks, so that a test doesn't hang on the width.
fn words(args: &[&str]) -> String {
    described(args).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_route_is_described_whole() {
    let text = described(&["--route", "path=/api/progress/{id},poll=/api/videos/{id}"]);
    let expected = "\
Listens on 0.0.0.0:8080 and stands before the app at http://127.0.0.1:3000. Metrics, health and
the dashboard are on http://127.0.0.1:9180.

Route 1: /api/progress/{id}
  GET /api/progress/{id} is answered with an event stream when the client accepts
  text/event-stream or names no preference; any other request there goes to the app.
  Polls GET /api/videos/{id} of http://127.0.0.1:3000 once per job and user, every 1s while it
  changes, slowing to 5s while it does not, and waits 10s for an answer. Every change is sent to
  all who watch, as the app wrote it, on one line.
  Ends at a status such as completed or failed, found by itself.
  Users are told apart by cookie and authorization: tabs of one user share, two users never do.
  A heartbeat is sent after 15s of silence; clients reconnect after about 3s; a stream is ended
  after 10m and opened anew by its client; the source goes on for 10s after the last client has
  left.
  While the app is in trouble clients stay connected and get one 'upstream-error' event.

Everything else
  Is forwarded to the app untouched. Event streams among its answers are passed on one to one,
  with a comment as heartbeat between events after 15s of silence.

Limits
  10000 streams, with no limit per address; 10000 topics. X-Forwarded-For is believed from nobody.
  64 polls in flight at once. A job's first 404 is asked again for 3s.
  A request's head has 20s once it has begun.
  A client that acknowledges nothing counts as stale after 35s and is closed after 1m. When the
  process is told to stop, streams are ended over 20s.
";
    assert_eq!(text, expected);
}

#[test]
fn what_sharing_means_is_said() {
    let public = words(&["--route=path=/x,poll=/y,share=public"]);
    assert!(public.contains("ATTENTION: share=public sends no cookie or authorization to the app"), "{public}");
    let authorized = words(&["--route=path=/x,subscribe=/y,share=authorized,max-age=2m", "--credential-header=x-user"]);
    assert!(
        authorized.contains(
            "each newcomer's own request, with their x-user, decides, and is made again at least every 2m. For that each \
             newcomer opens one stream at the app and closes it as soon as the app has answered."
        ),
        "{authorized}"
    );
    let polled = words(&["--route=path=/x/{id},poll=/y/{id},share=authorized"]);
    assert!(polled.contains("once per job, every 1s") && !polled.contains("opens one stream"), "{polled}");
}

#[test]
fn keys_of_a_route_show_in_its_words() {
    for (route, expected) in [
        ("path=/x,poll=/y,interval=2s,max-interval=2s", "once per user, every 2s, and waits 10s"),
        ("path=/x,poll=/x", "as this is also the path that is polled, any other request there goes to the app"),
        ("path=/x,poll=/y,done=a|b|c", "Ends at the status a, b or c, found by itself."),
        ("path=/x,poll=/y,status=/s", "Ends at a status such as completed or failed, found at /s."),
        ("path=/x,poll=/y,status=/s,done=a", "Ends at the status a, found at /s."),
        ("path=/x,poll=/y,errors=data", "get one message {\"type\":\"error\",…}"),
        ("path=/x,poll=/y,errors=off", "clients stay connected and are not told"),
        (
            "path=/x,poll=/y,max-age=0,linger=0",
            "a stream may live for ever; the source stops when the last client leaves",
        ),
        ("path=/x,subscribe", "the client's own path and query of http://127.0.0.1:3000 once per path, query and user"),
        ("path=/x/{id},subscribe=/y/{id}", "Subscribes to GET /y/{id} of http://127.0.0.1:3000 once per path and user"),
        ("path=/x,subscribe=/y,greeting=2", "gets the stream's first 2 events and then those it missed"),
        ("path=/x,subscribe=/y,greeting=1,replay=latest", "gets the stream's first event and then the last one"),
        ("path=/x,subscribe=/y,replay=latest", "a newcomer gets the last event"),
        ("path=/x,subscribe=/y,share=public", "once for all"),
        ("path=/x,subscribe=/y", "and lets the app begin its answer when it likes. Every event"),
        ("path=/x,subscribe=/y,timeout=5s", "and waits 5s for the app to begin its answer. Every event"),
    ] {
        let text = words(&["--route", route]);
        assert!(text.contains(expected), "{route} says {text}");
    }
}

#[test]
fn flags_show_in_the_words() {
    for (args, expected) in [
        (&["--admin-listen=off"][..], "The admin side is off: no metrics, no health, no dashboard."),
        (&["--listen=:1,:2"], "Listens on 0.0.0.0:1 and 0.0.0.0:2"),
        (&["--listen=systemd"], "Listens on the sockets that systemd opens and stands before the app"),
        (&["--admin-listen=systemd"], "the dashboard are on the socket that systemd opens and calls 'admin'."),
        (&["--no-guard"], "Is forwarded to the app untouched, event streams too (--no-guard)."),
        (&["--heartbeat-form=event"], "with a 'ping' event as heartbeat"),
        (&["--max-connections-per-ip=5"], "at most 5 of them from one address"),
        (&["--trusted-proxy=10.0.0.0/8"], "X-Forwarded-For is believed from 10.0.0.0/8."),
        (&["--", "node", "build"], "The app Is started once the addresses are open, as: node build. What it prints"),
        (&["--", "node"], "When it ends, so does the sidecar, with its exit status."),
        (&["--app-restart=on-failure", "--", "node"], "a status other than 0 or by a signal, it is started again"),
        (&["--app-restart=always", "--", "node"], "However it ends, it is started again"),
        (&["--app-log=/no/app.log"], "The app Invalid-state errors are counted in its log, /no/app.log, from now on."),
        (&["--drain=0"], "streams are ended at once"),
        (&["--heartbeat-interval=60s"], "Warnings --heartbeat-interval '1m' is not shorter than the 60s"),
    ] {
        let text = words(args);
        assert!(text.contains(expected), "{args:?} says {text}");
    }
}

// What the process would do at its start is said before.
#[test]
fn what_the_limit_of_files_leaves_is_said() {
    let lowered = described_within(Some(1024), &[]);
    assert!(lowered.contains("\n  848 streams, with no limit per address"), "{lowered}");
    let lowered = lowered.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(lowered.contains("Warnings --max-connections 10000 (the default) is lowered to 848"), "{lowered}");
    let given = described_within(Some(1024), &["--max-connections=900"]);
    assert!(given.contains("--max-connections '900' is lowered to 848"), "{given}");
    let fits = described_within(Some(1024), &["--max-connections=848"]);
    assert!(!fits.contains("Warnings"), "{fits}");
    assert!(!described_within(None, &[]).contains("Warnings"));
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    let text = described(&["--heartbeat-interval=2m", "--route=path=/x,subscribe,share=authorized,greeting=3"]);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
}
