//! Row events as bytes: a member carries a change out that another member has logged, with the `BINLOG` statement.
//!
//! The values are not translated: an image goes from one binary log to the other as it is. Layout: MySQL source, `libs/mysql/binlog/event`
//! (`rows_event.h`, `control_events.h`); <https://dev.mysql.com/doc/refman/9.7/en/binlog.html>.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const FORMAT_DESCRIPTION_EVENT: u8 = 15;
const TABLE_MAP_EVENT: u8 = 19;
const WRITE_ROWS_EVENT: u8 = 30;
const UPDATE_ROWS_EVENT: u8 = 31;
const DELETE_ROWS_EVENT: u8 = 32;
/// Length of the header that all events have.
const HEADER: usize = 19;
/// The last event of a statement: the server closes the tables after it.
const STMT_END: u16 = 1;
/// The server checks no foreign key, and carries out no action of one.
const NO_FOREIGN_KEY_CHECKS: u16 = 2;
/// A format description event always ends with the algorithm of checksums and a checksum. 0: the events after it have none.
const NO_CHECKSUMS: [u8; 5] = [0; 5];

/// The image of one row: NULL bits and values of all columns, as a row event has them.
pub type Image = Vec<u8>;

/// One change of one row, as a binary log has it. Both images have all columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowEvent {
    /// When the statement began at the member that wrote it, in seconds since 1970.
    pub timestamp: u32,
    /// server_id of the member that wrote it.
    pub server_id: u32,
    /// Number of the table in its binary log, which announces the table by a TABLE_MAP event.
    pub table_id: u64,
    /// Body of that TABLE_MAP event.
    pub table_map: Vec<u8>,
    /// Flags of the rows event.
    pub flags: u16,
    /// Columns of the table.
    pub columns: u64,
    /// The row as it was; `None` for an INSERT.
    pub before: Option<Image>,
    /// The row as it became; `None` for a DELETE.
    pub after: Option<Image>,
}

impl RowEvent {
    /// One image of a row, as what the row became.
    pub fn only(&self, image: Image) -> Self {
        Self {
            table_map: self.table_map.clone(),
            before: None,
            after: Some(image),
            ..*self
        }
    }

    /// The same, but no foreign key is checked or acts.
    pub fn without_foreign_keys(self) -> Self {
        Self {
            flags: self.flags | NO_FOREIGN_KEY_CHECKS,
            ..self
        }
    }
}

/// How a change is carried out at a member whose rows differ from those that the change was made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it was logged.
    AsLogged,
    /// As an INSERT of the row as it became.
    Insert,
    /// As an UPDATE of the row that has the key of the row as it became, whatever its other columns hold. No foreign key acts.
    Overwrite,
    /// As a DELETE of the row as it was. No foreign key acts.
    Delete,
}

/// The statement that makes the format of the following events known to a session. `body`: of the log's format description event, without
/// checksum.
pub fn format_statement(body: &[u8]) -> String {
    let mut event = header(FORMAT_DESCRIPTION_EVENT, 0, 0, body.len() + NO_CHECKSUMS.len());
    event.extend(body);
    event.extend(NO_CHECKSUMS);
    binlog(&event)
}

/// The statement that carries out a change in this form; `None` where the change lacks the image that the form needs.
pub fn statement(row: &RowEvent, form: Form) -> Option<String> {
    let (before, after) = (row.before.as_ref(), row.after.as_ref());
    let unchecked = row.flags | NO_FOREIGN_KEY_CHECKS;
    let (kind, flags, images) = match form {
        Form::AsLogged => match (before, after) {
            (None, Some(after)) => (WRITE_ROWS_EVENT, row.flags, vec![after]),
            (Some(before), Some(after)) => (UPDATE_ROWS_EVENT, row.flags, vec![before, after]),
            (Some(before), None) => (DELETE_ROWS_EVENT, row.flags, vec![before]),
            (None, None) => return None,
        },
        Form::Insert => (WRITE_ROWS_EVENT, row.flags, vec![after?]),
        Form::Overwrite => (UPDATE_ROWS_EVENT, unchecked, vec![after?, after?]),
        Form::Delete => (DELETE_ROWS_EVENT, unchecked, vec![before?]),
    };
    let mut body = Vec::new();
    body.extend(&row.table_id.to_le_bytes()[..6]);
    body.extend((flags | STMT_END).to_le_bytes());
    // Length of optional data, its own two bytes included: there is none.
    body.extend(2_u16.to_le_bytes());
    body.extend(length_encoded(row.columns));
    for _ in &images {
        // All columns are there.
        body.extend(std::iter::repeat_n(
            0xff,
            usize::try_from(row.columns.div_ceil(8)).ok()?,
        ));
    }
    for image in images {
        body.extend(image);
    }
    let mut events = header(TABLE_MAP_EVENT, row.timestamp, row.server_id, row.table_map.len());
    events.extend(&row.table_map);
    events.extend(header(kind, row.timestamp, row.server_id, body.len()));
    events.extend(body);
    Some(binlog(&events))
}

