//! One login through the front: the shortest way to see that everything is in place.

use ntlm_origin::client::Connection;
use ntlm_origin::{Origin, OriginOptions};

use crate::front::Front;

#[tokio::test]
async fn a_login_stays_on_its_connection() {
    let options = OriginOptions::default();
    let alice = options.users[0].clone();
    let origins = [
        Origin::start(options.clone()).unwrap(),
        Origin::start(options).unwrap(),
    ];
    let front = Front::start(&format!(
        "upstream mail {{ server {}; server {}; ntlm; }}
         server {{ listen 127.0.0.1:0; location / {{ proxy_pass http://mail; }} }}",
        origins[0].addr(),
        origins[1].addr(),
    ));
    let mut connection = Connection::open(front.addr(0)).await.unwrap();
    assert_eq!(connection.get("/private/whoami").await.unwrap().status, 401);
    let answer = connection
        .login_ntlm("/private/whoami", &alice)
        .await
        .unwrap();
    assert_eq!(answer.text(), alice.identity());
    for _ in 0..10 {
        assert_eq!(
            connection.get("/whoami").await.unwrap().text(),
            alice.identity()
        );
    }
    let mut other = Connection::open(front.addr(0)).await.unwrap();
    assert_eq!(other.get("/whoami").await.unwrap().text(), "anonymous");
}
