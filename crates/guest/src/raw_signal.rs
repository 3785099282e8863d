//! Signals that no safe interface offers: to every process, in real time, and waited for instead of handled.

use std::io;
use std::mem::MaybeUninit;

/// Every process but the caller and the kernel's own, as the target of [`send`]; `kill(2)`.
pub(crate) const EVERY_PROCESS: i32 = -1;

/// The number of a real-time signal, counted from the first that programs may use.
pub(crate) fn real_time(number: i32) -> i32 {
    libc::SIGRTMIN() + number
}

/// Sends a signal to a process.
///
/// # Errors
///
/// There is no such process, or it may not be signalled.
pub(crate) fn send(process: i32, signal: i32) -> io::Result<()> {
    // SAFETY: `kill` takes numbers and touches no memory of this process.
    match unsafe { libc::kill(process, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives every signal its usual effect, in a process that was forked off. What is ignored stays so through `exec`, and a
/// shell cannot even trap it then: whoever was started under `nohup` would start programs that no hang-up ends.
pub(crate) fn heed_all() {
    for signal in 1..=libc::SIGSYS {
        // SAFETY: `signal` is async-signal-safe and touches no memory of this process. It refuses the two signals that
        // always have their usual effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Signals that stay pending until they are waited for.
pub(crate) struct Awaited(libc::sigset_t);

impl Awaited {
    /// Blocks the signals for this thread, and for what it starts until [`Awaited::release`].
    pub(crate) fn block(signals: &[i32]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the set it is given and cannot fail.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in signals {
            // SAFETY: the set is initialised. A number that is no signal is refused and changes nothing.
            unsafe { libc::sigaddset(&raw mut set, *signal) };
        }
        // SAFETY: the set is initialised, and the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        Self(set)
    }

    /// Waits for one of the signals and returns its number.
    pub(crate) fn wait(&self) -> i32 {
        let mut number = 0;
        loop {
            // SAFETY: both pointers are to live, initialised values.
            if unsafe { libc::sigwait(&raw const self.0, &raw mut number) } == 0 {
                return number;
            }
        }
    }

    /// One of the signals that have come already.
    pub(crate) fn take(&self) -> Option<i32> {
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: both pointers are to live, initialised values, and nothing is asked about the signal's
        // sender.
        let number =
            unsafe { libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const no_time) };
        (number > 0).then_some(number)
    }

    /// Delivers the signals as usual again: for a process that was forked off.
    pub(crate) fn release(&self) {
        // SAFETY: the set is initialised, and the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const self.0, std::ptr::null_mut()) };
    }
}
