//! The report: markdown on standard output and in a file, and the plot beside it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::stage::{Stage, haproxy_version};
use crate::support::sql;

/// Response times through one path, in milliseconds, in the order of the labels; `None` was not measured.
pub struct Series {
    pub title: &'static str,
    pub values: Vec<Option<f64>>,
}

pub struct Report {
    folder: PathBuf,
    text: String,
    pub labels: Vec<String>,
    pub series: Vec<Series>,
}

/// Bars on a scale on which ten times as much is as far everywhere: the times differ by a thousand.
const PLOT: &str = "set terminal svg size 900,420 font 'sans-serif,14' background '#ffffff'
set ylabel 'average response time of what was answered (ms)'
set xlabel 'connections, requests a second'
set logscale y
set yrange [1:*]
set grid ytics
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set key top left
set datafile missing '?'
";

impl Report {
    pub fn begin(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        Ok(Self {
            folder: folder.into(),
            text: String::new(),
            labels: Vec::new(),
            series: Vec::new(),
        })
    }

    /// Adds lines, and prints them at once: a run that breaks off has told what it knew.
    pub fn say(&mut self, lines: &str) {
        println!("{lines}");
        self.text.push_str(lines);
        self.text.push('\n');
    }

    /// Adds where and with what it was measured, and draws the plot.
    pub async fn versions(&mut self, stage: &Stage) {
        let known = |version: Result<String>| version.unwrap_or_else(|error| format!("unknown ({error:#})"));
        let mysql = async { sql::value(&mut stage.ring.root(0).await?, "SELECT VERSION()").await };
        let kubernetes = async { Ok(stage.world.client.apiserver_version().await?.git_version) };
        let query = [
            "dpkg-query",
            "-W",
            "-f",
            "${Package} ${Version}, ",
            "pen",
            "httperf",
            "sysbench",
            "gnuplot-nox",
        ];
        let tools = known(stage.exec("tools", &query, "").await);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = memory
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse::<u64>().ok());
        let machine = format!(
            "## Machine and versions\n\n{} cores, {} GiB of memory for everything: the nodes of the cluster, the servers, the web server and the \
             clients. Kubernetes {}, MySQL {}, HAProxy {}, {}\n",
            std::thread::available_parallelism().map_or(0, usize::from),
            kilobytes.unwrap_or_default().div_ceil(1 << 20),
            known(kubernetes.await),
            known(mysql.await),
            known(haproxy_version(stage).await),
            tools.trim_end_matches(", ")
        );
        self.say(&machine);
        if !self.series.is_empty()
            && let Err(error) = self.draw(stage).await
        {
            self.say(&format!("The plot could not be drawn: {error:#}\n"));
        }
    }

    async fn draw(&self, stage: &Stage) -> Result<()> {
        let mut script = format!("{PLOT}$times << END\n");
        for (row, label) in self.labels.iter().enumerate() {
            let value = |series: &Series| {
                series
                    .values
                    .get(row)
                    .copied()
                    .flatten()
                    .map_or("?".into(), |ms| ms.to_string())
            };
            let values: Vec<String> = self.series.iter().map(value).collect();
            writeln!(script, "\"{label}\" {}", values.join(" "))?;
        }
        let bars: Vec<String> = (2..)
            .zip(&self.series)
            .map(|(column, series)| format!("$times using {column}:xtic(1) title '{}'", series.title))
            .collect();
        writeln!(script, "END\nplot {}", bars.join(", "))?;
        let picture = stage.exec("tools", &["gnuplot"], &script).await?;
        let file = self.folder.join("response-times.svg");
        std::fs::write(&file, picture).with_context(|| format!("{}", file.display()))
    }

    /// Writes the file.
    pub fn end(&self) -> Result<()> {
        let file = self.folder.join("benchmarks.md");
        std::fs::write(&file, &self.text).with_context(|| format!("{}", file.display()))?;
        eprintln!("the report is in {}", self.folder.display());
        Ok(())
    }
}

/// The value below which this part of all lies, 0 to 1; of none 0.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let place = (last as f64 * part).round() as usize;
    values.get(place).copied().unwrap_or_default()
}
