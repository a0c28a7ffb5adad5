//! The tables: what was measured, with ratios, and the bounds we have set ourselves.

use crate::{
    Fault,
    args::{Options, Part},
    book::Book,
};

mod bounds;
mod conditions;
mod table;
mod tables;
mod write;

/// One piece of Markdown, and the name of the marks between which it stands in the docs.
#[derive(Debug)]
pub(crate) struct Section {
    name: &'static str,
    title: &'static str,
    text: String,
}

/// Prints all there is, and writes it into the docs if asked to.
pub(crate) fn run(options: &Options, book: &Book) -> Result<(), Fault> {
    let mut sections = vec![conditions::section(options)];
    sections.extend(tables::sections(options, book));
    let is_whole = Part::all().iter().all(|part| options.wants(*part));
    sections.extend(bounds::section(options, book));
    for Section { title, text, .. } in &sections {
        println!("## {title}\n\n{text}\n");
    }
    if options.write {
        // Bounds want all parts of one run.
        let written = sections.iter().filter(|section| is_whole || section.name != bounds::NAME);
        write::docs(options, written)?;
        if options.wants(Part::Streams) {
            write::readme(options, &tables::short(options, book))?;
        }
    }
    Ok(())
}
