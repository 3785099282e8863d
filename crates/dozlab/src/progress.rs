//! Shows on standard error how a start goes: a bar or spinner on a terminal, a line a stage elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dozlab_local::{Stage, Watcher};
use dozlab_rootfs::{Progress, Unit, Update};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{bytes, error_line};

/// How often a line is printed of a long step where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows everything that takes long.
#[derive(Clone)]
pub(crate) struct Screen {
    bar: ProgressBar,
    counted: Arc<Mutex<HashMap<dozlab_rootfs::Stage, Instant>>>,
}

impl Screen {
    /// A screen on standard error.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(spinner());
        Self { bar, counted: Arc::default() }
    }

    /// Says what is being done, until [`Self::clear`].
    pub(crate) fn doing(&self, text: &str) {
        if self.bar.is_hidden() {
            error_line(text);
            return;
        }
        self.bar.set_style(spinner());
        self.bar.set_message(text.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    /// Removes what is being done.
    pub(crate) fn clear(&self) {
        self.bar.disable_steady_tick();
        self.bar.set_message("");
        self.bar.finish_and_clear();
        self.bar.reset();
    }

    /// Prints what was achieved, and how long it took.
    pub(crate) fn achieved(&self, what: &str, took: Duration, detail: &str) {
        self.clear();
        let seconds = took.as_secs_f64();
        let detail = if detail.is_empty() { String::new() } else { format!("  {detail}") };
        self.line(format!("{seconds:8.3} s  {what:<19}{detail}").trim_end());
    }

    /// Prints a line that stays.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| error_line(text));
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is valid")
}

fn counter(unit: Unit) -> ProgressStyle {
    let template = match unit {
        Unit::Bytes => "{spinner} {msg} {wide_bar} {bytes}/{total_bytes} {eta}",
        Unit::Packages | Unit::Steps => "{spinner} {msg} {wide_bar} {pos}/{len}",
    };
    ProgressStyle::with_template(template).expect("the template is valid")
}

impl Watcher for Screen {
    fn begin(&self, stage: Stage) {
        // Without a terminal a stage is told of when it is over.
        if !self.bar.is_hidden() {
            self.doing(&format!("{} …", stage.description()));
        }
    }

    fn step(&self, text: &str) {
        self.doing(text);
    }

    fn done(&self, stage: Stage, took: Duration, detail: &str) {
        self.achieved(stage.description(), took, detail);
    }

    fn notice(&self, text: &str) {
        self.line(text);
    }

    fn image_progress(&self) -> Arc<dyn Progress> {
        Arc::new(self.clone())
    }
}

impl Progress for Screen {
    fn update(&self, update: Update<'_>) {
        let Update { stage, done, total, unit, message } = update;
        if self.bar.is_hidden() {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let due = counted.get(&stage).is_none_or(|last| last.elapsed() >= LINE_EVERY);
            if due && unit == Unit::Steps && done == 0 {
                error_line(&format!("{stage} {message}"));
            } else if due {
                let shown = |count| if unit == Unit::Bytes { bytes(count) } else { count.to_string() };
                let of = total.map(|total| format!(" of {}", shown(total))).unwrap_or_default();
                error_line(format!("{stage}: {}{of} {message}", shown(done)).trim_end());
            }
            if due {
                counted.insert(stage, Instant::now());
            }
            return;
        }
        match total {
            Some(total) if unit != Unit::Steps => {
                self.bar.set_style(counter(unit));
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            _ => self.bar.set_style(spinner()),
        }
        self.bar.set_message(if message.is_empty() {
            stage.to_string()
        } else {
            format!("{stage}: {message}")
        });
    }
}
