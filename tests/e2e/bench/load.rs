//! httperf against the shop's page that takes an order: a connection to the database, an insert, a select.

use anyhow::{Context, Result, ensure};

use crate::support::eventually;

use super::report::{Report, Series};
use super::stage::{Path, Stage};

/// Requests a second, and connections with one request each. The first is what this machine can do; the others are more than that.
const LOADS: [(u32, u32); 5] = [(50, 500), (1000, 100), (1000, 500), (1000, 1000), (1000, 5000)];
/// A page that takes less time than this, in milliseconds, has no queue before it.
const CALM: f64 = 100.0;

/// What httperf says of one call.
struct Answered {
    /// Answers a second.
    rate: f64,
    /// Milliseconds from the request to the answer, of those that were answered.
    average: f64,
    /// Milliseconds from the begin of a connection to its end, of those that were answered.
    median: f64,
    /// Without an answer for 3 s, or closed or refused.
    failed: u32,
    /// httperf had no descriptor left to begin them with: it has 1,024.
    never_begun: u32,
    /// Answers that say that the database cannot be reached.
    unavailable: u32,
}

pub async fn measure(stage: &Stage, report: &mut Report) -> Result<()> {
    report.say(
        "## The shop's page under load\n\n\
         httperf against a page that connects to the database, inserts an order and reads it; one request a connection. Times are those of \
         the requests that were answered within 3 s.\n\n\
         | requests | path | answers a second | response, average | whole connection, median | no answer | not begun | page says 503 |\n\
         |---|---|---|---|---|---|---|---|",
    );
    let mut all = Vec::new();
    for path in [Path::Alone, Path::Pen, Path::Service, Path::HaProxy] {
        let mut series = Series {
            title: path.title(),
            values: Vec::new(),
        };
        for (load, answered) in LOADS.into_iter().zip(through(stage, path).await) {
            if let Err(error) = &answered {
                eprintln!("{path:?} {load:?}: {error:#}");
            }
            series
                .values
                .push(answered.as_ref().ok().map(|answered| answered.average));
            all.push((load, path, answered));
        }
        report.series.push(series);
    }
    report.labels = LOADS.iter().map(|load| words(*load)).collect();
    for wanted in LOADS {
        for (_, path, answered) in all.iter().filter(|(load, ..)| *load == wanted) {
            let cells = match answered {
                Ok(answered) => format!(
                    "{:.0} | {:.0} ms | {:.0} ms | {} | {} | {}",
                    answered.rate,
                    answered.average,
                    answered.median,
                    answered.failed,
                    answered.never_begun,
                    answered.unavailable
                ),
                Err(error) => format!("not measured: {} | | | | |", format!("{error:#}").replace('\n', " ")),
            };
            report.say(&format!("| {} | {} | {cells} |", words(wanted), path.title()));
        }
    }
    report.say("\n![Response times](response-times.svg)\n");
    Ok(())
}

fn words((rate, connections): (u32, u32)) -> String {
    format!("{connections} at {rate}/s")
}

/// All loads through one path, after it has become warm.
async fn through(stage: &Stage, path: Path) -> Vec<Result<Answered>> {
    let ready = async {
        stage.open(path).await?;
        let web = stage.pod_ip(path.web()).await?;
        httperf(stage, &web, 50, 250).await?;
        Ok::<_, anyhow::Error>(web)
    };
    let ready = ready.await;
    let mut all = Vec::new();
    for (rate, connections) in LOADS {
        all.push(match &ready {
            Ok(web) => one(stage, web, rate, connections).await,
            Err(error) => Err(anyhow::anyhow!("{error:#}")),
        });
    }
    all
}

/// One call, when what earlier ones have left to do is done.
async fn one(stage: &Stage, web: &str, rate: u32, connections: u32) -> Result<Answered> {
    eventually("the page is quick", || async {
        let idle = httperf(stage, web, 5, 5).await?;
        ensure!(idle.failed == 0 && idle.average < CALM, "{} ms", idle.average);
        Ok(())
    })
    .await?;
    httperf(stage, web, rate, connections).await
}

async fn httperf(stage: &Stage, web: &str, rate: u32, connections: u32) -> Result<Answered> {
    let (rate, connections) = (rate.to_string(), connections.to_string());
    let command = [
        "timeout",
        "30",
        "httperf",
        "--hog",
        "--timeout",
        "3",
        "--server",
        web,
        "--port",
        "8080",
        "--server-name",
        "shop",
        "--method",
        "POST",
        "--uri",
        "/?product=apple",
        "--add-header",
        "Content-Length: 0\\n",
        "--rate",
        &rate,
        "--num-conns",
        &connections,
        "--num-calls",
        "1",
    ];
    let said = stage.exec("tools", &command, "").await?;
    let replies = number(&said, "replies ")?;
    let whole = |name: &str| number(&said, name).map(|number| number as u32);
    Ok(Answered {
        rate: replies / number(&said, "test-duration ")?,
        average: number(&said, "response ")?,
        median: number(&said, "median ")?,
        failed: whole("client-timo ")? + whole("socket-timo ")? + whole("connrefused ")? + whole("connreset ")?,
        never_begun: whole("fd-unavail ")? + whole("addrunavail ")? + whole("ftab-full ")?,
        unavailable: whole("5xx=")?,
    })
}

/// The number after the first such word.
fn number(said: &str, word: &str) -> Result<f64> {
    let (_, rest) = said
        .split_once(word)
        .with_context(|| format!("no {word:?} in {said}"))?;
    let number = rest.split_whitespace().next().context("no number")?;
    number.parse().with_context(|| format!("{word}{number}"))
}
