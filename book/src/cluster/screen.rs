//! The screen: events scroll by above a block that is drawn anew again and again. Where there is no
//! terminal, events are lines, and the block is one line now and then.

use std::io::{self, IsTerminal, Write, stdout};

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};

/// The screen of this program. Dropping it gives the terminal back as it was.
#[derive(Debug)]
pub struct Screen {
    /// How many lines of the block are on a terminal; none, if this is no terminal.
    drawn: Option<u16>,
    has_keys: bool,
}

impl Screen {
    /// Takes the terminal, if there is one; with `keys`, each of them comes to us at once.
    ///
    /// # Errors
    /// The terminal does not do what is asked.
    pub fn take(keys: bool) -> io::Result<Self> {
        let is_terminal = stdout().is_terminal();
        let screen = Self { drawn: is_terminal.then_some(0), has_keys: keys };
        if keys {
            enable_raw_mode()?;
        }
        if is_terminal {
            execute!(stdout(), Hide)?;
        }
        Ok(screen)
    }

    /// Whether something is drawn.
    pub fn is_live(&self) -> bool {
        self.drawn.is_some()
    }

    /// Draws the block anew, with new lines above it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, news: &[String], block: &[String]) -> io::Result<()> {
        let mut out = stdout().lock();
        let Some(drawn) = self.drawn else {
            news.iter().try_for_each(|line| writeln!(out, "{line}"))?;
            return out.flush();
        };
        queue!(out, BeginSynchronizedUpdate, MoveToColumn(0))?;
        if drawn > 0 {
            queue!(out, MoveUp(drawn))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        let block = self.fitting(block);
        // Raw mode: a line does not begin at the left by itself. And what is drawn again must stay one line.
        queue!(out, EnableLineWrap)?;
        news.iter().try_for_each(|line| queue!(out, Print(line), Print("\r\n")))?;
        queue!(out, DisableLineWrap)?;
        block.iter().try_for_each(|line| queue!(out, Print(line), Print("\r\n")))?;
        queue!(out, EndSynchronizedUpdate)?;
        self.drawn = Some(u16::try_from(block.len()).unwrap_or_default());
        out.flush()
    }

    /// As much of the block as the terminal has lines: what has scrolled away can't be drawn anew.
    fn fitting<'a>(&self, block: &'a [String]) -> &'a [String] {
        let height = size().map_or(usize::MAX, |(_, height)| usize::from(height));
        block.get(..block.len().min(height.saturating_sub(1))).unwrap_or_default()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nothing to be done about a terminal that is gone.
        if self.has_keys {
            let _ = disable_raw_mode();
        }
        if self.is_live() {
            let _ = execute!(stdout(), EnableLineWrap, Show);
        }
    }
}
