//! The embedded object store behind the same endpoint.

use server::edge::s3::S3Lookup;

use crate::{
    client::{Answer, Call, Server},
    stub::{ACCOUNT, OTHER_ACCOUNT, OTHER_KEY, SECRET},
};

fn call<'a>(server: &'a Server, method: &'a str, path: &'a str) -> Call<'a> {
    server.call(method, path).service("s3")
}

async fn with_object() -> Server {
    let server = Server::start().await;
    assert_eq!(call(&server, "PUT", "/demo").send().await.status, 200);
    let put = call(&server, "PUT", "/demo/a/artifact.zip").body(b"zip").send().await;
    assert_eq!(put.status, 200, "{}", put.text());
    server
}

fn code(answer: &Answer) -> String {
    let text = answer.text();
    let rest = text.split("<Code>").nth(1).unwrap_or_default();
    format!("{} {}", answer.status, rest.split("</Code>").next().unwrap_or_default())
}

#[tokio::test]
async fn objects_by_path_and_by_host() {
    let server = with_object().await;
    assert_eq!(call(&server, "GET", "/demo/a/artifact.zip").send().await.text(), "zip");
    for host in ["demo.localhost", "demo.s3.localhost"] {
        let host = format!("{host}:{}", server.address.port());
        assert_eq!(call(&server, "GET", "/a/artifact.zip").host(host).send().await.text(), "zip");
    }
    let list = call(&server, "GET", "/demo").query("list-type=2").send().await;
    assert!(list.text().contains("<Key>a/artifact.zip</Key>"), "{}", list.text());
    assert_eq!(call(&server, "DELETE", "/demo/a/artifact.zip").send().await.status, 204);
    assert_eq!(code(&call(&server, "GET", "/demo/a/artifact.zip").send().await), "404 NoSuchKey");
}

#[tokio::test]
async fn only_our_keys_open_it() {
    let server = with_object().await;
    let get = || call(&server, "GET", "/demo/a/artifact.zip");
    assert_eq!(code(&get().key("AKIAUNKNOWN", SECRET).send().await), "403 InvalidAccessKeyId");
    assert_eq!(code(&get().key(crate::stub::KEY, "wrong").send().await), "403 SignatureDoesNotMatch");
    assert_eq!(code(&get().send_unsigned().await), "403 AccessDenied");
}

