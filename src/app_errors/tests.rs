use proptest::prelude::*;

use super::*;

fn errors(text: &str) -> u64 {
    let mut counter = ErrorCounter::default();
    counter.push(text.as_bytes()) + counter.finish()
}

/// What Node 20 printed of one error, and how the app came to print it.
const REPORTS: &[(&str, &str)] = &[
    ("nobody caught it", UNCAUGHT),
    ("console.error(error)", LOGGED),
    (
        "console.error('stream failed:', error), with colours",
        "stream failed: TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n\
         \x1b[90m    at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\x1b[39m\n    \
             at Object.<anonymous> \x1b[90m(/srv/\x1b[39me1.js:6:38\x1b[90m)\x1b[39m\n\
         \x1b[90m    at node:internal/main/run_main_module:28:49\x1b[39m {\n  \
           code: \x1b[32m'ERR_INVALID_STATE'\x1b[39m\n}\n",
    ),
    ("its message alone", "stream failed: Invalid state: Controller is already closed\n"),
    ("its code alone", "stream failed ERR_INVALID_STATE\n"),
    ("String(error)", "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n"),
    (
        "error.stack",
        "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
             at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\n    \
             at Timeout._onTimeout (/srv/e1.js:4:39)\n",
    ),
    (
        "a JSON logger",
        r#"{"level":50,"err":{"type":"TypeError","message":"Invalid state: Controller is already closed","stack":"TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    at Timeout._onTimeout (/srv/e1.js:4:39)","code":"ERR_INVALID_STATE"},"msg":"Invalid state: Controller is already closed"}
"#,
    ),
    (
        "a JSON logger, for people",
        r#"[12:00:01.123] ERROR (77): Invalid state: Controller is already closed
    err: {
      "type": "TypeError",
      "message": "Invalid state: Controller is already closed",
      "stack":
          TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed
              at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)
              at Timeout._onTimeout (/srv/e1.js:4:39)
      "code": "ERR_INVALID_STATE"
    }
"#,
    ),
    (
        "a logger that sorts its fields",
        r#"{
  "code": "ERR_INVALID_STATE",
  "level": "error",
  "message": "uncaughtException: Invalid state: Controller is already closed",
  "stack": "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    at Timeout._onTimeout"
}
"#,
    ),
    (
        "the cause of another",
        "Error: outer\n    at Object.<anonymous> (/srv/e1.js:13:65)\n    \
             ... 4 lines matching cause stack trace ...\n    at node:internal/main/run_main_module:28:49 {\n  \
           [cause]: TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n      \
               at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\n      \
               at node:internal/main/run_main_module:28:49 {\n    code: 'ERR_INVALID_STATE'\n  }\n}\n",
    ),
    (
        "in an object",
        "{\n  err: TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n      \
               at Object.<anonymous> (/srv/e1.js:14:31) {\n    code: 'ERR_INVALID_STATE'\n  },\n  a: 1\n}\n",
    ),
    (
        "other closed streams have the code, too",
        "TypeError [ERR_INVALID_STATE]: Invalid state: ReadableStream is already closed\n    \
             at ReadableByteStreamController.enqueue (node:internal/webstreams/readablestream:1176:13) {\n  \
           code: 'ERR_INVALID_STATE'\n}\n",
    ),
    (
        "every line with a time before it",
        "2026-11-22T12:00:00Z TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n\
         2026-11-22T12:00:00Z     at Timeout._onTimeout (/srv/e1.js:4:39) {\n\
         2026-11-22T12:00:00Z   code: 'ERR_INVALID_STATE'\n\
         2026-11-22T12:00:00Z }\n",
    ),
    (
        "Docker's own log",
        r#"{"log":"      throw new ERR_INVALID_STATE.TypeError('Controller is already closed');\n","stream":"stderr"}
{"log":"TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n","stream":"stderr"}
{"log":"    at Timeout._onTimeout (/srv/e1.js:4:39) {\n","stream":"stderr"}
{"log":"  code: 'ERR_INVALID_STATE'\n","stream":"stderr"}
{"log":"}\n","stream":"stderr"}
"#,
    ),
    (
        "another process of the app speaks in between",
        "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
             at Timeout._onTimeout (/srv/e1.js:4:39) {\nGET /api/videos 200 in 12ms\n  code: 'ERR_INVALID_STATE'\n}\n",
    ),
    ("next start", NEXT),
    (
        "next dev",
        "TypeError: Invalid state: Controller is already closed\n    at Timeout.tick (app/route.js:24:20)\n  \
           22 |         const video = readVideo(id);\n> 24 |         controller.enqueue(message);\n     \
              |                    ^\n  25 |       } {\n  code: 'ERR_INVALID_STATE'\n}\n\
         \u{2a2f} uncaughtException: TypeError: Invalid state: Controller is already closed\n    \
             at Timeout.tick (app/route.js:24:20)\n> 24 |         controller.enqueue(message);\n  25 |       } {\n  \
           code: 'ERR_INVALID_STATE'\n}\n\
         \u{2a2f} uncaughtException:  TypeError: Invalid state: Controller is already closed\n    \
             at Timeout.tick (app/route.js:24:20)\n> 24 |         controller.enqueue(message);\n  25 |       } {\n  \
           code: 'ERR_INVALID_STATE'\n}\n",
    ),
    (
        "next dev, where the error has no code",
        "TypeError: Invalid state: Controller is already closed\n    at Timeout.tick (app/route.js:24:20)\n\
         > 24 |         controller.enqueue(message); // Controller is already closed?\n     |                    ^\n\
         \u{2a2f} uncaughtException: TypeError: Invalid state: Controller is already closed\n    \
             at Timeout.tick (app/route.js:24:20)\n> 24 |         controller.enqueue(message);\n     \
              |                    ^\n",
    ),
    (
        "in the app's words, and then by itself",
        "stream failed: TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n\
         TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
             at Timeout._onTimeout (/srv/e1.js:4:39) {\n  code: 'ERR_INVALID_STATE'\n}\n",
    ),
    (
        "by a handler that goes on",
        "uncaughtException: TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
             at Timeout._onTimeout (/srv/e1.js:4:39) {\n  code: 'ERR_INVALID_STATE'\n}\n",
    ),
    (
        "thrown again, where only its source names it",
        "/srv/e1.js:10\n  if (error.code === 'ERR_INVALID_STATE') throw error;\n                                          ^\n\n\
         TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
             at Timeout._onTimeout (/srv/e1.js:4:39) {\n  code: 'ERR_INVALID_STATE'\n}\n\nNode.js v20.20.2\n",
    ),
    ("console.error(message) in a group", "  Invalid state: Controller is already closed\n"),
    (
        "the message and then the error, in a group",
        "  Invalid state: Controller is already closed\n  \
           TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n      \
               at Timeout._onTimeout (/srv/e1.js:4:39) {\n    code: 'ERR_INVALID_STATE'\n  }\n",
    ),
    ("the message behind a tab", "\tenqueue: Invalid state: Controller is already closed\n"),
    ("the message behind a sign", " \u{2a2f} Invalid state: Controller is already closed\n"),
    ("in red, indented", "  \x1b[31mInvalid state: Controller is already closed\x1b[39m\n"),
    (
        "debug, with colours",
        "  \x1b[35;1mapp:sse \x1b[0menqueue failed: Invalid state: Controller is already closed \x1b[35m+27ms\x1b[0m\n",
    ),
    (
        "debug of the whole error, with colours",
        "  \x1b[36;1mapp:sse \x1b[0mTypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n  \
           \x1b[36;1mapp:sse \x1b[0m    at Timeout._onTimeout (/srv/e1.js:4:39) {\n  \
           \x1b[36;1mapp:sse \x1b[0m  code: \x1b[32m'ERR_INVALID_STATE'\x1b[39m\n  \
           \x1b[36;1mapp:sse \x1b[0m} +5ms\n",
    ),
    (
        "consola.error(error)",
        "\n ERROR  Invalid state: Controller is already closed\n\n    \
             at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\n    \
             at Timeout._onTimeout (lib.js:5:32)\n    at listOnTimeout (node:internal/timers:581:17)\n\n",
    ),
    (
        "consola.error('stream failed', error)",
        "\n ERROR  stream failed Invalid state: Controller is already closed\n\n    \
             at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\n    \
             at Timeout._onTimeout (lib.js:5:32)\n\n",
    ),
    ("consola.warn(message)", "\n WARN  Invalid state: Controller is already closed\n\n"),
    (
        "causes of causes",
        "Error: saving: sending: Invalid state: Controller is already closed\n    at save (/srv/e1.js:9:11) {\n  \
           [cause]: Error: sending: Invalid state: Controller is already closed\n      at send (/srv/e1.js:7:11) {\n    \
             [cause]: TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n        \
                 at Timeout._onTimeout (/srv/e1.js:4:39) {\n      code: 'ERR_INVALID_STATE'\n    }\n  }\n}\n",
    ),
    (
        "a JSON logger, through jq",
        r#"{
  "level": 50,
  "err": {
    "type": "TypeError",
    "message": "Invalid state: Controller is already closed",
    "stack": "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    at Timeout._onTimeout"
  },
  "msg": "Invalid state: Controller is already closed",
  "reason": "Invalid state: Controller is already closed"
}
"#,
    ),
    (
        "two properties of an object",
        "{\n  statusCode: 500,\n  statusMessage: 'Invalid state: Controller is already closed',\n  \
           message: 'Invalid state: Controller is already closed',\n  url: '/api/progress/7'\n}\n",
    ),
    (
        "properties of objects in an object",
        r#"{
  "message": "Invalid state: Controller is already closed",
  "cause": {
    "message": "Invalid state: Controller is already closed"
  },
  "original": {
    "message": "Invalid state: Controller is already closed"
  }
}
"#,
    ),
    ("a manager of processes", "0|app      | Invalid state: Controller is already closed\n"),
    (
        "Deno, nobody caught it",
        "error: Uncaught TypeError: The stream controller cannot close or enqueue\n      \
               controller.enqueue(message);\n                 ^\n    \
             at ReadableStreamDefaultController.enqueue (ext:deno_web/06_streams.js:5870:13)\n    \
             at file:///srv/main.ts:12:18\n",
    ),
    (
        "Deno, console.error('stream failed:', error)",
        "stream failed: TypeError: The stream controller cannot close or enqueue\n    \
             at ReadableStreamDefaultController.close (ext:deno_web/06_streams.js:6017:13)\n",
    ),
    (
        "Deno, in the app's words, and then by itself",
        "stream failed: TypeError: The stream controller cannot close or enqueue\n\
         TypeError: The stream controller cannot close or enqueue\n    \
             at ReadableStreamDefaultController.enqueue (ext:deno_web/06_streams.js:5870:13)\n",
    ),
    ("Deno, its message alone", "  The stream controller cannot close or enqueue\n"),
];

