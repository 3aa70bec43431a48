use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[derive(Clone)]
struct Fixed;

impl Pages for Fixed {
    async fn answer(&self, _: Question) -> Answer {
        Answer::json(StatusCode::OK, &Value::Null)
    }
}

async fn ask(mut stream: TcpStream) -> String {
    stream
        .write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    // A connection that was cut has none.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn who_holds_connections_open_keeps_nobody_from_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Fixed));
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let answer = ask(TcpStream::connect(address).await.unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // One made room, the others were not waited for: they may still ask.
    let answer = ask(idle.pop().unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
