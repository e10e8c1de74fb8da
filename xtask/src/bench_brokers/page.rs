//! The page of benchmarks, into which texts are put between markers.

use std::error::Error;
use std::fs;
use std::path::Path;

/// Puts each text into the page, in place of what is there between the markers of its name.
pub(super) fn write(path: &Path, texts: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let page = fs::read_to_string(path);
    let mut page = page.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    for (name, text) in texts {
        page = filled_in(&page, name, text).ok_or_else(|| {
            let (begin, end) = markers(name);
            let path = path.display();
            format!("{path} has no lines \"{begin}\" and \"{end}\", between which figures go")
        })?;
    }
    Ok(fs::write(path, page)?)
}

fn filled_in(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = markers(name);
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    // Blanks before the first line are of its own.
    let text = text.trim_end().trim_start_matches('\n');
    Some(format!("{before}{begin}\n\n{text}\n\n{end}{after}"))
}

fn markers(name: &str) -> (String, String) {
    (
        format!("<!-- bench-brokers {name}: begin -->"),
        format!("<!-- bench-brokers {name}: end -->"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let (begin, end) = markers("tables");
        let page = format!("# Page\n\n{begin}\nold\n{end}\nrest\n");
        let new = filled_in(&page, "tables", "new\n").expect("markers");
        assert_eq!(new, format!("# Page\n\n{begin}\n\nnew\n\n{end}\nrest\n"));
        assert_eq!(
            filled_in(&new, "tables", "new").as_deref(),
            Some(new.as_str())
        );
        assert_eq!(filled_in(&page, "losses", "new"), None);
    }
}
