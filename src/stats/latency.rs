//! How long the app takes, read back out of the histograms that Prometheus scrapes.

use prometheus::{Histogram, core::Metric};
use serde_json::{Value, json};

/// Several histograms with the same buckets, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// How often something was measured.
    pub count: u64,
    /// The sum of all, seconds.
    pub sum: f64,
    /// Upper bounds, and how many were at most so long; the last bound of the histogram is the end of what is known.
    buckets: Vec<(f64, u64)>,
}

// === impl Latency ===

impl Latency {
    /// What these histograms hold together.
    pub fn of<'a>(histograms: impl IntoIterator<Item = &'a Histogram>) -> Self {
        let mut all = Self::default();
        for histogram in histograms {
            let metric = histogram.metric();
            let histogram = metric.get_histogram();
            all.count += histogram.get_sample_count();
            all.sum += histogram.get_sample_sum();
            let buckets = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
            for (index, bucket) in buckets.enumerate() {
                match all.buckets.get_mut(index) {
                    Some((_, count)) => *count += bucket.cumulative_count(),
                    None => all.buckets.push((bucket.upper_bound(), bucket.cumulative_count())),
                }
            }
        }
        all
    }

    /// What came since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |index: usize| before.buckets.get(index).map_or(0, |(_, count)| *count);
        let buckets = self.buckets.iter().enumerate();
        Self {
            count: self.count.saturating_sub(before.count),
            sum: (self.sum - before.sum).max(0.0),
            buckets: buckets.map(|(at, (bound, count))| (*bound, count.saturating_sub(earlier(at)))).collect(),
        }
    }

    /// Seconds, if anything was measured.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The time within which this fraction of all ended, in seconds: within a bucket a straight line is drawn, as
    /// Prometheus' `histogram_quantile` does, and what is over the last bound is said to be that.
    pub fn quantile(&self, fraction: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = fraction * self.count as f64;
        let (mut below, mut counted) = (0.0, 0);
        for (bound, count) in &self.buckets {
            if *count as f64 >= rank && *count > counted {
                let within = (rank - counted as f64) / (count - counted) as f64;
                return Some(below + (bound - below) * within.max(0.0));
            }
            (below, counted) = (*bound, *count);
        }
        Some(below)
    }

    /// As it stands in the document; figures of nothing are `null`.
    pub fn json(&self) -> Value {
        json!({
            "count": self.count,
            "mean": self.mean(),
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;

    use super::*;

    fn histogram(seconds: &[f64]) -> Histogram {
        let opts = HistogramOpts::new("t", "t").buckets(vec![0.1, 1.0, 10.0]);
        let histogram = Histogram::with_opts(opts).unwrap();
        seconds.iter().for_each(|each| histogram.observe(*each));
        histogram
    }

    #[test]
    fn quantiles_lie_on_the_line_through_their_bucket() {
        let (quick, slow) = (histogram(&[0.05; 50]), histogram(&[0.5; 50]));
        let both = Latency::of([&quick, &slow]);

        assert_eq!(both.count, 100);
        assert_eq!(both.quantile(0.25), Some(0.05));
        assert_eq!(both.quantile(0.5), Some(0.1));
        assert_eq!(both.quantile(0.75), Some(0.55));
        assert!((both.mean().unwrap() - 0.275).abs() < 1e-9);
    }

    #[test]
    fn what_is_over_the_last_bound_is_said_to_be_that() {
        assert_eq!(Latency::of([&histogram(&[30.0])]).quantile(0.5), Some(10.0));
    }

    #[test]
    fn of_nothing_nothing_is_said() {
        let nothing = Latency::of([&histogram(&[])]);
        assert_eq!((nothing.mean(), nothing.quantile(0.5)), (None, None));
        assert_eq!(nothing.json()["p99"], Value::Null);
    }

    #[test]
    fn what_was_before_is_taken_away() {
        let one = histogram(&[0.05; 10]);
        let before = Latency::of([&one]);
        (0..10).for_each(|_| one.observe(5.0));
        let since = Latency::of([&one]).since(&before);

        assert_eq!(since.count, 10);
        assert!(since.quantile(0.5).unwrap() > 1.0 && since.mean().unwrap() > 4.9);
    }
}
