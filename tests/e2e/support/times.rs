//! How long each step of each test took, in the file that [`FILE`] names: what takes long is seen before it is cut.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The environment variable with the path of the file. Without it nothing is written. `hack/test.sh` sets it.
const FILE: &str = "MULTIMASTER_TEST_TIMES";

/// Runs a step, and writes down how long it took, also when it failed.
///
/// # Errors
/// The step's. Or that the time could not be written: a table with holes is worse than none.
pub async fn timed<T>(step: &str, body: impl Future<Output = Result<T>>) -> Result<T> {
    let started = Instant::now();
    let result = body.await;
    let written = note(step, started.elapsed());
    match (result, written) {
        (result, Ok(())) => result,
        (Ok(_), Err(unwritten)) => Err(unwritten),
        (Err(error), Err(unwritten)) => Err(error.context(format!("{unwritten:#}"))),
    }
}

fn note(step: &str, took: Duration) -> Result<()> {
    let Some(file) = std::env::var_os(FILE) else {
        return Ok(());
    };
    // A test has a thread of its own, all of its tasks run on it, and the test harness names it after the test.
    let thread = std::thread::current();
    let test = thread
        .name()
        .context("the thread has no name, so its test is not known")?;
    append(Path::new(&file), test, step, took)
}

/// Adds a row. Tests run side by side: one write, at the end of the file, keeps a row in one piece.
fn append(file: &Path, test: &str, step: &str, took: Duration) -> Result<()> {
    let step = step.replace(['\t', '\n'], " ");
    let row = format!("{test}\t{step}\t{:.1}\n", took.as_secs_f64());
    let opened = OpenOptions::new().create(true).append(true).open(file);
    opened
        .and_then(|mut opened| opened.write_all(row.as_bytes()))
        .with_context(|| format!("{FILE}={}: no time could be written to it", file.display()))
}

#[test]
fn a_row_has_three_columns_and_a_file_that_takes_none_is_an_error() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("multimaster-times-{:08x}", getrandom::u32()?));
    std::fs::create_dir(&folder)?;
    let file = folder.join("times.tsv");
    append(&file, "a::test", "SELECT 1\n\tFROM t", Duration::from_millis(1540))?;
    append(&file, "a::test", "more", Duration::from_secs(300))?;
    let rows = std::fs::read_to_string(&file)?;
    let refused = append(&folder, "a::test", "a folder is no file", Duration::ZERO);
    std::fs::remove_dir_all(&folder)?;
    ensure!(
        rows == "a::test\tSELECT 1  FROM t\t1.5\na::test\tmore\t300.0\n",
        "{rows:?}"
    );
    let refused = format!("{:#}", refused.err().context("a folder took a row")?);
    ensure!(refused.contains(FILE) && refused.contains("times-"), "{refused}");
    Ok(())
}
