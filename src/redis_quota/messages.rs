//! What is said to the scripts, and what they answer.

use redis::ScriptInvocation;

use crate::quota::{
    Measure, SharedSettings, SharedSettle, SharedTake, SharedUse, Tenant, TenantUse,
};

/// Seconds for which it is remembered that a request has ended: longer than anybody tries to tell.
const ENDED_S: u64 = 3600;

/// Names of keys. All are in one slot, so that a cluster can run the scripts.
fn ended(settings: &SharedSettings, id: &str) -> String {
    format!("{{{}}}:ended:{id}", settings.prefix)
}

fn leases(settings: &SharedSettings, tenant: &Tenant) -> [String; 2] {
    let key = |what| format!("{{{}}}:{what}:{}", settings.prefix, tenant.key);
    [key("leases"), key("sum")]
}

fn used(settings: &SharedSettings, tenant: &Tenant, index: usize, window: u64) -> String {
    let limit = tenant.limits.get(index).map_or("", |limit| limit.unit.as_str());
    let what = tenant.limits.get(index).map_or("", |limit| match limit.measure {
        Measure::Tokens => "tokens",
        Measure::Requests => "requests",
    });
    format!("{{{}}}:{what}:{limit}:{window}:{}", settings.prefix, tenant.key)
}

fn is_requests(measure: Measure) -> u8 {
    u8::from(measure == Measure::Requests)
}

/// Fills in what `take.lua` asks for.
pub(super) fn take(call: &mut ScriptInvocation<'_>, settings: &SharedSettings, take: &SharedTake) {
    let wanted = if take.strict { take.tokens.max(1) } else { 1 };
    call.key(ended(settings, &take.id));
    call.arg(&*take.id)
        .arg(take.now)
        .arg(take.now.saturating_add(settings.lease.as_secs()))
        .arg(take.tokens)
        .arg(wanted)
        .arg(u8::from(take.anyway))
        .arg(take.tenants.len());
    for tenant in take.tenants.iter() {
        for key in leases(settings, tenant) {
            call.key(key);
        }
        call.arg(tenant.limits.len());
        for (i, limit) in tenant.limits.iter().enumerate() {
            let window = limit.unit.window(take.now);
            call.key(used(settings, tenant, i, window.start));
            // A request that is under way when the window ends may still be taken out of it.
            call.arg(limit.amount).arg(is_requests(limit.measure)).arg(window.end + ENDED_S);
        }
    }
}

/// Fills in what `settle.lua` asks for.
pub(super) fn settle(
    call: &mut ScriptInvocation<'_>,
    settings: &SharedSettings,
    settle: &SharedSettle,
) {
    call.key(ended(settings, &settle.id));
    call.arg(&*settle.id)
        .arg(ENDED_S.max(settings.lease.as_secs()))
        .arg(settle.reserved)
        .arg(settle.tokens)
        .arg(u8::from(settle.counts))
        .arg(settle.tenants.len());
    for tenant in settle.tenants.iter() {
        for key in leases(settings, tenant) {
            call.key(key);
        }
        call.arg(tenant.limits.len());
        for (i, limit) in tenant.limits.iter().enumerate() {
            let at = match limit.measure {
                Measure::Tokens => settle.now,
                Measure::Requests => settle.taken_at,
            };
            let window = limit.unit.window(at);
            call.key(used(settings, tenant, i, window.start));
            call.arg(is_requests(limit.measure)).arg(window.end + ENDED_S);
        }
    }
}

/// Reads the answer of `take.lua`; `None` where it makes no sense.
pub(super) fn answer(numbers: &[i64], tenants: &[Tenant]) -> Option<SharedUse> {
    let mut numbers = numbers.iter().map(|n| u64::try_from(*n).unwrap_or(0));
    let taken = numbers.next()? == 1;
    let mut of_tenants = Vec::with_capacity(tenants.len());
    for tenant in tenants {
        let reserved = numbers.next()?;
        let used: Vec<u64> = numbers.by_ref().take(tenant.limits.len()).collect();
        if used.len() < tenant.limits.len() {
            return None;
        }
        of_tenants.push(TenantUse { reserved, used });
    }
    Some(SharedUse { taken, tenants: of_tenants })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{Limit, Unit};

    #[test]
    fn answers() {
        let limit = Limit { measure: Measure::Tokens, amount: 10, unit: Unit::Hour };
        let tenant = |count| Tenant { key: "k".into(), limits: vec![limit; count] };
        let tenants = [tenant(1), tenant(2)];
        let of = |reserved, used: &[u64]| TenantUse { reserved, used: used.to_vec() };
        for (numbers, expected) in [
            (vec![1, 5, 6, 7, 8, 9], Some((true, [of(5, &[6]), of(7, &[8, 9])]))),
            (vec![0, 5, -6, 7, 8, 9], Some((false, [of(5, &[0]), of(7, &[8, 9])]))),
            (vec![1, 5, 6, 7, 8], None),
            (vec![0], None),
            (vec![], None),
        ] {
            let read = answer(&numbers, &tenants);
            let expected =
                expected.map(|(taken, tenants)| SharedUse { taken, tenants: tenants.into() });
            assert_eq!(read, expected, "{numbers:?}");
        }
    }
}
