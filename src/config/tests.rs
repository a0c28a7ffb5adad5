use std::time::Duration;

use super::*;
use crate::route::SourceSpec;
use crate::template::Template;

fn config(args: &[&str]) -> Config {
    Config::from_args(args).unwrap_or_else(|error| panic!("{error}"))
}

/// What a user reads first, without `error: `.
fn refusal(args: &[&str]) -> String {
    let error = Config::from_args(args).expect_err(&args.join(" "));
    assert_eq!(error.exit_code(), 2, "{error}");
    let text = error.to_string();
    let sentence = text.lines().next().and_then(|line| line.strip_prefix("error: "));
    sentence.unwrap_or_else(|| panic!("no sentence in {text:?}")).to_owned()
}

/// Routes that make no sense, and what is said after `--route '…': `.
const ROUTE_MISTAKES: &[(&str, &str)] = &[
    ("path=/x,pol=/y", "unknown key 'pol', did you mean 'poll'?"),
    ("path=/x,poll-interval=1s,poll=/y", "unknown key 'poll-interval', did you mean 'interval'?"),
    ("path=/x,poll=/y,heartbeat-interval=3s", "unknown key 'heartbeat-interval', did you mean 'heartbeat'?"),
    (
        "path=/x,poll=/y,colour=red",
        "unknown key 'colour'; the keys are: path, poll, subscribe, status, done, share, errors, template, replay, greeting, interval, max-interval, timeout, heartbeat, linger, retry, max-age",
    ),
    (
        "path=/x,poll=/y,done=a,b",
        r#"unknown key 'b'; values of 'done' are joined with '|', and a comma inside a value is written \,"#,
    ),
    (
        "path=/x,poll=/y,done=a,b,pol=/z",
        r#"unknown key 'b'; values of 'done' are joined with '|', and a comma inside a value is written \,"#,
    ),
    ("path=/x,subscrib", "unknown key 'subscrib', did you mean 'subscribe'?"),
    ("/api/x", "unknown key '/api/x', did you mean 'path=/api/x'?"),
    ("/api/x?id={id},poll=/y", "unknown key '/api/x?id', did you mean 'path=/api/x?id'?"),
    (
        "path=/x?a=1,2,poll=/y",
        r#"unknown key '2'; a comma inside a value is written \,, and the keys are: path, poll, subscribe, status, done, share, errors, template, replay, greeting, interval, max-interval, timeout, heartbeat, linger, retry, max-age"#,
    ),
    (
        "path=/x,path=/z,poll=/y",
        "the key 'path' is given twice; keep one of them, or separate two routes by ';' or a newline",
    ),
    (
        "path=/a,poll=/b,path=/c,poll=/d",
        "the key 'path' is given twice; keep one of them, or separate two routes by ';' or a newline",
    ),
    ("path=/x,poll=/z,poll=/y", "the key 'poll' is given twice; keep one of them"),
    ("path=/x,,poll=/y", "there is nothing between two commas; write key=value pairs with one comma between them"),
    ("path=/x,poll=/y,", "there is nothing between two commas; write key=value pairs with one comma between them"),
    ("poll=/y", "the key 'path' is missing; add the path that browsers ask for, as in path=/api/progress/{id}"),
    ("path,poll=/y", "the key 'path' needs a value, as in path=/api/progress/{id}"),
    ("path=,poll=/y", "the key 'path' needs a value, as in path=/api/progress/{id}"),
    (
        "path=/x",
        "there is no source; add poll=TARGET (a JSON status endpoint of the app) or subscribe (an event stream of it)",
    ),
    ("path=/x,poll=/y,subscribe", "a route has one source; keep either poll or subscribe"),
    ("path=/x,poll", "the key 'poll' needs a value, as in poll=/api/videos/{id}"),
    ("path=/x,subscribe=", "the key 'subscribe' needs a value, as in subscribe=/api/events"),
    ("path=x,poll=/y", "invalid path 'x': a path begins with '/'"),
    (
        "path=/a/../b,poll=/y",
        "invalid path '/a/../b': '.' and '..' can't be segments of a path, clients resolve them before they ask",
    ),
    (
        "path=/a/%2e,poll=/y",
        "invalid path '/a/%2e': '.' and '..' can't be segments of a path, clients resolve them before they ask",
    ),
    ("path=/{a}{b},poll=/y", "invalid path '/{a}{b}': a segment can hold only one parameter"),
    ("path=/{*r}/x,poll=/y", "invalid path '/{*r}/x': {*r} must be the whole last segment of the path"),
    ("path=/x{*r},poll=/y", "invalid path '/x{*r}': {*r} must be the whole last segment of the path"),
    ("path=/{a}/{a},poll=/y", "invalid path '/{a}/{a}': the parameter {a} occurs twice, give each its own name"),
    ("path=/{a}?id={a},poll=/y", "invalid path '/{a}?id={a}': the parameter {a} occurs twice, give each its own name"),
    ("path=/{a},poll=/{b}", "the target '/{b}' uses {b}, which the path doesn't have; its parameters are: {a}"),
    ("path=/x,poll=/{b}", "the target '/{b}' uses {b}, which the path doesn't have; its parameters are: none"),
    (
        "path=/{a}/{b},poll=/x/{a}",
        "the parameter {b} of the path is missing in the target '/x/{a}'; use it there, or take it out of the path",
    ),
    ("path=/{a,poll=/x", "invalid path '/{a': a brace without its partner; a parameter is written {id}"),
    ("path=/a},poll=/x", "invalid path '/a}': a brace without its partner; a parameter is written {id}"),
    (
        "path=/x{my id},poll=/x",
        "invalid path '/x{my id}': '{my id}' is not a parameter; its name holds letters, digits and '_', as in {id} or {*rest}",
    ),
    (
        "path=/x%2,poll=/x",
        "invalid path '/x%2': a '%' must be followed by two hexadecimal digits; the character itself is written %25",
    ),
    ("path=/x#a,poll=/x", "invalid path '/x#a': the character '#' can't be in a path"),
    ("path=/x?,poll=/y", "invalid path '/x?': a query is written ?key=value or ?key={id}, several joined with '&'"),
    (
        "path=/x?id=a{id},poll=/y",
        "invalid path '/x?id=a{id}': in a query a parameter must be the whole value, as in ?id={id}",
    ),
    (
        "path=/x?id={*id},poll=/y",
        "invalid path '/x?id={*id}': in a query a parameter must be the whole value, as in ?id={id}",
    ),
    (
        "path=/x?a=1&a=2,poll=/y",
        "invalid path '/x?a=1&a=2': the query names 'a' twice, and a stream request may hold it only once",
    ),
    ("path=/x,poll=y", "invalid target 'y': a path begins with '/'"),
    (
        "path=/x,poll=http://app/y",
        "invalid target 'http://app/y': a target is a path of the app; its host and port belong to --upstream",
    ),
    (
        "path=/x,poll=/a/../y",
        "invalid target '/a/../y': '.' and '..' can't be segments of a target, write the path they lead to",
    ),
    ("path=/x,poll=/a#y", "invalid target '/a#y': the character '#' can't be in a path"),
    ("path=/{*r},poll=/{r}", "the parameter 'r' must be written {*r} in the target '/{r}', as it is in the path"),
    ("path=/{r},poll=/{*r}", "the parameter 'r' must be written {r} in the target '/{*r}', as it is in the path"),
    (
        "path=/{*r},poll=/a{*r}",
        "invalid target '/a{*r}': {*r} must be a whole segment of the path or a whole value of the query",
    ),
    ("path=/x,subscribe=/{id}", "the target '/{id}' uses {id}, which the path doesn't have; its parameters are: none"),
    (
        "path=/x,poll=/y,replay=latest",
        "the key 'replay' makes sense only with subscribe; take it out, or use subscribe",
    ),
    ("path=/x,poll=/y,greeting=1", "the key 'greeting' makes sense only with subscribe; take it out, or use subscribe"),
    ("path=/x,subscribe,template=a.json", "the key 'template' makes sense only with poll; take it out, or use poll"),
    ("path=/x,subscribe,interval=1s", "the key 'interval' makes sense only with poll; take it out, or use poll"),
    (
        "path=/x,subscribe,max-interval=1s",
        "the key 'max-interval' makes sense only with poll; take it out, or use poll",
    ),
    (
        "path=/x,poll=/y,status=status",
        "invalid value 'status' for 'status': a JSON pointer begins with '/', as in /data/status, with '~' written ~0 and '/' in a name ~1",
    ),
    (
        "path=/x,poll=/y,status=/a~2",
        "invalid value '/a~2' for 'status': a JSON pointer begins with '/', as in /data/status, with '~' written ~0 and '/' in a name ~1",
    ),
    (
        "path=/x,poll=/y,done=a||b",
        "invalid value 'a||b' for 'done': write the values that end a job with '|' between them, as in done=completed|failed",
    ),
    ("path=/x,poll=/y,share=all", "invalid value 'all' for 'share'; it is one of: credentials, authorized, public"),
    ("path=/x,poll=/y,errors=on", "invalid value 'on' for 'errors'; it is one of: event, data, off"),
    ("path=/x,subscribe,replay=all", "invalid value 'all' for 'replay'; it is one of: missed, latest"),
    ("path=/x,subscribe,greeting=many", "invalid value 'many' for 'greeting': it must be a whole number from 0 to 100"),
    ("path=/x,subscribe,greeting=101", "invalid value '101' for 'greeting': it must be a whole number from 0 to 100"),
    (
        "path=/x,poll=/y,template=none.json",
        "the template file 'none.json' can't be read: No such file or directory (os error 2)",
    ),
    (
        "path=/x,poll=/y,interval=5",
        "invalid value '5' for 'interval': a duration is written with its unit, as in 15s, 500ms or 1m30s",
    ),
    ("path=/x,poll=/y,interval=0", "invalid value '0' for 'interval': it can't be zero; write a duration such as 1s"),
    (
        "path=/x,poll=/y,max-interval=0s",
        "invalid value '0s' for 'max-interval': it can't be zero; write a duration such as 1s",
    ),
    ("path=/x,poll=/y,timeout=0", "invalid value '0' for 'timeout': it can't be zero; write a duration such as 1s"),
    ("path=/x,poll=/y,heartbeat=0", "invalid value '0' for 'heartbeat': it can't be zero; write a duration such as 1s"),
    ("path=/x,poll=/y,retry=0", "invalid value '0' for 'retry': it can't be zero; write a duration such as 1s"),
    ("path=/x,poll=/y,linger=1000d", "invalid value '1000d' for 'linger': a duration is at most 365 days"),
    (
        "path=/x,poll=/y,max-interval=500ms",
        "max-interval (500ms) is shorter than the interval (1s); give the route an interval that is not longer",
    ),
    (
        "path=/x,poll=/y,interval=3s,max-interval=2s",
        "max-interval (2s) is shorter than the interval (3s); give the route an interval that is not longer",
    ),
    (
        "path=/x,poll=/y,share=authorized,max-age=0",
        "share=authorized needs a max-age, for clients are admitted again when their stream reaches it; set max-age=10m on the route",
    ),
];

