//! Transactions as they stand in a server's binary log, read as a replica reads them.

use std::ops::ControlFlow;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use mysql_async::binlog::events::{EventData, GtidEvent};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Value};

use crate::mysql::transaction::{Cell, Change, MAX_CHANGES, Place, Transaction};

use super::connection::{SqlError, within};

/// Of the reader, as the server lists it among its replicas. Apart from every member's, whose low four bits are 1 to 9.
const READER_SERVER_ID: u32 = 0xfff0;

/// Reads transactions from a place on, until `seen` breaks or the log ends.
///
/// # Errors
/// [`SqlError`]: the server has no such log, or no answer within the deadline.
pub async fn read(
    conn: Conn,
    place: &Place,
    deadline: Duration,
    mut seen: impl FnMut(Transaction) -> ControlFlow<()>,
) -> Result<(), SqlError> {
    let request = BinlogStreamRequest::new(READER_SERVER_ID)
        .with_filename(place.file.as_bytes())
        .with_pos(place.offset)
        .with_non_blocking();
    within(deadline, async {
        let mut stream = conn.get_binlog_stream(request).await?;
        let mut transaction = Transaction::default();
        while let Some(event) = stream.next().await {
            let event = event?;
            let data = event.read_data().map_err(mysql_async::Error::from)?;
            let ends = match data {
                Some(EventData::GtidEvent(event)) => {
                    transaction = begun(&event);
                    false
                }
                Some(EventData::RowsEvent(rows)) => {
                    add(&mut transaction, &rows, &stream).map_err(mysql_async::Error::from)?;
                    false
                }
                Some(EventData::QueryEvent(query)) => match query.query().as_ref() {
                    "BEGIN" => false,
                    "COMMIT" => true,
                    statement => {
                        transaction.statement = Some(statement.to_owned());
                        transaction.schema = query.schema().into_owned();
                        true
                    }
                },
                Some(EventData::XidEvent(_)) => true,
                _ => false,
            };
            if ends && seen(std::mem::take(&mut transaction)).is_break() {
                break;
            }
        }
        stream.close().await?;
        Ok(())
    })
    .await
}

fn begun(event: &GtidEvent) -> Transaction {
    let hex: String = event.sid().iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let tag = event.tag().map(|tag| format!("{}:", tag.as_str())).unwrap_or_default();
    let micros = i64::try_from(event.original_commit_timestamp()).unwrap_or_default();
    Transaction {
        gtid: format!("{uuid}:{tag}{}", event.gno()),
        committed: Timestamp::from_microsecond(micros).ok().filter(|_| micros > 0),
        ..Transaction::default()
    }
}

fn add(
    transaction: &mut Transaction,
    rows: &mysql_async::binlog::events::RowsEventData<'_>,
    stream: &BinlogStream,
) -> std::io::Result<()> {
    let Some(table) = stream.get_tme(rows.table_id()) else {
        return Err(std::io::Error::other("rows of a table that was not announced"));
    };
    for images in rows.rows(table) {
        let (before, after) = images?;
        if transaction.changes.len() == MAX_CHANGES {
            transaction.is_larger = true;
            return Ok(());
        }
        transaction.changes.push(Change {
            schema: table.database_name().into_owned(),
            table: table.table_name().into_owned(),
            before: before.map(cells),
            after: after.map(cells),
        });
    }
    Ok(())
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
