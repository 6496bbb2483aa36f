//! Reads transactions from a server's binary log, as a replica reads them.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use mysql_async::binlog::StatusVarKey;
use mysql_async::binlog::events::{
    Event, EventData, GtidEvent, QueryEvent, RowsEventData, StatusVarVal, TableMapEvent,
};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, OptsBuilder, Value};
use mysql_common::constants::SqlMode;
use mysql_common::io::ParseBuf;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::mysql::row_events::RowEvent;
use crate::mysql::transaction::{BinlogPosition, Cell, Change, MAX_CHANGES, Transaction};

use super::connection::{ANSWER, SqlError, within};

/// server_id with which the reader registers as a replica. It differs from every member's server_id, whose low four bits are 1 to 9.
const READER_SERVER_ID: u32 = 0xfff0;
/// From so many bytes on, rows of a transaction are kept when those of no other are, whichever cluster it is of.
const LARGE: u64 = 4 << 20;
/// The longest value that is kept of a row whose bytes are not.
const LONGEST_IN_KEY: usize = 4096;

/// Whose turn it is to keep rows of a transaction that is [`LARGE`].
static TURN: Semaphore = Semaphore::const_new(1);
/// How long a reading waits for its turn. It may be at a member whose rows are locked meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which row changes are kept.
#[derive(Clone, Copy)]
pub enum Kept<'a> {
    /// None.
    Nothing,
    /// Those of one transaction, which is the last that is read: its GTID, and the most bytes of their images. No event of twice as many is read.
    Transaction(&'a str, usize),
    /// Those of tables, by schema and name; and the most bytes of a transaction.
    Tables(&'a (dyn Fn(&str, &str) -> bool + Sync), usize),
}

/// Reads the transactions after a position, until `seen` breaks or the log ends. A transaction with an event that is too long is passed over, if nothing
/// of it is to be kept for certain.
///
/// # Errors
/// [`SqlError`]: the server has no such log, or no answer within the deadline. [`SqlError::TooLong`]: an event is longer than an answer may be ([`ANSWER`]),
/// and may have rows that are to be kept, or where its transaction ends is not known. [`SqlError::Interrupted`]: a large
/// transaction of another cluster is being read.
pub async fn read(
    conn: Conn,
    position: &BinlogPosition,
    deadline: Duration,
    kept: Kept<'_>,
    mut seen: impl FnMut(Transaction) -> ControlFlow<()>,
) -> Result<(), SqlError> {
    let longest = conn.opts().max_allowed_packet().unwrap_or(ANSWER);
    // An event has much less beside the images of its rows.
    let longest = match kept {
        Kept::Transaction(_, most) => longest.min(2 * most),
        _ => longest,
    };
    let options = OptsBuilder::from_opts(conn.opts().clone()).max_allowed_packet(Some(longest));
    within(deadline, async {
        let mut reading = Reading::new(kept, position);
        let is_limited = conn.opts().max_allowed_packet() == Some(longest);
        let mut conn = Some(conn).filter(|_| is_limited);
        loop {
            let conn = match conn.take() {
                Some(conn) => conn,
                None => Conn::new(options.clone()).await?,
            };
            let may_pass_over = !matches!(kept, Kept::Tables(..));
            match (reading.read_on(conn, &mut seen).await, reading.end.take()) {
                (Err(SqlError::TooLong), Some(end)) if may_pass_over => reading.position = end,
                (read, _) => return read,
            }
            reading.transaction.is_larger = true;
            if reading.ends(&mut seen) {
                return Ok(());
            }
        }
    })
    .await
}

/// What was read of a binary log.
struct Reading<'a> {
    kept: Kept<'a>,
    /// From where on it is read.
    position: BinlogPosition,
    /// Where the transaction ends, if that is known.
    end: Option<BinlogPosition>,
    /// Where the last transaction begins.
    reached: Option<BinlogPosition>,
    /// Bytes of the transaction; 0: not known.
    length: u64,
    /// While rows of a large transaction are kept.
    turn: Option<SemaphorePermit<'static>>,
    /// Body of the format description event.
    format: Vec<u8>,
    /// Bodies of the TABLE_MAP events of the transaction.
    tables: BTreeMap<u64, Vec<u8>>,
    /// The transaction that is being read.
    transaction: Transaction,
}

impl<'a> Reading<'a> {
    fn new(kept: Kept<'a>, position: &BinlogPosition) -> Self {
        Self {
            kept,
            position: position.clone(),
            end: None,
            reached: None,
            length: 0,
            turn: None,
            format: Vec::new(),
            tables: BTreeMap::new(),
            transaction: Transaction::default(),
        }
    }