/// Flags that make no sense, alone or together, and what is said.
const FLAG_MISTAKES: &[(&[&str], &str)] = &[
    (
        &["--max-age", "0", "--route", "path=/x,poll=/y,share=authorized"],
        "--route 'path=/x,poll=/y,share=authorized': share=authorized needs a max-age, for clients are admitted again when their stream reaches it; set max-age=10m on the route",
    ),
    (
        &["--route", "path=/x/{a},poll=/{a}", "--route", "path=/x/y,subscribe"],
        "--route 'path=/x/{a},poll=/{a}' and --route 'path=/x/y,subscribe' both match some requests; make their paths differ in a fixed segment",
    ),
    (
        &["--route", "path=/x,subscribe;path=/x,poll=/y"],
        "--route 'path=/x,subscribe' and --route 'path=/x,poll=/y' both match some requests; make their paths differ in a fixed segment",
    ),
    (
        &["--listen", "8080"],
        "invalid value '8080' for '--listen <ADDR>': an address is written IP:PORT, localhost:PORT, [IPv6]:PORT or :PORT, as in 127.0.0.1:8080",
    ),
    (
        &["--listen", "app:80"],
        "invalid value 'app:80' for '--listen <ADDR>': 'app' is a name, and listening needs an IP address or localhost, as in 0.0.0.0:8080",
    ),
    (
        &["--listen", ":80", "--listen", "127.0.0.1:80"],
        "--listen '0.0.0.0:80' and --listen '127.0.0.1:80' are the same address; give each its own port",
    ),
    (
        &["--listen", ":80,:80"],
        "--listen '0.0.0.0:80' and --listen '0.0.0.0:80' are the same address; give each its own port",
    ),
    (
        &["--listen", "systemd,systemd"],
        "--listen 'systemd' and --listen 'systemd' are the same address; give each its own port",
    ),
    (
        &["--listen", ":9180"],
        "--listen '0.0.0.0:9180' and --admin-listen '127.0.0.1:9180' are the same address; give each its own port",
    ),
    (
        &["--upstream", "localhost:3000"],
        "invalid value 'localhost:3000' for '--upstream <URL>': the scheme is missing; write http://localhost:3000",
    ),
    (&["--upstream", "app"], "invalid value 'app' for '--upstream <URL>': the scheme is missing; write http://app"),
    (
        &["--upstream", "https://app"],
        "invalid value 'https://app' for '--upstream <URL>': the app is spoken to in plain HTTP on the same machine or pod; write http:// and the port of the app itself",
    ),
    (
        &["--upstream", "http://u:p@app:3000"],
        "invalid value 'http://u:p@app:3000' for '--upstream <URL>': it can't hold credentials, each client's own are passed on; write http://app:3000",
    ),
    (
        &["--upstream", "http://app/base"],
        "invalid value 'http://app/base' for '--upstream <URL>': it can't hold a path or query, targets of routes begin at the root; write http://app",
    ),
    (
        &["--upstream", "http://app?x"],
        "invalid value 'http://app?x' for '--upstream <URL>': it can't hold a path or query, targets of routes begin at the root; write http://app",
    ),
    (
        &["--upstream", "http://app#x"],
        "invalid value 'http://app#x' for '--upstream <URL>': it can't hold a path or query, targets of routes begin at the root; write http://app",
    ),
    (
        &["--upstream", "http://app:0"],
        "invalid value 'http://app:0' for '--upstream <URL>': it is not an address; write http://HOST:PORT, as in http://127.0.0.1:3000",
    ),
    (
        &["--upstream", "http://app:99999"],
        "invalid value 'http://app:99999' for '--upstream <URL>': it is not an address; write http://HOST:PORT, as in http://127.0.0.1:3000",
    ),
    (
        &["--upstream", "http://"],
        "invalid value 'http://' for '--upstream <URL>': it is not an address; write http://HOST:PORT, as in http://127.0.0.1:3000",
    ),
    (
        &["--upstream", ""],
        "invalid value '' for '--upstream <URL>': it is not an address; write http://HOST:PORT, as in http://127.0.0.1:3000",
    ),
    (
        &["--upstream", "http://localhost:8080"],
        "--upstream 'http://localhost:8080' is where --listen '0.0.0.0:8080' listens; give the app and the sidecar different ports",
    ),
    (
        &["--admin-listen", "127.0.0.1:3000"],
        "--upstream 'http://127.0.0.1:3000' is where --admin-listen '127.0.0.1:3000' listens; give the app and the sidecar different ports",
    ),
    (
        &["--upstream", "http://[::1]:80", "--listen", "[::]:80"],
        "--upstream 'http://[::1]:80' is where --listen '[::]:80' listens; give the app and the sidecar different ports",
    ),
    (
        &["--admin-listen", "on"],
        "invalid value 'on' for '--admin-listen <ADDR>': write an address such as 127.0.0.1:9180, or off",
    ),
    (
        &["--heartbeat-interval", "0"],
        "invalid value '0' for '--heartbeat-interval <TIME>': it can't be zero; write a duration such as 1s",
    ),
    (
        &["--heartbeat-interval", "15"],
        "invalid value '15' for '--heartbeat-interval <TIME>': a duration is written with its unit, as in 15s, 500ms or 1m30s",
    ),
    (&["--retry", "0"], "invalid value '0' for '--retry <TIME>': it can't be zero; write a duration such as 1s"),
    (
        &["--poll-interval", "0"],
        "invalid value '0' for '--poll-interval <TIME>': it can't be zero; write a duration such as 1s",
    ),
    (
        &["--poll-max-interval", "0"],
        "invalid value '0' for '--poll-max-interval <TIME>': it can't be zero; write a duration such as 1s",
    ),
    (
        &["--poll-timeout", "0"],
        "invalid value '0' for '--poll-timeout <TIME>': it can't be zero; write a duration such as 1s",
    ),
    (
        &["--poll-concurrency", "0"],
        "invalid value '0' for '--poll-concurrency <N>': it must be a whole number from 1 to 4294967295",
    ),
    (
        &["--max-connections", "0"],
        "invalid value '0' for '--max-connections <N>': it must be a whole number from 1 to 4294967295",
    ),
    (
        &["--poll-concurrency", "4611686018427387904"],
        "invalid value '4611686018427387904' for '--poll-concurrency <N>': it must be a whole number from 1 to 4294967295",
    ),
    (
        &["--max-topics", "none"],
        "invalid value 'none' for '--max-topics <N>': it must be a whole number from 1 to 4294967295",
    ),
    (
        &["--max-connections-per-ip", "x"],
        "invalid value 'x' for '--max-connections-per-ip <N>': it must be a whole number from 0 to 4294967295",
    ),
    (
        &["--stale-after", "60s"],
        "--stale-after '1m' is not shorter than --reap-after '1m', so nothing would ever count as stale; make it shorter",
    ),
    (
        &["--stale-after", "0"],
        "invalid value '0' for '--stale-after <TIME>': it can't be zero; write a duration such as 1s",
    ),
    (
        &["--reap-after", "0"],
        "invalid value '0' for '--reap-after <TIME>': it can't be zero; write a duration such as 1s",
    ),
    (
        &["--poll-interval", "2s", "--poll-max-interval", "1s"],
        "--poll-max-interval '1s' is shorter than --poll-interval '2s'; make it at least as long",
    ),
    (
        &["--credential-header", "x y"],
        "invalid value 'x y' for '--credential-header <NAME>': it is not the name of an HTTP header; write one such as cookie or x-api-key",
    ),
    (
        &["--credential-header", "upgrade"],
        "invalid value 'upgrade' for '--credential-header <NAME>': this header belongs to one connection and tells no users apart; write one such as cookie or x-api-key",
    ),
    (
        &["--trusted-proxy", "nginx"],
        "invalid value 'nginx' for '--trusted-proxy <CIDR>': a network is written as an address with its prefix length, as in 10.0.0.0/8, or as one IP address",
    ),
    (
        &["--log", "inof"],
        "invalid value 'inof' for '--log <FILTER>': write a level (error, warn, info, debug, trace, off) or directives such as info,sidestream::source=debug",
    ),
    (&["--"], "--: what starts the app is missing or empty; write it at the end, as in -- node build"),
    (&["--", ""], "--: what starts the app is missing or empty; write it at the end, as in -- node build"),
    (
        &["--app-restart", "on-failure"],
        "--app-restart 'on-failure': there is no app to start again; write what starts it at the end, as in -- node build",
    ),
    (&["--app-log", "/"], "--app-log '/' is a directory; name the file in it that the app writes to"),
    (&["--app-log", "/dev/null"], "--app-log '/dev/null' is no regular file; name one that the app writes to"),
    (&["--linger", "1us"], "invalid value '1us' for '--linger <TIME>': a duration is at least 1ms"),
    (
        &["--drain", "soon"],
        "invalid value 'soon' for '--drain <TIME>': a duration is written with its unit, as in 15s, 500ms or 1m30s",
    ),
];

