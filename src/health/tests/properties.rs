//! Whatever happens, in whatever order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    /// A request: is screened, and goes to one of those left.
    Request(u8),
    /// One of the open requests comes to this.
    Outcome(u8, Observation),
    Scrape(u8, Scrape, u8),
    Pause(u16),
}

fn outcome() -> impl Strategy<Value = Observation> {
    prop_oneof![
        4 => Just(GOOD),
        4 => Just(BAD),
        1 => Just(Observation::Failed(Failure::NoResponse)),
        1 => Just(Observation::Rejected),
        2 => Just(Observation::Abandoned),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let scrape = prop_oneof![
        any::<Option<u8>>().prop_map(|busy| Scrape::Read { busy: busy.map(u32::from) }),
        Just(Scrape::Refused),
        Just(Scrape::Failed),
    ];
    prop_oneof![
        4 => any::<u8>().prop_map(Event::Request),
        4 => (any::<u8>(), outcome()).prop_map(|(i, o)| Event::Outcome(i, o)),
        2 => (any::<u8>(), scrape, any::<u8>()).prop_map(|(i, s, n)| Event::Scrape(i, s, n)),
        1 => (0..3000_u16).prop_map(Event::Pause),
    ]
}

/// A pool with the requests that are open, and what must hold of it.
struct Model {
    pool: Driven,
    open: Vec<(usize, Attempt)>,
    /// Per endpoint: when the probe was sent that has not come to anything.
    probing: Vec<Option<Timestamp>>,
    now: Timestamp,
}

impl Model {
    fn new(count: usize) -> Self {
        Self { pool: Driven::new(count), open: vec![], probing: vec![None; count], now: at(0) }
    }

    fn request(&mut self, choice: usize) {
        let count = self.pool.endpoints.len();
        let out = self.pool.endpoints.iter().filter(|e| e.is_out()).count();
        let may_leave_out = self.pool.health.policy().may_leave_out(count);
        let target = match self.pool.screen(self.now) {
            Selection::All => choice % count,
            Selection::Without(left_out) => {
                // Endpoints may have gone out for silence within this call.
                let now_out = self.pool.endpoints.iter().filter(|e| e.is_out()).count();
                assert!(left_out.len() <= may_leave_out.max(now_out), "{left_out:?}");
                assert!(left_out.len() < count && left_out.is_sorted());
                let rest: Vec<usize> =
                    (0..count).filter(|&i| !left_out.contains(&(i as u32))).collect();
                rest[choice % rest.len()]
            }
            Selection::Probe(i) => {
                let i = i as usize;
                assert!(self.pool.endpoints[i].is_out(), "only one that is out is probed");
                let policy = self.pool.health.policy();
                let stuck = |sent| self.now.since(sent) >= policy.refused_probe_wait;
                assert!(self.probing[i].is_none_or(stuck), "one probe in flight at most");
                self.probing[i] = Some(self.now);
                i
            }
            Selection::Panic(i) => {
                assert!(out >= may_leave_out, "no panic without need");
                i as usize
            }
        };
        let attempt = self.pool.sent(target, self.now);
        self.open.push((target, attempt));
    }

    fn apply(&mut self, event: &Event) {
        let count = self.pool.endpoints.len();
        // No two things happen at once, so that each request has its own moment.
        self.now += Duration::from_micros(100);
        match *event {
            Event::Request(choice) => self.request(choice.into()),
            Event::Outcome(..) if self.open.is_empty() => {}
            Event::Outcome(which, outcome) => {
                let (i, mut attempt) = self.open.swap_remove(usize::from(which) % self.open.len());
                let sent_at = attempt.sent_at;
                self.pool.observe(i, &mut attempt, outcome, self.now);
                assert!(!attempt.is_waiting());
                // What comes after that is no news.
                assert_eq!(self.pool.observe(i, &mut attempt, BAD, self.now), None);
                self.probing[i].take_if(|probe| *probe == sent_at);
            }
            Event::Scrape(i, scrape, in_flight) => {
                let endpoint = &self.pool.endpoints[usize::from(i) % count];
                self.pool.health.scraped(endpoint, scrape, in_flight.into(), self.now);
            }
            Event::Pause(ms) => self.now += Duration::from_millis(ms.into()),
        }
        self.check();
    }

    fn check(&self) {
        for (i, endpoint) in self.pool.endpoints.iter().enumerate() {
            let waiting = self.open.iter().filter(|(e, a)| *e == i && a.is_waiting()).count();
            assert_eq!(endpoint.waiting() as usize, waiting, "requests waiting");
            let out = u64::from(endpoint.standing() == Standing::Ejected);
            assert_eq!(endpoint.ejections() - endpoint.returns(), out, "ejections and returns");
            let factor = self.pool.health.speed_factor(endpoint, self.now);
            assert!((0.1..=1.0).contains(&factor), "{factor}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn counts_hold_and_ejection_is_bounded(
        count in 1..9_usize,
        events in proptest::collection::vec(event(), 1..400),
    ) {
        let mut model = Model::new(count);
        events.iter().for_each(|event| model.apply(event));
        // Every request ends some day; then nothing waits.
        for (i, mut attempt) in std::mem::take(&mut model.open) {
            model.pool.observe(i, &mut attempt, Observation::Abandoned, model.now);
            model.pool.observe(i, &mut attempt, BAD, model.now);
        }
        model.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Once every request is answered, everyone is back in service: within the longest wait for
    /// a probe, the time to come back, and the time a request takes.
    #[test]
    fn everyone_returns_after_recovery(
        count in 1..9_usize,
        events in proptest::collection::vec(event(), 1..300),
        metrics_are_back in any::<bool>(),
    ) {
        let mut model = Model::new(count);
        events.iter().for_each(|event| model.apply(event));
        for (i, mut attempt) in std::mem::take(&mut model.open) {
            model.pool.observe(i, &mut attempt, Observation::Abandoned, model.now);
            model.probing[i] = None;
        }
        let policy = model.pool.health.policy().clone();
        let probes = if metrics_are_back { policy.max_probe_wait } else { policy.refused_probe_wait };
        let end = model.now + probes + policy.return_time + Duration::from_secs(1);
        while model.now < end {
            model.now += Duration::from_millis(50);
            if metrics_are_back {
                (0..count).for_each(|i| _ = model.pool.scraped(i, Scrape::Read { busy: None }, model.now));
            }
            model.request(fastrand::usize(..1000));
            let now = model.now + Duration::from_millis(10);
            if let Some((i, mut attempt)) = model.open.pop() {
                model.pool.observe(i, &mut attempt, GOOD, now);
                model.pool.observe(i, &mut attempt, Observation::Abandoned, now);
                model.probing[i] = None;
            }
        }
        prop_assert_eq!(model.pool.screen(model.now), Selection::All);
    }

    /// Endpoints that fail alike, whatever the pattern, stay in service.
    #[test]
    fn what_befalls_all_ejects_none(
        count in 2..7_usize,
        rounds in proptest::collection::vec(any::<bool>(), 1..200),
        seed in any::<u64>(),
    ) {
        let mut pool = Driven::new(count);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut order: Vec<usize> = (0..count).collect();
        for (round, failed) in rounds.into_iter().enumerate() {
            rng.shuffle(&mut order);
            for &i in &order {
                pool.exchange(i, if failed { BAD } else { GOOD }, at(round as u64 * 10));
            }
        }
        prop_assert!(pool.endpoints.iter().all(|e| e.ejections() == 0));
    }

    /// Clients alone, whatever they do within the usual time of an answer, eject nobody.
    #[test]
    fn clients_eject_nobody(
        events in proptest::collection::vec((0..4_usize, 0..3_u8), 1..500),
    ) {
        let mut pool = Driven::new(4);
        for (n, (i, what)) in events.into_iter().enumerate() {
            let outcome = [GOOD, Observation::Rejected, Observation::Abandoned][usize::from(what)];
            prop_assert_eq!(pool.exchange(i, outcome, at(n as u64)), None);
        }
        prop_assert_eq!(pool.screen(at(1000)), Selection::All);
    }

    /// However it flaps, an endpoint goes out no more often than the shortest waits allow, and
    /// the waits grow.
    #[test]
    fn flapping_is_not_amplified(period_ms in 50..5000_u64, share in 0.1..0.9_f64) {
        let mut pool = Driven::new(4);
        let mut now = 0;
        let mut picks = fastrand::Rng::with_seed(period_ms);
        while now < 120_000 {
            now += 5;
            let i = match pool.screen(at(now)) {
                Selection::All => picks.usize(..4),
                Selection::Without(out) if out.as_slice() == [0] => picks.usize(1..4),
                Selection::Probe(i) | Selection::Panic(i) => i as usize,
                other => panic!("nobody else is ill: {other:?}"),
            };
            let down = (now % period_ms) as f64 >= share * period_ms as f64;
            pool.exchange(i, if i == 0 && down { BAD } else { GOOD }, at(now));
        }
        // Waits of about 1, 2, 4 s and then 5 s (less a quarter), in two minutes.
        prop_assert!(pool.endpoints[0].ejections() <= 3 + 120 * 4 / 15, "{}", pool.endpoints[0].ejections());
    }
}
