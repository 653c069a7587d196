//! TLS over TCP, with certificates on both sides: the server writes one frame to each connection in
//! one loop, each client answers.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use squall_wire::identity::IDENTITY_FILE;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::serve::{self, Answers, Crowd, Served};
use crate::{ANSWER, AT_ONCE, Outcome, PUSH};

/// Key, chain and roots of an identity's directory.
struct Papers {
    key: PrivateKeyDer<'static>,
    leaf: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
}

impl Papers {
    fn read(dir: &Path) -> Outcome<Papers> {
        let file = dir.join(IDENTITY_FILE);
        let mut certificates = CertificateDer::pem_file_iter(&file)?;
        let mut next = || certificates.next().ok_or("a certificate is missing");
        let (leaf, ca) = (next()??, next()??);
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        Ok(Papers { key: PrivateKeyDer::from_pem_file(&file)?, leaf, roots: Arc::new(roots) })
    }
}

/// Starts the server and `n` clients in `runtime`. All show the certificate in `client`: what is
/// measured begins after the handshakes. The server's is in `server` and holds for `name`.
pub fn start(
    runtime: &Handle,
    n: usize,
    server: &Path,
    client: &Path,
    name: &str,
) -> Outcome<Served> {
    let papers = Papers::read(client)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(papers.roots)
        .with_client_auth_cert(vec![papers.leaf], papers.key)?;
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned())?;
    Served::start("tls", server, n, |at| runtime.block_on(connect_all(n, at, connector, name)))
}

async fn connect_all(
    n: usize,
    address: SocketAddr,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> Outcome<()> {
    let mut connecting = JoinSet::new();
    for _ in 0..n {
        if connecting.len() == AT_ONCE {
            answer_for_ever(connecting.join_next().await);
        }
        let (connector, name) = (connector.clone(), name.clone());
        connecting.spawn(async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            connector.connect(name, tcp).await
        });
    }
    while let Some(connected) = connecting.join_next().await {
        answer_for_ever(Some(connected));
    }
    Ok(())
}

type Connected = Result<io::Result<client::TlsStream<TcpStream>>, tokio::task::JoinError>;

fn answer_for_ever(connected: Option<Connected>) {
    // One that is missing shows: the server waits for all.
    let Some(Ok(Ok(mut stream))) = connected else { return };
    tokio::spawn(async move {
        let mut frame = [0; PUSH];
        while stream.read_exact(&mut frame).await.is_ok() {
            if stream.write_all(&frame[..ANSWER]).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    });
}

/// The server.
pub fn serve(dir: &Path) -> Outcome<()> {
    let papers = Papers::read(dir)?;
    let provider = Arc::new(default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(papers.roots, provider.clone()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![papers.leaf], papers.key)?;
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = serve::runtime()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    serve::serve(&runtime, address, async |n| accept_all(n, &listener, acceptor).await)
}

struct Connections {
    writers: Vec<WriteHalf<server::TlsStream<TcpStream>>>,
    answers: Answers,
}

async fn accept_all(
    n: usize,
    listener: &TcpListener,
    acceptor: TlsAcceptor,
) -> Outcome<Connections> {
    let answers = Answers::of(n);
    let mut shaking = JoinSet::new();
    for _ in 0..n {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        shaking.spawn(acceptor.accept(tcp));
    }
    let mut writers = Vec::with_capacity(n);
    while let Some(stream) = shaking.join_next().await {
        let (reader, writer) = split(stream??);
        writers.push(writer);
        tokio::spawn(hear(reader, answers.clone()));
    }
    Ok(Connections { writers, answers })
}

async fn hear(mut reader: ReadHalf<server::TlsStream<TcpStream>>, answers: Answers) {
    let mut answer = [0; ANSWER];
    while reader.read_exact(&mut answer).await.is_ok() {
        answers.heard();
    }
}

impl Crowd for Connections {
    async fn round(mut self) -> Outcome<Connections> {
        let frame = [7; PUSH];
        self.answers.begin();
        for writer in &mut self.writers {
            writer.write_all(&frame).await?;
            writer.flush().await?;
        }
        self.answers.all().await;
        Ok(self)
    }
}
