use super::*;

const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;
const PROXY_MARK: u32 = 0x539;

fn socket(local: &str, remote: &str, state: State, mark: u32) -> View {
    View {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        listening: state == State::Listen,
        ours: mark == PROXY_MARK,
    }
}

fn found(sockets: &[View]) -> Vec<String> {
    let describe = |position: usize| format!("{}<-{}", sockets[position].local, sockets[position].remote);
    accepted_directly(sockets, &EPHEMERAL)
        .into_iter()
        .map(describe)
        .collect()
}

#[test]
fn an_accepted_connection_without_our_socket_behind_it_is_found() {
    let sockets = [
        socket("0.0.0.0:8080", "0.0.0.0:0", State::Listen, 0),
        socket("10.0.0.5:8080", "10.0.9.9:41000", State::Established, 0),
    ];
    assert_eq!(found(&sockets), ["10.0.0.5:8080<-10.0.9.9:41000"]);
}

#[test]
fn a_connection_that_we_made_to_the_application_is_ours() {
    let sockets = [
        socket("0.0.0.0:8080", "0.0.0.0:0", State::Listen, 0),
        socket("10.0.0.5:8080", "10.0.9.9:41000", State::Established, 0),
        socket("10.0.9.9:41000", "10.0.0.5:8080", State::Established, PROXY_MARK),
    ];
    assert_eq!(found(&sockets), [""; 0]);
}

#[test]
fn a_connection_that_came_up_while_sockets_were_listed_is_not_taken_for_an_older_one() {
    let listener = socket("0.0.0.0:8080", "0.0.0.0:0", State::Listen, 0);
    let older = socket("10.0.0.5:8080", "10.0.9.9:41000", State::Established, 0);
    let new = socket("10.0.0.5:8080", "10.0.9.8:41001", State::Established, 0);
    let ours = socket("10.0.9.8:41001", "10.0.0.5:8080", State::Established, PROXY_MARK);
    // The list passed the place of our end before there was one.
    let first = [listener, older, new];
    // And now that of a still newer one.
    let newest = socket("10.0.0.5:8080", "10.0.9.8:41002", State::Established, 0);
    let second = [listener, new, ours, older, newest];
    let found: Vec<SocketAddr> = accepted_directly_for_sure(&first, &second, &EPHEMERAL)
        .into_iter()
        .map(|position| second[position].remote)
        .collect();
    assert_eq!(found, [older.remote]);
}

#[test]
fn what_the_pod_opened_itself_is_left_alone() {
    let sockets = [socket("10.0.0.5:41000", "10.0.9.9:5432", State::Established, 0)];
    assert_eq!(found(&sockets), [""; 0]);
}

#[test]
fn the_listener_may_be_gone() {
    let sockets = [socket("10.0.0.5:8080", "10.0.9.9:41000", State::Established, 0)];
    assert_eq!(found(&sockets), ["10.0.0.5:8080<-10.0.9.9:41000"]);
}

#[test]
fn the_pods_talk_with_itself_is_left_alone() {
    let sockets = [
        socket("0.0.0.0:8080", "0.0.0.0:0", State::Listen, 0),
        socket("127.0.0.1:8080", "127.0.0.1:41000", State::Established, 0),
        socket("127.0.0.1:41000", "127.0.0.1:8080", State::Established, 0),
        socket("10.0.0.5:8080", "10.0.0.5:41001", State::Established, 0),
        socket("10.0.0.5:41001", "10.0.0.5:8080", State::Established, 0),
    ];
    assert_eq!(found(&sockets), [""; 0]);
}

#[test]
fn our_own_sockets_are_never_found() {
    let sockets = [
        socket("10.0.0.5:15008", "10.0.9.9:41000", State::Established, PROXY_MARK),
        socket("10.0.0.5:41000", "10.0.9.9:15008", State::Established, PROXY_MARK),
    ];
    assert_eq!(found(&sockets), [""; 0]);
}
