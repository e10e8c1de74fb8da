//! Which filter matches which topic, by the letter of the standard and nothing else.

/// Whether an ordinary filter matches a topic name [MQTT-4.7.1-1 to -3, 4.7.2-1].
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Takes a shared subscription apart into share name and filter.
pub(super) fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("+/b", "a/b", true),
            ("+", "a/b", false),
            ("a/+", "a/", true),
            ("#", "$d/a", false),
            ("+/a", "$d/a", false),
            ("$d/#", "$d/a", true),
            ("#", "a/b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
        }
        assert_eq!(shared("$share/g/a/b"), Some(("g", "a/b")));
        assert_eq!(shared("a/b"), None);
    }
}