const UNCAUGHT: &str = "node:internal/webstreams/readablestream:1070\n      \
      throw new ERR_INVALID_STATE.TypeError('Controller is already closed');\n      ^\n\n\
TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
    at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\n    \
    at Timeout._onTimeout (/srv/e1.js:4:39)\n    \
    at listOnTimeout (node:internal/timers:581:17)\n    \
    at process.processTimers (node:internal/timers:519:7) {\n  \
  code: 'ERR_INVALID_STATE'\n}\n\nNode.js v20.20.2\n";

/// Next.js 16 leaves the code out of the headline, and prints everything twice.
const NEXT: &str = "TypeError: Invalid state: Controller is already closed\n    \
    at Timeout.i [as _onTimeout] (.next/server/chunks/_0wp0hgwe1hrg6._.js:1:485) {\n  code: 'ERR_INVALID_STATE'\n}\n\
\u{2a2f} uncaughtException:  TypeError: Invalid state: Controller is already closed\n    \
    at Timeout.i [as _onTimeout] (.next/server/chunks/_0wp0hgwe1hrg6._.js:1:485) {\n  code: 'ERR_INVALID_STATE'\n}\n";

const LOGGED: &str = "TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n    \
    at ReadableStreamDefaultController.enqueue (node:internal/webstreams/readablestream:1070:13)\n    \
    at Timeout._onTimeout (/srv/e1.js:4:39) {\n  code: 'ERR_INVALID_STATE'\n}\n";

