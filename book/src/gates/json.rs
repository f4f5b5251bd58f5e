//! JSON in the book is JSON.

use serde_json::Value;

use super::Problem;
use super::page::{Fence, Page};

/// The gate: each `json` fence is one value, or one value a line, with arrows before it or not.
pub fn check(pages: &[Page]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for page in pages {
        for fence in page.fences().iter().filter(|fence| fence.info == "json") {
            if let Err(what) = look(fence) {
                problems.push(Problem::new(format!("{}:{}", page.path, fence.line), what));
            }
        }
    }
    problems
}

fn look(fence: &Fence<'_>) -> Result<(), String> {
    let lines: Vec<&str> = fence.body.iter().map(|line| line.text).collect();
    if serde_json::from_str::<Value>(&lines.join("\n")).is_ok() {
        return Ok(());
    }
    for line in lines {
        let event = line.trim_start_matches(['→', '←', ' ']);
        if event.is_empty() {
            continue;
        }
        serde_json::from_str::<Value>(event).map_err(|error| format!("{error}: {line}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(json: &str) -> usize {
        check(&[Page { path: "x.md".into(), text: format!("```json\n{json}\n```\n") }]).len()
    }

    #[test]
    fn one_value_or_one_a_line_passes() {
        assert_eq!(problems_of("{\n  \"a\": 1\n}"), 0);
        assert_eq!(problems_of("→ {\"a\": 1}\n← {\"b\": 2}\n"), 0);
    }

    #[test]
    fn what_is_no_json_does_not() {
        assert_eq!(problems_of("{\"a\": 1,}"), 1);
        assert_eq!(problems_of("{\"a\": …}"), 1);
    }
}