#[test]
fn every_mistake_in_a_route_is_named_with_its_cure() {
    for (route, sentence) in ROUTE_MISTAKES {
        assert_eq!(refusal(&["--route", route]), format!("--route '{route}': {sentence}"));
    }
}

#[test]
fn every_mistake_in_a_flag_is_named_with_its_cure() {
    for (args, sentence) in FLAG_MISTAKES {
        assert_eq!(refusal(args), *sentence);
    }
}

#[test]
fn misspelled_flags_and_choices_are_refused_by_name() {
    assert_eq!(refusal(&["--pol-interval", "1s"]), "unexpected argument '--pol-interval' found");
    assert_eq!(refusal(&["--log-format", "xml"]), "invalid value 'xml' for '--log-format <FORMAT>'");
    assert_eq!(refusal(&["--heartbeat-form", "ping"]), "invalid value 'ping' for '--heartbeat-form <FORM>'");
}

#[test]
fn a_template_file_that_is_none_is_refused() {
    for text in ["", "{", r#"{"a": "$a"}"#] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (path, error) = (file.path().display(), Template::parse(text).unwrap_err());
        let route = format!("path=/x,poll=/y,template={path}");
        let sentence = format!("--route '{route}': the template file '{path}' is not a template: {error}");
        assert_eq!(refusal(&["--route", &route]), sentence.lines().next().unwrap());
    }
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = config(&[]);
    assert_eq!(config.listen, [ListenOn::At("0.0.0.0:8080".parse().unwrap())]);
    assert_eq!(config.admin_listen, Some(ListenOn::At("127.0.0.1:9180".parse().unwrap())));
    assert_eq!(config.upstream.authority, "127.0.0.1:3000");
    assert_eq!(config.heartbeat_form, HeartbeatForm::Comment);
    assert_eq!(config.heartbeat_interval, Duration::from_secs(15));
    assert_eq!((config.poll_concurrency, config.not_found_grace), (64, Duration::from_secs(3)));
    assert_eq!(config.credential_headers, ["cookie", "authorization"]);
    assert_eq!((config.max_connections, config.max_connections_per_ip, config.max_topics), (10_000, 0, 10_000));
    assert_eq!((config.stale_after, config.reap_after), (Duration::from_secs(35), Duration::from_secs(60)));
    assert_eq!(config.drain, Duration::from_secs(20));
    assert!(config.routes.is_empty() && config.trusted_proxies.is_empty() && !config.no_guard);
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn lists_are_given_by_repetition_or_commas() {
    let config = config(&[
        "--listen=127.0.0.1:0,127.0.0.1:0",
        "--listen=[::1]:0",
        "--credential-header=X-User,cookie,x-user",
        "--trusted-proxy=10.0.0.0/8,127.0.0.1",
        "--admin-listen=off",
    ]);
    assert_eq!(config.listen.len(), 3);
    assert_eq!(config.credential_headers, ["x-user", "cookie"]);
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "127.0.0.1/32".parse().unwrap()]);
    assert_eq!(config.admin_listen, None);
}

