//! What a pass reads of `multimaster.conflicts`: a number of records, and of bytes. What users wrote is in them, and the operator serves other clusters,
//! too.

use mysql_async::{Conn, Row};

use crate::decide::conflicts::Record;
use crate::decide::conflicts::record::{Unread, UnreadRecord};
use crate::mysql::io::connection::{SqlError, ask, column, gtid_set, optional, required, rows, shortened};
use crate::mysql::quote::literal;
use crate::mysql::schema::VERSION;
use crate::mysql::transaction::BinlogPosition;

/// The most open records that are read. The others are counted.
const MOST_READ: u64 = 300;
/// The most bytes of records that are read, open ones first.
const MOST_BYTES: u64 = 32 << 20;
/// Records whose lengths are asked for at once. The server reads them for that.
const AT_ONCE: usize = 50;

/// An applier stands at each record that is not taken yet, so these come first; then the oldest, because the others wait for it.
const ORDER_OF_OPEN: &str = "stage = 'taken', seen_at, observer, gtid";
const ORDER_OF_SETTLED: &str = "settled_at DESC, observer, gtid";
/// Open records.
const OPEN: &str =
    "SELECT observer, gtid, COUNT(*) OVER () AS all_open FROM multimaster.conflicts WHERE stage <> 'settled' ORDER BY";
/// Records that were settled within a day: a transaction that was long under way may belong to one of them.
const SETTLED: &str = "SELECT observer, gtid FROM multimaster.conflicts WHERE stage = 'settled' AND settled_at > UTC_TIMESTAMP() - INTERVAL 1 DAY \
     ORDER BY settled_at DESC, observer, gtid LIMIT 100";
/// The columns of a record that have no small limit.
const LENGTH: &str = "LENGTH(changes) + LENGTH(known) + LENGTH(message) + IFNULL(LENGTH(for_a_person), 0)";

/// Whether the table of images is there.
const IMAGE_TABLE: &str =
    "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'multimaster' AND TABLE_NAME = 'conflict_rows'";

/// The records at a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Open records, and those that were settled within a day.
    pub records: Vec<Record>,
    /// Records that are not read or cannot be read.
    pub unread: Unread,
    /// `multimaster.conflict_rows` is there.
    pub has_image_table: bool,
}

impl Reading {
    /// There are more bytes of records than can be read.
    ///
    /// # Errors
    /// As [`ask`].
    pub async fn too_long(conn: &mut Conn) -> Result<Self, SqlError> {
        let why = "its open records are too long to be read; mend the rows of some by hand, then set their column stage to 'settled'";
        let unread = Unread {
            table: Some(why.into()),
            ..Unread::default()
        };
        Ok(Self {
            unread,
            has_image_table: !ask(conn, IMAGE_TABLE).await?.is_empty(),
            ..Self::default()
        })
    }
}

/// Observer and GTID of a record.
type Name = (String, String);

/// Rows of records, and what was not read of them.
#[derive(Default)]
struct Read {
    rows: Vec<Row>,
    /// Records that are longer than all that a pass reads, with their bytes.
    too_long: Vec<(Name, u64)>,
}

