//! An HTTP proxy that leads every https address to one server on loopback.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

pub(super) struct Front {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Front {
    pub(super) async fn start(server: SocketAddr) -> Self {
        let acceptor = acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                tokio::spawn(lead(client, server, acceptor.clone()));
            }
        });
        Self { address, serving }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Whatever breaks off here, the client notices.
async fn lead(mut client: TcpStream, server: SocketAddr, acceptor: TlsAcceptor) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    client.set_nodelay(true)?;
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// With a certificate that is made now, by `openssl`, and trusted by nobody.
fn acceptor() -> TlsAcceptor {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=discord.com",
            "-keyout",
        ])
        .arg(file("key.pem"))
        .arg("-out")
        .arg(file("certificate.pem"))
        .output()
        .expect("openssl makes the certificate for serenity: is it installed?");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let certificate = CertificateDer::from_pem_file(file("certificate.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    TlsAcceptor::from(Arc::new(config))
}
