/// The sum of all samples of `name` that carry these labels.
pub fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    text.lines().filter_map(|line| sample(line, name, labels)).sum()
}

fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (found, value) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest.strip_prefix(' ')?),
    };
    let has = |(key, value): &(&str, &str)| found.iter().any(|(k, v)| k == key && v == value);
    if !labels.iter().all(has) {
        return None;
    }
    value.split_whitespace().next()?.parse().ok()
}

/// What stands between `{` and `}`, and what follows.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after.trim_start()));
        }
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.push((key.to_owned(), value));
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn sums_the_samples_that_match() {
        let text = "# HELP a_total x\na_total{x=\"1\",y=\"a,}\\\"b\"} 2\na_total{x=\"1\",y=\"c\"} 3\na_total{x=\"2\"} 5\na_total_more 7\nb 11 123\n";
        assert_eq!(sum(text, "a_total", &[("x", "1")]), 5.0);
        assert_eq!(sum(text, "a_total", &[("y", "a,}\"b")]), 2.0);
        assert_eq!(sum(text, "a_total", &[]), 10.0);
        assert_eq!(sum(text, "b", &[]), 11.0);
        assert_eq!(sum(text, "c", &[]), 0.0);
    }
}
