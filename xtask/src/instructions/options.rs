//! [`Options`]: what the task was asked for.

use std::ffi::OsString;

/// The arguments of `cargo xtask instructions`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// What to say of the rows that are written; without one, nothing is written.
    pub(super) note: Option<String>,
    /// Parts of names; with none, every scene is counted.
    scenes: Vec<String>,
}

impl Options {
    /// # Errors
    /// A message for the developer.
    pub(super) fn read(arguments: impl Iterator<Item = OsString>) -> Result<Options, String> {
        let mut options = Options::default();
        let mut is_blessed = false;
        let mut arguments = arguments.map(|argument| {
            let text = argument.into_string();
            text.map_err(|argument| format!("{} is not UTF-8", argument.display()))
        });
        while let Some(argument) = arguments.next().transpose()? {
            match argument.as_str() {
                "--bless" => is_blessed = true,
                "--note" => {
                    let note = arguments.next().transpose()?.unwrap_or_default();
                    // A note is a cell of the table.
                    if note.trim().is_empty() || note.contains(['\t', '\n']) {
                        return Err("--note wants one line that says why".to_owned());
                    }
                    options.note = Some(note);
                }
                option if option.starts_with('-') => {
                    return Err(format!("unknown option '{option}'"));
                }
                _ => options.scenes.push(argument),
            }
        }
        if is_blessed != options.note.is_some() {
            return Err("--bless and --note \"why\" go together".to_owned());
        }
        Ok(options)
    }

    pub(super) fn wants(&self, scene: &str) -> bool {
        self.wants_all() || self.scenes.iter().any(|part| scene.contains(part.as_str()))
    }

    pub(super) fn wants_all(&self) -> bool {
        self.scenes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Options, String> {
        Options::read(arguments.iter().map(OsString::from))
    }

    #[test]
    fn scenes_are_chosen_by_a_part_of_their_name() {
        let options = read(&["codec/", "qos2"]).unwrap();
        assert!(options.wants("codec/encode/v4"));
        assert!(options.wants("core/pair/qos2"));
        assert!(!options.wants("core/pair/qos1"));
        assert!(read(&[]).unwrap().wants("core/pair/qos1"));
    }

    #[test]
    fn nothing_is_blessed_without_a_note() {
        assert!(read(&["--bless"]).is_err());
        assert!(read(&["--note", "why"]).is_err());
        assert!(read(&["--bless", "--note", " "]).is_err());
        assert!(read(&["--bless", "--note", "a\tb"]).is_err());
        let options = read(&["--bless", "--note", "why", "codec"]).unwrap();
        assert_eq!(options.note.as_deref(), Some("why"));
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(read(&["--blest"]).is_err());
    }
}
