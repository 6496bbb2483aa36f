//! Reads transactions from a server's binary log, as a replica reads them.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use mysql_async::binlog::StatusVarKey;
use mysql_async::binlog::events::{Event, EventData, GtidEvent, QueryEvent, RowsEventData, StatusVarVal};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Value};
use mysql_common::constants::SqlMode;
use mysql_common::io::ParseBuf;

use crate::mysql::row_events::RowEvent;
use crate::mysql::transaction::{BinlogPosition, Cell, Change, MAX_BYTES, MAX_CHANGES, Transaction};

use super::connection::{SqlError, within};

/// server_id with which the reader registers as a replica. It differs from every member's server_id, whose low four bits are 1 to 9.
const READER_SERVER_ID: u32 = 0xfff0;

/// Reads the transactions after a position, until `seen` breaks or the log ends. `wanted`: of this transaction only as much is read as is kept.
///
/// # Errors
/// [`SqlError`]: the server has no such log, or no answer within the deadline.
pub async fn read(
    conn: Conn,
    position: &BinlogPosition,
    deadline: Duration,
    wanted: Option<&str>,
    mut seen: impl FnMut(Transaction) -> ControlFlow<()>,
) -> Result<(), SqlError> {
    let request = BinlogStreamRequest::new(READER_SERVER_ID)
        .with_filename(position.file.as_bytes())
        .with_pos(position.offset)
        .with_non_blocking();
    within(deadline, async {
        let mut stream = conn.get_binlog_stream(request).await?;
        let mut reading = Reading::default();
        while let Some(event) = stream.next().await {
            let event = event?;
            let data = event.read_data().map_err(mysql_async::Error::from)?;
            let ends = match data {
                Some(EventData::FormatDescriptionEvent(_)) => {
                    reading.format = event.data().to_vec();
                    false
                }
                Some(EventData::GtidEvent(gtid)) => {
                    reading.begin(&gtid);
                    false
                }
                Some(EventData::TableMapEvent(table)) => {
                    reading.tables.insert(table.table_id(), event.data().to_vec());
                    false
                }
                Some(EventData::RowsEvent(rows)) => {
                    let added = reading.add(&event, &rows, &stream);
                    added.map_err(mysql_async::Error::from)?;
                    let transaction = &reading.transaction;
                    transaction.is_larger && wanted == Some(transaction.gtid.as_str())
                }
                Some(EventData::QueryEvent(query)) => match query.query().as_ref() {
                    // Savepoints are marks between the rows of a transaction.
                    statement if statement == "BEGIN" || statement.starts_with("SAVEPOINT ") => false,
                    "COMMIT" => true,
                    statement => {
                        reading.transaction.statement = Some(statement.to_owned());
                        reading.transaction.schema = query.schema().into_owned();
                        reading.transaction.mode = sql_mode(&query);
                        true
                    }
                },
                Some(EventData::XidEvent(_)) => true,
                _ => false,
            };
            if ends && seen(std::mem::take(&mut reading.transaction)).is_break() {
                break;
            }
        }
        stream.close().await?;
        Ok(())
    })
    .await
}

/// What was read of a binary log.
#[derive(Default)]
struct Reading {
    /// Body of the format description event.
    format: Vec<u8>,
    /// Bodies of the TABLE_MAP events of the transaction.
    tables: BTreeMap<u64, Vec<u8>>,
    /// The transaction that is being read.
    transaction: Transaction,
}

impl Reading {
    fn begin(&mut self, event: &GtidEvent) {
        let hex: String = event.sid().iter().map(|byte| format!("{byte:02x}")).collect();
        let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let tag = event.tag().map(|tag| format!("{}:", tag.as_str())).unwrap_or_default();
        let micros = i64::try_from(event.original_commit_timestamp()).unwrap_or_default();
        self.tables.clear();
        self.transaction = Transaction {
            gtid: format!("{uuid}:{tag}{}", event.gno()),
            committed: Timestamp::from_microsecond(micros).ok().filter(|_| micros > 0),
            format: self.format.clone(),
            ..Transaction::default()
        };
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
        let mut rest = ParseBuf(rows.rows_data());
        while !rest.is_empty() {
            let mut next = |columns, is_partial| {
                let start = rest.0;
                let row: BinlogRow = rest.parse((rows.num_columns(), columns, is_partial, table))?;
                let bytes = start[..start.len() - rest.len()].to_vec();
                let is_whole = columns.all() && !is_partial;
                Ok::<_, io::Error>(RowImage { row, bytes, is_whole })
            };
            let before = rows.columns_before_image();
            let before = before.map(|columns| next(columns, false)).transpose()?;
            let after = rows.columns_after_image();
            let is_partial = matches!(rows, RowsEventData::PartialUpdateRowsEvent(_));
            let after = after.map(|columns| next(columns, is_partial)).transpose()?;

            let images = || [&before, &after].into_iter().flatten();
            self.transaction.bytes += images().map(|image| image.bytes.len()).sum::<usize>();
            if self.transaction.changes.len() == MAX_CHANGES || self.transaction.bytes > MAX_BYTES {
                self.transaction.is_larger = true;
                return Ok(());
            }
            let is_whole = images().all(|image| image.is_whole);
            let (before, bytes_before) = before.map(|image| (cells(image.row), image.bytes)).unzip();
            let (after, bytes_after) = after.map(|image| (cells(image.row), image.bytes)).unzip();
            self.transaction.changes.push(Change {
                schema: table.database_name().into_owned(),
                table: table.table_name().into_owned(),
                before,
                after,
                event: is_whole.then(|| RowEvent {
                    timestamp: header.timestamp(),
                    server_id: header.server_id(),
                    table_id: rows.table_id(),
                    table_map: table_map.clone(),
                    flags,
                    columns: rows.num_columns(),
                    before: bytes_before,
                    after: bytes_after,
                }),
            });
        }
        Ok(())
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
struct RowImage {
    row: BinlogRow,
    bytes: Vec<u8>,
    /// All columns are there, as they are.
    is_whole: bool,
}

fn cells(row: BinlogRow) -> Vec<Cell> {
    let count = row.len();
    (0..count)
        .map(|column| row.as_ref(column).map_or(Cell::Other("not logged".into()), cell))
        .collect()
}

fn cell(value: &BinlogValue<'_>) -> Cell {
    match value {
        BinlogValue::Value(Value::NULL) => Cell::Null,
        BinlogValue::Value(Value::Int(number)) => Cell::Number(number.to_string()),
        BinlogValue::Value(Value::UInt(number)) => Cell::Number(number.to_string()),
        BinlogValue::Value(Value::Bytes(bytes)) => {
            Cell::Bytes(bytes.iter().map(|byte| format!("{byte:02X}")).collect())
        }
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
