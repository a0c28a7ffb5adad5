//! What was probably meant by a misspelled word.

/// The word of a vocabulary that is nearest to what was written, if so few edits lead there.
pub(crate) fn nearest<'a>(written: &str, words: impl IntoIterator<Item = &'a str>, edits: usize) -> Option<&'a str> {
    let nearest = words.into_iter().map(|word| (distance(written, word), word)).min()?;
    (nearest.0 <= edits).then_some(nearest.1)
}

/// How many letters must be put in, taken out or replaced to get from one word to the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        for (one, other, edits) in
            [("", "", 0), ("poll", "poll", 0), ("pol", "poll", 1), ("paht", "path", 2), ("", "ab", 2)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (edits, edits), "{one} {other}");
        }
    }

    #[test]
    fn what_is_too_far_from_everything_is_near_nothing() {
        assert_eq!(nearest("chekc", ["demo", "check"], 2), Some("check"));
        assert_eq!((nearest("node", ["check"], 2), nearest("node", [], 2)), (None, None));
    }
}
