//! The show: keys or a script say what to do, events are told as they happen, and at the end everything
//! is counted.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use tokio::select;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::command::{Action, Script, Step, Whom};
use super::ledger::{Count, Recovery};
use super::node::Life;
use super::robots::Robots;
use super::screen::Screen;
use super::stage::{Note, Stage, Tone, seconds};
use super::view::Picture;
use crate::paint::Paint;

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How often a log without a screen gets a line about everything.
const NOW_AND_THEN: Duration = Duration::from_secs(5);

/// A cluster with its robots, and who watches them.
#[derive(Debug)]
pub struct Show {
    stage: Arc<Stage>,
    robots: Arc<Robots>,
    noted: UnboundedReceiver<Note>,
    screen: Screen,
    paint: Paint,
    /// Who gets the next key, if there are keys.
    chosen: Option<Whom>,
    began: Instant,
    /// When something was done to the cluster, since all could talk.
    disturbed: Vec<Instant>,
    /// When the last line about everything was written.
    told: Instant,
}

/// The keys that come, if there are any.
type Keys = Option<EventStream>;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Choose(Whom),
    Do(Action),
    FreezeOrThaw,
    CutOrMend,
    Quit,
}

impl Show {
    /// Takes the screen. What happens on the stage is in `noted`; with `keys` they say what to do.
    ///
    /// # Errors
    /// The terminal does not do what is asked.
    pub fn new(
        stage: Stage,
        robots: Robots,
        noted: UnboundedReceiver<Note>,
        keys: bool,
    ) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            stage: Arc::new(stage),
            robots: Arc::new(robots),
            noted,
            screen: Screen::take(keys)?,
            paint: Paint::for_stdout(),
            chosen: keys.then_some(Whom::Node(1)),
            began: now,
            disturbed: Vec::new(),
            told: now,
        })
    }

    /// Plays to the end of the script or, without one, until a key ends it. Gives whether nothing got
    /// lost and nothing came twice.
    ///
    /// # Errors
    /// The terminal or the cluster is gone.
    pub async fn play(mut self, script: Option<&Script>) -> Result<bool> {
        let mut keys = script.is_none().then(EventStream::new);
        match script {
            Some(script) => self.follow(script).await?,
            None => self.obey(&mut keys).await?,
        }
        let counted = self.count(&mut keys).await;
        self.frame().await?;
        // The numbers of the end stand alone.
        self.screen.draw(&[], &[])?;
        let count = self.robots.ledger().count();
        let Self { stage, robots, screen, paint, .. } = self;
        drop(screen);
        counted?;
        println!("\n{}\n{}", count.totals(paint), verdict(&count));
        if let Some(robots) = Arc::into_inner(robots) {
            robots.leave().await;
        }
        stage.end().await;
        Ok(count.is_right())
    }

    /// Takes the steps of a script one after the other. One that can't be taken is told and left out.
    async fn follow(&mut self, script: &Script) -> Result<()> {
        let stage = Arc::clone(&self.stage);
        let mut steps = pin!(take_steps(&stage, script.steps()));
        let mut frames = frames();
        loop {
            select! {
                () = &mut steps => return Ok(()),
                _ = frames.tick() => self.frame().await?,
            }
        }
    }

    /// Does what keys ask for, until one asks to quit.
    async fn obey(&mut self, keys: &mut Keys) -> Result<()> {
        let mut doing = JoinSet::new();
        let mut frames = frames();
        loop {
            select! {
                wish = next_wish(keys) => match wish? {
                    Wish::Quit => break,
                    Wish::Choose(whom) => self.choose(whom),
                    wish => if let Some((action, whom)) = self.action(wish) {
                        let stage = Arc::clone(&self.stage);
                        doing.spawn(async move { stage.perform(action, whom).await });
                    },
                },
                _ = frames.tick() => self.frame().await?,
            }
            while doing.try_join_next().is_some() {}
        }
        // What was begun is ended: a node that was asked to stop stops, for instance.
        while !doing.is_empty() {
            select! {
                _ended = doing.join_next() => {}
                _ = frames.tick() => self.frame().await?,
            }
        }
        Ok(())
    }

    fn choose(&mut self, whom: Whom) {
        let exists = match whom {
            Whom::Node(number) => number <= self.stage.nodes().len(),
            Whom::Redis => true,
        };
        if exists {
            self.chosen = Some(whom);
        }
    }

    /// What a wish means for who is chosen.
    fn action(&self, wish: Wish) -> Option<(Action, Whom)> {
        let whom = self.chosen?;
        let condition = match whom {
            Whom::Node(number) => self.stage.nodes().get(number - 1).map(|node| node.condition()),
            Whom::Redis => None,
        };
        let life = condition.map_or(self.stage.redis_life(), |condition| condition.life);
        let action = match wish {
            Wish::Do(action) => action,
            Wish::FreezeOrThaw if life == Life::Frozen => Action::Thaw,
            Wish::FreezeOrThaw => Action::Freeze,
            Wish::CutOrMend if condition.is_some_and(|condition| !condition.is_wired) => {
                Action::Mend
            }
            Wish::CutOrMend => Action::Cut,
            Wish::Choose(_) | Wish::Quit => return None,
        };
        Some((action, whom))
    }

    /// Mends what is broken, waits until everything has arrived, and compares it with the log.
    async fn count(&mut self, keys: &mut Keys) -> Result<()> {
        let text = "the end: all is mended, and a new node reads everything from Redis";
        self.stage.tell(Tone::Aside, text);
        let (stage, robots) = (Arc::clone(&self.stage), Arc::clone(&self.robots));
        let mut counting = pin!(async move {
            stage.mend().await;
            // Who is late is counted as well: what they lack is lost.
            if let Err(error) = robots.settle().await {
                stage.tell(Tone::Bad, format!("{error:#}"));
            }
            let witness = stage.witness().await?;
            robots.judge(&witness.ws_url("/ws")).await
        });
        let mut frames = frames();
        loop {
            select! {
                counted = &mut counting => return counted,
                wish = next_wish(keys) => if wish? == Wish::Quit {
                    bail!("Stopped before all was counted.");
                },
                _ = frames.tick() => self.frame().await?,
            }
        }
    }

    /// Tells what is new, and draws everything as it is now.
    async fn frame(&mut self) -> Result<()> {
        self.stage.look().await;
        let mut news = Vec::new();
        while let Ok(note) = self.noted.try_recv() {
            if note.tone != Tone::Aside {
                self.disturbed.push(note.at);
            }
            news.push(note);
        }
        news.extend(self.of_robots());
        if !self.screen.is_live() && self.told.elapsed() > NOW_AND_THEN {
            self.told = Instant::now();
            news.push(Note { at: self.told, tone: Tone::Aside, text: self.picture().line() });
        }
        news.sort_by_key(|note| note.at);
        let news: Vec<String> = news.iter().flat_map(|note| self.lines(note)).collect();
        let block = self.picture().lines(self.paint);
        self.screen.draw(&news, &block).context("the terminal is gone")
    }

    /// What is new about the robots.
    fn of_robots(&mut self) -> Vec<Note> {
        // A node that stops sends its clients away one by one: they are told together.
        let mut nodes = self.stage.nodes().iter().map(|node| node.condition().life);
        let is_moving = nodes.any(|life| life == Life::Stopping);
        let mut ledger = self.robots.ledger();
        let wrong = ledger.take_wrong();
        let back = if is_moving { None } else { ledger.take_recovery() };
        let count = ledger.count();
        drop(ledger);
        let at = Instant::now();
        let wrong = wrong.into_iter().map(|text| Note { at, tone: Tone::Bad, text });
        let back = back.map(|back| self.back(back, count.robots));
        wrong.chain(back).collect()
    }

    /// All can talk again: how long after the last thing that was done.
    fn back(&mut self, back: Recovery, robots: usize) -> Note {
        let earlier = |at: &&Instant| **at <= back.at;
        let after = self.disturbed.iter().rfind(earlier).map(|at| seconds(back.at - *at));
        let after = after.map(|time| format!(" after {time}")).unwrap_or_default();
        self.disturbed.retain(|at| *at > back.at);
        let text = format!("{back}; all {robots} can talk again{after}");
        Note { at: back.at, tone: Tone::Good, text }
    }

    /// An event with its time, in one line or more.
    fn lines(&self, note: &Note) -> Vec<String> {
        let time = note.at.saturating_duration_since(self.began).as_secs_f64();
        let time = format!("{time:>6.1} s");
        let line = |(number, line): (usize, &str)| {
            let time = if number == 0 { time.clone() } else { " ".repeat(time.len()) };
            let line = match note.tone {
                Tone::Good => self.paint.good(line),
                Tone::Bad => self.paint.bad(line),
                Tone::Plain | Tone::Aside => line.to_owned(),
            };
            format!("{}  {line}", self.paint.quiet(&time))
        };
        note.text.lines().enumerate().map(line).collect()
    }

    fn picture(&self) -> Picture {
        let nodes = self.stage.nodes().iter().map(|node| (node.url(), node.condition()));
        let redis = format!("redis://{}", self.stage.redis_address());
        Picture {
            nodes: nodes.collect(),
            redis: (redis, self.stage.redis_life()),
            count: self.robots.ledger().count(),
            chosen: self.chosen,
        }
    }
}