// An environment variable can't be repeated.
#[test]
fn one_text_can_hold_several_routes() {
    let config = config(&["--route", "\n  path=/a,subscribe\n  path=/b,poll=/b2;path=/c,subscribe=/x\\;y;\n"]);
    let paths: Vec<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/b", "/c"]);
    let SourceSpec::Subscribe(subscribe) = &config.routes[2].source else { panic!("not subscribed") };
    assert_eq!(subscribe.target.as_ref().map(|target| target.as_str()), Some("/x;y"));
}

#[test]
fn the_app_may_have_a_name_and_the_usual_port() {
    for (text, authority) in [
        ("http://localhost:3000", "localhost:3000"),
        ("http://app", "app"),
        ("HTTP://App.internal:80/", "App.internal:80"),
        ("http://[::1]:3000", "[::1]:3000"),
    ] {
        assert_eq!(text.parse::<UpstreamAddr>().map(|addr| addr.authority.to_string()), Ok(authority.to_owned()));
    }
}

#[test]
fn a_slower_pace_lifts_the_slowest_that_nobody_named() {
    let config = config(&["--poll-interval=7s", "--route=path=/a,poll=/b", "--route=path=/c,poll=/d,interval=9s"]);
    let paces = config.routes.iter().map(|route| match &route.source {
        SourceSpec::Poll(poll) => (poll.interval.as_secs(), poll.max_interval.as_secs()),
        SourceSpec::Subscribe(_) => panic!("not polled"),
    });
    assert_eq!(paces.collect::<Vec<_>>(), [(7, 7), (9, 9)]);
}