    /// Reads from the position on.
    async fn read_on(
        &mut self,
        conn: Conn,
        seen: &mut impl FnMut(Transaction) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        let request = BinlogStreamRequest::new(READER_SERVER_ID)
            .with_filename(self.position.file.as_bytes())
            .with_pos(self.position.offset)
            .with_non_blocking();
        // The server may skip the rest of a log.
        let mut file = self.position.file.clone();
        let mut stream = conn.get_binlog_stream(request).await?;
        while let Some(event) = stream.next().await {
            let event = event?;
            let data = event.read_data().map_err(mysql_async::Error::from)?;
            let ends = match data {
                Some(EventData::RotateEvent(rotate)) => {
                    file = rotate.name().into_owned();
                    false
                }
                Some(EventData::FormatDescriptionEvent(_)) => {
                    self.format = event.data().to_vec();
                    false
                }
                Some(EventData::GtidEvent(gtid)) => {
                    self.begin(&gtid, &event, &file);
                    false
                }
                Some(EventData::TableMapEvent(table)) => {
                    self.tables.insert(table.table_id(), event.data().to_vec());
                    false
                }
                Some(EventData::RowsEvent(rows)) => {
                    if self.length > LARGE && self.turn.is_none() && self.keeps(&rows, &stream) {
                        self.turn = Some(turn().await?);
                    }
                    let added = self.add(&event, &rows, &stream);
                    added.map_err(mysql_async::Error::from)?;
                    self.transaction.is_larger && self.is_wanted()
                }
                Some(EventData::QueryEvent(query)) => match query.query().as_ref() {
                    // Savepoints are marks between the rows of a transaction.
                    statement if statement == "BEGIN" || statement.starts_with("SAVEPOINT ") => false,
                    "COMMIT" => true,
                    statement => {
                        self.transaction.statement = Some(statement.to_owned());
                        self.transaction.schema = query.schema().into_owned();
                        self.transaction.mode = sql_mode(&query);
                        true
                    }
                },
                Some(EventData::XidEvent(_)) => true,
                _ => false,
            };
            if ends && self.ends(seen) {
                break;
            }
        }
        stream.close().await?;
        Ok(())
    }

    fn begin(&mut self, gtid: &GtidEvent, event: &Event, file: &str) {
        let hex: String = gtid.sid().iter().map(|byte| format!("{byte:02x}")).collect();
        let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let tag = gtid.tag().map(|tag| format!("{}:", tag.as_str())).unwrap_or_default();
        let micros = i64::try_from(gtid.original_commit_timestamp()).unwrap_or_default();
        self.tables.clear();
        self.transaction = Transaction {
            gtid: format!("{uuid}:{tag}{}", gtid.gno()),
            committed: Timestamp::from_microsecond(micros).ok().filter(|_| micros > 0),
            format: self.format.clone(),
            ..Transaction::default()
        };
        let (length, header) = (gtid.tx_length(), event.header());
        let begin = u64::from(header.log_pos()).checked_sub(header.event_size().into());
        let reached = self.reached.take().filter(|reached| reached.file == file);
        // Beyond 4 GiB of a log its events begin to count anew.
        let begin = begin.filter(|begin| reached.is_none_or(|reached| reached.offset <= *begin));
        let at = |offset| BinlogPosition {
            file: file.to_owned(),
            offset,
        };
        self.reached = Some(at(begin.unwrap_or(u64::MAX)));
        let end = begin.map(|begin| begin.saturating_add(length));
        // The driver asks for no position over 4 GiB.
        self.end = end.filter(|end| length > 0 && u32::try_from(*end).is_ok()).map(at);
        (self.length, self.turn) = (length, None);
    }

    /// Some of these rows are kept.
    fn keeps(&self, rows: &RowsEventData<'_>, stream: &BinlogStream) -> bool {
        let table = stream.get_tme(rows.table_id());
        table.is_some_and(|table| self.most(table).is_some())
    }

    /// This transaction is the one that is looked for.
    fn is_wanted(&self) -> bool {
        matches!(self.kept, Kept::Transaction(gtid, _) if gtid == self.transaction.gtid)
    }

    /// The transaction ends, and perhaps the reading with it.
    fn ends(&mut self, seen: &mut impl FnMut(Transaction) -> ControlFlow<()>) -> bool {
        let is_wanted = self.is_wanted();
        self.turn = None;
        self.end = None;
        seen(std::mem::take(&mut self.transaction)).is_break() || is_wanted
    }

    /// The most bytes that are kept of row images of a table.
    fn most(&self, table: &TableMapEvent<'_>) -> Option<usize> {
        match self.kept {
            Kept::Transaction(_, most) => self.is_wanted().then_some(most),
            Kept::Tables(are, most) => are(&table.database_name(), &table.table_name()).then_some(most),
            Kept::Nothing => None,
        }
    }