fn frames() -> Interval {
    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    frames
}

async fn take_steps(stage: &Stage, steps: &[Step]) {
    for step in steps {
        match *step {
            Step::Do(action, whom) => stage.perform(action, whom).await,
            Step::Wait(time) => sleep(time).await,
            Step::Quit => return,
        }
    }
}

fn verdict(count: &Count) -> String {
    if count.is_right() {
        format!(
            "Nothing was lost, and nothing came twice: what was acked is in Redis, and all\n\
             {} robots have seen it once.",
            count.robots
        )
    } else {
        "That should not happen: something was lost, came twice, waits or began afresh.".to_owned()
    }
}

/// Waits for a key that asks for something; for ever, where there are no keys.
async fn next_wish(keys: &mut Keys) -> Result<Wish> {
    let Some(keys) = keys else { return pending().await };
    loop {
        let event = keys.next().await.context("the terminal is gone")??;
        if let Event::Key(key) = event
            && key.kind != KeyEventKind::Release
            && let Some(wish) = wish(key)
        {
            return Ok(wish);
        }
    }
}

fn wish(key: KeyEvent) -> Option<Wish> {
    let KeyCode::Char(letter) = key.code else { return None };
    let letter = letter.to_ascii_lowercase();
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(letter, 'c' | 'd').then_some(Wish::Quit);
    }
    Some(match letter {
        'r' => Wish::Choose(Whom::Redis),
        'k' => Wish::Do(Action::Kill),
        's' => Wish::Do(Action::Stop),
        'b' => Wish::Do(Action::Start),
        'f' => Wish::FreezeOrThaw,
        'c' => Wish::CutOrMend,
        'q' => Wish::Quit,
        digit => {
            let number = digit.to_digit(10).and_then(|number| usize::try_from(number).ok())?;
            return (number > 0).then_some(Wish::Choose(Whom::Node(number)));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: char) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE)
    }

    #[test]
    fn keys_choose_and_do() {
        assert_eq!(wish(key('2')), Some(Wish::Choose(Whom::Node(2))));
        assert_eq!(wish(key('r')), Some(Wish::Choose(Whom::Redis)));
        assert_eq!(wish(key('K')), Some(Wish::Do(Action::Kill)));
        assert_eq!(wish(key('0')), None);
        assert_eq!(wish(key('x')), None);
        assert_eq!(wish(KeyEvent::new(KeyCode::Enter, KeyModifiers::NONE)), None);
    }

    #[test]
    fn control_c_quits_and_is_no_cut() {
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(wish(control_c), Some(Wish::Quit));
        assert_eq!(wish(key('c')), Some(Wish::CutOrMend));
    }
}