/// Reads the records at a member: the open ones, then those that were settled within a day, up to a number and a length. If one record cannot be read,
/// the others are read all the same. If the table cannot be read, [`Reading::unread`] has the reason.
///
/// # Errors
/// [`SqlError`] when the connection fails or gets no answer, [`SqlError::TooLong`] when there are too many bytes of records: then the connection
/// cannot be used any more.
pub async fn recent(conn: &mut Conn) -> Result<Reading, SqlError> {
    let read = async {
        let mut left = MOST_BYTES;
        let keys = rows(conn, &format!("{OPEN} {ORDER_OF_OPEN} LIMIT {MOST_READ}")).await?;
        let all_open: u64 = keys.first().map_or(Ok(0), |key| required(key, "all_open"))?;
        let open = read(conn, &keys, ORDER_OF_OPEN, &mut left).await?;
        let keys = rows(conn, SETTLED).await?;
        let settled = read(conn, &keys, ORDER_OF_SETTLED, &mut left).await?;
        let has_image_table = !ask(conn, IMAGE_TABLE).await?.is_empty();
        Ok::<_, SqlError>((all_open, open, settled, has_image_table))
    };
    let (all_open, open, settled, has_image_table) = match read.await {
        Ok(read) => read,
        Err(SqlError::TooLong) => return Err(SqlError::TooLong),
        // No schema, no right, no table (1049, 1142, 1146), or a table that a person has changed: the member is well, and its conflicts are unknown.
        Err(error) if error.is_of_the_living() => {
            let unread = Unread {
                table: Some(error.to_string()),
                ..Unread::default()
            };
            return Ok(Reading {
                unread,
                ..Reading::default()
            });
        }
        Err(error) => return Err(error),
    };
    let mut reading = Reading {
        has_image_table,
        ..Reading::default()
    };
    for row in &open.rows {
        match record(row) {
            Ok(record) => reading.records.push(record.brief()),
            Err(error) => reading.unread.records.push(UnreadRecord {
                observer: column(row, "observer").unwrap_or_default(),
                gtid: column(row, "gtid").unwrap_or_default(),
                why: shortened(&error.to_string()),
            }),
        }
    }
    let counted = u64::try_from(open.rows.len() + open.too_long.len()).unwrap_or(u64::MAX);
    reading.unread.more = all_open.saturating_sub(counted);
    let too_long = open.too_long.into_iter().map(|((observer, gtid), bytes)| UnreadRecord {
        observer,
        gtid,
        why: format!("it has {bytes} bytes, and a pass reads {MOST_BYTES}"),
    });
    reading.unread.records.extend(too_long);
    // A settled conflict that cannot be read is past all the same.
    reading.records.extend(settled.rows.iter().filter_map(|row| {
        record(row)
            .map(Record::brief)
            .inspect_err(|error| tracing::debug!(%error, "a settled conflict is left out"))
            .ok()
    }));
    Ok(reading)
}

/// Reads records in this order, as far as they fit.
async fn read(conn: &mut Conn, keys: &[Row], order: &str, left: &mut u64) -> Result<Read, SqlError> {
    let names = keys
        .iter()
        .map(|row| Ok((required(row, "observer")?, required(row, "gtid")?)));
    let names: Vec<Name> = names.collect::<Result<_, SqlError>>()?;
    let (mut fit, mut read) = (Vec::new(), Read::default());
    for some in names.chunks(AT_ONCE) {
        let query = format!(
            "SELECT observer, gtid, {LENGTH} AS bytes FROM multimaster.conflicts WHERE {} ORDER BY {order}",
            are(some)
        );
        let mut lengths = Vec::new();
        for row in rows(conn, &query).await? {
            let name = (required(&row, "observer")?, required(&row, "gtid")?);
            lengths.push((name, optional(&row, "bytes")?.unwrap_or_default()));
        }
        let number = lengths.len();
        let (fits, too_long) = fitting(lengths, left);
        let is_end = fits.len() + too_long.len() < number;
        fit.extend(fits);
        read.too_long.extend(too_long);
        if is_end {
            break;
        }
    }
    if !fit.is_empty() {
        let query = format!(
            "SELECT * FROM multimaster.conflicts WHERE {} ORDER BY {order}",
            are(&fit)
        );
        read.rows = rows(conn, &query).await?;
    }
    Ok(read)
}

/// Of records with their bytes, those up to the first that does not fit into what is left; and those that never fit.
fn fitting(lengths: Vec<(Name, u64)>, left: &mut u64) -> (Vec<Name>, Vec<(Name, u64)>) {
    let (mut fit, mut too_long) = (Vec::new(), Vec::new());
    for (name, bytes) in lengths {
        if bytes > MOST_BYTES {
            too_long.push((name, bytes));
        } else if let Some(rest) = left.checked_sub(bytes) {
            *left = rest;
            fit.push(name);
        } else {
            break;
        }
    }
    (fit, too_long)
}

