//! Terminal modes that a client asks for with its PTY (RFC 4254, section 8), applied to the kernel's
//! terminal.
//!
//! An SSH client sends the settings of its own terminal: its interrupt character, whether it echoes. Modes
//! that the kernel's PTY has no use for (baud rate, parity, case mapping) are passed over.

use std::os::fd::AsFd;

use russh::Pty;
use rustix::io;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// A character that the client does not want at all; RFC 4254 writes it 255, Linux 0.
const DISABLED: u32 = 255;

/// Applies the client's modes. Input is taken for UTF-8 unless the client says otherwise, so that erasing a
/// character erases all its bytes.
pub(super) fn apply(terminal: impl AsFd, modes: &[(Pty, u32)]) -> io::Result<()> {
    let mut settings = tcgetattr(&terminal)?;
    settings.input_modes.insert(InputModes::IUTF8);
    for (mode, value) in modes {
        apply_one(&mut settings, *mode, *value);
    }
    tcsetattr(&terminal, OptionalActions::Now, &settings)
}

fn apply_one(settings: &mut Termios, mode: Pty, value: u32) {
    let on = value != 0;
    if let Some(index) = special_code(mode) {
        settings.special_codes[index] = if value == DISABLED { 0 } else { u8::try_from(value).unwrap_or(0) };
    } else if let Some(flag) = input_mode(mode) {
        settings.input_modes.set(flag, on);
    } else if let Some(flag) = local_mode(mode) {
        settings.local_modes.set(flag, on);
    } else if let Some(flag) = output_mode(mode) {
        settings.output_modes.set(flag, on);
    }
}

fn special_code(mode: Pty) -> Option<SpecialCodeIndex> {
    Some(match mode {
        Pty::VINTR => SpecialCodeIndex::VINTR,
        Pty::VQUIT => SpecialCodeIndex::VQUIT,
        Pty::VERASE => SpecialCodeIndex::VERASE,
        Pty::VKILL => SpecialCodeIndex::VKILL,
        Pty::VEOF => SpecialCodeIndex::VEOF,
        Pty::VEOL => SpecialCodeIndex::VEOL,
        Pty::VEOL2 => SpecialCodeIndex::VEOL2,
        Pty::VSTART => SpecialCodeIndex::VSTART,
        Pty::VSTOP => SpecialCodeIndex::VSTOP,
        Pty::VSUSP => SpecialCodeIndex::VSUSP,
        Pty::VREPRINT => SpecialCodeIndex::VREPRINT,
        Pty::VWERASE => SpecialCodeIndex::VWERASE,
        Pty::VLNEXT => SpecialCodeIndex::VLNEXT,
        Pty::VDISCARD => SpecialCodeIndex::VDISCARD,
        _ => return None,
    })
}

fn input_mode(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local_mode(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        _ => return None,
    })
}

fn output_mode(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_reach_the_terminal() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
        let (pty, _pts) = pty_process::open().expect("a PTY");
        let modes = [(Pty::VINTR, 4), (Pty::VQUIT, DISABLED), (Pty::ECHO, 0), (Pty::ONLCR, 1), (Pty::CS8, 1)];
        apply(&pty, &modes).expect("modes are applied");
        let settings = tcgetattr(&pty).expect("settings can be read");
        assert_eq!(settings.special_codes[SpecialCodeIndex::VINTR], 4);
        assert_eq!(settings.special_codes[SpecialCodeIndex::VQUIT], 0);
        assert!(!settings.local_modes.contains(LocalModes::ECHO));
        assert!(settings.local_modes.contains(LocalModes::ICANON));
        assert!(settings.output_modes.contains(OutputModes::ONLCR));
        assert!(settings.input_modes.contains(InputModes::IUTF8));
    }
}
