//! `epp top`: the pool in a terminal, kept up to date.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::Value;

use super::explain::page;
use super::screen::{Decision, Screen, Wish};
use super::table::{Pool, plain};
use super::{AdminClient, AskError, TopOptions};

/// How long a key may wait for its effect.
const TICK: Duration = Duration::from_millis(50);

/// What the thread that asks is to ask beside what it always asks.
enum Ask {
    /// Everything, now.
    Refresh,
    /// The whole of one decision.
    Explain(String),
}

/// What it was told.
enum Told {
    Pool(Pool, Vec<Decision>),
    Explanation(String),
    Failed(String),
}

/// Shows the pool until the user has seen enough.
///
/// # Errors
/// An address or a token that is of no use, or a terminal that is none.
pub fn run(options: &TopOptions) -> Result<(), String> {
    let client = AdminClient::new(&options.access).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let interval = options.interval;
    // It ends when the screen, and with it the other end of its channel, is gone.
    let asking = thread::Builder::new().name("asking".into());
    asking
        .spawn(move || keep_asking(&runtime, &client, interval, &asked, &tell))
        .map_err(|e| e.to_string())?;
    let mut screen = Screen::new(options.access.address.clone(), options.sort);
    let mut terminal = ratatui::try_init().map_err(|e| format!("no terminal ({e}): try --once"))?;
    let ended = show(&mut terminal, &mut screen, &ask, &told);
    ratatui::restore();
    ended.map_err(|e| e.to_string())
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    ask: &Sender<Ask>,
    told: &Receiver<Told>,
) -> io::Result<()> {
    loop {
        for news in told.try_iter() {
            match news {
                Told::Pool(pool, decisions) => screen.update(pool, decisions),
                Told::Explanation(text) => screen.explained(text),
                Told::Failed(reason) => screen.failed(reason),
            }
        }
        terminal.draw(|frame| screen.draw(frame))?;
        if !event::poll(TICK)? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        let wish = match screen.key(key) {
            Wish::Nothing => continue,
            Wish::Quit => return Ok(()),
            Wish::Refresh => Ask::Refresh,
            Wish::Explain(id) => Ask::Explain(id),
        };
        // Nobody asks any more only where that thread has panicked.
        if ask.send(wish).is_err() {
            return Err(io::Error::other("nobody asks any more"));
        }
    }
}

fn keep_asking(
    runtime: &tokio::runtime::Runtime,
    client: &AdminClient,
    interval: Duration,
    asked: &Receiver<Ask>,
    tell: &Sender<Told>,
) {
    let mut next = Some(Ask::Refresh);
    loop {
        let answer = match next.take().unwrap_or(Ask::Refresh) {
            Ask::Refresh => runtime.block_on(look(client)),
            Ask::Explain(id) => {
                let text = runtime.block_on(client.text(&page(&id, false)));
                text.map(|text| Told::Explanation(text.lines().map(|l| plain(l) + "\n").collect()))
            }
        };
        let news = answer.unwrap_or_else(|error| Told::Failed(plain(&error.to_string())));
        if tell.send(news).is_err() {
            return;
        }
        match asked.recv_timeout(interval) {
            Ok(ask) => next = Some(ask),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

async fn look(client: &AdminClient) -> Result<Told, AskError> {
    let pool = Pool::read(&client.json("/debug/state").await?);
    let page = client.json("/debug/decisions?brief&last=100").await?;
    let decisions = page["decisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(Told::Pool(pool, decisions.iter().map(decision).collect()))
}

fn decision(value: &Value) -> Decision {
    let text = |value: &Value| plain(value.as_str().unwrap_or_default());
    let ended = &value["ended"];
    let outcome = match (value["refused"]["code"].as_str(), ended["ending"].as_str()) {
        (Some(code), _) => plain(code),
        (None, None) => "goes on".to_owned(),
        (None, Some(ending)) => match ended["status"].as_u64() {
            Some(status) => format!("{} {status}", plain(ending)),
            None => plain(ending),
        },
    };
    let cached = ended["cachedTokens"].as_f64().zip(ended["promptTokens"].as_f64());
    let delivered = cached.filter(|(_, prompt)| *prompt > 0.0).map(|(c, prompt)| c / prompt);
    let percent =
        |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{:.0}%", s * 100.0));
    Decision {
        id: value["request_id"].as_str().unwrap_or_default().to_owned(),
        cells: vec![
            // 2026-01-01T12:34:56.789Z
            text(&value["time"]).chars().skip(11).take(8).collect(),
            text(&value["request_id"]),
            text(&value["model"]),
            text(&value["endpoint"]),
            percent(value["prefix"][0]["share"].as_f64()),
            percent(delivered),
            outcome,
        ],
    }
}
