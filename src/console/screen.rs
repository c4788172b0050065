use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row as Cells, Table, TableState, Wrap};

use super::table::{Column, Pool, plain};

/// One decision in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    pub id: String,
    pub cells: Vec<String>,
}

/// What a key asks for beyond the screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Refresh,
    Explain(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pane {
    #[default]
    Endpoints,
    Decisions,
}

/// What is shown.
#[derive(Debug, Default)]
pub(super) struct Screen {
    address: String,
    pool: Pool,
    decisions: Vec<Decision>,
    sort: Column,
    pane: Pane,
    endpoints: TableState,
    chosen: TableState,
    /// The whole of one decision, and the first line of it that is shown.
    open: Option<(String, u16)>,
    /// Why there is no news.
    failure: Option<String>,
    paused: bool,
}

const KEYS: &str = " 1-9,0 sort  tab pane  j/k move  enter explain  p pause  r refresh  q quit ";

impl Screen {
    pub(super) fn new(address: String, sort: Column) -> Self {
        let mut screen = Self { address: plain(&address), sort, ..Self::default() };
        screen.endpoints.select(Some(0));
        screen.chosen.select(Some(0));
        screen
    }

    /// There is news; a pool that is paused stays as it is.
    pub(super) fn update(&mut self, pool: Pool, decisions: Vec<Decision>) {
        self.failure = None;
        if self.paused {
            return;
        }
        // The list moves: what was chosen stays so while it is there.
        let id = self.chosen.selected().and_then(|at| self.decisions.get(at)).map(|d| &d.id);
        let at = id.and_then(|id| decisions.iter().position(|d| d.id == *id));
        if self.pane == Pane::Decisions {
            self.chosen.select(Some(at.unwrap_or(0)));
        }
        (self.pool, self.decisions) = (pool, decisions);
    }

    pub(super) fn explained(&mut self, text: String) {
        self.open = Some((text, 0));
    }

    pub(super) fn failed(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// Does what a key means here, and says what it wishes for.
    pub(super) fn key(&mut self, key: KeyEvent) -> Wish {
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if with_control => return Wish::Quit,
            KeyCode::Char('q') | KeyCode::Esc if self.open.is_some() => self.open = None,
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('j') | KeyCode::Down => self.go(1),
            KeyCode::Char('k') | KeyCode::Up => self.go(-1),
            KeyCode::PageDown => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('r') => return Wish::Refresh,
            KeyCode::Tab | KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Endpoints => Pane::Decisions,
                    Pane::Decisions => Pane::Endpoints,
                };
            }
            KeyCode::Char(digit @ '0'..='9') => {
                let at = digit.to_digit(10).map_or(0, |d| (d as usize + 9) % 10);
                self.sort = Column::ALL.get(at).copied().unwrap_or_default();
            }
            KeyCode::Enter => {
                if self.pane == Pane::Endpoints {
                    self.pane = Pane::Decisions;
                    return Wish::Nothing;
                }
                let chosen = self.chosen.selected().and_then(|at| self.decisions.get(at));
                return chosen.map_or(Wish::Nothing, |d| Wish::Explain(d.id.clone()));
            }
            _ => {}
        }
        Wish::Nothing
    }

    fn go(&mut self, step: i32) {
        if let Some((text, line)) = &mut self.open {
            let last = u16::try_from(text.lines().count()).unwrap_or(u16::MAX).saturating_sub(1);
            *line = line.saturating_add_signed(step as i16).min(last);
            return;
        }
        let (state, count) = match self.pane {
            Pane::Endpoints => (&mut self.endpoints, self.pool.endpoints.len()),
            Pane::Decisions => (&mut self.chosen, self.decisions.len()),
        };
        let at = state.selected().unwrap_or(0).saturating_add_signed(step as isize);
        state.select(Some(at.min(count.saturating_sub(1))));
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let findings = self.pool.findings.len().min(3) * 2 + self.pool.bands.len().min(4);
        let [head, notes, endpoints, decisions, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(u16::try_from(findings).unwrap_or(0)),
            Constraint::Fill(3),
            Constraint::Fill(2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        let paused = if self.paused { " | paused" } else { "" };
        let summary = format!("epp {} | {}{paused}", self.address, self.pool.summary);
        let head_style = Style::new().add_modifier(Modifier::BOLD);
        frame.render_widget(Line::styled(summary, head_style), head);
        frame.render_widget(Paragraph::new(self.notes()), notes);
        self.draw_endpoints(frame, endpoints);
        self.draw_decisions(frame, decisions);
        let foot_line = match &self.failure {
            Some(reason) => Line::styled(format!(" {reason}"), Style::new().fg(Color::Red)),
            None => Line::styled(KEYS, Style::new().add_modifier(Modifier::DIM)),
        };
        frame.render_widget(foot_line, foot);
        if let Some((text, line)) = &self.open {
            let area = frame.area();
            let inside = Rect {
                x: 1,
                y: 1,
                width: area.width.saturating_sub(2),
                height: area.height.saturating_sub(2),
            };
            let whole = Paragraph::new(text.as_str())
                .wrap(Wrap { trim: false })
                .scroll((*line, 0))
                .block(Block::bordered().title(" decision (q closes, j/k scroll) "));
            frame.render_widget(Clear, inside);
            frame.render_widget(whole, inside);
        }
    }

    fn notes(&self) -> Vec<Line<'_>> {
        let bands = self.pool.bands.iter().take(4).map(|band| Line::raw(band.as_str()));
        let findings = self.pool.findings.iter().take(3).flat_map(|(what, change)| {
            let what = Line::styled(format!("! {what}"), Style::new().fg(Color::Yellow));
            [what, Line::raw(format!("  change: {change}"))]
        });
        bands.chain(findings).collect()
    }

    fn draw_endpoints(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let head = Column::ALL.iter().map(|column| match *column == self.sort {
            true => format!("{}*", column.head()),
            false => column.head().to_owned(),
        });
        let rows = self.pool.sorted(self.sort).into_iter().map(|row| {
            let color = match row.state.as_str() {
                "ok" => Style::new(),
                "out" => Style::new().fg(Color::Red),
                _ => Style::new().fg(Color::Yellow),
            };
            Cells::new(Pool::cells(row)).style(color)
        });
        let widths = [24, 10, 7, 9, 10, 6, 6, 7, 8, 9].map(Constraint::Min);
        let title = format!(" endpoints ({}) ", self.pool.endpoints.len());
        let table = Table::new(rows, widths)
            .header(Cells::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(highlight(self.pane == Pane::Endpoints))
            .block(Block::bordered().title(title));
        frame.render_stateful_widget(table, area, &mut self.endpoints);
    }

    fn draw_decisions(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let head = ["TIME", "REQUEST", "MODEL", "ENDPOINT", "BELIEVED", "CACHED", "ENDED"];
        let rows = self.decisions.iter().map(|d| Cells::new(d.cells.iter().map(String::as_str)));
        let widths = [8, 20, 12, 24, 8, 7, 14].map(Constraint::Min);
        let table = Table::new(rows, widths)
            .header(Cells::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(highlight(self.pane == Pane::Decisions))
            .block(Block::bordered().title(" decisions "));
        frame.render_stateful_widget(table, area, &mut self.chosen);
    }
}

fn highlight(is_active: bool) -> Style {
    if is_active { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::console::table::tests::pool;

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Wish {
        screen.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn screen() -> Screen {
        let mut screen = Screen::new("http://epp:9090".into(), Column::Name);
        let decision = |id: &str| Decision {
            id: id.into(),
            cells: ["12:00:00", id, "m", "ns/a", "50%", "25%", "complete 200"]
                .map(String::from)
                .into(),
        };
        screen.update(pool(), vec![decision("r-2"), decision("r-1")]);
        screen
    }

    #[test]
    fn everything_is_on_the_screen() {
        let mut screen = screen();
        let text = drawn(&mut screen, 120, 30);
        for part in
            ["http://epp:9090", "ns/a", "75%", "r-1", "complete 200", "change: look", "q quit"]
        {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn keys_sort_move_and_open() {
        let mut screen = screen();
        assert_eq!(press(&mut screen, KeyCode::Char('3')), Wish::Nothing);
        let text = drawn(&mut screen, 120, 30);
        assert!(text.find("ns/b ").unwrap() < text.find("ns/a ").unwrap(), "{text}");
        assert!(text.contains("QUEUE*"), "{text}");
        press(&mut screen, KeyCode::Tab);
        press(&mut screen, KeyCode::Down);
        assert_eq!(press(&mut screen, KeyCode::Enter), Wish::Explain("r-1".into()));
        screen.explained("the whole\nof it\n".into());
        assert!(drawn(&mut screen, 120, 30).contains("the whole"));
        press(&mut screen, KeyCode::Down);
        assert!(!drawn(&mut screen, 120, 30).contains("the whole"));
        assert_eq!(press(&mut screen, KeyCode::Esc), Wish::Nothing);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Wish::Quit);
    }

    #[test]
    fn a_pause_keeps_what_is_shown_and_failures_are_said() {
        let mut screen = screen();
        press(&mut screen, KeyCode::Char('p'));
        screen.update(Pool::default(), Vec::new());
        assert!(drawn(&mut screen, 120, 30).contains("ns/a"));
        screen.failed("nobody answers".into());
        assert!(drawn(&mut screen, 120, 30).contains("nobody answers"));
    }

    #[test]
    fn any_size_will_do() {
        for (width, height) in [(1, 1), (10, 3), (40, 12), (300, 100)] {
            let mut screen = screen();
            screen.explained("x".repeat(5000));
            drawn(&mut screen, width, height);
        }
    }
}
