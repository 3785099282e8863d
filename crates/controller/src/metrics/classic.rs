//! The counters in the text format that Prometheus had first (0.0.4), for readers that do not ask for OpenMetrics:
//! `curl`, `promtool check metrics`.
//!
//! The two differ in little, as far as these counters go: here a counter's family is called as its samples are, with
//! `_total`, and there is neither a unit nor an end.
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::HashSet;

/// What differs is the comments; every sample stays as it is.
pub(super) fn from_open_metrics(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = types.filter_map(|family| family.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", kind, name, rest] if counters.contains(name) => {
                text.extend(["# ", kind, " ", name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_called_as_its_samples_are_and_the_rest_stays() {
        let open_metrics = "\
# HELP ends Sessions that ended, by cause.
# TYPE ends counter
ends_total{cause=\"Idle\"} 2
# HELP start_seconds How long a start took.
# TYPE start_seconds histogram
# UNIT start_seconds seconds
start_seconds_count 0
# EOF
";
        let classic = "\
# HELP ends_total Sessions that ended, by cause.
# TYPE ends_total counter
ends_total{cause=\"Idle\"} 2
# HELP start_seconds How long a start took.
# TYPE start_seconds histogram
start_seconds_count 0
";
        assert_eq!(from_open_metrics(open_metrics), classic);
    }
}
