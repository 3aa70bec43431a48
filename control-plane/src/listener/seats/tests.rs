use std::net::Ipv4Addr;

use super::*;

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// So many at once, and so many of one address.
fn seats(all: usize, per_address: usize) -> Seats {
    Seats::new(Limits {
        all,
        per_address,
        ..Limits::default()
    })
}

/// A place, or `None` where one would have to be waited for.
async fn take(seats: &Seats, last: u8) -> Option<Seat> {
    tokio::time::timeout(Duration::from_secs(60), seats.take(address(last)))
        .await
        .ok()
        .flatten()
}

fn is_closed(seat: &Seat) -> bool {
    seat.standing.closing.is_cancelled()
}

#[tokio::test(start_paused = true)]
async fn who_has_shown_nothing_makes_room_the_busiest_address_first() {
    let seats = seats(5, 3);
    let known = take(&seats, 1).await.unwrap();
    let request = known.standing().request();
    let lone = take(&seats, 2).await.unwrap();
    let busy = [
        take(&seats, 3).await.unwrap(),
        take(&seats, 3).await.unwrap(),
        take(&seats, 3).await.unwrap(),
    ];
    let next = take(&seats, 4).await.unwrap();
    assert!(is_closed(&busy[0]), "the oldest of those");
    assert!(
        ![&known, &lone, &busy[1], &busy[2], &next]
            .into_iter()
            .any(is_closed)
    );
    // A connection that is on its way out gives nothing back a second time.
    drop(busy);
    let _more = [take(&seats, 5).await.unwrap(), take(&seats, 5).await.unwrap()];
    assert!(!is_closed(&lone) && !is_closed(&next));
    assert_eq!(seats.taken().all, 5);
    // One after the other goes, but never the one with something under way.
    for last in 6..20 {
        assert!(take(&seats, last).await.is_some());
    }
    assert!(!is_closed(&known));
    drop(request);
}

#[tokio::test(start_paused = true)]
async fn who_is_known_makes_room_only_where_nobody_else_does() {
    let seats = seats(3, 3);
    let idle = take(&seats, 1).await.unwrap();
    drop(idle.standing().request());
    let busy = take(&seats, 1).await.unwrap();
    let request = busy.standing().request();
    let unknown = take(&seats, 2).await.unwrap();
    let first = take(&seats, 3).await.unwrap();
    assert!(is_closed(&unknown) && !is_closed(&idle));
    let _under_way = first.standing().request();
    let second = take(&seats, 4).await.unwrap();
    assert!(is_closed(&idle) && !is_closed(&busy));
    let _under_way = second.standing().request();
    // Everybody is busy: what comes waits for one who goes.
    assert!(take(&seats, 5).await.is_none());
    let waiting = tokio::spawn({
        let seats = seats.clone();
        async move { seats.take(address(5)).await }
    });
    tokio::task::yield_now().await;
    drop((busy, request));
    assert!(waiting.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn one_address_makes_room_for_itself() {
    let seats = seats(9, 2);
    let other = take(&seats, 1).await.unwrap();
    let first = take(&seats, 2).await.unwrap();
    let second = take(&seats, 2).await.unwrap();
    let third = take(&seats, 2).await.unwrap();
    assert!(is_closed(&first) && ![&other, &second, &third].into_iter().any(is_closed));
    let _under_way = (second.standing().request(), third.standing().request());
    assert!(take(&seats, 2).await.is_none(), "it has two, and needs both");
    assert_eq!(seats.taken().all, 3);
    drop((other, second, third));
    assert_eq!(seats.taken().all, 0);
    assert!(seats.taken().by_address.is_empty());
}