fn header(kind: u8, timestamp: u32, server_id: u32, body: usize) -> Vec<u8> {
    let length = u32::try_from(HEADER + body).unwrap_or(u32::MAX);
    let mut header = Vec::with_capacity(HEADER + body);
    header.extend(timestamp.to_le_bytes());
    header.push(kind);
    header.extend(server_id.to_le_bytes());
    header.extend(length.to_le_bytes());
    // End position in the log, and flags.
    header.extend([0; 6]);
    header
}

/// An integer in one, three or nine bytes. A table has at most 4,096 columns.
fn length_encoded(number: u64) -> Vec<u8> {
    match number {
        0..=250 => vec![u8::try_from(number).unwrap_or_default()],
        _ => [&[0xfc], &number.to_le_bytes()[..2]].concat(),
    }
}

fn binlog(events: &[u8]) -> String {
    format!("BINLOG '{}'", STANDARD.encode(events))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(statement: &str) -> Vec<u8> {
        let text = statement.strip_prefix("BINLOG '").unwrap().strip_suffix('\'').unwrap();
        STANDARD.decode(text).unwrap()
    }

    /// An UPDATE of a table with two columns.
    fn update() -> RowEvent {
        RowEvent {
            timestamp: 7,
            server_id: 17,
            table_id: 0x0102,
            table_map: vec![0xaa; 3],
            flags: 0,
            columns: 2,
            before: Some(vec![0, 1]),
            after: Some(vec![0, 2]),
        }
    }

    #[test]
    fn a_change_is_written_in_each_form() {
        for (form, kind, flags, images) in [
            (Form::AsLogged, UPDATE_ROWS_EVENT, 1, vec![0xff, 0xff, 0, 1, 0, 2]),
            (Form::Insert, WRITE_ROWS_EVENT, 1, vec![0xff, 0, 2]),
            (Form::Overwrite, UPDATE_ROWS_EVENT, 3, vec![0xff, 0xff, 0, 2, 0, 2]),
            (Form::Delete, DELETE_ROWS_EVENT, 3, vec![0xff, 0, 1]),
        ] {
            let events = decoded(&statement(&update(), form).unwrap());
            let (map, rows) = events.split_at(HEADER + 3);
            assert_eq!(map[4], TABLE_MAP_EVENT);
            assert_eq!(map[9..13], 22_u32.to_le_bytes());
            assert_eq!(rows[..5], [7, 0, 0, 0, kind]);
            assert_eq!(rows[9..13], u32::try_from(rows.len()).unwrap().to_le_bytes());
            let post_header = [2, 1, 0, 0, 0, 0, flags, 0, 2, 0];
            assert_eq!(rows[HEADER..HEADER + 10], post_header, "{form:?}");
            assert_eq!(rows[HEADER + 10], 2, "columns");
            assert_eq!(rows[HEADER + 11..], images, "{form:?}");
        }
    }

    #[test]
    fn a_form_needs_its_image() {
        let insert = RowEvent {
            before: None,
            ..update()
        };
        assert_eq!(statement(&insert, Form::Delete), None);
        assert_eq!(
            decoded(&statement(&insert, Form::AsLogged).unwrap())[HEADER + 3 + 4],
            WRITE_ROWS_EVENT
        );
        let delete = RowEvent {
            after: None,
            ..update()
        };
        assert_eq!(statement(&delete, Form::Overwrite), None);
        assert_eq!(statement(&delete, Form::Insert), None);
    }

    #[test]
    fn many_columns_have_a_longer_count() {
        let event = RowEvent {
            columns: 4096,
            ..update()
        };
        let events = decoded(&statement(&event, Form::Delete).unwrap());
        let count = HEADER + 3 + HEADER + 10;
        assert_eq!(events[count..count + 3], [0xfc, 0x00, 0x10]);
    }

    #[test]
    fn the_format_says_that_there_are_no_checksums() {
        let event = decoded(&format_statement(&[4, 0]));
        assert_eq!(event[4], FORMAT_DESCRIPTION_EVENT);
        assert_eq!(event[HEADER..], [4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(event[9..13], 26_u32.to_le_bytes());
    }
}