#[tokio::test]
async fn buckets_keep_their_rules() {
    let server = with_object().await;
    assert_eq!(code(&call(&server, "PUT", "/demo").send().await), "409 BucketAlreadyOwnedByYou");
    assert_eq!(code(&call(&server, "PUT", "/none/key").body(b"x").send().await), "404 NoSuchBucket");
    assert_eq!(code(&call(&server, "GET", "/none/key").send().await), "404 NoSuchBucket");
    assert_eq!(code(&call(&server, "DELETE", "/demo").send().await), "409 BucketNotEmpty");
    assert_eq!(call(&server, "DELETE", "/demo/a/artifact.zip").send().await.status, 204);
    assert_eq!(call(&server, "DELETE", "/demo").send().await.status, 204);
    let left: Vec<_> = std::fs::read_dir(server.dir.path().join("s3").join(ACCOUNT))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn keys_cannot_leave_their_bucket() {
    let server = with_object().await;
    assert_eq!(call(&server, "PUT", "/other").send().await.status, 200);
    let outside = server.dir.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    for path in [
        "/other/..%2Fdemo%2Fa%2Fartifact.zip",
        "/other/../demo/a/artifact.zip",
        "/other/%2e%2e/demo/a/artifact.zip",
        "/other/..%2F..%2Foutside",
        "/other/%2Fetc%2Fpasswd",
        "/other/a//b",
    ] {
        for (method, body) in [("GET", ""), ("HEAD", ""), ("PUT", "x"), ("DELETE", "")] {
            let answer = call(&server, method, path).body(body.as_bytes()).send().await;
            assert!((400..500).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        }
    }
    let copy = call(&server, "PUT", "/other/copy").header("x-amz-copy-source", "demo/../../outside").send().await;
    assert!((400..500).contains(&copy.status), "{}", copy.text());
    assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
    assert_eq!(call(&server, "GET", "/demo/a/artifact.zip").send().await.text(), "zip");
}

#[tokio::test]
async fn keys_that_a_directory_cannot_hold_are_refused_in_words() {
    let server = with_object().await;
    let put = |path: String| {
        let server = &server;
        async move { code(&call(server, "PUT", &path).body(b"x").send().await) }
    };
    assert_eq!(put("/demo/a".to_owned()).await, "400 InvalidRequest");
    assert_eq!(put("/demo/a/artifact.zip/b".to_owned()).await, "400 InvalidRequest");
    assert_eq!(put(format!("/demo/{}", "k".repeat(300))).await, "400 KeyTooLongError");
}

#[tokio::test]
async fn an_upload_with_a_wrong_checksum_is_not_kept() {
    let server = with_object().await;
    let put = call(&server, "PUT", "/demo/new").body(b"x").header("x-amz-checksum-crc32", "AAAAAA==").send().await;
    assert_eq!(code(&put), "400 BadDigest");
    assert_eq!(code(&call(&server, "GET", "/demo/new").send().await), "404 NoSuchKey");
}

#[tokio::test]
async fn a_body_that_was_not_signed_is_not_kept() {
    let server = with_object().await;
    let put = call(&server, "PUT", "/demo/swapped").body(b"signed").send_swapped(b"evil!!").await;
    // s3s-fs calls a body that breaks off or does not match an internal error.
    assert!(put.status >= 400, "{} {}", put.status, put.text());
    assert_eq!(code(&call(&server, "GET", "/demo/swapped").send().await), "404 NoSuchKey");
}

#[tokio::test]
async fn the_builder_fetches_artifacts() {
    let ours = ACCOUNT.parse().unwrap();
    let server = with_object().await;
    let to = server.dir.path().join("fetched");
    assert_eq!(server.s3.fetch(&ours, "demo", "a/artifact.zip", &to).await.unwrap(), 3);
    assert_eq!(std::fs::read(&to).unwrap(), b"zip");
    let again = server.dir.path().join("again");
    for (bucket, key) in [("none", "a/artifact.zip"), ("..", "x"), ("", "x"), (".demo", "x")] {
        let error = server.s3.fetch(&ours, bucket, key, &again).await.unwrap_err();
        assert!(matches!(error, S3Lookup::NoSuchBucket(_)), "{error}");
    }
    for key in ["none", "a", "a/artifact.zip/b", "../demo/a/artifact.zip", "/etc/passwd", &"k".repeat(5000)] {
        let error = server.s3.fetch(&ours, "demo", key, &again).await.unwrap_err();
        assert!(matches!(error, S3Lookup::NoSuchKey { .. }), "{error}");
    }
    assert!(!again.exists());
    let error = server.s3.fetch(&ours, "demo", "a/artifact.zip", &to).await.unwrap_err();
    assert!(matches!(error, S3Lookup::Io { what: "cannot create", .. }), "{error}");
}

#[tokio::test]
async fn accounts_have_buckets_of_the_same_name_and_never_see_each_other_s() {
    let server = with_object().await;
    let (ours, theirs) = (ACCOUNT.parse().unwrap(), OTHER_ACCOUNT.parse().unwrap());
    let other = |method, path| call(&server, method, path).key(OTHER_KEY, SECRET);
    assert_eq!(code(&other("GET", "/demo/a/artifact.zip").send().await), "404 NoSuchBucket");
    assert_eq!(code(&other("HEAD", "/demo").send().await), "404 ");
    assert!(!other("GET", "/").send().await.text().contains("<Bucket>"));
    let error = server.s3.fetch(&theirs, "demo", "a/artifact.zip", &server.dir.path().join("x")).await.unwrap_err();
    assert!(matches!(error, S3Lookup::NoSuchBucket(_)), "{error}");

    assert_eq!(other("PUT", "/demo").send().await.status, 200);
    assert_eq!(other("PUT", "/demo/a/artifact.zip").body(b"theirs").send().await.status, 200);
    assert_eq!(other("PUT", "/only-theirs").send().await.status, 200);
    assert_eq!(call(&server, "GET", "/demo/a/artifact.zip").send().await.text(), "zip");
    assert!(!call(&server, "GET", "/").send().await.text().contains("only-theirs"));
    for path in ["/only-theirs", &format!("/{OTHER_ACCOUNT}"), "/../demo", &format!("/..%2F{OTHER_ACCOUNT}/demo/a")] {
        let answer = call(&server, "GET", path).send().await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.text());
    }
    for source in ["only-theirs/a".to_owned(), format!("{OTHER_ACCOUNT}/demo/a/artifact.zip")] {
        let copy = call(&server, "PUT", "/demo/copy").header("x-amz-copy-source", &source).send().await;
        assert!((400..500).contains(&copy.status), "{source}: {}", copy.text());
    }
    for (account, content) in [(ours, "zip"), (theirs, "theirs")] {
        let to = server.dir.path().join(content);
        server.s3.fetch(&account, "demo", "a/artifact.zip", &to).await.unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), content);
    }
    assert_eq!(other("DELETE", "/demo/a/artifact.zip").send().await.status, 204);
    assert_eq!(call(&server, "GET", "/demo/a/artifact.zip").send().await.text(), "zip");
}
