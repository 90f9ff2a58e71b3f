//! A body that is refused is answered so that the client can read why, however much of it is still to come.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use testkit::wait::SOON;

use crate::process::Userlist;

/// Sends a whole request before it reads a byte, as simple clients do.
fn upload(address: &str, bytes: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.set_write_timeout(Some(SOON))?;
    write!(
        stream,
        "POST /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
    )?;
    let piece = [b' '; 16 * 1024];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(piece.len());
        stream.write_all(&piece[..count])?;
        left -= count;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upload_that_is_too_large_reads_its_413() {
    let folder = tempfile::tempdir().unwrap();
    let userlist = Userlist::start(folder.path(), "sqlite:users.db");
    userlist.client.wait_until_ready().await;
    let address = userlist.client.address("").trim_start_matches("http://").to_owned();
    let answers = tokio::task::spawn_blocking(move || (0..30).map(|_| upload(&address, 2_000_000)).collect::<Vec<_>>());
    for (n, answer) in answers.await.unwrap().into_iter().enumerate() {
        let answer = answer.unwrap_or_else(|error| panic!("upload {n}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "upload {n}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "upload {n}: {answer}");
    }
}
