//! What the app prints.

use super::Cut;
use crate::app_errors::ErrorCounter;

/// How the output is cut never changes what is counted; no line is more than one error, what was counted stays so,
/// whatever comes after it, and errors that go on are counted on.
pub fn app_errors(data: &[u8]) {
    let Some(cut) = Cut::new(data) else { return };
    let whole = count([cut.stream]);
    assert_eq!(whole, count(cut.chunks()), "cut into chunks");
    assert_eq!(whole, count(cut.stream.chunks(1)), "byte by byte");
    let lines = cut.stream.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| line.len() >= "Controller".len());
    assert!(whole <= lines.count() as u64, "more errors than lines");
    assert_eq!(whole, count([cut.stream, b"\nready in 12 ms\n}\n\n"]), "an error that other lines have made");
    let report = b"\nready\nready\nready\nTypeError [ERR_INVALID_STATE]: Invalid state\n";
    assert_eq!(whole + 1, count([cut.stream, report]), "an error that others have hidden");
    // The first line may be a quote of source, the second a part of the last report.
    let lines = b"  Invalid state: Controller is already closed\n".repeat(4);
    assert!(whole + 2 <= count([cut.stream, b"\n", &lines]), "errors that go on unheard");
}

fn count<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut counter = ErrorCounter::default();
    chunks.into_iter().map(|chunk| counter.push(chunk)).sum::<u64>() + counter.finish()
}
