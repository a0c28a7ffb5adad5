//! Conducts a run: its parts, as often as asked, and then the tables.

use crate::{
    Fault,
    args::{Options, Part},
    book::Book,
    part, report,
};

/// Measures all that is wanted, prints it, and fails if a delivery went wrong.
pub(crate) fn run(options: &Options) -> Result<(), Fault> {
    let mut book = Book::default();
    for run in 1..=options.runs {
        for part in &options.parts {
            // Counts and clocks, which do not scatter: once is enough.
            if run > 1 && matches!(part, Part::Heartbeats | Part::Requests) {
                continue;
            }
            eprintln!("run {run} of {}: {part:?}", options.runs);
            match part {
                Part::Streams => part::streams::run(options, &mut book),
                Part::Naive => part::naive::run(options, &mut book),
                Part::Heartbeats => part::heartbeats::run(options, &mut book),
                Part::Requests => part::requests::run(options, &mut book),
                Part::Topics => part::topics::run(options, &mut book),
                Part::Curves => part::curves::run(options, &mut book),
                Part::Fairness => part::fairness::run(options, &mut book),
            }
            .map_err(|fault| format!("{part:?}: {fault}"))?;
        }
    }
    report::run(options, &book)
}