/// Lines of apps that name no such error.
const OTHERS: &[&str] = &[
    "listening on http://127.0.0.1:3000",
    "",
    "    at Timeout._onTimeout (/srv/e1.js:4:39)",
    "TypeError [ERR_INVALID_ARG_TYPE]: The \"chunk\" argument must be of type string",
    "  code: 'ERR_INVALID_ARG_TYPE'",
    "}",
    "/srv/app/build/index.js:41",
    "      throw new ERR_INVALID_STATE.TypeError('Controller is already closed');",
    "Controller is already close",
    "\u{1b}[32mready\u{1b}[39m in 12 ms",
    "> 23 |   if (error.code !== 'ERR_INVALID_STATE') throw error;",
    "  24 |   // Controller is already closed",
];

#[test]
fn one_error_counts_once_however_it_is_printed() {
    for (how, report) in REPORTS {
        assert_eq!(errors(report), 1, "{how}:\n{report}");
        assert_eq!(errors(&report.replace('\n', "\r\n")), 1, "{how}, with CRLF");
        assert_eq!(errors(report.trim_end()), 1, "{how}, without an end");
    }
}

#[test]
fn as_many_count_as_there_are() {
    for (how, report) in REPORTS {
        assert_eq!(errors(&report.repeat(3)), 3, "{how}, three times");
        let apart = format!("{report}GET /api/videos 200 in 12ms\n");
        assert_eq!(errors(&apart.repeat(3)), 3, "{how}, three times, with lines between");
    }
}

