//! Quotas that two replicas share in a real Redis, which is slow, gone, full or full of nonsense.

use std::collections::BTreeMap;

use super::*;
use crate::support::redis::Redis;

/// [`QUOTA`] in this Redis, with these lines beside its url.
fn quota(redis: &Redis, more: &str) -> String {
    QUOTA.replace(
        "  parameters:\n",
        &format!(
            "  parameters:\n    redis:\n      url: {}\n      timeout: 2s\n{more}",
            redis.url()
        ),
    )
}

/// What was said to users so far, of all replicas.
async fn decisions(programs: &[&Program], decision: &str) -> f64 {
    let mut sum = 0.0;
    for program in programs {
        let all = samples(program, "llm_d_epp_quota_requests_total").await;
        let of = all.iter().filter(|(labels, _)| labels.contains(&format!("\"{decision}\"")));
        sum += of.map(|(_, count)| count).sum::<f64>();
    }
    sum
}

/// Waits until everything is told.
async fn told(programs: &[&Program]) {
    for program in programs {
        eventually("everything to be told", || async {
            let waiting = samples(program, "llm_d_epp_quota_settlements_waiting").await;
            waiting.is_empty().then_some(())
        })
        .await;
    }
}

/// Tokens that Redis has of a user, and tokens reserved.
async fn charged(redis: &Redis, user: &str) -> (i64, i64) {
    let mut sums = [0, 0];
    for (sum, pattern) in sums.iter_mut().zip(["*:tokens:*", "*:sum:*"]) {
        for key in redis.keys(&format!("{pattern}{user}*")).await {
            let value = redis.command(&["GET", &key]).await;
            *sum += redis::from_redis_value::<i64>(value).unwrap();
        }
    }
    sums.into()
}

#[tokio::test]
async fn two_replicas_spend_one_quota() {
    let Some(redis) = Redis::start() else { return };
    let plugin = quota(&redis, "");
    let (a, one) = start(&plugin).await;
    let (b, two) = start(&plugin).await;
    assert_eq!(spend(&one, "alice", 12).await, Ok(20));
    told(&[&a]).await;
    assert_eq!(spend(&two, "alice", 7).await, Ok(8));
    told(&[&b]).await;
    assert_eq!(spend(&one, "alice", 9).await, Ok(1), "the last one overdraws");
    told(&[&a]).await;
    let refusal = spend(&two, "alice", 1).await.unwrap_err();
    assert_eq!(refusal["x-llm-d-request-dropped-reason"], "rejected-over-quota");
    assert_eq!(refusal["x-ratelimit-remaining"], "0");
    assert_eq!(refusal["retry-after"], refusal["x-ratelimit-reset"]);
    assert_eq!(spend(&two, "bob", 5).await, Ok(20));
    told(&[&b]).await;
    assert_eq!((charged(&redis, "alice").await, charged(&redis, "bob").await), ((28, 0), (5, 0)));
    assert_eq!(decisions(&[&a, &b], "unknown").await, 0.0);
    // No key stays for ever.
    for key in redis.keys("*").await {
        let ttl: i64 = redis::from_redis_value(redis.command(&["TTL", &key]).await).unwrap();
        assert!(ttl > 0 || ttl == -2, "{key}: {ttl}");
    }
}

#[tokio::test]
async fn thirty_two_clients_of_two_replicas_stay_within_it() {
    let Some(redis) = Redis::start() else { return };
    let plugin = quota(&redis, "").replace("tokens: 20", "tokens: 500");
    let (a, one) = start(&plugin).await;
    let (b, two) = start(&plugin).await;
    // Estimated at 3 tokens of prompt and at most 9 of answer, and they use all of it; every
    // third client leaves after two pieces of its answer.
    let clients = (0..32).map(|i| {
        let gateway = if i % 2 == 0 { &one } else { &two };
        async move {
            let mut used = 0u64;
            loop {
                let sent = gateway.post(COMPLETIONS, &[("x-user-id", "many")], STREAM).await;
                if refused(&sent.replies).is_some() {
                    return used;
                }
                let mut exchange = sent.exchange;
                let headers = [(":status", "200"), ("content-type", EVENTS)];
                exchange.send(response_headers(&headers, false)).await;
                exchange.next().await.unwrap();
                let events = if i % 3 == 0 { 2 } else { 9 };
                for _ in 0..events {
                    exchange.send(response_body(EVENT.as_bytes(), false)).await;
                    exchange.next().await.unwrap();
                }
                used += 3 + events;
            }
        }
    });
    let used: u64 = futures_util::future::join_all(clients).await.iter().sum();
    assert!(used < 500 + 12, "{used} tokens");
    eventually("all exchanges to have ended", || async {
        (charged(&redis, "many").await == (used as i64, 0)).then_some(())
    })
    .await;
    assert_eq!(decisions(&[&a, &b], "unknown").await, 0.0);
}

