//! What became of the members' serving labels, change by change: polling would miss a short absence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, ResourceExt};
use multimaster::names;
use tokio::task::JoinHandle;

use super::eventually;
use super::ring::Ring;

/// Pod and whether it has the label, in the order of the changes.
pub struct History {
    changes: Arc<Mutex<Vec<(Instant, String, bool)>>>,
    watch: JoinHandle<()>,
}

impl History {
    /// Watches the pods of a ring from now on. Returns when it has seen all of them serve.
    pub async fn of(ring: &Ring) -> Result<Self> {
        let changes = Arc::new(Mutex::new(Vec::new()));
        let api: Api<Pod> = Api::namespaced(ring.client.clone(), &ring.namespace);
        let config = Config::default().labels(&format!("{}={}", names::LABEL_CLUSTER, ring.name));
        let seen = changes.clone();
        let watch = tokio::spawn(watcher(api, config).for_each(move |event| {
            match event {
                Ok(Event::Apply(pod) | Event::InitApply(pod)) => record(&seen, &pod, true),
                Ok(Event::Delete(pod)) => record(&seen, &pod, false),
                _ => {}
            }
            std::future::ready(())
        }));
        let history = Self { changes, watch };
        eventually("the pods' history", || async {
            let serve = history.changes().into_iter().filter(|change| change.1).count();
            ensure!(serve == usize::from(ring.members), "{:?}", history.changes());
            Ok(())
        })
        .await?;
        Ok(history)
    }

    pub fn changes(&self) -> Vec<(String, bool)> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        changes
            .iter()
            .map(|(_, name, serves)| (name.clone(), *serves))
            .collect()
    }

    /// When this member first lost the label, or last got it, after this moment.
    pub fn when(&self, member: &str, serves: bool, since: Instant) -> Option<Instant> {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = changes
            .iter()
            .filter(|(at, name, now)| *at >= since && name == member && *now == serves)
            .map(|(at, ..)| *at);
        if serves { times.next_back() } else { times.next() }
    }

    /// How often this member has lost the label.
    pub fn departures(&self, member: &str) -> usize {
        self.changes()
            .iter()
            .filter(|(name, serves)| name == member && !serves)
            .count()
    }

    /// Waits until this member has lost the label once more than `before`, and has it again.
    pub async fn went_and_came_back(&self, member: &str, before: usize) -> Result<()> {
        eventually(&format!("{member} leaves the Service and comes back"), || async {
            let changes = self.changes();
            let last = changes.iter().rev().find(|(name, _)| name == member);
            let back = last.is_some_and(|(_, serves)| *serves);
            ensure!(self.departures(member) > before && back, "{changes:?}");
            Ok(())
        })
        .await
    }

    /// Members in the order in which they lost the label.
    pub fn order(&self) -> Vec<String> {
        self.changes()
            .into_iter()
            .filter(|(_, serves)| !serves)
            .map(|(name, _)| name)
            .collect()
    }

    /// The most members that were without the label at one time.
    pub fn most_absent(&self) -> usize {
        let mut now = BTreeMap::new();
        let counts = self.changes().into_iter().map(|(name, serves)| {
            now.insert(name, serves);
            now.values().filter(|serves| !**serves).count()
        });
        // The first ones are the members themselves, as the watch began to list them: all of them serve.
        counts.max().unwrap_or_default()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Adds a change; what says the same again is none.
fn record(changes: &Mutex<Vec<(Instant, String, bool)>>, pod: &Pod, exists: bool) {
    let serves = exists
        && pod
            .labels()
            .get(names::LABEL_SERVING)
            .is_some_and(|value| value == "true");
    let mut changes = changes.lock().unwrap_or_else(PoisonError::into_inner);
    let last = changes.iter().rev().find(|(_, name, _)| *name == pod.name_any());
    if last.is_none_or(|(.., before)| *before != serves) {
        changes.push((Instant::now(), pod.name_any(), serves));
    }
}
