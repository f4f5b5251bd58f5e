//! The tags of an HTML page, as far as links and listings need them.

/// An opening tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag<'a> {
    /// Its name, such as `a`.
    pub name: &'a str,
    /// Its attributes, in order, as they are written.
    pub attributes: Vec<(&'a str, &'a str)>,
}

impl Tag<'_> {
    /// The value of an attribute, with its entities resolved.
    pub fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.attributes.iter().find(|(known, _)| *known == name)?;
        Some(unescape(value))
    }
}

/// All opening tags of a page, without what is in comments, scripts and styles.
pub fn tags(html: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        rest = after;
        if let Some(comment) = rest.strip_prefix("!--") {
            rest = after_end(comment, "-->");
        } else if rest.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let (tag, after) = tag(rest);
            rest = match tag.name {
                "script" => after_end(after, "</script>"),
                "style" => after_end(after, "</style>"),
                _ => after,
            };
            tags.push(tag);
        }
    }
    tags
}

fn after_end<'a>(text: &'a str, end: &str) -> &'a str {
    text.split_once(end).map_or("", |(_, after)| after)
}

/// Reads a tag from behind its `<` to behind its `>`.
fn tag(text: &str) -> (Tag<'_>, &str) {
    let (name, mut rest) = split_at_any(text, |c| c.is_whitespace() || c == '>' || c == '/');
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if let Some(after) = rest.strip_prefix('>') {
            return (Tag { name, attributes }, after);
        }
        if rest.is_empty() {
            return (Tag { name, attributes }, rest);
        }
        let (attribute, after) = attribute(rest);
        attributes.push(attribute);
        rest = after;
    }
}

/// Reads `name`, `name=value`, `name="value"` or `name='value'`.
fn attribute(text: &str) -> ((&str, &str), &str) {
    let is_end = |c: char| c.is_whitespace() || c == '>' || c == '=';
    // At least one character, so that strange input can't hold us here.
    let first = text.chars().next().map_or(0, char::len_utf8);
    let length =
        text.get(first..).and_then(|rest| rest.find(is_end)).map_or(text.len(), |at| first + at);
    let (name, rest) = text.split_at(length);
    let Some(value) = rest.trim_start().strip_prefix('=').map(str::trim_start) else {
        return ((name, ""), rest);
    };
    for quote in ['"', '\''] {
        if let Some(value) = value.strip_prefix(quote) {
            let (value, rest) = value.split_once(quote).unwrap_or((value, ""));
            return ((name, value), rest);
        }
    }
    let (value, rest) = split_at_any(value, |c| c.is_whitespace() || c == '>');
    ((name, value), rest)
}

fn split_at_any(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

/// Resolves the entities that mdBook writes in attributes.
pub fn unescape(text: &str) -> String {
    let entities = [
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    entities.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_attributes_of_every_kind() {
        let html = r#"<a href="x.html?a=1&amp;b=2" id='one' hidden data-n=3>text</a><br/>"#;
        let tags = tags(html);
        assert_eq!(tags[0].get("href").as_deref(), Some("x.html?a=1&b=2"));
        assert_eq!(tags[0].get("id").as_deref(), Some("one"));
        assert_eq!(tags[0].get("hidden").as_deref(), Some(""));
        assert_eq!(tags[0].get("data-n").as_deref(), Some("3"));
        assert_eq!(tags[1].name, "br");
    }

    #[test]
    fn leaves_out_comments_scripts_and_styles() {
        let html = "<!-- <a id=1> --><script>'<a id=2>'</script><style><a></style>1 < 2 <p";
        let names: Vec<_> = tags(html).iter().map(|tag| tag.name).collect();
        assert_eq!(names, ["script", "style", "p"]);
    }
}
