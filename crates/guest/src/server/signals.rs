//! Signals by the names that SSH gives them (RFC 4254, section 6.10): the C names without `SIG`.

use russh::Sig;
use rustix::process::Signal;

/// Every signal with a name that means the same on every machine. The first thirteen are the RFC's, the
/// others are sent by OpenSSH and by people who stop and continue jobs.
const NAMES: [(&str, Signal); 22] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("BUS", Signal::BUS),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TRAP", Signal::TRAP),
    ("SYS", Signal::SYS),
    ("WINCH", Signal::WINCH),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

/// The signal that a client asked for; `None` where it has no meaning here.
pub(super) fn from_ssh(requested: &Sig) -> Option<Signal> {
    let wanted = match requested {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    NAMES.iter().find(|(name, _)| *name == wanted).map(|(_, signal)| *signal)
}

/// What to call the signal that ended a process. One without a name is called by its number, in the form that
/// RFC 4254 leaves for local extensions.
pub(super) fn to_ssh(number: i32) -> Sig {
    let name = NAMES.iter().find(|(_, signal)| signal.as_raw() == number).map(|(name, _)| *name);
    match name {
        Some("ABRT") => Sig::ABRT,
        Some("ALRM") => Sig::ALRM,
        Some("FPE") => Sig::FPE,
        Some("HUP") => Sig::HUP,
        Some("ILL") => Sig::ILL,
        Some("INT") => Sig::INT,
        Some("KILL") => Sig::KILL,
        Some("PIPE") => Sig::PIPE,
        Some("QUIT") => Sig::QUIT,
        Some("SEGV") => Sig::SEGV,
        Some("TERM") => Sig::TERM,
        Some("USR1") => Sig::USR1,
        Some(other) => Sig::Custom(other.to_owned()),
        None => Sig::Custom(format!("{number}@dozlab")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_signal_survives_both_ways() {
        for (name, signal) in NAMES {
            let sent = to_ssh(signal.as_raw());
            assert_eq!(from_ssh(&sent), Some(signal), "{name}");
            assert_eq!(from_ssh(&Sig::Custom(name.to_owned())), Some(signal), "{name}");
        }
    }

    #[test]
    fn unknown_signals_have_no_meaning_but_a_name() {
        assert_eq!(from_ssh(&Sig::Custom("SIGTERM".to_owned())), None);
        assert!(matches!(to_ssh(40), Sig::Custom(name) if name == "40@dozlab"));
    }
}
