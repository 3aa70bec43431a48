use std::time::Duration;

/// Measurements of several paths, printed as ratios to the first one.
pub struct Table {
    title: String,
    /// Units of work in one step, and how to print so many per second; or `None` to print the time of a step.
    rate: Option<(f64, &'static str)>,
    rows: Vec<(String, Vec<f64>)>,
}

impl Table {
    /// A table of times per step, in microseconds.
    pub fn of_times(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rate: None,
            rows: Vec::new(),
        }
    }

    /// A table of rates: `units` per step, so named.
    pub fn of_rates(title: impl Into<String>, units: f64, name: &'static str) -> Self {
        Self {
            title: title.into(),
            rate: Some((units, name)),
            rows: Vec::new(),
        }
    }

    /// Adds a measurement of `steps` steps to a row.
    pub fn add(&mut self, row: &str, steps: u64, took: Duration) {
        let seconds = took.as_secs_f64() / steps as f64;
        let value = match self.rate {
            Some((units, _)) => units / seconds,
            None => seconds * 1e6,
        };
        match self.rows.iter_mut().find(|(name, _)| name == row) {
            Some((_, values)) => values.push(value),
            None => self.rows.push((row.to_owned(), vec![value])),
        }
    }

    /// Median, spread (first to third quartile) and ratio to the median of the first row.
    pub fn print(&self) {
        let unit = self.rate.map_or("us", |(_, name)| name);
        println!(
            "\n{} ({unit}; median, first..third quartile, ratio to {})",
            self.title,
            self.floor()
        );
        let floor = self
            .rows
            .first()
            .map_or(f64::NAN, |(_, values)| quartiles(values)[1]);
        for (name, values) in &self.rows {
            let [low, median, high] = quartiles(values);
            println!(
                "  {name:<16}{median:>12.1}  ({low:.1}..{high:.1})  x{:.2}",
                median / floor
            );
        }
    }

    fn floor(&self) -> &str {
        self.rows.first().map_or("nothing", |(name, _)| name)
    }
}

fn quartiles(values: &[f64]) -> [f64; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        sorted
            .get((sorted.len() - 1) * quarter / 4)
            .copied()
            .unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests;
