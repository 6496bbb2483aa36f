//! sysbench, read and write, through each path and straight to one of its servers, in turns.

use anyhow::{Context, Result, ensure};
use multimaster::names::keys;

use super::report::{Report, percentile};
use super::stage::{Path, SCHEMAS, Stage, settled};

/// Straight and through, so many times each.
const ROUNDS: usize = 3;
/// Seconds of one run.
const SECONDS: u32 = 8;
/// Rows in each schema.
const ROWS: u32 = 10_000;

/// One process for each schema, each with one connection.
const SCRIPT: &str = r#"
schemas=$1 command=$2; shift 2
for schema in $(seq 0 $((schemas - 1))); do
    sysbench oltp_read_write --db-driver=mysql --mysql-user=shop --mysql-db=sb$schema --tables=1 --threads=1 "$@" "$command" &
    all="${all:-} $!"
done
for process in $all; do wait "$process" || exit 1; done
"#;

/// What one run did.
struct Done {
    /// Transactions a second, of all processes.
    rate: f64,
    /// Transactions that were refused and tried again.
    refused: f64,
}

pub async fn measure(stage: &Stage, report: &mut Report) -> Result<()> {
    report.say(&format!(
        "## sysbench, oltp_read_write\n\n\
         {SCHEMAS} processes with one connection and one schema of {ROWS} rows each, {SECONDS} s a run, {ROUNDS} runs straight to one of \
         the servers and {ROUNDS} through the path, in turns. Transactions a second, medians; the range is that of the single rounds.\n\n\
         | path | straight | through | ratio | range | refused |\n|---|---|---|---|---|---|"
    ));
    for path in [Path::Alone, Path::Pen, Path::Service] {
        run(stage, path, "prepare", &stage.servers(path).ip(0).await?).await?;
        settled(stage.servers(path)).await?;
    }
    for path in [Path::Alone, Path::Pen, Path::Service, Path::HaProxy] {
        let row = compared(stage, path).await;
        report.say(&row.unwrap_or_else(|error| format!("| {} | not measured: {error:#} | | | | |", path.title())));
    }
    report.say("");
    Ok(())
}

/// A row of the table.
async fn compared(stage: &Stage, path: Path) -> Result<String> {
    let address = stage.open(path).await?;
    let (mut straight, mut through, mut ratios, mut refused) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    for round in 0..ROUNDS {
        let direct = stage.servers(path).ip(0).await?;
        // Neither is always the one that comes first.
        let order = if round % 2 == 0 {
            [&direct, &address]
        } else {
            [&address, &direct]
        };
        let mut rates = [0.0; 2];
        for (rate, target) in rates.iter_mut().zip(order) {
            // What one member has not seen yet another one must not be asked to change.
            settled(stage.servers(path)).await?;
            let done = run(stage, path, "run", target).await?;
            *rate = done.rate;
            refused += done.refused;
        }
        let [first, second] = rates;
        let (direct, path) = if round % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        straight.push(direct);
        through.push(path);
        ratios.push(path / direct);
    }
    settled(stage.servers(path)).await?;
    let [straight, through] = [&mut straight, &mut through].map(|rates| percentile(rates, 0.5));
    let [least, most] = [0.0, 1.0].map(|part| percentile(&mut ratios, part));
    Ok(format!(
        "| {} | {straight:.0} | {through:.0} | {:.2} | {least:.2} to {most:.2} | {refused:.0} |",
        path.title(),
        through / straight
    ))
}

/// One run of all processes.
async fn run(stage: &Stage, path: Path, command: &str, host: &str) -> Result<Done> {
    let password = stage.servers(path).password(keys::APP).await?;
    let options = [
        format!("--mysql-host={host}"),
        format!("--mysql-password={password}"),
        format!("--table-size={ROWS}"),
        format!("--time={SECONDS}"),
    ];
    let schemas = SCHEMAS.to_string();
    let mut arguments = vec!["bash", "-c", SCRIPT, "sysbench", &schemas, command];
    arguments.extend(options.iter().map(String::as_str));
    let said = stage.exec("tools", &arguments, "").await?;
    // transactions:  1234   (123.40 per sec.)        ignored errors:  0      (0.00 per sec.)
    let lines = |name: &str| {
        said.lines()
            .filter_map(|line| line.trim().strip_prefix(name))
            .collect::<Vec<_>>()
    };
    let rates: Vec<f64> = lines("transactions:")
        .iter()
        .map(|line| {
            let rate = line.split('(').nth(1).and_then(|rest| rest.split(' ').next());
            rate.context("no rate")?.parse().context("a rate")
        })
        .collect::<Result<_>>()?;
    ensure!(command != "run" || rates.len() == usize::from(SCHEMAS), "{said}");
    let refused = lines("ignored errors:")
        .iter()
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .sum();
    Ok(Done {
        rate: rates.iter().sum(),
        refused,
    })
}