#[test]
fn heartbeats_that_come_too_late_are_warned_of() {
    let warnings = |args: &[&str]| config(args).warnings;
    assert_eq!(
        warnings(&["--heartbeat-interval=60s", "--stale-after=70s", "--reap-after=80s", "--route=path=/x,subscribe"]),
        [
            "--heartbeat-interval '1m' is not shorter than the 60s after which nginx and most load balancers cut a silent \
            stream; 15s is safe"
        ]
    );
    assert_eq!(
        warnings(&["--route=path=/x,subscribe,heartbeat=90s"]),
        [
            "heartbeat=1m30s of --route '/x' is not shorter than the 60s after which nginx and most load balancers cut a \
            silent stream; 15s is safe",
            "heartbeat=1m30s of --route '/x' is longer than --stale-after '35s', so a client that vanishes is noticed \
            only with the heartbeat after that; make the heartbeat shorter",
        ]
    );
    assert_eq!(
        warnings(&["--stale-after=10s"]),
        ["--heartbeat-interval '15s' is longer than --stale-after '10s', so a client that vanishes is noticed only \
            with the heartbeat after that; make the heartbeat shorter"]
    );
    assert_eq!(
        warnings(&["--no-guard"]),
        ["--no-guard without any --route leaves nothing to do but forward; add a --route or take it out"]
    );
    assert_eq!(warnings(&["--no-guard", "--route=path=/x,subscribe"]), [""; 0]);
}