/// The condition that a record is one of these.
fn are(names: &[Name]) -> String {
    let names: Vec<String> = names
        .iter()
        .map(|(observer, gtid)| format!("({}, {})", literal(observer), literal(gtid)))
        .collect();
    format!("(observer, gtid) IN ({})", names.join(", "))
}

/// A record from its row.
///
/// # Errors
/// [`SqlError::Unreadable`] when it is of a newer version, or a column has another type.
pub(super) fn record(row: &Row) -> Result<Record, SqlError> {
    let unreadable = |what: &str, error: &dyn std::fmt::Display| SqlError::Unreadable(format!("{what}: {error}"));
    // A table of an earlier agent has no such column.
    let version = match row.columns_ref().iter().any(|column| column.name_str() == "version") {
        true => required(row, "version")?,
        false => VERSION,
    };
    if version > VERSION {
        return Err(SqlError::Unreadable(format!(
            "version {version} of a record, and this operator knows {VERSION}"
        )));
    }
    let seen = required::<String>(row, "seen_at")?.replace(' ', "T") + "Z";
    let stage = serde_json::Value::String(required(row, "stage")?);
    let changes: String = required(row, "changes")?;
    let gtid: String = required(row, "gtid")?;
    gtid_set(row, "gtid")?;
    Ok(Record {
        observer: required(row, "observer")?,
        gtid,
        seen: seen.parse().map_err(|error| unreadable("seen_at", &error))?,
        stage: serde_json::from_value(stage).map_err(|error| unreadable("stage", &error))?,
        rows: serde_json::from_str(&changes).map_err(|error| unreadable("changes", &error))?,
        for_a_person: optional::<String>(row, "for_a_person")?.filter(|why| !is_outgrown(why)),
        winner: optional(row, "winner")?,
        known: gtid_set(row, "known")?,
        kept: optional(row, "kept_file")?
            .zip(optional(row, "kept_offset")?)
            .map(|(file, offset)| BinlogPosition { file, offset }),
    })
}

/// Whether this is a reason why an earlier operator left a transaction to a person that this one takes: it changes a referenced table, or its key is
/// of a type that was not compared.
fn is_outgrown(why: &str) -> bool {
    why.starts_with("it changes a table that a foreign key references, and taking it could ")
        || why.starts_with("a key of type ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u64], left: &mut u64) -> (Vec<String>, Vec<u64>) {
        let name = |n: usize| ("observer".to_owned(), n.to_string());
        let lengths = bytes.iter().enumerate().map(|(n, bytes)| (name(n), *bytes)).collect();
        let (fit, too_long) = fitting(lengths, left);
        let numbers = fit.into_iter().map(|(_, gtid)| gtid).collect();
        (numbers, too_long.into_iter().map(|(_, bytes)| bytes).collect())
    }

    #[test]
    fn records_are_read_in_order_as_far_as_they_fit() {
        let mut left = MOST_BYTES;
        let (fit, too_long) = of(&[15 << 20, MOST_BYTES + 1, 17 << 20, 0], &mut left);
        assert_eq!(fit, ["0", "2", "3"]);
        assert_eq!((too_long, left), (vec![MOST_BYTES + 1], 0));
        // After the first that does not fit none is read.
        let mut left = 10;
        assert_eq!(of(&[7, 4, 1], &mut left), (vec!["0".to_owned()], vec![]));
        assert_eq!(left, 3);
    }

    #[test]
    fn names_are_quoted() {
        let names = [("a'b".to_owned(), "c".to_owned()), ("d".to_owned(), "e:1".to_owned())];
        assert_eq!(are(&names), r"(observer, gtid) IN (('a\'b', 'c'), ('d', 'e:1'))");
    }
}
