//! Whether a ZooKeeper serves.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Whether a ZooKeeper at that address says that it serves; `srvr` has to be on its list of allowed words.
pub async fn serves(address: &str) -> bool {
    let ask = async {
        let mut connection = TcpStream::connect(address).await?;
        connection.write_all(b"srvr").await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(ANSWER_WITHIN, ask).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.contains("Mode:")))
}