// Each is a habit from elsewhere that means something else here, or nothing.
#[test]
fn parameters_of_other_routers_are_warned_of() {
    let taken = |path: &str, written: &str, ours: &str| {
        format!("--route '{path}' takes '{written}' as it is written; a parameter would be written {ours}")
    };
    for (path, written, ours) in [
        ("/a/:id", ":id", "{id}"),
        ("/a/:job_id/events", ":job_id", "{job_id}"),
        ("/a/*", "*", "{*rest}"),
        ("/a/[id]?x=1", "[id]", "{id}"),
        ("/[...path]", "[...path]", "{*path}"),
    ] {
        assert_eq!(config(&[&format!("--route=path={path},subscribe")]).warnings, [taken(path, written, ours)]);
    }
    for path in ["/a/{id}", "/a/{*rest}", "/a:b/:", "/a/:1", "/a*", "/[]", "/a?x=:id"] {
        assert_eq!(config(&[&format!("--route=path={path},poll=/a/{path}")]).warnings, [""; 0], "{path}");
    }
}

#[test]
fn a_subscribed_stream_that_does_not_linger_is_warned_of() {
    let sentence = "the linger of --route '/x' (its own or --linger) is 0s, so whenever its last client leaves, if only \
                    for a reload, the app's stream is closed, which is what makes apps write to closed streams; leave \
                    it out for 5m";
    for args in [&["--linger=0s", "--route=path=/x,subscribe"][..], &["--route=path=/x,subscribe,linger=0"]] {
        assert_eq!(config(args).warnings, [sentence]);
    }
    for args in [&["--linger=0s", "--route=path=/x,poll=/y"][..], &["--route=path=/x,subscribe,linger=1s"]] {
        assert_eq!(config(args).warnings, [""; 0]);
    }
}

