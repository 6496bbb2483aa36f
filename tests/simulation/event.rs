//! What goes wrong in a run: all of it drawn from the seed before the run begins, so that a failure can be shrunk by leaving events out.

use crate::model::member::SECOND;
use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: u64,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// kill -9 of mysqld; its agent starts it again.
    CrashMysqld { member: u8 },
    /// The container ends and is started again after a while.
    CrashContainer { member: u8, lasts: u64 },
    /// Somebody deletes the pod.
    DeletePod { member: u8 },
    /// The node is without power for a while.
    LoseNode { member: u8, lasts: u64 },
    /// mysqld, or the whole node, stands still for a while, its clients connected.
    Freeze { member: u8, node: bool, lasts: u64 },
    /// Little is applied, and some probes come too late.
    Slow { member: u8, lasts: u64 },
    /// Too many connections.
    Refuse { member: u8, lasts: u64 },
    /// The volume, or only its data directory, is gone.
    LoseVolume { member: u8, record_too: bool },
    /// A copy of the volume is made.
    Snapshot { member: u8 },
    /// The volume is replaced by the copy.
    SetBack { member: u8 },
    /// The first cannot connect to the second.
    Cut { from: u8, to: u8, lasts: u64 },
    /// Cut off from all other members; `operators` too.
    Isolate { member: u8, operators: bool, lasts: u64 },
    /// This operator does not reach one member, or any.
    CutOperator {
        operator: usize,
        member: Option<u8>,
        lasts: u64,
    },
    /// The leader ends after so many more external effects.
    OperatorDies { effects: u32 },
    /// The leader stands still in front of an external effect.
    OperatorStalls { effects: u32, lasts: u64 },
    /// The leader's caches are behind.
    StaleCaches { lasts: u64 },
    /// Somebody stops threads of the member's channels.
    StopThreads {
        member: u8,
        receivers: bool,
        appliers: bool,
    },
    /// The session of a conflict step ended early: the appliers stand, and settings of the server are as the session had made them.
    CutSession { member: u8 },
    /// A client holds row locks for longer than an applier tries to get them.
    HoldLocks { member: u8, lasts: u64 },
    /// A new image or configuration.
    NewTemplate,
    /// Two members write the same row.
    Conflict { first: u8, second: u8, kind: Meeting },
    /// A person names the winner of all conflicts that are open.
    NameWinner { member: u8 },
    /// All binary logs of a member are purged.
    Purge { member: u8 },
}

/// How two members write the same row, each before it knows of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meeting {
    /// Both insert it.
    Inserts,
    /// Both insert it, and a third member too.
    ThreeInserts,
    /// Both insert it, and change it again.
    LateWrites,
    /// Both insert it, and the second deletes its own.
    InsertsAndDeletes,
    /// One changes it, the other deletes it.
    UpdateAndDelete,
    /// Both delete it.
    Deletes,
    /// Of those that met last: a client changes the row at the first member, if the winner's is there.
    UpdateInKnowledge,
}

/// What is fixed for a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub seed: u64,
    pub members: u8,
    /// `healing: Wait`.
    pub waits: bool,
    /// Seconds between two looks.
    pub period: u16,
    pub bypass_after: u16,
    pub hold_out: u16,
    /// `isolation.policy: Fence`.
    pub fences: bool,
    /// `writes: SingleWriter`.
    pub single: bool,
    /// `conflicts.policy: Halt`.
    pub halts: bool,
    /// Else the member whose rows win.
    pub prefers: u8,
    /// Writes in a hundred ticks of an open member.
    pub writes: u64,
    /// When the last fault begins, at the latest.
    pub faults_until: u64,
}

/// A whole history.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub setup: Setup,
    pub events: Vec<Event>,
}

/// Kinds of faults, each with its weight; every seed uses some of them, so that rare combinations come often in some runs.
const KINDS: usize = 20;

