//! Turns that were played before, one file each, so that a comparison of hours can be broken off
//! and gone on with.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::turn::Figures;

/// A folder with the turns of one comparison.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    folder: &'a Path,
    /// What a turn's figures depend on, but for contender and turn.
    conditions: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    conditions: String,
    figures: Figures,
}

impl<'a> Kept<'a> {
    /// # Errors
    /// Where the folder can neither be used nor made.
    pub(super) fn open(folder: &'a Path, conditions: String) -> Result<Self, String> {
        fs::create_dir_all(folder)
            .map_err(|e| format!("--keep: cannot make {}: {e}", folder.display()))?;
        Ok(Self { folder, conditions })
    }

    fn path(&self, contender: &str, turn: u32) -> PathBuf {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = contender.chars().map(plain).collect();
        self.folder.join(format!("{name}-{turn}.json"))
    }

    /// The figures of a turn that was played under the same conditions.
    ///
    /// # Errors
    /// Where there is a turn but of other conditions, or something that cannot be read: it is not
    /// written over.
    pub(super) fn find(&self, contender: &str, turn: u32) -> Result<Option<Figures>, String> {
        let path = self.path(contender, turn);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("--keep: {}: {e}", path.display())),
        };
        let file: File = serde_json::from_str(&text)
            .map_err(|e| format!("--keep: {} is not a turn: {e}", path.display()))?;
        if file.conditions != self.conditions || file.figures.contender != contender {
            return Err(format!(
                "--keep: {} was played under other conditions ({}): take another folder",
                path.display(),
                file.conditions
            ));
        }
        Ok(Some(file.figures))
    }

    /// # Errors
    /// Where it cannot be written.
    pub(super) fn put(&self, figures: &Figures) -> Result<(), String> {
        let path = self.path(&figures.contender, figures.turn);
        let failed = |e: &dyn std::fmt::Display| format!("--keep: {}: {e}", path.display());
        let file = File { conditions: self.conditions.clone(), figures: figures.clone() };
        let text = serde_json::to_string_pretty(&file).map_err(|e| failed(&e))?;
        // Whole or not there, also where the program is killed meanwhile.
        let beside = path.with_extension("partial");
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).map_err(|e| failed(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_found_again_under_its_own_conditions_only() {
        let folder = tempfile::tempdir().unwrap();
        let open = |c: &str| Kept::open(folder.path(), c.to_owned()).unwrap();
        let figures =
            Figures { contender: "ref: a".into(), turn: 2, answered: 7, ..Figures::default() };
        open("x").put(&figures).unwrap();
        assert_eq!(open("x").find("ref: a", 2).unwrap().unwrap().answered, 7);
        assert!(open("x").find("ref: a", 1).unwrap().is_none());
        assert!(open("y").find("ref: a", 2).unwrap_err().contains("other conditions"));
        // Another name that would be in the same file.
        assert!(open("x").find("ref- a", 2).is_err());
        fs::write(open("x").path("b", 1), "{").unwrap();
        assert!(open("x").find("b", 1).unwrap_err().contains("b-1.json"));
    }
}
