//! Markdown tables of figures.

use crate::book::{Book, Metric, Samples};

/// A row: what was measured, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) metric: Metric,
    pub(crate) unit: Unit,
}

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Count,
    /// A count of which more is better.
    Rate,
    Micros,
    Millis,
    /// Milliseconds of CPU in a second.
    CpuMillis,
    Percent,
    Mebibytes,
}

impl Row {
    pub(crate) const fn new(metric: Metric, unit: Unit) -> Self {
        Self { metric, unit }
    }

    fn title(self) -> String {
        match self.unit {
            Unit::Bytes => format!("{}, bytes", self.metric),
            Unit::Micros => format!("{}, µs", self.metric),
            Unit::Millis => format!("{}, ms", self.metric),
            Unit::CpuMillis => format!("{}, ms per second", self.metric),
            Unit::Percent => format!("{}, %", self.metric),
            Unit::Mebibytes => format!("{}, MiB", self.metric),
            Unit::Count | Unit::Rate => self.metric.to_owned(),
        }
    }
}

impl Unit {
    /// The figure, as precise as it deserves.
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Bytes | Self::Count | Self::Rate => thousands(value),
            _ if value.abs() >= 100.0 => thousands(value),
            _ => format!("{value:.1}"),
        }
    }
}

/// A table of medians, with the worst single measurement in brackets where there were several.
pub(crate) fn medians(book: &Book, table: &'static str, columns: &[(String, String)], rows: &[Row]) -> String {
    let head: Vec<_> = columns.iter().map(|(_, title)| title.clone()).collect();
    let rows = rows.iter().filter_map(|row| {
        let cells: Vec<_> =
            columns.iter().map(|(column, _)| book.samples(table, column, row.metric).map(|s| cell(*row, s))).collect();
        cells
            .iter()
            .any(Option::is_some)
            .then(|| (row.title(), cells.into_iter().map(Option::unwrap_or_default).collect()))
    });
    markdown(&head, &rows.collect::<Vec<_>>())
}

fn cell(row: Row, samples: &Samples) -> String {
    let median = row.unit.write(samples.median().unwrap_or_default());
    let (low, high) = samples.range();
    let worst = row.unit.write(if row.unit == Unit::Rate { low } else { high });
    if worst == median { median } else { format!("{median} ({worst})") }
}

/// A table with a column of titles and columns of figures.
pub(crate) fn markdown(head: &[String], rows: &[(String, Vec<String>)]) -> String {
    let mut lines = vec![format!("|  | {} |", head.join(" | ")), format!("| --- |{}", " ---: |".repeat(head.len()))];
    lines.extend(rows.iter().map(|(title, cells)| format!("| {title} | {} |", cells.join(" | "))));
    lines.join("\n")
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value <= -0.5 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        assert_eq!(Unit::Bytes.write(14_329.17), "14,329");
        assert_eq!(Unit::Bytes.write(-2_438.5), "-2,438");
        assert_eq!(Unit::Bytes.write(-0.2), "0");
        assert_eq!(Unit::Millis.write(122.4), "122");
        assert_eq!(Unit::Micros.write(9.25), "9.2");
    }

    #[test]
    fn the_worst_stands_beside_the_median_and_for_rates_it_is_the_lowest() {
        let mut book = Book::default();
        book.add("t", "c", "time", &[1.0, 2.0, 9.0]);
        book.add("t", "c", "rate", &[10.0, 20.0, 90.0]);
        let rows = [Row::new("time", Unit::Millis), Row::new("rate", Unit::Rate), Row::new("absent", Unit::Rate)];
        let table = medians(&book, "t", &[("c".to_owned(), "C".to_owned())], &rows);
        assert_eq!(table, "|  | C |\n| --- | ---: |\n| time, ms | 2.0 (9.0) |\n| rate | 20 (10) |");
    }
}
