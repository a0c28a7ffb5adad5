//! The figures of all runs.

use std::collections::BTreeMap;

/// What is measured; the text stands in tables.
pub(crate) type Metric = &'static str;

/// The figures, by table, column and row.
#[derive(Debug, Default)]
pub(crate) struct Book(BTreeMap<(&'static str, String, Metric), Samples>);

/// One figure in all runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// One per run.
    runs: Vec<f64>,
    /// Every single measurement of all runs.
    single: Vec<f64>,
}

impl Book {
    /// Notes what a run gave: the median of its measurements counts for the run.
    pub(crate) fn add(&mut self, table: &'static str, column: impl Into<String>, metric: Metric, single: &[f64]) {
        let samples = self.0.entry((table, column.into(), metric)).or_default();
        if let Some(median) = median(single) {
            samples.runs.push(median);
            samples.single.extend_from_slice(single);
        }
    }

    /// The median over the runs.
    pub(crate) fn get(&self, table: &'static str, column: &str, metric: Metric) -> Option<f64> {
        self.samples(table, column, metric).and_then(Samples::median)
    }

    /// A figure, if it was measured.
    pub(crate) fn samples(&self, table: &'static str, column: &str, metric: Metric) -> Option<&Samples> {
        self.0.get(&(table, column.to_owned(), metric)).filter(|samples| !samples.runs.is_empty())
    }
}

impl Samples {
    /// The median over the runs.
    pub(crate) fn median(&self) -> Option<f64> {
        median(&self.runs)
    }

    /// The smallest and the greatest single measurement.
    pub(crate) fn range(&self) -> (f64, f64) {
        self.single
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_runs_is_not_moved_by_one_bad_run() {
        let mut book = Book::default();
        for run in [&[1.0, 2.0, 3.0][..], &[2.0], &[90.0, 100.0]] {
            book.add("t", "c", "m", run);
        }
        assert_eq!(book.get("t", "c", "m"), Some(2.0));
        assert_eq!(book.samples("t", "c", "m").unwrap().range(), (1.0, 100.0));
        assert_eq!(book.get("t", "c", "other"), None);
    }
}