#[test]
fn two_in_one_report_count_as_two() {
    let one = "    TypeError [ERR_INVALID_STATE]: Invalid state: Controller is already closed\n        \
                       at /srv/e1.js:18:51\n        at node:internal/main/run_main_module:28:49 {\n      \
                     code: 'ERR_INVALID_STATE'\n    }";
    let report = format!(
        "AggregateError: both\n    at Object.<anonymous> (/srv/e1.js:18:100) {{\n  [errors]: [\n{one},\n{one}\n  ]\n}}\n"
    );

    assert_eq!(errors(&report), 2);
    let words = "Error: sending: Invalid state: Controller is already closed";
    let report = format!("AggregateError: both\n    at x.js:1 {{\n  [errors]: [\n    {words}\n    {words}\n  ]\n}}\n");
    assert_eq!(errors(&report), 2);
}

// Each of these says the message at one indentation, and none of their lines stands at the margin.
#[test]
fn objects_in_a_list_count_one_by_one() {
    let error = "    \"message\": \"Invalid state: Controller is already closed\"";
    let list = |object: &str| format!("[\n{}{object}\n]\n", format!("{object},\n").repeat(2));

    assert_eq!(errors(&list(&format!("  {{\n{error},\n    \"id\": 7\n  }}"))), 3);
    assert_eq!(errors(&list(&format!("  {{\n    \"err\": {{\n  {error}\n    }},\n{error}\n  }}"))), 3);
    assert_eq!(errors(&list("  {\n    message: 'Invalid state: Controller is already closed',\n    id: 7\n  }")), 3);
}

// An app without an access log may print nothing else: a count that stands still would say that all is well.
#[test]
fn nobody_goes_on_with_errors_unheard() {
    let message = "Invalid state: Controller is already closed";
    let headline = format!("TypeError [ERR_INVALID_STATE]: {message}\n}}\n");
    for (how, before) in REPORTS {
        for indent in ["  ", "\t", " ERROR  ", "    app:sse ", &" ".repeat(100)] {
            let count = errors(&format!("{before}{}", format!("{indent}{message}\n").repeat(100)));
            assert!((100..=101).contains(&count), "{count} of 101 below {how}, behind {indent:?}");
        }
        let count = errors(&format!("{before}{}", format!("uncaughtException: {headline}").repeat(100)));
        assert!(count >= 98, "{count} uncaught ones of 101 below {how}");
        let count = errors(&format!("{before}{}", format!("  message: '{message}',\n").repeat(1024)));
        assert!(count >= 4, "{count} in an object without end below {how}");
    }
}

// Both are about the error that was just logged: `catch (error) { log(error); throw error; }`, and a monitor that logs
// what nobody will catch.
#[test]
fn nodes_last_words_about_an_error_that_was_logged_are_no_second_one() {
    let mine = "legacy app: uncaught ERR_INVALID_STATE: Invalid state: Controller is already closed\n";
    for (logged, count) in [(mine, 1), (LOGGED, 1), ("saved in 12 ms\n", 1)] {
        assert_eq!(errors(&format!("{logged}{UNCAUGHT}")), count, "{logged}");
    }
    assert_eq!(errors(&format!("{mine}saved in 12 ms\n{UNCAUGHT}")), 2);
    assert_eq!(errors(&format!("{UNCAUGHT}{UNCAUGHT}")), 2);
}

#[test]
fn what_a_monitor_says_above_it_is_no_second_error() {
    let mine = "legacy app: uncaught ERR_INVALID_STATE: Invalid state: Controller is already closed\n";

    assert_eq!(errors(&format!("{mine}{NEXT}").repeat(3)), 3);
    assert_eq!(errors(&format!("{mine}{LOGGED}").repeat(3)), 3);
}

// Its source is what kills an app with another error here.
#[test]
fn source_that_asks_for_the_code_is_no_error() {
    let source =
        "/srv/app.js:10\n  if (error.code !== 'ERR_INVALID_STATE') throw error;\n\n\nError: boom\n    at x.js:1\n";

    assert_eq!(errors(source), 0);
}