#[test]
fn polls_that_would_wear_out_the_app_are_warned_of() {
    let sentence = |interval, times| {
        format!(
            "the interval of --route '/x' (its own or --poll-interval) is {interval}, so the app is asked up to {times} \
             times a second for each job that changes; 1s is usual"
        )
    };
    assert_eq!(config(&["--poll-interval=10ms", "--route=path=/x,poll=/y"]).warnings, [sentence("10ms", 100)]);
    assert_eq!(config(&["--route=path=/x,poll=/y,interval=1ms"]).warnings, [sentence("1ms", 1000)]);
    assert_eq!(config(&["--poll-interval=10ms", "--route=path=/x,poll=/y,interval=50ms"]).warnings, [""; 0]);
    assert_eq!(config(&["--poll-interval=10ms", "--route=path=/x,subscribe"]).warnings, [""; 0]);
}

#[test]
fn a_log_in_a_folder_that_is_not_there_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("app.log");
    assert_eq!(config(&["--app-log", there.to_str().unwrap()]).warnings, [""; 0]);
    assert_eq!(config(&["--app-log", "app.log"]).warnings, [""; 0]);
    let gone = folder.path().join("gone");
    let log = gone.join("app.log");
    assert_eq!(
        config(&["--app-log", log.to_str().unwrap()]).warnings,
        [format!(
            "--app-log '{}': there is no folder '{}', so nothing is counted until there is one",
            log.display(),
            gone.display()
        )]
    );
}
