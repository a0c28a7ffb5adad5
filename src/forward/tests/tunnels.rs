use super::*;

const ASK: &str = "GET /ws?token=x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: k\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: v\r\n\r\n";

/// Both ends of a tunnel.
async fn tunnel(rig: &Rig) -> (TcpStream, TcpStream) {
    let mut client = rig.client(ASK).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(AGREE.as_bytes()).await.unwrap();
    within(read_head(&mut client)).await;
    (client, app)
}

#[tokio::test]
async fn a_websocket_is_agreed_on_and_carries_bytes_both_ways() {
    let rig = Rig::new().await;
    let mut client = rig.client(ASK).await;
    let (mut app, head) = rig.accept().await;
    assert_eq!(status(&head), "GET /ws?token=x HTTP/1.1");
    assert_eq!(lines(&head, "connection"), ["upgrade"]);
    assert_eq!(lines(&head, "upgrade"), ["websocket"]);
    assert_eq!(lines(&head, "sec-websocket-key"), ["k"]);

    // The app's first bytes come with its agreement.
    app.write_all(format!("{AGREE}hello").as_bytes()).await.unwrap();
    let head = within(read_head(&mut client)).await;
    assert_eq!(status(&head), "HTTP/1.1 101 Switching Protocols");
    assert_eq!(lines(&head, "connection"), ["upgrade"]);
    assert_eq!(lines(&head, "upgrade"), ["websocket"]);
    assert_eq!(lines(&head, "sec-websocket-accept"), ["v"]);
    assert_eq!(read_text(&mut client, 5).await, "hello");

    let binary: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let sent = binary.clone();
    let sender = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client
    });
    let mut got = vec![0; binary.len()];
    within(app.read_exact(&mut got)).await.unwrap();
    assert!(got == binary);
    let mut client = sender.await.unwrap();
    app.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(read_text(&mut client, 18).await, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(rig.count(Outcome::Redirect), 1);
}

/// Some clients do not wait for the 101 before they speak.
#[tokio::test]
async fn bytes_that_came_before_the_agreement_are_not_lost() {
    let rig = Rig::new().await;
    let mut client = rig.client(&format!("{ASK}eager")).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(AGREE.as_bytes()).await.unwrap();
    within(read_head(&mut client)).await;
    assert_eq!(read_text(&mut app, 5).await, "eager");
}

#[tokio::test]
async fn one_direction_may_end_before_the_other() {
    let rig = Rig::new().await;
    let (mut client, mut app) = tunnel(&rig).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_rest(&mut app).await.unwrap(), "last words");
    app.write_all(b"answer").await.unwrap();
    drop(app);
    assert_eq!(read_rest(&mut client).await.unwrap(), "answer");
    rig.tasks.close();
    within(rig.tasks.wait()).await;
}

#[tokio::test]
async fn when_one_end_dies_the_other_is_closed() {
    for client_dies in [true, false] {
        let rig = Rig::new().await;
        let (client, app) = tunnel(&rig).await;
        let (dying, mut other) = if client_dies { (client, app) } else { (app, client) };
        dying.set_zero_linger().unwrap();
        drop(dying);
        closed(&mut other).await;
        rig.tasks.close();
        within(rig.tasks.wait()).await;
    }
}

/// Nobody else would find out about a client that has vanished: in a tunnel neither side need ever write.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_asks_a_silent_client_of_a_tunnel_whether_it_is_still_there() {
    const KEEPALIVE: &str = "02";
    let rig = Rig::new().await;
    let (client, _app) = tunnel(&rig).await;
    let (ours, theirs) = (rig.address.port(), client.local_addr().unwrap().port());
    let timer = || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let is_ours = |fields: &[&str]| {
            fields[1].ends_with(&format!(":{ours:04X}")) && fields[2].ends_with(&format!(":{theirs:04X}"))
        };
        let mut sockets = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let fields = sockets.find(|fields| is_ours(fields)).expect("our end of the client's connection");
        fields[5].split(':').next().unwrap().to_owned()
    };
    // At first the one that runs is for the head of the answer, until that is acknowledged.
    within(async {
        while timer() != KEEPALIVE {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_shutdown_ends_tunnels() {
    let rig = Rig::new().await;
    let (mut client, mut app) = tunnel(&rig).await;
    rig.shutdown.cancel();
    closed(&mut client).await;
    closed(&mut app).await;
    rig.tasks.close();
    within(rig.tasks.wait()).await;
}

#[tokio::test]
async fn an_upgrade_that_the_app_declines_is_an_ordinary_request() {
    let rig = Rig::new().await;
    let mut client = rig.client(ASK).await;
    let (mut app, _) = rig.accept().await;
    app.write_all(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: other\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    let head = within(read_head(&mut client)).await;
    assert_eq!(status(&head), "HTTP/1.1 426 Upgrade Required");
    assert_eq!(lines(&head, "upgrade"), ["other"]);
    assert_eq!(read_text(&mut client, 2).await, "no");
    client.write_all(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(within(read_head(&mut app)).await.starts_with("GET /next"));
}

#[tokio::test]
async fn what_is_no_valid_upgrade_is_not_passed_on() {
    for headers in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        "Connection: upgrade\r\n",
    ] {
        let rig = Rig::new().await;
        let _client = rig.client(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
        let (_app, head) = rig.accept().await;
        assert!(!head.to_lowercase().contains("upgrade") && !head.contains("http2-settings"), "{head}");
    }
}

#[tokio::test]
async fn an_upgrade_nobody_asked_for_is_a_fault_of_the_app() {
    let rig = Rig::new().await;
    let mut client = rig.client("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut app, _) = rig.accept().await;
    app.write_all(AGREE.as_bytes()).await.unwrap();
    assert_eq!(status(&within(read_head(&mut client)).await), "HTTP/1.1 502 Bad Gateway");
    closed(&mut app).await;
    assert_eq!(rig.count(Outcome::Broken), 1);
}
