//! Nothing is left of mdBook's directives in the finished book, and no listing is empty.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Problem;
use super::page::{files, relative};

/// The gate, for the folder that mdBook wrote.
///
/// # Errors
/// A page can't be read.
pub fn check(html: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for file in files(html)?.iter().filter(|file| file.extension().is_some_and(|end| end == "html"))
    {
        let text = fs::read_to_string(file)?;
        problems
            .extend(look(&text).into_iter().map(|what| Problem::new(relative(file, html), what)));
    }
    Ok(problems)
}

fn look(html: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some((_, after)) = html.split_once("{{#") {
        let directive: String = after.chars().take(60).collect();
        problems.push(format!("a directive was not resolved: {{{{#{directive}"));
    }
    let empty = html.split("<pre").skip(1).filter(|rest| is_empty(rest)).count();
    if empty > 0 {
        problems.push(format!("{empty} empty listings"));
    }
    problems
}

/// Whether the `<code>` in a `<pre>` has nothing in it.
fn is_empty(pre: &str) -> bool {
    let pre = pre.split("</pre>").next().unwrap_or_default();
    let Some((_, code)) = pre.split_once("<code") else { return false };
    let Some((_, code)) = code.split_once('>') else { return true };
    code.split("</code>").next().unwrap_or_default().trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_page_passes() {
        let html = "<p>{{x}}</p><pre><code class=\"language-sh\">cargo run</code></pre>";
        assert!(look(html).is_empty());
    }

    #[test]
    fn directives_and_empty_listings_are_found() {
        assert_eq!(look("<p>{{#include gone.rs}}</p>").len(), 1);
        assert_eq!(look("<pre class=\"x\"><code class=\"language-rust\">\n</code></pre>").len(), 1);
        assert_eq!(look("<pre><code></code></pre><pre><code>x</code></pre>").len(), 1);
    }
}