// Next.js and others print the lines around the one that threw.
#[test]
fn a_code_frame_of_another_error_is_none() {
    let frame = "\u{2a2f} Error: database is gone\n    at Timeout.tick (app/route.js:24:20)\n  22 |   } catch (error) {\n\
         > 23 |     if (error.code !== 'ERR_INVALID_STATE') throw error;\n     \
              |                                                    ^\n  24 |   } // Controller is already closed\n";

    assert_eq!(errors(frame), 0);
    assert_eq!(errors(&frame.replace("> ", "").replace("  22", "22")), 0);
}

#[test]
fn other_lines_count_nothing() {
    assert_eq!(errors(&OTHERS.join("\n")), 0);
}

#[test]
fn an_error_counts_when_its_line_ends() {
    let mut counter = ErrorCounter::default();

    assert_eq!(counter.push(b"TypeError [ERR_INVALID_STATE]: Invalid state"), 0);
    assert_eq!(counter.push(b"\n"), 1);
    assert_eq!(counter.push(b"  code: 'ERR_INVALID_STATE'"), 0);
    assert_eq!(counter.finish(), 0);
}

#[test]
fn a_line_without_end_counts_all_the_same_and_takes_no_memory() {
    let mut counter = ErrorCounter::default();
    let mut count = 0;
    let chunk = [vec![b'x'; 1000], b"Controller is already closed;".to_vec()].concat();
    for _ in 0..1024 {
        count += counter.push(&chunk);
    }

    assert!((3..=5).contains(&count), "{count} errors in a MiB");
    assert!(size_of::<ErrorCounter>() <= 512, "{} bytes", size_of::<ErrorCounter>());
}

#[test]
fn a_phrase_counts_across_the_cut_of_a_line_that_is_too_long() {
    for before in 262_100..262_144 {
        let text = format!("{}Controller is already closed\n", "x".repeat(before));
        assert_eq!(errors(&text), 1, "after {before} bytes");
    }
}

/// One line of an output, of the kinds that matter.
fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> = REPORTS.iter().flat_map(|(_, report)| report.lines()).map(str::to_owned).collect();
    prop_oneof![
        4 => proptest::sample::select(lines),
        2 => proptest::sample::select(OTHERS).prop_map(str::to_owned),
        1 => "[\\PC\u{1b}\r]{0,40}",
    ]
}

/// A report between lines of others, and no others that would be part of it.
fn story() -> impl Strategy<Value = (String, u64)> {
    let step = (proptest::sample::select(REPORTS), 0_usize..4);
    proptest::collection::vec(step, 0..12).prop_map(|steps| {
        let count = steps.len() as u64;
        let text = steps.into_iter().map(|((_, report), gap)| format!("{report}{}", "ready in 1 ms\n".repeat(gap + 1)));
        (text.collect(), count)
    })
}

/// The text, which has no colours, with one before each of these places.
fn coloured(text: &str, places: &[prop::sample::Index]) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    let mut at: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    at.sort_unstable_by(|one, other| other.cmp(one));
    for at in at {
        bytes.splice(at..at, *b"\x1b[38;5;196m");
    }
    bytes
}

proptest! {
    #[test]
    fn reports_between_other_lines_are_counted_exactly((text, count) in story()) {
        prop_assert_eq!(errors(&text), count);
    }

    #[test]
    fn how_the_output_is_cut_makes_no_difference(
        lines in proptest::collection::vec(piece(), 0..30),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let text = lines.join("\n");
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([text.len()]).collect();
        at.sort_unstable();
        let (mut counter, mut from, mut count) = (ErrorCounter::default(), 0, 0);
        for to in at {
            count += counter.push(&text.as_bytes()[from..to]);
            from = to;
        }
        prop_assert_eq!(count + counter.finish(), errors(&text));
    }

    #[test]
    fn colours_make_no_difference(
        lines in proptest::collection::vec(piece(), 0..20),
        places in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.contains('\u{1b}')).collect();
        let text = lines.join("\n");
        let mut counter = ErrorCounter::default();
        prop_assert_eq!(counter.push(&coloured(&text, &places)) + counter.finish(), errors(&text));
    }

    // Else a graph would show errors that nobody had.
    #[test]
    fn there_are_never_more_errors_than_lines_that_name_one(lines in proptest::collection::vec(piece(), 0..30)) {
        let names = ["ERR_INVALID_STATE", "Controller is already closed", "controller cannot close or enqueue"];
        let naming = lines
            .iter()
            .flat_map(|line| line.split('\r'))
            .filter(|line| names.iter().any(|name| line.contains(name)));
        prop_assert!(errors(&lines.join("\n")) <= naming.count() as u64);
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let mut counter = ErrorCounter::default();
        prop_assert_eq!(counter.push(&bytes) + counter.finish(), 0);
    }
}
