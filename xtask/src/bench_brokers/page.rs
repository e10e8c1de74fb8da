//! The page of benchmarks, into which a table is put between two markers.

use std::error::Error;
use std::fs;
use std::path::Path;

/// Puts the text into the page, in place of what is there between the markers.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    let page = fs::read_to_string(path);
    let page = page.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let page = filled_in(&page, text).ok_or_else(|| {
        let path = path.display();
        format!("{path} has no lines \"{BEGIN}\" and \"{END}\", between which the table goes")
    })?;
    Ok(fs::write(path, page)?)
}

fn filled_in(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let text = text.trim();
    Some(format!("{before}{BEGIN}\n\n{text}\n\n{END}{after}"))
}

const BEGIN: &str = "<!-- bench-brokers: begin -->";
const END: &str = "<!-- bench-brokers: end -->";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("# Page\n\n{BEGIN}\nold\n{END}\nrest\n");
        let new = filled_in(&page, "new\n").expect("markers");
        assert_eq!(new, format!("# Page\n\n{BEGIN}\n\nnew\n\n{END}\nrest\n"));
        assert_eq!(filled_in(&new, "new").as_deref(), Some(new.as_str()));
        assert_eq!(filled_in("# Page\n", "new"), None);
    }
}
