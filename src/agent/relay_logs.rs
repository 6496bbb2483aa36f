//! Relay logs that a new life takes over.
//!
//! They stay, because they may hold the last copy of a transaction. But when mysqld shuts down, it ends its relay log with a Stop event that carries
//! its server_id. A server with another server_id takes this event for an event of the source. If the event comes right after the GTID of a
//! transaction whose rest was not received, the applier waits for its workers for ever. Neither `STOP REPLICA` nor a restart helps (measured with
//! MySQL 9.7.4; `docs/ring.md`, "Loss and return"). So the agent removes the Stop event.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Lengths of a Stop event: its header with a checksum, and without one (`binlog_checksum=NONE`).
const LENGTHS: [u64; 2] = [23, 19];
/// Length of every event's header: time, type, server_id, length, end position, flags
/// (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication_binlog_event.html>).
const HEADER: usize = 19;
/// `STOP_EVENT`.
const STOP: u8 = 3;

/// Removes the Stop event from the end of every relay log in this data directory. mysqld must not run.
///
/// # Errors
/// When the directory or one of its relay logs cannot be read or written.
pub fn drop_stop_events(data: &Path) -> io::Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_relay_log = name.to_string_lossy().rsplit_once('.').is_some_and(|(base, number)| {
            base.starts_with("relay") && !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
        });
        if is_relay_log {
            drop_stop_event(&entry.path())?;
        }
    }
    Ok(())
}

fn drop_stop_event(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let end = file.metadata()?.len();
    for length in LENGTHS {
        if end > length && is_stop_event(&mut file, end, length)? {
            file.set_len(end - length)?;
            return file.sync_all();
        }
    }
    Ok(())
}

/// Whether the last `length` bytes are a Stop event: type, length and end position in its header must fit.
fn is_stop_event(file: &mut File, end: u64, length: u64) -> io::Result<bool> {
    let mut header = [0; HEADER];
    file.seek(SeekFrom::Start(end - length))?;
    file.read_exact(&mut header)?;
    let number = |at: usize| {
        u64::from(u32::from_le_bytes([
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
        ]))
    };
    Ok(header[4] == STOP && number(9) == length && number(13) == end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event as mysqld writes it.
    fn event(type_: u8, length: u32, end: u32) -> Vec<u8> {
        let mut event = vec![1, 2, 3, 4, type_, 9, 0, 0, 0];
        event.extend(length.to_le_bytes());
        event.extend(end.to_le_bytes());
        event.resize(length as usize, 0);
        event
    }

    #[test]
    fn a_stop_event_goes_and_nothing_else_does() {
        let folder = std::env::temp_dir().join(format!("multimaster-relay-logs-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = |name: &str, events: &[Vec<u8>]| fs::write(folder.join(name), events.concat()).unwrap();
        let gtid = || event(33, 100, 100);
        log("relay-from@002d0.000004", &[gtid(), event(STOP, 23, 123)]);
        log("relay-from@002d0.000005", &[gtid(), event(STOP, 19, 119)]);
        log("relay-from@002d0.000006", &[gtid(), event(4, 23, 123)]);
        // Bytes of a row that look like the type by chance.
        log("relay-from@002d0.000007", &[gtid(), event(STOP, 23, 999)]);
        log("relay-from@002d0.000008", &[]);
        log("binlog.000001", &[gtid(), event(STOP, 23, 123)]);
        log("relay-from@002d0.index", &[event(STOP, 23, 23)]);
        drop_stop_events(&folder).unwrap();
        let length = |name: &str| fs::metadata(folder.join(name)).unwrap().len();
        let lengths: Vec<u64> = (4..=8).map(|n| length(&format!("relay-from@002d0.00000{n}"))).collect();
        assert_eq!(lengths, [100, 100, 123, 123, 0]);
        assert_eq!((length("binlog.000001"), length("relay-from@002d0.index")), (123, 23));
        fs::remove_dir_all(folder).unwrap();
    }
}
