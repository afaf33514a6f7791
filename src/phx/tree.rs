//! PURE. Lines drawn as a tree, with or without colours.

/// What a piece of text says by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Nothing.
    Plain,
    /// A name.
    Bold,
    /// It can be passed over.
    Dim,
    /// All is well.
    Good,
    /// It is under way, or waits.
    Busy,
    /// Something is wrong.
    Bad,
}

impl Paint {
    /// Select Graphic Rendition (ECMA-48, 8.3.117).
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Busy => "33",
            Self::Bad => "31",
        }
    }

    /// A text in this paint.
    pub fn on(self, text: &str, colours: bool) -> String {
        if colours && self != Self::Plain && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", self.code())
        } else {
            text.to_owned()
        }
    }
}

/// A line and what hangs below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    pieces: Vec<(Paint, String)>,
    children: Vec<Self>,
}

impl Node {
    /// A line with nothing below it.
    pub fn new(paint: Paint, text: impl Into<String>) -> Self {
        Self { pieces: vec![(paint, text.into())], children: Vec::new() }
    }

    /// Goes on in the same line, after a space; nothing for an empty text.
    #[must_use]
    pub fn and(mut self, paint: Paint, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.pieces.push((paint, text));
        }
        self
    }

    /// Hangs a line below.
    pub fn push(&mut self, child: Self) {
        self.children.push(child);
    }

    /// Hangs lines below.
    #[must_use]
    pub fn with(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// All lines.
    pub fn lines(&self, colours: bool) -> Vec<String> {
        let mut lines = Vec::new();
        self.draw("", "", colours, &mut lines);
        lines
    }

    fn draw(&self, first: &str, rest: &str, colours: bool, lines: &mut Vec<String>) {
        let pieces: Vec<String> = self.pieces.iter().map(|(paint, text)| paint.on(text, colours)).collect();
        let text = pieces.join(" ");
        lines.push(format!("{}{text}", Paint::Dim.on(first, colours)).trim_end().to_owned());
        for (index, child) in self.children.iter().enumerate() {
            let last = index + 1 == self.children.len();
            let (branch, trunk) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            child.draw(&format!("{rest}{branch}"), &format!("{rest}{trunk}"), colours, lines);
        }
    }
}

/// A number of seconds as kubectl writes ages: `45s`, `12m`, `3h5m`, `4d`.
pub fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if minutes % 60 > 0 => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// Rows in columns, two spaces apart, without spaces at the ends of lines.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let seen: Vec<String> =
            [0, 119, 120, 125, 600, 10_799, 10_860, 50_000, 500_000].into_iter().map(age).collect();
        assert_eq!(seen, ["0s", "119s", "2m", "2m5s", "10m", "179m", "3h1m", "13h", "5d"]);
    }

    #[test]
    fn a_tree_has_branches_and_colours_only_when_asked() {
        let tree = Node::new(Paint::Bold, "a").with([
            Node::new(Paint::Good, "b").and(Paint::Dim, "x").with([Node::new(Paint::Plain, "c")]),
            Node::new(Paint::Bad, "d").and(Paint::Bad, ""),
        ]);
        assert_eq!(tree.lines(false), ["a", "├─ b x", "│  └─ c", "└─ d"]);
        assert_eq!(tree.lines(true)[3], "\x1b[2m└─ \x1b[0m\x1b[31md\x1b[0m");
    }

    #[test]
    fn a_table_lines_up() {
        let rows = [vec!["A".to_owned(), "LONG".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&rows), "A    LONG\nbcd");
    }
}
