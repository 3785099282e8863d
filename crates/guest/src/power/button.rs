//! The power button: the host presses it to have the machine switched off in order.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where the kernel lists input devices.
const DEVICES: &str = "/sys/class/input";
/// The kernel's name of the ACPI power button.
const BUTTON_NAME: &str = "Power Button";
/// Size of `struct input_event` of `linux/input.h` on 64-bit machines: two longs of time, type, code and
/// value.
const EVENT_SIZE: usize = 24;
/// `EV_KEY` and `KEY_POWER` of `linux/input-event-codes.h`, and the value of a key that goes down.
const POWER_KEY_DOWN: (u16, u16, i32) = (1, 116, 1);

/// The button cannot be watched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ButtonError {
    #[error("the machine has no power button under {DEVICES}: the host cannot ask for an orderly power-off")]
    NoButton,
    #[error("cannot watch the power button {device}: {source}", device = device.display())]
    Unreadable { device: PathBuf, source: io::Error },
}

/// Waits until the button is pressed.
///
/// # Errors
///
/// The machine has no button, or it cannot be read.
pub(crate) async fn pressed() -> Result<(), ButtonError> {
    let device = find(Path::new(DEVICES)).ok_or(ButtonError::NoButton)?;
    wait(&device).await.map_err(|source| ButtonError::Unreadable { device, source })
}

/// The device node of the button.
fn find(devices: &Path) -> Option<PathBuf> {
    let is_button = |name: &str| {
        fs::read_to_string(devices.join(name).join("device/name"))
            .is_ok_and(|found| found.trim_end() == BUTTON_NAME)
    };
    let entries = fs::read_dir(devices).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let name = entries.filter(|name| name.starts_with("event")).find(|name| is_button(name))?;
    Some(Path::new("/dev/input").join(name))
}

async fn wait(device: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let button: OwnedFd = rustix::fs::open(device, flags, Mode::empty())?;
    // SAFETY: the `AsyncFd` owns the descriptor, which stays open and the same for as long as it is
    // registered.
    let button = unsafe { AsyncFd::register_with_interest(button, Interest::READABLE)? };
    loop {
        let mut ready = button.readable().await?;
        let mut events = [0; 16 * EVENT_SIZE];
        let read = ready.try_io(|button| Ok(rustix::io::read(button.get_ref(), &mut events)?));
        match read {
            Ok(Ok(count)) if events[..count].chunks_exact(EVENT_SIZE).any(is_press) => return Ok(()),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
}

fn is_press(event: &[u8]) -> bool {
    let kind = u16::from_ne_bytes([event[16], event[17]]);
    let code = u16::from_ne_bytes([event[18], event[19]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    (kind, code, value) == POWER_KEY_DOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_button_is_found_by_its_name() {
        let devices = tempfile::tempdir().expect("a temporary folder");
        for (device, name) in
            [("event0", "AT keyboard\n"), ("event1", "Power Button\n"), ("mouse0", "Power Button\n")]
        {
            let folder = devices.path().join(device).join("device");
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join("name"), name).expect("a name");
        }
        assert_eq!(find(devices.path()), Some(PathBuf::from("/dev/input/event1")));
        assert_eq!(find(Path::new("/nonexistent")), None);
    }

    #[test]
    fn only_the_key_going_down_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![0; 16];
            event.extend(kind.to_ne_bytes());
            event.extend(code.to_ne_bytes());
            event.extend(value.to_ne_bytes());
            event
        };
        assert!(is_press(&event(1, 116, 1)));
        assert!(!is_press(&event(1, 116, 0)));
        assert!(!is_press(&event(0, 0, 0)));
        assert_eq!(event(1, 116, 1).len(), EVENT_SIZE);
    }
}