#[tokio::test]
async fn what_is_used_while_redis_is_away_is_charged_when_it_is_back() {
    let Some(mut redis) = Redis::start() else { return };
    let (program, gateway) = start(&quota(&redis, "      whenUnavailable: Open\n")).await;
    assert_eq!(spend(&gateway, "alice", 5).await, Ok(20));
    told(&[&program]).await;
    redis.kill();
    let sent = gateway.post(COMPLETIONS, &[("x-user-id", "alice")], WHOLE).await;
    assert!(refused(&sent.replies).is_none(), "open");
    let mut exchange = sent.exchange;
    exchange.send(response_headers(&[(":status", "200"), ("content-type", JSON)], false)).await;
    exchange.next().await.unwrap();
    let body = br#"{"usage":{"prompt_tokens":4,"completion_tokens":8}}"#;
    exchange.send(response_body(body, true)).await;
    exchange.half_close();
    exchange.rest().await;
    assert_eq!(decisions(&[&program], "unknown").await, 1.0);
    redis.run();
    told(&[&program]).await;
    // What it knew before is gone with it.
    assert_eq!(charged(&redis, "alice").await, (12, 0));
    assert_eq!(spend(&gateway, "alice", 1).await, Ok(8));
}

#[tokio::test]
async fn nobody_is_let_in_unseen_where_that_is_the_choice() {
    let Some(mut redis) = Redis::start() else { return };
    let plugin = quota(&redis, "      whenUnavailable: Closed\n");
    let (program, gateway) = start(&plugin).await;
    redis.kill();
    let (code, text, headers) =
        gateway.post(COMPLETIONS, &[("x-user-id", "alice")], WHOLE).await.error();
    assert_eq!(code, 503);
    assert!(text.contains("quotas cannot be looked up now"), "{text}");
    assert!(headers.contains(&("retry-after".to_owned(), "1".to_owned())), "{headers:?}");
    // Whoever no rule is for is not kept waiting for it.
    assert!(refused(&gateway.post(COMPLETIONS, &[], WHOLE).await.replies).is_none());
    redis.run();
    told(&[&program]).await;
    assert_eq!(spend(&gateway, "alice", 12).await, Ok(20));
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_deadline_and_nobody_pays_twice() {
    let Some(redis) = Redis::start() else { return };
    let plugin = quota(&redis, "").replace("timeout: 2s", "timeout: 100ms");
    let (program, gateway) = start(&plugin).await;
    redis.signal("STOP");
    let sent = gateway.post(COMPLETIONS, &[("x-user-id", "alice")], WHOLE).await;
    assert!(refused(&sent.replies).is_none(), "open");
    let mut exchange = sent.exchange;
    exchange.send(response_headers(&[(":status", "200"), ("content-type", JSON)], false)).await;
    exchange.next().await.unwrap();
    exchange
        .send(response_body(br#"{"usage":{"prompt_tokens":4,"completion_tokens":8}}"#, true))
        .await;
    exchange.half_close();
    exchange.rest().await;
    redis.signal("CONT");
    told(&[&program]).await;
    // It ran what had been sent in the meantime, and was told once more; 12 are charged once.
    assert_eq!(charged(&redis, "alice").await, (12, 0));
}

#[tokio::test]
async fn a_full_server_and_nonsense_in_it_are_as_good_as_none() {
    let Some(redis) = Redis::start() else { return };
    let (program, gateway) = start(&quota(&redis, "")).await;
    assert_eq!(spend(&gateway, "alice", 12).await, Ok(20));
    told(&[&program]).await;
    let served = |user: &'static str| {
        let gateway = &gateway;
        async move {
            let sent = gateway.post(COMPLETIONS, &[("x-user-id", user)], WHOLE).await;
            refused(&sent.replies).is_none()
        }
    };
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(served("alice").await);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    told(&[&program]).await;
    assert_eq!(charged(&redis, "alice").await, (12, 0), "it left without an answer");
    let key = redis.keys("*:tokens:*alice*").await.remove(0);
    redis.command(&["SET", &key, "a lot"]).await;
    assert!(served("alice").await, "what makes no sense is no reason");
    redis.command(&["DEL", &key]).await;
    redis.command(&["LPUSH", &key, "a", "list"]).await;
    assert!(served("alice").await);
    let sum = redis.keys("*:sum:*alice*").await;
    for key in sum {
        redis.command(&["SET", &key, "-9000000"]).await;
    }
    redis.command(&["DEL", &key]).await;
    told(&[&program]).await;
    assert_eq!(spend(&gateway, "alice", 21).await, Ok(20), "others' numbers give nothing away");
    told(&[&program]).await;
    let kept: BTreeMap<_, _> = spend(&gateway, "alice", 1).await.unwrap_err();
    assert_eq!(kept["x-ratelimit-remaining"], "0");
}
