/// Lines of text with their cells below each other; the last column is as wide as it comes.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let mut written = String::new();
        for (cell, width) in line.iter().zip(widths) {
            written.push_str(cell);
            written.push_str(&" ".repeat(width + 2 - cell.chars().count()));
        }
        text.push_str(written.trim_end());
        text.push('\n');
    }
    text
}