    fn add(&mut self, event: &Event, rows: &RowsEventData<'_>, stream: &BinlogStream) -> io::Result<()> {
        let header = event.header();
        // After the six bytes of the table's number. The driver's flags lack the bits that it does not know.
        let [.., low, high] = *event
            .data()
            .first_chunk::<8>()
            .ok_or_else(|| io::Error::other("a rows event without flags"))?;
        let flags = u16::from_le_bytes([low, high]);
        // If a statement BINLOG deletes a row, MySQL 9.7 logs what a foreign key does to its children without announcing their table (measured). A
        // replica passes over such rows, and does the same to the children itself.
        let (Some(table), Some(table_map)) = (stream.get_tme(rows.table_id()), self.tables.get(&rows.table_id()))
        else {
            return Ok(());
        };
        let Some(most) = self.most(table) else { return Ok(()) };
        let mut rest = ParseBuf(rows.rows_data());
        while !rest.is_empty() && !self.transaction.is_larger {
            let mut next = |columns, is_partial| {
                let start = rest.0;
                let row: BinlogRow = rest.parse((rows.num_columns(), columns, is_partial, table))?;
                let bytes = &start[..start.len() - rest.len()];
                let is_whole = columns.all() && !is_partial;
                Ok::<_, io::Error>(RowImage { row, bytes, is_whole })
            };
            let before = rows.columns_before_image();
            let before = before.map(|columns| next(columns, false)).transpose()?;
            let after = rows.columns_after_image();
            let is_partial = matches!(rows, RowsEventData::PartialUpdateRowsEvent(_));
            let after = after.map(|columns| next(columns, is_partial)).transpose()?;

            let images = || [&before, &after].into_iter().flatten();
            let transaction = &mut self.transaction;
            transaction.bytes += images().map(|image| image.bytes.len()).sum::<usize>();
            transaction.is_larger = transaction.changes.len() == MAX_CHANGES || transaction.bytes > most;
            // Of the first row at least the key is told.
            if transaction.is_larger && !transaction.changes.is_empty() {
                return Ok(());
            }
            let is_kept = !transaction.is_larger;
            let longest = if is_kept { usize::MAX } else { LONGEST_IN_KEY };
            let is_whole = images().all(|image| image.is_whole);
            // Row by row: the values go before the bytes are copied.
            let (before, bytes_before) = before.map(|image| (cells(image.row, longest), image.bytes)).unzip();
            let (after, bytes_after) = after.map(|image| (cells(image.row, longest), image.bytes)).unzip();
            let event = (is_kept && is_whole).then(|| RowEvent {
                timestamp: header.timestamp(),
                server_id: header.server_id(),
                table_id: rows.table_id(),
                table_map: table_map.clone(),
                flags,
                columns: rows.num_columns(),
                before: bytes_before.map(<[u8]>::to_vec),
                after: bytes_after.map(<[u8]>::to_vec),
            });
            transaction.changes.push(Change {
                schema: table.database_name().into_owned(),
                table: table.table_name().into_owned(),
                before,
                after,
                event,
            });
        }
        Ok(())
    }
}

async fn turn() -> Result<SemaphorePermit<'static>, SqlError> {
    let busy = || SqlError::Interrupted("a large transaction of another cluster is being read".into());
    match timeout(PATIENCE, TURN.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        Ok(Err(_)) | Err(_) => Err(busy()),
    }
}

/// The `sql_mode` of the session that ran a statement.
fn sql_mode(query: &QueryEvent<'_>) -> Option<SqlMode> {
    let variable = query.status_vars().get_status_var(StatusVarKey::SqlMode)?;
    match variable.get_value() {
        Ok(StatusVarVal::SqlMode(mode)) => Some(SqlMode::from_bits_truncate(mode.0)),
        _ => None,
    }
}

/// One image of a row: its values and its bytes.
struct RowImage<'a> {
    row: BinlogRow,
    bytes: &'a [u8],
    /// All columns are there, as they are.
    is_whole: bool,
}

/// The values of a row. Of bytes that are longer than `longest` it has the length.
fn cells(row: BinlogRow, longest: usize) -> Vec<Cell> {
    let value = |column| match row.as_ref(column) {
        Some(BinlogValue::Value(Value::Bytes(bytes))) if bytes.len() > longest => {
            Cell::Other(format!("{} bytes", bytes.len()))
        }
        value => value.map_or(Cell::Other("not logged".into()), cell),
    };
    (0..row.len()).map(value).collect()
}

fn cell(value: &BinlogValue<'_>) -> Cell {
    match value {
        BinlogValue::Value(Value::NULL) => Cell::Null,
        BinlogValue::Value(Value::Int(number)) => Cell::Number(number.to_string()),
        BinlogValue::Value(Value::UInt(number)) => Cell::Number(number.to_string()),
        BinlogValue::Value(Value::Bytes(bytes)) => Cell::Bytes(hexadecimal(bytes)),
        BinlogValue::Value(value @ (Value::Date(..) | Value::Time(..))) => {
            Cell::Time(value.as_sql(true).trim_matches('\'').to_owned())
        }
        BinlogValue::Value(value) => Cell::Other(value.as_sql(true)),
        BinlogValue::Jsonb(value) => Cell::Other(match serde_json::Value::try_from(value.clone()) {
            Ok(json) => json.to_string(),
            Err(error) => error.to_string(),
        }),
        BinlogValue::JsonDiff(_) => Cell::Other("a part of a JSON value".into()),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}