impl Scenario {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let members = match random.below(20) {
            0..=3 => 2,
            4..=14 => 3,
            15..=17 => 4,
            18 => 5,
            _ => u8::try_from(random.between(6, 9)).unwrap(),
        };
        let period = random.between(1, 3);
        let mut setup = Setup {
            seed,
            members,
            waits: random.percent(20),
            period: u16::try_from(period).unwrap(),
            bypass_after: u16::try_from(random.between(2 * period, 7)).unwrap(),
            hold_out: u16::try_from(random.between(0, 15)).unwrap(),
            fences: false,
            single: false,
            halts: false,
            prefers: 0,
            writes: random.between(3, 15),
            faults_until: random.between(10 * SECOND, 40 * SECOND),
        };
        // Some runs are disturbed while the ring is founded.
        let from = if random.percent(20) { 0 } else { 6 * SECOND };
        let kinds: Vec<usize> = (0..KINDS).filter(|_| random.percent(40)).collect();
        let rare = (random.percent(4), random.percent(3));
        let mut events = Vec::new();
        for _ in 0..random.between(2, 12) {
            let at = random.between(from, setup.faults_until.max(from + 1));
            let kind = kinds.get(usize::try_from(random.below(64)).unwrap() % kinds.len().max(1));
            let fault = fault(&mut random, members, kind.copied().unwrap_or(0), rare);
            events.push(Event { at, fault });
            if let Fault::SetBack { member } = fault {
                let fault = Fault::Snapshot { member };
                let at = random.between(from.min(at), at);
                events.push(Event { at, fault });
            }
        }
        setup.fences = random.percent(50);
        setup.single = random.percent(35);
        if random.percent(20) {
            let at = random.between(from, setup.faults_until.max(from + 1));
            let member = u8::try_from(random.below(members.into())).unwrap();
            let fault = Fault::CutSession { member };
            events.push(Event { at, fault });
        }
        if random.percent(20) {
            let at = random.between(from, setup.faults_until.max(from + 1));
            let member = u8::try_from(random.below(members.into())).unwrap();
            let lasts = random.between(1, 100);
            let fault = Fault::HoldLocks { member, lasts };
            events.push(Event { at, fault });
        }
        setup.halts = random.percent(25);
        setup.prefers = u8::try_from(random.below(members.into())).unwrap();
        if random.percent(40) {
            for _ in 0..random.between(1, 4) {
                let at = random.between(from, setup.faults_until.max(from + 1));
                let fault = conflict(&mut random, members);
                events.push(Event { at, fault });
            }
            let (at, member) = (setup.faults_until + 10 * SECOND, setup.prefers);
            if setup.halts {
                let fault = Fault::NameWinner { member };
                events.push(Event { at, fault });
            }
        }
        events.sort_by_key(|event| event.at);
        Self { setup, events }
    }
}

fn conflict(random: &mut Random, members: u8) -> Fault {
    let first = u8::try_from(random.below(members.into())).unwrap();
    let second = (first + 1 + u8::try_from(random.below(u64::from(members) - 1)).unwrap()) % members;
    let kind = match random.below(8) {
        0 => Meeting::Inserts,
        1 => Meeting::LateWrites,
        2 => Meeting::InsertsAndDeletes,
        3 => Meeting::UpdateAndDelete,
        4 => Meeting::ThreeInserts,
        5 | 6 => Meeting::UpdateInKnowledge,
        _ => Meeting::Deletes,
    };
    Fault::Conflict { first, second, kind }
}

fn fault(random: &mut Random, members: u8, kind: usize, (conflicts, purges): (bool, bool)) -> Fault {
    let any = |random: &mut Random| u8::try_from(random.below(members.into())).unwrap();
    let member = any(random);
    let other = (member + 1 + u8::try_from(random.below(u64::from(members) - 1)).unwrap()) % members;
    let lasts = match random.below(4) {
        0 => random.between(1, 10),
        1 | 2 => random.between(10, 80),
        _ => random.between(60, 200),
    };
    let effects = u32::try_from(random.below(8)).unwrap();
    let half = random.percent(50);
    match kind {
        0 => Fault::CrashMysqld { member },
        1 => Fault::CrashContainer { member, lasts },
        2 => Fault::DeletePod { member },
        3 => Fault::LoseNode { member, lasts },
        4 | 5 => Fault::Freeze {
            member,
            node: half,
            lasts,
        },
        6 => Fault::Slow { member, lasts },
        7 => Fault::Refuse { member, lasts },
        8 => Fault::LoseVolume {
            member,
            record_too: half,
        },
        9 => Fault::Snapshot { member },
        10 => Fault::SetBack { member },
        11 => Fault::Cut {
            from: member,
            to: other,
            lasts,
        },
        12 => Fault::Isolate {
            member,
            operators: half,
            lasts,
        },
        13 => Fault::CutOperator {
            operator: usize::from(random.percent(50)),
            member: half.then_some(member),
            lasts,
        },
        14 => Fault::OperatorDies { effects },
        15 => Fault::OperatorStalls { effects, lasts },
        16 => Fault::StaleCaches { lasts: lasts.min(50) },
        17 => Fault::StopThreads {
            member,
            receivers: half,
            appliers: !half || random.percent(50),
        },
        18 if conflicts => Fault::Conflict {
            first: member,
            second: other,
            kind: Meeting::Inserts,
        },
        19 if purges => Fault::Purge { member },
        18 => Fault::NewTemplate,
        _ => Fault::CrashMysqld { member },
    }
}
