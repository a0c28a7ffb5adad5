//! Puts tables between their marks in the docs.

use std::{fs, path::Path};

use super::Section;
use crate::{Fault, args::Options};

/// Writes sections into docs/density.md.
pub(crate) fn docs<'a>(options: &Options, sections: impl Iterator<Item = &'a Section>) -> Result<(), Fault> {
    let file = options.root.join("docs/density.md");
    let mut text = read(&file)?;
    for Section { name, text: section, .. } in sections {
        text = replaced(&text, name, section).ok_or_else(|| missing(&file, name))?;
    }
    Ok(fs::write(file, text)?)
}

/// Writes the short table into README.md.
pub(crate) fn readme(options: &Options, table: &str) -> Result<(), Fault> {
    let file = options.root.join("README.md");
    let text = replaced(&read(&file)?, "density", table).ok_or_else(|| missing(&file, "density"))?;
    Ok(fs::write(file, text)?)
}

fn read(file: &Path) -> Result<String, Fault> {
    fs::read_to_string(file).map_err(|error| Fault::from(format!("{}: {error}", file.display())))
}

fn missing(file: &Path, name: &str) -> Fault {
    Fault::from(format!("{} has no marks for {name}", file.display()))
}

/// The text with what stands between the marks of `name` replaced, if they are there.
fn replaced(text: &str, name: &str, section: &str) -> Option<String> {
    let begin = text.find(&format!("<!-- {name}: "))?;
    let begin = begin + text[begin..].find("-->")? + "-->".len();
    let end = begin + text[begin..].find(&format!("<!-- /{name} -->"))?;
    Some(format!("{}\n\n{section}\n\n{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = "a\n<!-- t: written by x -->\n\nold\n\n<!-- /t -->\nb <!-- u: written -->\n\n<!-- /u -->";
        let new = replaced(text, "t", "new").unwrap();
        assert_eq!(new, "a\n<!-- t: written by x -->\n\nnew\n\n<!-- /t -->\nb <!-- u: written -->\n\n<!-- /u -->");
        assert_eq!(replaced(&new, "t", "new").unwrap(), new);
        assert_eq!(replaced(text, "v", "new"), None);
    }
}
